"""The training, validation and test parts of a data set, and whether they have the same proportions."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.config import SplitSettings
from hilum.errors import HilumError
from hilum.randomness import generator
from hilum.sources.catalog import Catalog

PARTS = ("train", "val", "test")

#: Lower bounds of the age bands whose proportions are compared, in years.
AGE_BANDS = (0, 20, 40, 60, 80)


@dataclass(frozen=True)
class Split:
    """The part of each image.

    Attributes:
        table: columns `ImageID`, `PatientID`, `part`, in the catalog's order.
        unit: `"patient"` if no patient has images in two parts, else `"image"`.
    """

    table: pd.DataFrame
    unit: str

    def image_ids(self, part: str) -> np.ndarray:
        """The int64 ImageIDs of a part, in the catalog's order."""
        return self.table.loc[self.table["part"] == part, "ImageID"].to_numpy()

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images and of patients of each part that is not empty."""
        return {
            part: {"images": len(rows), "patients": int(rows["PatientID"].nunique())}
            for part in PARTS
            if len(rows := self.table[self.table["part"] == part])
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every ImageID with its part."""
        ordered = self.table.sort_values("ImageID")
        lines = "\n".join(f"{i} {part}" for i, part in zip(ordered["ImageID"], ordered["part"], strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()


def make_split(catalog: Catalog, settings: SplitSettings, seed: int) -> Split:
    """Draws a random subset, then assigns each of its images to train, val or test.

    With the unit "patient", shuffled patients are assigned to test, then val, until each part has its
    fraction of the images; so a patient's images stay together. If the data set has an official split and
    `official_split` is true, its test images stay test, and only what it leaves open is drawn.

    Args:
        catalog: the images.
        settings: of the subset and the parts.
        seed: of the draws.

    Raises:
        HilumError: more images are asked for than the catalog has, a part is empty, a test fraction is
            asked of a data set with an official test part, or the official split mixes patients.
    """
    table = catalog.table.iloc[_subset(len(catalog), settings.number_images, seed)]
    part = pd.Series("train", index=table.index, dtype=object)
    open_rows = pd.Series(True, index=table.index)
    if settings.official_split and catalog.fixed_split is not None:
        fixed = catalog.fixed_split.loc[table.index]
        if settings.test_fraction and (fixed == "test").any():
            raise HilumError(
                f"test_fraction is {settings.test_fraction:g}, but {catalog.name} has an official test part. "
                "Leave test_fraction at 0, or set official_split to false."
            )
        part = fixed.replace("train_val", "train")
        # A data set with an official validation part leaves nothing open.
        open_rows = fixed.isin(["train_val"] if (fixed == "val").any() else ["train_val", "train"])
    fractions = {"test": settings.test_fraction, "val": settings.val_fraction}
    drawn = _assign(table[open_rows], fractions, settings.split_unit, seed)
    part.loc[drawn.index] = drawn
    parts = {"ImageID": table.index, "PatientID": table["PatientID"].to_numpy(), "part": part.to_numpy()}
    split = Split(pd.DataFrame(parts), settings.split_unit)
    _check_not_empty(split, settings)
    shared = _shared_patients(split.table)
    if len(shared) and settings.split_unit == "patient":
        raise HilumError(
            f"The split has images of {len(shared):,} patient(s) in two parts, for example {shared[0]}: the data "
            "set's own split mixes them. Set official_split to false, or split_unit to image."
        )
    return split


def load_split(path: Path, catalog: Catalog) -> Split:
    """A saved split, checked against the catalog that it is used with.

    Raises:
        HilumError: the file is missing or not a split file, is of another data set, has an unknown image or
            part, or has no images to train or validate on.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise HilumError(
            f"{path}: this split file does not exist. Give the split.parquet of a run."
        ) from None
    except (OSError, ValueError) as error:
        raise HilumError(f"{path}: this is not a split file: {error}.") from None
    missing = [name for name in ("ImageID", "PatientID", "part") if name not in table.columns]
    if missing:
        raise HilumError(f"{path}: the split lacks the column(s) {', '.join(missing)}.")
    unknown = ~table["ImageID"].isin(catalog.table.index)
    if unknown.any():
        raise HilumError(
            f"{path}: ImageID {table.loc[unknown.idxmax(), 'ImageID']} ({int(unknown.sum()):,} such rows) is not in "
            f"the {catalog.name} catalog. Use the source, root and filters of the run the split comes from."
        )
    patients = catalog.table.loc[table["ImageID"], "PatientID"].to_numpy()
    moved = patients.astype(str) != table["PatientID"].to_numpy().astype(str)
    if moved.any():
        row = table.iloc[int(moved.argmax())]
        raise HilumError(
            f"{path}: ImageID {row['ImageID']} is of patient {row['PatientID']} in this file, but of "
            f"{patients[moved.argmax()]} in the {catalog.name} catalog: the split is of another data set."
        )
    wrong = ~table["part"].isin(PARTS)
    if wrong.any() or table["ImageID"].duplicated().any():
        raise HilumError(f"{path}: each image must have one part of {', '.join(PARTS)}.")
    for part in ("train", "val"):
        if not (table["part"] == part).any():
            raise HilumError(f"{path}: the split has no {part} image. Give the split.parquet of a run.")
    shared = _shared_patients(table)
    return Split(table[["ImageID", "PatientID", "part"]], "image" if len(shared) else "patient")


def check_balance(catalog: Catalog, split: Split, tolerance: float) -> pd.DataFrame:
    """The features whose proportion differs between the training part and another by more than `tolerance`.

    Targets, support devices, sex and view: the proportion of images that have them; age: the proportion in
    each band of 20 years. Features that are not recorded in both parts are left out.

    Returns:
        columns `feature`, `part`, `train_share`, `part_share` (0..1), the largest difference first.
    """
    shares = {
        part: _feature_shares(catalog, catalog.table.loc[split.image_ids(part)]) for part in split.counts()
    }
    rows = [
        {"feature": feature, "part": part, "train_share": train_share, "part_share": shares[part][feature]}
        for part in shares
        if part != "train"
        for feature, train_share in shares["train"].items()
        if abs(train_share - shares[part].get(feature, np.nan)) > tolerance
    ]
    table = pd.DataFrame(rows, columns=["feature", "part", "train_share", "part_share"])
    return table.sort_values(
        by="part_share", key=lambda share: -(share - table["train_share"]).abs(), kind="stable"
    ).reset_index(drop=True)


def _subset(total: int, number_images: float, seed: int) -> np.ndarray:
    """Sorted positions of a random subset."""
    count = round(number_images * total) if 0 < number_images < 1 else int(number_images)
    if count > total:
        raise HilumError(f"number_images asks for {count:,} images, but the catalog has {total:,}.")
    if not number_images:
        return np.arange(total)
    return np.sort(generator(seed, "subset").permutation(total)[:count])


def _assign(table: pd.DataFrame, fractions: dict[str, float], unit: str, seed: int) -> pd.Series:
    """The part of each image: shuffled patients (or images) fill each part to its fraction of the images."""
    groups = table["PatientID"] if unit == "patient" else pd.Series(table.index, index=table.index)
    names = pd.unique(groups)
    order = generator(seed, "split").permutation(len(names))
    sizes = groups.value_counts().reindex(names).to_numpy()[order]
    # The middle image of a group decides its part: each fraction is met to within half a group.
    middle = (np.cumsum(sizes) - sizes / 2) / max(len(table), 1)
    bounds = np.cumsum(list(fractions.values()))
    labels = np.array([*fractions, "train"], dtype=object)
    part_of = pd.Series(labels[np.searchsorted(bounds, middle, side="right")], index=names[order])
    return groups.map(part_of)


def _check_not_empty(split: Split, settings: SplitSettings) -> None:
    counts = split.counts()
    for part, name in (("train", None), ("val", "val_fraction"), ("test", "test_fraction")):
        if part in counts or (part == "test" and not settings.test_fraction):
            continue
        setting = f" with {name}={getattr(settings, name):g}" if name else ""
        raise HilumError(
            f"The split leaves the {part} part empty{setting}: {len(split.table):,} images of "
            f"{split.table['PatientID'].nunique():,} patients. Raise number_images, or change val_fraction and "
            "test_fraction."
        )


def _shared_patients(table: pd.DataFrame) -> pd.Index:
    parts_of = table.groupby("PatientID")["part"].nunique()
    return parts_of.index[parts_of > 1]


def _feature_shares(catalog: Catalog, table: pd.DataFrame) -> dict[str, float]:
    columns = [*catalog.targets, "Support Devices", "Sex_Male", "Sex_Unknown", "Orientation_PA"]
    shares = {name: float(table[name].mean()) for name in columns if table[name].notna().any()}
    ages = table["Age"].dropna()
    for low, high in zip(AGE_BANDS, (*AGE_BANDS[1:], np.inf), strict=True):
        if len(ages):
            name = f"Age {low} and over" if high == np.inf else f"Age {low} to {high - 1}"
            shares[name] = float(((ages >= low) & (ages < high)).mean())
    return shares
