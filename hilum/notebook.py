"""Folders and device of a notebook, on a local machine and on Google Colab.

Every notebook starts with the same cell, which calls `bootstrap()`. The notebook then names a data set and an image
size. This module finds its folder, and a pack or a folder hierarchy if there is one:

    <home>/                 the clone of this repository; on Colab, the clone in the mounted Drive
      data/<data set>/      the folder of a data set: chexpert, nih, mimic, padchest, vindr or kaggle
      data/<any>/pack.json            output of `hilum pack --out data/<any>`
      data/<any>/hierarchy.parquet    output of `hilum hierarchy --out data/<any>`
      runs/                 the run folders

The environment variables HILUM_DATA and HILUM_RUNS name other folders of data sets and of runs.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hilum.errors import HilumError

#: Mount point of the user's Drive on Colab, and the path of the clone inside it.
DRIVE, CLONE = Path("/content/drive"), Path("MyDrive/hilum")

#: Possible names of a data set's folder, in the folder of data sets.
FOLDERS = {
    "chexpert": ("chexpert", "CheXpert-v1.0-small", "CheXpert-v1.0", "raw"),
    "nih": ("nih", "ChestX-ray14"),
    "mimic": ("mimic", "mimic-cxr-jpg"),
    "padchest": ("padchest",),
    "vindr": ("vindr", "vindr-cxr"),
    "kaggle": ("kaggle", "chest_xray"),
}

#: Environment variable that `make notebooks` and the tests set to "small", the smallest size of all notebooks.
SIZE_VARIABLE = "HILUM_NOTEBOOKS"

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Place:
    """The folders and the device of a notebook."""

    home: Path  # the clone of the repository, or the folder in which the notebook started
    data: Path  # the folder of data sets; it may be absent
    runs: Path  # the folder of run folders
    device: str  # "cuda", or "cpu" if torch has no GPU
    colab: bool = False  # whether this is Google Colab
    small: bool = False  # whether to use the smallest size, as in the tests

    def __str__(self) -> str:
        where = "Google Colab" if self.colab else "this machine"
        found = [source for source in FOLDERS if self.folder(source)]
        return (
            f"{where}, device {self.device}\nhome  {self.home}\ndata  {self.data} "
            f"({', '.join(found) or 'no data set: the phantom replaces it'})\nruns  {self.runs}"
        )

    def choose(self, full: Choice, small: Choice) -> Choice:
        """`small` at the smallest size, otherwise `full`."""
        return small if self.small else full

    def folder(self, source: str) -> Path | None:
        """The folder of a data set of `FOLDERS`, or None if it is absent.

        Raises:
            HilumError: if there is no data set of this name.
        """
        if source not in FOLDERS:
            raise HilumError(f"There is no data set {source!r}. Known: {', '.join(FOLDERS)}.")
        found = (self.data / name for name in FOLDERS[source])
        return next((folder for folder in found if folder.is_dir()), None)

    def settings(self, source: str, image_width: int, image_height: int) -> dict[str, Any]:
        """Settings of a run on a data set: `source`, `root`, size in pixels, device, and the fastest access to pixels.

        A pack of this data set at this size comes first (one file, read through a memory map), then a folder
        hierarchy (Colab's Drive times out on a folder of 200,000 names), then the image files. If the data set is
        absent, the settings are those of the phantom, and a line is printed.
        """
        chosen: dict[str, Any] = {"image_width": image_width, "image_height": image_height}
        chosen |= {"device": self.device, "save_path": self.runs} | ({"num_workers": 0} if self.small else {})
        root = self.folder(source)
        if root is None:
            images, size = self.choose((2400, 128), (160, 64))
            print(
                f"{source} is not in {self.data}: {images:,} synthetic radiographs (the phantom) replace it."
            )
            return chosen | {"source": "phantom", "source_kwargs": {"images": images, "size": size}}
        chosen |= {"source": source, "root": root}
        for record in sorted(self.data.glob("*/pack.json")):
            pack = json.loads(record.read_text(encoding="utf-8"))
            if (pack["catalog"], pack["width"], pack["height"]) == (source, image_width, image_height):
                return chosen | {"pack": str(record.parent)}
        # The files of a hierarchy do not name the data set, so its folder must.
        hierarchies = sorted(self.data.glob(f"{source}*/hierarchy.parquet"))
        return chosen | ({"hierarchy": hierarchies[0].parent} if hierarchies else {})


def bootstrap(drive: Path = DRIVE) -> Place:
    """Finds the notebook's folders, changes to the home folder, chooses the device, and sets the style of figures.

    On Colab the Drive is first mounted at `drive`, if it is not. On a local machine, home is the clone that contains
    the working directory (the nearest folder upwards with notebooks/ and hilum/), or else the working directory.

    Raises:
        HilumError: if the Drive has no clone of the repository.
    """
    try:
        from google.colab import drive as colab
    except ImportError:
        colab = None
    if colab is not None:
        if not (drive / CLONE.parts[0]).is_dir():
            colab.mount(str(drive))
        home = drive / CLONE
        if not home.is_dir():
            raise HilumError(f"{home}: there is no such folder. Put the clone of Hilum there, in your Drive.")
    else:
        above = (Path.cwd(), *Path.cwd().parents)
        clones = (each for each in above if (each / "notebooks").is_dir() and (each / "hilum").is_dir())
        home = next(clones, above[0])
    os.chdir(home)
    _set_figure_style()
    import torch

    return Place(
        home=home,
        data=Path(os.environ.get("HILUM_DATA") or home / "data"),
        runs=Path(os.environ.get("HILUM_RUNS") or home / "runs"),
        device="cuda" if torch.cuda.is_available() else "cpu",
        colab=colab is not None,
        small=os.environ.get(SIZE_VARIABLE) == "small",
    )


def _set_figure_style() -> None:
    """Style of the notebooks' figures: no frame, a light grid, colours that colour-blind readers can distinguish."""
    import matplotlib as mpl
    from cycler import cycler

    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]  # Okabe and Ito 2008
    mpl.rc("axes", prop_cycle=cycler(color=colours), titlelocation="left", titleweight="bold")
    mpl.rc("axes", grid=True, axisbelow=True)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#e3e6ea")
    mpl.rc("figure", figsize=(7.5, 3.6), dpi=110)
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("legend", frameon=False)
    mpl.rc("lines", linewidth=2)
    mpl.rc("image", cmap="gray")
