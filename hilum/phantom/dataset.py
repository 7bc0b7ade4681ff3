"""Writes a phantom to disk in CheXpert's layout: train.csv, train/patient…/study…/view….jpg."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hilum.errors import HilumError, nearest
from hilum.files import cache_folder, holds_complete, locked, replacing, write_json
from hilum.machine import cores, worker_pool
from hilum.phantom.cohort import COLUMNS, DATASET, LEAKS, cohort_table
from hilum.phantom.drawing import ImagePlan, draw_image
from hilum.sources.catalog import Catalog
from hilum.sources.chexpert import CleanMetaData
from hilum.targets import CHEXPERT_TARGETS

#: Raised whenever the same parameters give other bytes.
DRAWING = 1
COMPLETE = "phantom.json"
_STARTED = "phantom.started.json"
_JPEG_QUALITY = 95
_IMAGES_PER_JOB = 40
_LEAST = {"images": 20, "size": 32, "seed": 0, "workers": 1}
#: With fewer images, starting worker processes takes longer than drawing.
_WORTH_WORKERS = 200

#: The parameters that `open_catalog` uses for a new phantom.
DEFAULTS: dict[str, Any] = {"images": 2400, "size": 128, "seed": 0, "leak": "acuity"}


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
    """Writes a phantom, unless the same one is there already, and returns its folder.

    `<root>/train.csv` has CheXpert's columns; its paths begin with a data set name, as CheXpert's do:
    `CheXpert-phantom/train/patient00001/study1/view1_frontal.jpg` is the file
    `<root>/train/patient00001/study1/view1_frontal.jpg`, an 8-bit gray JPEG. The mask of a finding in a frontal view is
    `<root>/masks/patient00001/study1/view1_frontal/<Finding>.png`, 0 or 255. `<root>/phantom.json`, the parameters, is
    written last: a folder with it is complete.

    Args:
        root: a folder that is absent, empty, or holds this phantom, complete or partial.
        images: frontal and lateral views together, 20 or more.
        size: side of an image in pixels, 32 or more.
        seed: 0 or more; the same parameters give the same bytes for any number of workers.
        workers: processes, by default one per CPU core. With more than one, a script must call this under
            `if __name__ == "__main__":`, as multiprocessing requires.
        leak: what support devices depend on. "acuity": the patient's state and AP views, as in reality; None: nothing,
            neither disease nor view; "effusion": pleural effusion alone, a planted leak.
        masks: whether to write the masks.
        progress: called with the number of images written and of all.

    Raises:
        HilumError: a parameter is out of range, or the folder holds something else.
    """
    root = Path(root)
    parameters = {"images": images, "size": size, "seed": seed, "leak": leak}
    parameters |= {"masks": masks, "drawing": DRAWING}
    _check_parameters(parameters | ({} if workers is None else {"workers": workers}))
    if holds_complete(root, "phantom", parameters):
        return root
    write_json(root / _STARTED, parameters)
    table = cohort_table(images, seed=seed, leak=leak)
    written = 0
    for count in _write_images(table.to_dict("records"), root, parameters, workers or cores()):
        written += count
        if progress:
            progress(written, images)
    with replacing(root / "train.csv") as partial:
        table[list(COLUMNS)].to_csv(partial, index=False, lineterminator="\n")
    write_json(root / COMPLETE, parameters)
    (root / _STARTED).unlink()
    return root


def mask_path(root: str | Path, image_path: str, finding: str) -> Path:
    """The path of a finding's mask, which exists if it is visible; `image_path` as in a catalog, below the root."""
    return Path(root) / "masks" / Path(image_path).relative_to("train").with_suffix("") / f"{finding}.png"


def _check_parameters(parameters: dict[str, Any]) -> None:
    for name, least in _LEAST.items():
        value = parameters.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise HilumError(f"phantom: {name} is {value!r}. Give a whole number of {least} or more.")
    leak = parameters["leak"]
    if leak not in LEAKS:
        hint = nearest(str(leak), [known for known in LEAKS if known])
        raise HilumError(f"phantom: leak is {leak!r}.{hint} It may be 'acuity', 'effusion' or None.")


