"""Where a notebook finds its data, its runs and its device, on a local machine and on Google Colab.

Every notebook begins with the same cell, which calls `bootstrap()`. The notebook then says *what* it wants
("CheXpert at 320 x 320"); where that lies, and whether as image files, as folders of bounded size or as a pack, is
found here:

    <home>/                 the clone of this repository; on Colab the one in the mounted Drive
      data/<data set>/      the folder of a data set: chexpert, nih, mimic, padchest, vindr or kaggle
      data/<any>/pack.json            what `hilum pack --out data/<any>` made
      data/<any>/hierarchy.parquet    what `hilum hierarchy --out data/<any>` made
      runs/                 the run folders

`$HILUM_DATA` names another folder of data sets, `$HILUM_RUNS` another folder of runs.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hilum.errors import HilumError

#: Where Colab mounts the user's Drive, and where in it the clone of the repository lies.
DRIVE, CLONE = Path("/content/drive"), Path("MyDrive/hilum")

#: Folders that a download of a data set may have been unpacked to, below the folder of data sets.
FOLDERS = {
    "chexpert": ("chexpert", "CheXpert-v1.0-small", "CheXpert-v1.0", "raw"),
    "nih": ("nih", "ChestX-ray14"),
    "mimic": ("mimic", "mimic-cxr-jpg"),
    "padchest": ("padchest",),
    "vindr": ("vindr", "vindr-cxr"),
    "kaggle": ("kaggle", "chest_xray"),
}

#: Set by `make notebooks` and the tests: the smallest size at which everything still happens.
SMALL = "HILUM_NOTEBOOKS"

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Place:
    """Where a notebook runs.

    Attributes:
        home: the working directory: the clone of the repository, or the folder the notebook was started in.
        data: the folder of data sets; it need not be there.
        runs: the folder of run folders.
        device: "cuda", or "cpu" where there is no GPU that torch can use.
        colab: whether this is Google Colab.
        small: whether everything is to be as small as it can be, as for the tests.
    """

    home: Path
    data: Path
    runs: Path
    device: str
    colab: bool = False
    small: bool = False

    def __str__(self) -> str:
        where = "Google Colab" if self.colab else "this machine"
        found = [source for source in FOLDERS if self.folder(source)]
        return (
            f"{where}, device {self.device}\nhome  {self.home}\ndata  {self.data} "
            f"({', '.join(found) or 'no data set: the phantom stands in'})\nruns  {self.runs}"
        )

    def choose(self, full: Choice, small: Choice) -> Choice:
        """One value for a person who waits, another where everything is to be small."""
        return small if self.small else full

    def folder(self, source: str) -> Path | None:
        """The folder of a data set, or None if it is not here.

        Raises:
            HilumError: no data set of that name has a folder.
        """
        if source not in FOLDERS:
            raise HilumError(f"There is no folder for {source!r}. Known: {', '.join(FOLDERS)}.")
        found = (self.data / name for name in FOLDERS[source])
        return next((folder for folder in found if folder.is_dir()), None)

    def settings(self, source: str, image_width: int, image_height: int) -> dict[str, Any]:
        """Settings of a run on a data set: `source`, `root`, sizes, device, and the quickest way to its pixels.

        A pack of this data set at this size comes first (one file, read through a memory map), then folders made
        by `hilum hierarchy` (on Colab's Drive a look-up in a folder of 200,000 names times out), then the image
        files. Where the data set is absent, the settings are those of the phantom, and that is said.

        Args:
            source: chexpert, nih, mimic, padchest, vindr or kaggle.
            image_width: pixels.
            image_height: pixels.
        """
        chosen = {
            "image_width": image_width,
            "image_height": image_height,
            "device": self.device,
            "save_path": self.runs,
        }
        if self.small:
            chosen["num_workers"] = 0
        root = self.folder(source)
        if root is None:
            images, size = self.choose((2400, 128), (160, 64))
            print(f"{source} is not in {self.data}: {images:,} drawn radiographs (the phantom) stand in.")
            phantom = {"images": images, "size": size}
            return chosen | {"source": "phantom", "source_kwargs": phantom}
        chosen |= {"source": source, "root": root}
        pack = self._pack(source, image_width, image_height)
        if pack:
            return chosen | {"pack": str(pack)}
        hierarchy = self._hierarchy(source)
        return chosen | ({"hierarchy": hierarchy} if hierarchy else {})

    def _pack(self, source: str, width: int, height: int) -> Path | None:
        for record in sorted(self.data.glob("*/pack.json")):
            made = json.loads(record.read_text(encoding="utf-8"))
            if (made["catalog"], made["width"], made["height"]) == (source, width, height):
                return record.parent
        return None

    def _hierarchy(self, source: str) -> Path | None:
        """Folders named after the data set: `hilum hierarchy` does not note which one it copied."""
        made = sorted(self.data.glob("*/hierarchy.parquet"))
        return next((file.parent for file in made if file.parent.name.startswith(source)), None)


def bootstrap(drive: Path = DRIVE) -> Place:
    """Finds the notebook's place, makes it the working directory, picks the device, and sets the figures' look.

    On Colab the Drive is mounted first, unless it is already. On a local machine home is the clone that the
    working directory lies in.

    Args:
        drive: where Colab mounts the Drive.

    Raises:
        HilumError: the Drive has no clone of the repository.
    """
    colab = _colab_drive()
    if colab is not None:
        if not (drive / CLONE.parts[0]).is_dir():
            colab.mount(str(drive))
        home = drive / CLONE
        if not home.is_dir():
            raise HilumError(f"{home}: there is no such folder. Put the clone of Hilum there, in your Drive.")
    else:
        home = _clone_around(Path.cwd())
    os.chdir(home)
    _draw_plainly()
    return Place(
        home=home,
        data=Path(os.environ.get("HILUM_DATA") or home / "data"),
        runs=Path(os.environ.get("HILUM_RUNS") or home / "runs"),
        device=_device(),
        colab=colab is not None,
        small=os.environ.get(SMALL) == "small",
    )


def _colab_drive() -> Any | None:
    try:
        from google.colab import drive
    except ImportError:
        return None
    return drive


def _clone_around(folder: Path) -> Path:
    """The nearest folder upwards with notebooks/ and hilum/, else `folder`."""
    above = (folder, *folder.parents)
    return next((f for f in above if (f / "notebooks").is_dir() and (f / "hilum").is_dir()), folder)


def _draw_plainly() -> None:
    """The look of the notebooks' figures: no frame, a light grid, colours that colour-blind readers tell apart."""
    import matplotlib as mpl

    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]  # Okabe and Ito 2008
    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=colours),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "grid.color": "#e3e6ea",
            "figure.figsize": (7.5, 3.6),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
            "lines.linewidth": 2,
            "image.cmap": "gray",
        }
    )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
