"""The Catalog: one checked table of images, the same for all data sets."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.files import replacing
from hilum.targets import resolve_targets

#: The columns before the targets, in this order: what is known of every image.
FEATURE_COLUMNS = (
    *("PatientID", "StudyID", "Age", "Sex_Male", "Sex_Unknown", "Orientation_PA", "Support Devices"),
    *("Image_Path", "Hierarchical_Path"),
)

#: The parts of a data set's own split; images of `"train_val"` are drawn into train and val.
FIXED_PARTS = ("train", "val", "train_val", "test")


@dataclass(frozen=True)
class Catalog:
    """A validated table with one row per image.

    Attributes:
        name: the data set, such as `"chexpert"`.
        table: indexed by the integer `ImageID`; the columns are `FEATURE_COLUMNS`, then the targets: 1.0 (positive),
            0.0 (negative) or NaN (left out of the loss and the scores). `Age` is in years; an unknown feature is NaN.
        targets: the names of the target columns, in order.
        root: the folder that `Image_Path` is relative to; None without images. A merged catalog has one folder per
            source, by the first part of `Image_Path`.
        origin: the file the table was read from, for messages.
        fixed_split: the data set's own split, if it has one: a series of `FIXED_PARTS`, indexed as the table.
        codes: the labels before any policy, if they are more than positive and negative: 1.0 positive, 0.0 negative,
            -1.0 uncertain, NaN not mentioned. Indexed as the table, with the targets as columns.
        pixel_stats: published mean and standard deviation of the pixels (0..1), if there are any.

    Raises:
        HilumError: a column or a PatientID is missing, an ImageID or image path appears twice, or a target is not 1, 0
            or NaN. File, row and column are named.
    """

    name: str
    table: pd.DataFrame = field(repr=False)
    targets: tuple[str, ...]
    root: Path | dict[str, Path] | None = None
    origin: Path | None = None
    fixed_split: pd.Series | None = field(default=None, repr=False)
    codes: pd.DataFrame | None = field(default=None, repr=False)
    pixel_stats: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        where = str(self.origin or f"catalog {self.name!r}")
        _check_index(self.table, self.targets, where)
        _check_features(self.table, where)
        expected = "is not a label. A catalog holds 1 (positive), 0 (negative) or NaN (left out)."
        _check_numbers(self.table[list(self.targets)], (0, 1), expected, where)
        if self.fixed_split is not None:
            if not self.fixed_split.index.equals(self.table.index):
                expected = "must have the table's ImageIDs in the same order"
                raise HilumError(f"{where}: the fixed split {expected}.")
            expected = f"is not a part of a split. Known parts are {', '.join(FIXED_PARTS)}."
            parts = self.fixed_split.rename("fixed split")
            _check_values(parts, parts.isin(FIXED_PARTS), expected, where)
        if self.codes is not None:
            if not self.codes.index.equals(self.table.index) or tuple(self.codes.columns) != self.targets:
                raise HilumError(f"{where}: the codes must have the table's ImageIDs and targets in order.")
            expected = "is not a code: 1 (positive), 0 (negative), -1 (uncertain) or NaN (not mentioned)."
            _check_numbers(self.codes, (0, 1, -1), expected, where)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the name, the columns and every value, but not of the root or the library versions."""
        digest = hashlib.sha256(f"{self.name}\n".encode())
        columns = {"ImageID": self.table.index, **{name: self.table[name] for name in self.table.columns}}
        if self.codes is not None:
            columns |= {f"code {name}": self.codes[name] for name in self.codes.columns}
        for name, values in columns.items():
            digest.update(f"\n{name}\n".encode())
            if pd.api.types.is_numeric_dtype(values.dtype):
                digest.update(np.ascontiguousarray(values.to_numpy(dtype="<f8", na_value=np.nan)).tobytes())
            else:
                digest.update("\n".join(values.astype(str)).encode())
        return digest.hexdigest()

    def labels(self) -> np.ndarray:
        """The targets as a float32 array of shape (images, targets)."""
        return self.table[list(self.targets)].to_numpy(dtype=np.float32)

    def image_path(self, image_id: int, column: str = "Image_Path") -> Path:
        """The path of an image; raises a HilumError for an unknown ImageID and without a root."""
        if image_id not in self.table.index:
            first, last = self.table.index[0], self.table.index[-1]
            raise HilumError(
                f"{self.name} has no ImageID {image_id}. Its {len(self):,} ids run from {first} to {last}; "
                "those that the cleaning left out are missing in between."
            )
        return Path(self._full_paths([self.table.at[image_id, column]])[0])

    def image_paths(self, column: str = "Image_Path") -> list[str]:
        """The paths of all images, in the table's order."""
        return self._full_paths(self.table[column])

    def _full_paths(self, paths: Iterable[str]) -> list[str]:
        if self.root is None:
            raise HilumError(
                f"The {self.name} catalog was made from {self.origin} without its images. "
                "Give root, the folder of the images."
            )
        if not isinstance(self.root, dict):
            return [f"{self.root}/{path}" for path in paths]
        split = [path.partition("/") for path in paths]
        if any(source not in self.root for source, _, _ in split):
            raise HilumError(
                f"The {self.name} catalog is merged, and its images are only in the folders of its sources. "
                "Read them by Image_Path, or copy them into a folder hierarchy first."
            )
        return [f"{self.root[source]}/{path}" for source, _, path in split]

    def write(self, path: Path) -> None:
        """Writes the table with its ImageIDs to a .parquet or .csv; raises a HilumError if it cannot."""
        table = self.table.reset_index()
        if path.suffix not in {".parquet", ".csv"}:
            raise HilumError(f"{path}: a catalog is written as .parquet or .csv. Choose such a name.")
        try:
            with replacing(path) as partial:
                table.to_parquet(partial) if path.suffix == ".parquet" else table.to_csv(partial, index=False)
        except OSError as error:
            raise HilumError(f"{path}: it cannot be written: {error.strerror}.") from None

    def select_targets(self, wanted: str | Sequence[str] | None) -> "Catalog":
        """The same images with only these targets, by name, alias or named set."""
        targets = resolve_targets(wanted, self.targets)
        others = [name for name in self.table.columns if name not in self.targets]
        codes = None if self.codes is None else self.codes[list(targets)]
        return replace(self, table=self.table[[*others, *targets]], targets=targets, codes=codes)

    def select_images(self, image_ids: Sequence[int] | np.ndarray) -> "Catalog":
        """The rows of these ids, in the given order."""
        fixed = None if self.fixed_split is None else self.fixed_split.loc[image_ids]
        codes = None if self.codes is None else self.codes.loc[image_ids]
        return replace(self, table=self.table.loc[image_ids], fixed_split=fixed, codes=codes)

    def add_features(self, parts: pd.DataFrame) -> pd.DataFrame:
        """`parts` (ImageID, PatientID, part), in its order, with the features but no labels or hierarchical paths."""
        others = self.table.drop(columns=["PatientID", "Hierarchical_Path", *self.targets])
        return parts.merge(others, left_on="ImageID", right_index=True, how="left", validate="1:1")

    def with_labels(self, labels: np.ndarray) -> "Catalog":
        """The same images with other labels: (images, targets) of 1, 0 or NaN, in the table's order."""
        table = self.table.copy()
        table[list(self.targets)] = labels.astype(np.float64)
        return replace(self, table=table)


