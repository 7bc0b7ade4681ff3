"""The Catalog: one checked table of images, whatever data set they come from."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.files import replacing
from hilum.targets import resolve_targets

#: What is known of every image, in this order, before the targets.
FEATURE_COLUMNS = (
    "PatientID",
    "StudyID",
    "Age",
    "Sex_Male",
    "Sex_Unknown",
    "Orientation_PA",
    "Support Devices",
    "Image_Path",
    "Hierarchical_Path",
)

#: What a data set's own split may say of an image; `"train_val"` leaves the two to be drawn.
FIXED_PARTS = ("train", "val", "train_val", "test")


@dataclass(frozen=True)
class Catalog:
    """A validated table with one row per image.

    Attributes:
        name: the data set, such as `"chexpert"`.
        table: indexed by the integer `ImageID`; the columns are `FEATURE_COLUMNS`, then the targets.
            A target is 1.0 (positive), 0.0 (negative) or NaN (left out of the loss and the scores).
            `Age` is in years. A feature that the data set does not record is NaN.
        targets: the names of the target columns, in order.
        root: the folder that `Image_Path` is relative to; None if the images are not at hand. For a
            merged catalog a folder for each source: the first part of `Image_Path` says which.
        origin: the file the table was read from, for messages.
        fixed_split: the data set's own split, if it has one: a series of `"train"`, `"val"`,
            `"train_val"` or `"test"`, indexed as the table.
        codes: what the data set says of each target before any policy, if it says more than positive and
            negative: 1.0 positive, 0.0 negative, -1.0 uncertain, NaN not mentioned. Indexed as the table,
            with the targets as columns.
        pixel_stats: published mean and standard deviation of the pixels (0..1), if there are any.

    Raises:
        HilumError: a column is missing, an ImageID or image path stands twice, a target holds
            something else than 1, 0 or NaN, or a PatientID is missing. File, row and column are named.
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
        _check(self)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the name, the columns and every value; the root and the library versions do not enter."""
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
        """Where the image lies.

        Raises:
            HilumError: there is no such ImageID, or the catalog was made without a root.
        """
        if image_id not in self.table.index:
            first, last = self.table.index[0], self.table.index[-1]
            raise HilumError(
                f"{self.name} has no ImageID {image_id}. Its {len(self):,} ids run from {first} to {last}; "
                "those the cleaning left out are missing in between."
            )
        return Path(self._located([self.table.at[image_id, column]])[0])

    def image_paths(self, column: str = "Image_Path") -> list[str]:
        """Where all images lie, in the table's order."""
        return self._located(self.table[column])

    def _located(self, paths: Iterable[str]) -> list[str]:
        if self.root is None:
            raise HilumError(
                f"The {self.name} catalog was made from {self.origin} without its images. "
                "Give root, the folder in which the images lie."
            )
        if not isinstance(self.root, dict):
            return [f"{self.root}/{path}" for path in paths]
        split = [path.partition("/") for path in paths]
        if any(source not in self.root for source, _, _ in split):
            raise HilumError(
                f"The {self.name} catalog is merged, and has its images in their sources' folders only. Read them "
                "by Image_Path, or make a hierarchy of them first."
            )
        return [f"{self.root[source]}/{path}" for source, _, path in split]

    def write(self, path: Path) -> None:
        """Writes the table with its ImageIDs, as Parquet or CSV by the name's ending.

        Raises:
            HilumError: another ending, or the file cannot be written.
        """
        table = self.table.reset_index()
        if path.suffix not in {".parquet", ".csv"}:
            raise HilumError(f"{path}: a catalog is written as .parquet or .csv; name the file so.")
        try:
            with replacing(path) as partial:
                table.to_parquet(partial) if path.suffix == ".parquet" else table.to_csv(partial, index=False)
        except OSError as error:
            raise HilumError(f"{path}: it cannot be written: {error.strerror}.") from None

    def select_targets(self, wanted: str | Sequence[str] | None) -> "Catalog":
        """The same images with only the targets asked for, by name, alias or named set."""
        targets = resolve_targets(wanted, self.targets)
        others = [name for name in self.table.columns if name not in self.targets]
        codes = None if self.codes is None else self.codes[list(targets)]
        return replace(self, table=self.table[[*others, *targets]], targets=targets, codes=codes)

    def select_images(self, image_ids: Sequence[int] | np.ndarray) -> "Catalog":
        """The rows of these ids, in the order given."""
        fixed = None if self.fixed_split is None else self.fixed_split.loc[image_ids]
        codes = None if self.codes is None else self.codes.loc[image_ids]
        return replace(self, table=self.table.loc[image_ids], fixed_split=fixed, codes=codes)

    def described(self, parts: pd.DataFrame) -> pd.DataFrame:
        """Everything known of some images but their findings and where a copy of them lies.

        Args:
            parts: columns ImageID, PatientID and part.

        Returns:
            The columns of `parts`, then those of the table, one row per image, in the order of `parts`.
        """
        others = self.table.drop(columns=["PatientID", "Hierarchical_Path", *self.targets])
        return parts.merge(others, left_on="ImageID", right_index=True, how="left", validate="1:1")

    def with_labels(self, labels: np.ndarray) -> "Catalog":
        """The same images with other labels.

        Args:
            labels: (images, targets) of 1, 0 or NaN, in the table's order.
        """
        table = self.table.copy()
        table[list(self.targets)] = labels.astype(np.float64)
        return replace(self, table=table)


