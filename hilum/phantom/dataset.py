"""Writes a phantom to disk as CheXpert lies there: train.csv, train/patient…/study…/view….jpg."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import platformdirs

from hilum.errors import HilumError, nearest
from hilum.files import locked, replacing, write_json
from hilum.machine import cores
from hilum.phantom.cohort import COLUMNS, DATASET, LEAKS, cohort_table
from hilum.phantom.drawing import Shot, draw_shot
from hilum.sources.catalog import Catalog
from hilum.sources.chexpert import CleanMetaData
from hilum.targets import CHEXPERT_TARGETS

#: Goes up whenever the same parameters would give other bytes.
DRAWING = 1
COMPLETE = "phantom.json"
_STARTED = "phantom.started.json"
_JPEG_QUALITY = 95
_IMAGES_PER_JOB = 40
_FEWEST_IMAGES, _SMALLEST_SIZE = 20, 32
#: Below this, starting workers takes longer than drawing.
_WORTH_WORKERS = 200


class _Picture(NamedTuple):
    shot: Shot
    path: str  # below the root
    masked: tuple[str, ...]


def write_phantom(
    root: str | Path,
    *,
    images: int = 2400,
    size: int = 128,
    seed: int = 0,
    workers: int | None = None,
    leak: str | None = "acuity",
    masks: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a phantom, unless the same one lies there already.

    `<root>/train.csv` has CheXpert's columns; its paths begin with a data set name, as CheXpert's do:
    `CheXpert-phantom/train/patient00001/study1/view1_frontal.jpg` is the file
    `<root>/train/patient00001/study1/view1_frontal.jpg`, an 8-bit gray JPEG. Where a finding shows in
    a frontal view is in `<root>/masks/patient00001/study1/view1_frontal/<Finding>.png`, 0 or 255.
    `<root>/phantom.json`, the parameters, is written last: where it is, the phantom is whole.

    Args:
        root: a folder that is absent, empty, or holds this phantom, whole or half-written.
        images: frontal and lateral views together, 20 or more.
        size: side of an image in pixels, 32 or more.
        seed: 0 or more; the same parameters give the same bytes, however many workers draw.
        workers: processes; by default one per CPU that this process may use. Above one, a script
            must call this under `if __name__ == "__main__":`, as for every use of multiprocessing.
        leak: what support devices go with. "acuity": the patient's state and AP views, as in
            reality; None: nothing, neither disease nor view; "effusion": pleural effusion alone, a
            planted leak.
        masks: whether to write the masks.
        progress: called with the images written so far and in all.

    Returns:
        The root.

    Raises:
        HilumError: a parameter is out of range, or the folder holds something else.
    """
    root = Path(root)
    _check(images, size, seed, workers, leak)
    parameters = {
        "images": images,
        "size": size,
        "seed": seed,
        "leak": leak,
        "masks": masks,
        "drawing": DRAWING,
    }
    if _already_whole(root, parameters):
        return root
    write_json(root / _STARTED, parameters)
    table = cohort_table(images, seed=seed, leak=leak)
    jobs = _jobs(table, seed, masks)
    done = 0
    for written in _run(jobs, root, size, _usable_workers(workers, images)):
        done += written
        if progress is not None:
            progress(done, images)
    with replacing(root / "train.csv") as partial:
        table[list(COLUMNS)].to_csv(partial, index=False, lineterminator="\n")
    write_json(root / COMPLETE, parameters)
    (root / _STARTED).unlink()
    return root


def mask_path(root: str | Path, image_path: str, finding: str) -> Path:
    """Where the mask of a finding lies, if it shows in the image; `image_path` as a catalog has it, below the root."""
    return Path(root) / "masks" / Path(image_path).relative_to("train").with_suffix("") / f"{finding}.png"


def _check(images: int, size: int, seed: int, workers: int | None, leak: str | None) -> None:
    least = {"images": (images, _FEWEST_IMAGES), "size": (size, _SMALLEST_SIZE), "seed": (seed, 0)}
    if workers is not None:
        least["workers"] = (workers, 1)
    for name, (value, lowest) in least.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise HilumError(f"phantom: {name} is {value!r}. Give a whole number of {lowest} or more.")
    if leak not in LEAKS:
        hint = nearest(str(leak), [known for known in LEAKS if known])
        raise HilumError(f"phantom: leak is {leak!r}.{hint} It may be 'acuity', 'effusion' or None.")


