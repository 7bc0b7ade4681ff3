"""Which of an index's images are on disk, found by listing each folder once."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hilum.sources.images import parse_address


def absent(root: Path, paths: Iterable[str]) -> np.ndarray:
    """Whether each image, a path below `root`, is missing; bool (images,)."""
    listed: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, _, name = parse_address(path).file.rpartition("/")
        if folder not in listed:
            try:
                listed[folder] = {entry.name for entry in os.scandir(root / folder) if not entry.is_dir()}
            except OSError:
                listed[folder] = set()
        missing.append(name not in listed[folder])
    return np.array(missing, dtype=bool)