def _write_images(
    rows: list[dict[str, Any]], root: Path, parameters: dict[str, Any], workers: int
) -> Iterator[int]:
    """Draws and writes the images of the cohort's rows; yields how many each job has written."""
    jobs = [rows[start : start + _IMAGES_PER_JOB] for start in range(0, len(rows), _IMAGES_PER_JOB)]
    if workers == 1 or len(rows) < _WORTH_WORKERS:
        for job in jobs:
            yield _write_job(job, root, parameters)
        return
    pool = worker_pool(min(workers, len(jobs)))
    try:
        yield from pool.map(_write_job, jobs, [root] * len(jobs), [parameters] * len(jobs))
    except BrokenProcessPool:
        raise HilumError(
            "phantom: a drawing process ended at once. In a script, call write_phantom under "
            "`if __name__ == '__main__':`, or pass workers=1."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _write_job(rows: list[dict[str, Any]], root: Path, parameters: dict[str, Any]) -> int:
    for row in rows:
        path = row["Path"].removeprefix(f"{DATASET}/")
        image, masks = draw_image(_plan(row, parameters["seed"]), parameters["size"])
        _write_image(root / path, image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        for name, mask in masks.items():
            if parameters["masks"] and row[name.replace("_", " ")] == 1:
                _write_image(mask_path(root, path, name), mask.astype(np.uint8) * np.uint8(255), [])
    return len(rows)


def _plan(row: dict[str, Any], seed: int) -> ImagePlan:
    severities = {name: row[f"severity_{name}"] for name in CHEXPERT_TARGETS}
    return ImagePlan(
        seed=seed,
        **{key: row[key] for key in ("patient", "study", "view")},
        female=row["Sex"] == "Female",
        age=row["Age"] or 60,  # unknown ages are 0
        projection="" if row["Frontal/Lateral"] == "Lateral" else row["AP/PA"],
        severities={name: severity for name, severity in severities.items() if severity > 0},
        devices=tuple(row["devices"].split()),
    )


def _write_image(path: Path, pixels: np.ndarray, options: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Encoded in memory: imwrite cannot open every path on Windows, and does not report why it failed.
    _, encoded = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(encoded.tobytes())


def open_catalog(
    root: Path | None = None,
    images: int | None = None,
    size: int | None = None,
    seed: int | None = None,
    leak: str | None = None,
    max_studies: int | None = 4,
) -> Catalog:
    """The cleaned catalog of a phantom.

    A parameter that is None is that of the phantom at `root`, or else its default: 2,400 images of 128 x 128 pixels,
    seed 0 and the leak "acuity".

    Args:
        root: its folder; drawn there if it is empty or missing. None uses one in the user's cache folder.
        images: number of radiographs, with the lateral ones.
        size: their width and height in pixels.
        seed: of the drawing.
        leak: what support devices depend on: "acuity", "effusion" or "none"; see `write_phantom`.
        max_studies: studies with a higher number are left out; None keeps all.

    Raises:
        HilumError: the folder holds something else, or a phantom with other parameters.
    """
    given = {"images": images, "size": size, "seed": seed, "leak": leak}
    parameters = _parameters_of(root) | {name: value for name, value in given.items() if value is not None}
    if root is None:
        root = cache_folder() / "-".join(["phantom", *map(str, parameters.values())])
    if parameters["leak"] == "none":
        parameters["leak"] = None
    # One process draws and the others wait: the runs of a sweep share a cache.
    lock = nullcontext() if (root / COMPLETE).is_file() else locked(root.with_name(f"{root.name}.lock"))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            write_phantom(root, **parameters)
    except OSError as error:
        raise HilumError(f"{root.parent}: it cannot be written: {error.strerror}.") from None
    catalog = CleanMetaData(root, max_studies=max_studies, name="phantom").catalog()
    # The pixel statistics of a phantom are not CheXpert's: they are measured.
    return replace(catalog, pixel_stats=None)


def _parameters_of(root: Path | None) -> dict[str, Any]:
    """The parameters of the phantom at `root`, or the defaults without one."""
    try:
        drawn = json.loads((root / COMPLETE).read_text()) if root else {}
    except (OSError, ValueError):
        return dict(DEFAULTS)  # write_phantom reports what is wrong with the folder
    return {name: drawn.get(name, default) for name, default in DEFAULTS.items()}
