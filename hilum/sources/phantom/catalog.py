"""The phantom as a source: drawn where it is not there yet, then read as CheXpert is."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import platformdirs
from filelock import FileLock

from hilum.errors import HilumError
from hilum.sources.catalog import Catalog
from hilum.sources.chexpert import CleanMetaData
from hilum.sources.phantom.tree import COMPLETE, write_phantom

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
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root.with_name(f"{root.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise HilumError(f"{root.parent}: it cannot be written: {error.strerror}.") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _as_drawn(root: Path | None) -> dict:
    """The parameters of the phantom at `root`, or the defaults where there is none."""
    try:
        drawn = json.loads((root / "phantom.json").read_text()) if root else {}
    except (OSError, ValueError):
        return dict(DEFAULTS)  # write_phantom says what is wrong with the folder
    return {name: drawn.get(name, default) for name, default in DEFAULTS.items()}