def _already_whole(root: Path, parameters: dict) -> bool:
    """Whether the phantom is there; raises if anything else is."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise HilumError(f"phantom: {root} is a file. Choose a folder.")
    for name in (COMPLETE, _STARTED):
        if (root / name).exists():
            _compare(root, name, parameters)
            return name == COMPLETE
    # A kill may leave a partial file of the very first write.
    if any(not entry.name.startswith(".phantom.") for entry in root.iterdir()):
        raise HilumError(
            f"phantom: {root} is not empty and is not a phantom (it has no {COMPLETE}). "
            "Nothing was touched. Choose another folder."
        )
    return False


def _compare(root: Path, name: str, parameters: dict) -> None:
    try:
        found = json.loads((root / name).read_text(encoding="utf-8"))
        known = {key: found[key] for key in parameters}
    except (ValueError, KeyError, TypeError):
        raise HilumError(f"phantom: {root / name} cannot be read. Delete {root} or choose another.") from None
    differing = [
        f"{key} {known[key]!r}, not {value!r}" for key, value in parameters.items() if known[key] != value
    ]
    if differing:
        raise HilumError(
            f"phantom: {root} holds another phantom, with {'; '.join(differing)}. "
            "Choose another folder, or delete this one."
        )


def _usable_workers(workers: int | None, images: int) -> int:
    if workers is None:
        workers = cores()
    return workers if images >= _WORTH_WORKERS else 1


def _jobs(table: pd.DataFrame, seed: int, masks: bool) -> list[list[_Picture]]:
    pictures = [_picture(row, seed, masks) for row in table.to_dict("records")]
    return [pictures[start : start + _IMAGES_PER_JOB] for start in range(0, len(pictures), _IMAGES_PER_JOB)]


def _picture(row: dict, seed: int, masks: bool) -> _Picture:
    severities = {name: row[f"severity_{name}"] for name in CHEXPERT_TARGETS if row[f"severity_{name}"] > 0}
    lateral = row["Frontal/Lateral"] == "Lateral"
    shot = Shot(
        seed=seed,
        patient=row["patient"],
        study=row["study"],
        view=row["view"],
        # Who is of unknown sex or age is drawn all the same.
        female=row["Sex"] == "Female",
        age=row["Age"] or 60,
        projection="" if lateral else row["AP/PA"],
        severities=severities,
        devices=tuple(row["devices"].split()),
    )
    positive = tuple(name for name in CHEXPERT_TARGETS if row[name.replace("_", " ")] == 1)
    return _Picture(shot, row["Path"].removeprefix(f"{DATASET}/"), positive if masks else ())


def _run(jobs: list[list[_Picture]], root: Path, size: int, workers: int) -> Iterator[int]:
    if workers == 1:
        for job in jobs:
            yield _write(job, root, size)
        return
    # Not fork: a forked child inherits locks of OpenCV's and torch's threads and may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_one_thread)
    try:
        yield from pool.map(_write, jobs, [root] * len(jobs), [size] * len(jobs))
    except BrokenProcessPool:
        raise HilumError(
            "phantom: a drawing process ended at once. In a script, call write_phantom under "
            "`if __name__ == '__main__':`, or pass workers=1."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _write(job: list[_Picture], root: Path, size: int) -> int:
    """Draws and writes pictures; returns how many."""
    for shot, path, masked in job:
        image, shown = draw_shot(shot, size)
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        _save(file, image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        kept = {mask_path(root, path, name): mask for name, mask in shown.items() if name in masked}
        for place, mask in kept.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            _save(place, mask.astype(np.uint8) * np.uint8(255), [])
    return len(job)


def _save(path: Path, pixels: np.ndarray, options: list[int]) -> None:
    # Encoded in memory: imwrite cannot open every path on Windows, and hides why it failed.
    _, encoded = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(encoded.tobytes())


#: What is drawn where nothing is said.
DEFAULTS = {"images": 2400, "size": 128, "seed": 0, "leak": "acuity"}


def open_catalog(
    root: Path | None = None,
    images: int | None = None,
    size: int | None = None,
    seed: int | None = None,
    leak: str | None = None,
    max_studies: int | None = 4,
) -> Catalog:
    """The cleaned catalog of a phantom.

    What is left out is as the phantom at `root` has it, or else 2,400 images of 128 x 128 pixels, seed 0
    and the leak "acuity".

    Args:
        root: its folder; drawn there if it is empty or missing. None keeps one in the user's cache.
        images: how many radiographs, lateral ones included.
        size: their width and height in pixels.
        seed: of the drawing.
        leak: what support devices go with: "acuity", "effusion" or "none"; see `write_phantom`.
        max_studies: studies with a higher number are left out; None keeps all.

    Raises:
        HilumError: the folder holds something else, or a phantom with other parameters.
    """
    given = {"images": images, "size": size, "seed": seed, "leak": leak}
    parameters = _as_drawn(root) | {name: value for name, value in given.items() if value is not None}
    if root is None:
        cache = Path(os.environ.get("HILUM_CACHE") or platformdirs.user_cache_dir("hilum"))
        root = cache / "-".join(["phantom", *map(str, parameters.values())])
    if parameters["leak"] == "none":
        parameters["leak"] = None
    with _drawn_by_one(root):
        write_phantom(root, **parameters)
    metadata = CleanMetaData(root, max_studies=max_studies, name="phantom")
    # A phantom's pixels are not CheXpert's: they are measured.
    return replace(metadata.catalog(), pixel_stats=None)


@contextmanager
def _drawn_by_one(root: Path) -> Iterator[None]:
    """Lets one process at a time draw where there is no whole phantom yet: the runs of a sweep share a cache."""
    if (root / COMPLETE).is_file():
        yield
        return
    with ExitStack() as stack:
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(root.with_name(f"{root.name}.lock")))
        except OSError as error:
            raise HilumError(f"{root.parent}: it cannot be written: {error.strerror}.") from None
        yield


def _as_drawn(root: Path | None) -> dict:
    """The parameters of the phantom at `root`, or the defaults where there is none."""
    try:
        drawn = json.loads((root / "phantom.json").read_text()) if root else {}
    except (OSError, ValueError):
        return dict(DEFAULTS)  # write_phantom says what is wrong with the folder
    return {name: drawn.get(name, default) for name, default in DEFAULTS.items()}