def _check_values(column: pd.Series, valid: pd.Series, problem: str, where: str) -> None:
    """Raises a HilumError that names the first value that is not valid; `problem` follows it."""
    if not valid.all():
        row = (~valid).to_numpy().argmax()
        value = column.iloc[row]
        shown = repr(value) if isinstance(value, str) else str(value)
        raise HilumError(f"{where}: ImageID {column.index[row]}, column {column.name}: {shown} {problem}")


def _check_index(table: pd.DataFrame, targets: tuple[str, ...], where: str) -> None:
    missing = [name for name in (*FEATURE_COLUMNS, *targets) if name not in table.columns]
    if missing:
        raise HilumError(f"{where}: the catalog lacks the column(s) {', '.join(missing)}.")
    if not targets:
        raise HilumError(f"{where}: the catalog names no target.")
    if not len(table):
        raise HilumError(f"{where}: no image is left in the catalog. Loosen the filters, or check the file.")
    if not pd.api.types.is_integer_dtype(table.index.dtype) or table.index.name != "ImageID":
        raise HilumError(f"{where}: the index of the catalog must be whole numbers named ImageID.")
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise HilumError(f"{where}: ImageID {repeated} appears twice. Ids must be unique.")


def _check_features(table: pd.DataFrame, where: str) -> None:
    paths, patients = table["Image_Path"], table["PatientID"]
    twice = "appears twice. Remove one row: an image counted twice may be on both sides of the split."
    _check_values(paths, ~paths.duplicated(), twice, where)
    outside = "leads out of the data set's folder. Paths must be below it."
    _check_values(paths, ~paths.astype(str).str.contains(r"(?:^|/)\.\.(?:/|$)|^/"), outside, where)
    missing = "is missing. The split keeps patients apart, so every image needs one."
    _check_values(patients, patients.notna(), missing, where)