def _check(catalog: Catalog) -> None:
    table, where = catalog.table, catalog.origin or f"catalog {catalog.name!r}"
    missing = [name for name in (*FEATURE_COLUMNS, *catalog.targets) if name not in table.columns]
    if missing:
        raise HilumError(f"{where}: the catalog lacks the column(s) {', '.join(missing)}.")
    if not catalog.targets:
        raise HilumError(f"{where}: the catalog names no target.")
    if not len(table):
        raise HilumError(f"{where}: no image is left in the catalog. Loosen the filters, or check the file.")
    if not pd.api.types.is_integer_dtype(table.index.dtype) or table.index.name != "ImageID":
        raise HilumError(f"{where}: the catalog must be indexed by whole numbers named ImageID.")
    if not table.index.is_unique:
        raise HilumError(
            f"{where}: ImageID {table.index[table.index.duplicated()][0]} stands twice. Ids must be unique."
        )
    repeated = table["Image_Path"].duplicated()
    if repeated.any():
        row = repeated.idxmax()
        raise HilumError(
            f"{where}: ImageID {row}, column Image_Path: {table.at[row, 'Image_Path']} stands twice. "
            "Remove one of the two rows: an image counted twice may end up on both sides of the split."
        )
    outside = table["Image_Path"].astype(str).str.contains(r"(?:^|/)\.\.(?:/|$)|^/")
    if outside.any():
        row = outside.idxmax()
        raise HilumError(
            f"{where}: ImageID {row}, column Image_Path: {table.at[row, 'Image_Path']!r} leads out of the data "
            "set's folder. Paths must lie below it."
        )
    if table["PatientID"].isna().any():
        row = table["PatientID"].isna().idxmax()
        raise HilumError(
            f"{where}: ImageID {row}, column PatientID: it is missing. "
            "The split keeps patients apart, so every image needs one."
        )
    for target in catalog.targets:
        if not pd.api.types.is_numeric_dtype(table[target].dtype):
            raise HilumError(
                f"{where}: column {target}: it holds {table[target].dtype}, not numbers. "
                "A catalog holds 1 (positive), 0 (negative) or NaN (left out)."
            )
    values = table[list(catalog.targets)].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise HilumError(
            f"{where}: ImageID {table.index[row]}, column {catalog.targets[column]}: {values[row, column]:g} "
            "is no label. A catalog holds 1 (positive), 0 (negative) or NaN (left out)."
        )
    if catalog.fixed_split is not None:
        _check_fixed_split(catalog.fixed_split, table.index, where)
    if catalog.codes is not None:
        _check_codes(catalog, where)


def _check_codes(catalog: Catalog, where: Path | str) -> None:
    codes = catalog.codes
    if not codes.index.equals(catalog.table.index) or tuple(codes.columns) != catalog.targets:
        raise HilumError(f"{where}: the codes must have the table's ImageIDs and targets, in the same order.")
    wrong = ~(codes.isna() | codes.isin([1.0, 0.0, -1.0])).to_numpy()
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise HilumError(
            f"{where}: ImageID {codes.index[row]}, column {codes.columns[column]}: {codes.iloc[row, column]!r} is "
            "no code. Codes are 1 (positive), 0 (negative), -1 (uncertain) or NaN (not mentioned)."
        )


def _check_fixed_split(split: pd.Series, image_ids: pd.Index, where: Path | str) -> None:
    if not split.index.equals(image_ids):
        raise HilumError(f"{where}: the fixed split must have the table's ImageIDs, in the same order.")
    unknown = ~split.isin(FIXED_PARTS)
    if unknown.any():
        image_id = unknown.idxmax()
        raise HilumError(
            f"{where}: ImageID {image_id} has the part {split.at[image_id]!r} in the fixed split. "
            f"Known parts are {', '.join(FIXED_PARTS)}."
        )


#: At most so many entries in a folder, unless another number is asked for.
FOLDER_SIZE = 50


def extensions_of(image_paths: Iterable[str]) -> list[str]:
    """How each file's name ends, ".jpg" where it does not say; a row of a stack has no file of its own.

    >>> extensions_of(["a/b.PNG", "a/c.dicom", "d", "e.png#window=0,4095"])
    ['.png', '.dicom', '.jpg', '.png']
    """
    return [PurePosixPath(path.partition("#")[0]).suffix.lower() or ".jpg" for path in image_paths]


def hierarchical_paths(
    image_ids: np.ndarray, folder_size: int = FOLDER_SIZE, extensions: Sequence[str] | None = None
) -> list[str]:
    """`data/d<i>/d<j>/.../i<ImageID>.jpg`, with no more than `folder_size` entries in any folder.

    The folders are the digits of the id in base `folder_size`, the last digit being the file's place
    in its folder. The number of levels follows from the largest id, and at least two are kept, as in
    the CheXpert project this layout comes from.

    Args:
        image_ids: (images,) whole numbers >= 0.
        folder_size: 2 or more.
        extensions: (images,) how each name ends, such as ".png"; None ends all with ".jpg".

    Raises:
        HilumError: a folder size below 2.

    >>> hierarchical_paths(np.array([0, 131_747]))
    ['data/d0/d0/d0/i0.jpg', 'data/d1/d2/d34/i131747.jpg']
    """
    if type(folder_size) is not int or folder_size < 2:
        raise HilumError(f"folder_size must be a whole number of entries, 2 or more; it is {folder_size!r}.")
    ids = np.asarray(image_ids, dtype=np.int64)
    levels = 2
    while folder_size ** (levels + 1) <= ids.max(initial=0):
        levels += 1
    digits = [ids // folder_size**power % folder_size for power in range(levels, 0, -1)]
    endings = [".jpg"] * len(ids) if extensions is None else extensions
    return [
        "data/" + "".join(f"d{digit}/" for digit in folders) + f"i{image_id}{ending}"
        for image_id, ending, *folders in zip(
            ids.tolist(), endings, *(column.tolist() for column in digits), strict=True
        )
    ]
