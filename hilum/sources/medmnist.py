"""MedMNIST's chest sets: radiographs of 28, 64, 128 or 224 pixels, packed in one .npz.

- ChestMNIST: 112,120 images of NIH ChestX-ray14 with its 14 findings (78,468 train, 11,219 val, 22,433 test); the
  labels were read from the reports by a text miner.
- PneumoniaMNIST: 5,856 images of Kermany's pediatric pneumonia data (4,708 train, 524 val, 624 test).

No patient is recorded: each image counts as its own patient, and nobody can check that the parts share none. Neither
age, sex nor view is recorded.

Yang J, Shi R, Wei D, et al. "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
classification". Scientific Data 2023, 10:41. From medmnist.com (Zenodo 10519652), CC BY 4.0.
"""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.files import cache_folder, replacing
from hilum.sources.catalog import Catalog, feature_table
from hilum.targets import canonical_target

PARTS = ("train", "val", "test")

#: The labels of the two chest sets, in MedMNIST's own order and spelling.
LABELS = {
    "chestmnist": (
        *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
        *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
    ),
    "pneumoniamnist": ("pneumonia",),
}


def open_catalog(root: Path, name: str | None = None, targets: Sequence[str] | None = None) -> Catalog:
    """The images of one .npz, in the order train, val, test, with these parts fixed.

    The pixels are unpacked once, as a stream, into the user's cache folder, and mapped into memory from there, so that
    any size fits. `Image_Path` is `<part>.npy#<row>`.

    Args:
        root: the .npz, or the folder that holds it.
        name: which .npz of the folder, such as "chestmnist_224"; may be left out if there is one.
        targets: the names of the label columns; known for files that begin with chestmnist or pneumoniamnist.

    Raises:
        HilumError: no .npz or several, one that is damaged, lacks an array, or has arrays of different lengths; a label
            that is not 0 or 1; a cache that cannot be written.
    """
    path = _choose(root, name)
    try:
        with zipfile.ZipFile(path) as archive:
            labels = [_labels(archive, path, part) for part in PARTS]
            names = _target_names(path, targets, labels)
            for part, known in zip(PARTS, labels, strict=True):
                _check_images(archive, path, part, len(known))
            folder = _unpack(archive)
    except HilumError:
        raise
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise HilumError(f"{path}: not a readable .npz: {error}. Restore it from medmnist.com.") from None
    counts = [len(known) for known in labels]
    rows = zip(PARTS, counts, strict=True)
    paths = [f"{part}.npy#{row}" for part, count in rows for row in range(count)]
    table = feature_table(patients=np.arange(len(paths)), image_paths=paths)
    table[list(names)] = np.concatenate(labels).astype(np.float64)
    parts = pd.Series(np.repeat(PARTS, counts), index=table.index, dtype=object)
    return Catalog(path.stem, table, names, folder, origin=path, fixed_split=parts)


def _choose(root: Path, name: str | None) -> Path:
    if root.is_file():
        if name is not None and root.stem != name:
            raise HilumError(f"{root}: name asks for {name!r}. Give the folder as root, or leave name out.")
        return root
    if not root.is_dir():
        raise HilumError(f"{root}: there is no such file or folder. Give a MedMNIST .npz or its folder.")
    files = {path.stem: path for path in sorted(root.glob("*.npz")) if not path.name.startswith(".")}
    found = [path for stem, path in files.items() if name in (None, stem)]
    if len(found) != 1:
        expected = "one .npz" if name is None else f"{name}.npz"
        raise HilumError(
            f"{root}: expected {expected} there; found {', '.join(files) or 'none'}. "
            'Name it with source_kwargs name, such as {name = "chestmnist_64"}.'
        )
    return found[0]


def _labels(archive: zipfile.ZipFile, path: Path, part: str) -> np.ndarray:
    """(images, targets) of 0 or 1."""
    with archive.open(_member(archive, path, f"{part}_labels")) as file:
        labels = np.lib.format.read_array(file, allow_pickle=False)
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or not len(labels):
        found = f"{path}: {part}_labels holds {labels.dtype} of shape {labels.shape}"
        raise HilumError(f"{found}; expected whole numbers of shape (images, targets).")
    wrong = ~np.isin(labels, (0, 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise HilumError(
            f"{path}: {part}_labels, row {row}, column {column}: {labels[row, column]} is not a label; expected 0 or "
            "1. A set with several classes in one column is not multi-label and cannot be used."
        )
    return labels


def _target_names(path: Path, given: Sequence[str] | None, labels: list[np.ndarray]) -> tuple[str, ...]:
    known = (names for prefix, names in LABELS.items() if path.stem.lower().startswith(prefix))
    names = next(known, None) if given is None else given
    if names is None:
        raise HilumError(
            f"{path}: the name begins with neither {' nor '.join(LABELS)}, so its labels are unknown. "
            "Name them in order with source_kwargs targets."
        )
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise HilumError(f"targets must be a list of names, one per label column; it is {given!r}.")
    for part, array in zip(PARTS, labels, strict=True):
        if array.shape[1] != len(names):
            raise HilumError(
                f"{path}: {part}_labels has {array.shape[1]} columns; expected {len(names)}: {', '.join(names)}."
            )
    targets = tuple(canonical_target(name) for name in names)
    if len(set(targets)) < len(targets):
        raise HilumError(f"targets: {', '.join(names)} name a finding twice. Give each column its own name.")
    return targets


def _check_images(archive: zipfile.ZipFile, path: Path, part: str, count: int) -> None:
    """Checks the header of the array; the pixels are not read."""
    with archive.open(_member(archive, path, f"{part}_images")) as file:
        version = np.lib.format.read_magic(file)
        header_1, header_2 = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        shape, fortran, dtype = (header_1 if version == (1, 0) else header_2)(file)
    if len(shape) != 3 or dtype != np.uint8 or fortran:
        found = f"{path}: {part}_images holds {dtype} of shape {shape}"
        raise HilumError(f"{found}; expected gray uint8 images of shape (images, height, width).")
    if shape[0] != count:
        raise HilumError(f"{path}: {part}_images has {shape[0]:,} images, {part}_labels {count:,} rows.")


def _member(archive: zipfile.ZipFile, path: Path, array: str) -> str:
    name = f"{array}.npy"
    if name not in archive.namelist():
        found = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist())
        problem = f"{path}: the array {array} is missing; it has {found}."
        raise HilumError(f"{problem} This is not a MedMNIST file of two-dimensional images.")
    return name


def _unpack(archive: zipfile.ZipFile) -> Path:
    """Unpacks `<part>.npy` into a cache folder named by the content; returns the folder."""
    members = {part: archive.getinfo(f"{part}_images.npy") for part in PARTS}
    key = json.dumps([[part, member.CRC, member.file_size] for part, member in members.items()])
    folder = cache_folder() / f"medmnist-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    for part, member in members.items():
        unpacked = folder / f"{part}.npy"
        if unpacked.is_file() and unpacked.stat().st_size == member.file_size:
            continue
        # zipfile compares the checksum at the end of the array: a damaged array is never kept.
        with archive.open(member) as packed:
            try:
                with replacing(unpacked) as partial, partial.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
            except OSError as error:
                raise HilumError(
                    f"{unpacked}: the images cannot be unpacked there ({member.file_size:,} bytes): {error.strerror}. "
                    "Make room, or set HILUM_CACHE to another folder."
                ) from None
    return folder