def _check_numbers(table: pd.DataFrame, allowed: tuple[int, ...], expected: str, where: str) -> None:
    """Checks that all columns are numbers, NaN or one of `allowed`."""
    for target, values in table.items():
        if not pd.api.types.is_numeric_dtype(values.dtype):
            raise HilumError(f"{where}: column {target}: it holds {values.dtype}, not numbers.")
        _check_values(values, values.isna() | values.isin(allowed), expected, where)


def feature_table(
    *,
    patients: Any,  # numbers or text
    image_paths: pd.Series | Sequence[str],  # below the root; the index of a series becomes the ImageIDs
    studies: Any = np.nan,  # numbers or text
    ages: Any = np.nan,  # in years
    male: Any = np.nan,  # 1 for male, else 0
    sex_unknown: Any = np.nan,  # 1 where the sex is not recorded
    pa: Any = np.nan,  # 1 for a posteroanterior view, 0 for an anteroposterior one
    devices: Any = np.nan,  # 1 where support devices are in the image
    keep_extensions: bool = False,  # whether a hierarchical path ends as the image's own path, not in ".jpg"
) -> pd.DataFrame:
    """The features of a data set's images: `FEATURE_COLUMNS`, indexed by `ImageID`.

    Each feature has shape (images,) or is one value for all, NaN if it is unknown.
    """
    paths = image_paths if isinstance(image_paths, pd.Series) else pd.Series(image_paths, dtype="str")
    extensions = extensions_of(paths) if keep_extensions else None
    index = pd.Index(paths.index, name="ImageID")
    values = (patients, studies, ages, male, sex_unknown, pa, devices, paths.astype("str"))
    table = dict(zip(FEATURE_COLUMNS, values, strict=False))
    table["Hierarchical_Path"] = hierarchical_paths(index.to_numpy(), extensions=extensions)
    return pd.DataFrame(table, index=index)


def check_choices(setting: str, values: Any, known: Sequence[str]) -> None:
    """Raises a HilumError unless a filter is a list of at least one of the `known` values."""
    given = values if isinstance(values, list | tuple | set) else ()
    if not given or any(value not in known for value in given):
        raise HilumError(f"{setting} must be a list of {', '.join(map(repr, known))}; it is {values!r}.")


def check_some_left(kept: pd.Series, origin: Path, **filters: Any) -> None:
    """Raises a HilumError unless the filters keep at least one image."""
    if not kept.any():
        settings = ", ".join(f"{name}={value!r}" for name, value in filters.items())
        raise HilumError(f"{origin}: no image is left after the filters {settings}. Loosen one of them.")


#: The largest number of entries in a folder, unless another one is given.
FOLDER_SIZE = 50


def extensions_of(image_paths: Iterable[str]) -> list[str]:
    """The lower-case extension of each file, ".jpg" where the name has no extension.

    >>> extensions_of(["a/b.PNG", "a/c.dicom", "d", "e.png#window=0,4095"])
    ['.png', '.dicom', '.jpg', '.png']
    """
    return [PurePosixPath(path.partition("#")[0]).suffix.lower() or ".jpg" for path in image_paths]


def hierarchical_paths(
    image_ids: np.ndarray, folder_size: int = FOLDER_SIZE, extensions: Sequence[str] | None = None
) -> list[str]:
    """`data/d<i>/d<j>/.../i<ImageID>.jpg`, with no more than `folder_size` entries in any folder.

    The folders are the digits of the id in base `folder_size`; the last digit is the file's place in its folder. The
    number of levels follows from the largest id and is at least two, as in the founding project.

    Args:
        image_ids: (images,) whole numbers >= 0.
        folder_size: 2 or more, or a HilumError is raised.
        extensions: (images,) such as ".png"; None ends all names with ".jpg".

    >>> hierarchical_paths(np.array([0, 131_747]))
    ['data/d0/d0/d0/i0.jpg', 'data/d1/d2/d34/i131747.jpg']
    """
    if type(folder_size) is not int or folder_size < 2:
        raise HilumError(f"folder_size must be a whole number of entries, 2 or more; it is {folder_size!r}.")
    ids = np.asarray(image_ids, dtype=np.int64)
    levels = 2
    while folder_size ** (levels + 1) <= ids.max(initial=0):
        levels += 1
    digits = [(ids // folder_size**power % folder_size).tolist() for power in range(levels, 0, -1)]
    endings = [".jpg"] * len(ids) if extensions is None else extensions
    return [
        "data/" + "".join(f"d{digit}/" for digit in folders) + f"i{image_id}{ending}"
        for image_id, ending, *folders in zip(ids.tolist(), endings, *digits, strict=True)
    ]
