"""Which images are trained on, which validate, which test; and whether the parts are alike."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.randomness import generator
from hilum.sources.catalog import Catalog

PARTS = ("train", "val", "test")

#: Lower bounds of the age bands whose shares are compared, in years.
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
        """Images and patients of each part that has any."""
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


def make_split(
    catalog: Catalog,
    *,
    number_images: float,
    val_fraction: float,
    test_fraction: float,
    unit: str,
    seed: int,
    official: bool,
) -> Split:
    """Draws a random subset, then assigns each of its images to train, val or test.

    With unit "patient", patients are shuffled and dealt to test, then val, until each has its share
    of the images; so a patient's images stay together. Where the data set has a split of its own and
    `official` is true, its test images stay test, and only what it leaves open is drawn.

    Args:
        catalog: what to split.
        number_images: 0 for all images, a fraction below 1, or a count.
        val_fraction: share of the images drawn for validation.
        test_fraction: share of the images drawn for testing.
        unit: "patient" or "image".
        seed: of the draws.
        official: honour the catalog's fixed split.

    Raises:
        HilumError: more images asked for than there are, a part left empty, or a test fraction asked
            of a data set whose test part is fixed.
    """
    table = catalog.table.iloc[_subset(len(catalog), number_images, seed)]
    part = pd.Series("train", index=table.index, dtype=object)
    open_rows = pd.Series(True, index=table.index)
    fixed = catalog.fixed_split.loc[table.index] if official and catalog.fixed_split is not None else None
    if fixed is not None:
        if test_fraction and (fixed == "test").any():
            raise HilumError(
                f"test_fraction is {test_fraction:g}, but {catalog.name} has an official test part. "
                "Leave test_fraction at 0, or set official_split to false."
            )
        part = fixed.replace("train_val", "train")
        # A data set that fixes its own validation part leaves nothing open.
        open_rows = fixed.isin(["train_val"] if (fixed == "val").any() else ["train_val", "train"])
    drawn = _deal(table[open_rows], {"test": test_fraction, "val": val_fraction}, unit, seed)
    part.loc[drawn.index] = drawn
    split = Split(_as_table(table, part), unit)
    _refuse_empty(split, val_fraction, test_fraction)
    return _checked(split, "the split", allow_shared=unit == "image")


def load_split(path: Path, catalog: Catalog) -> Split:
    """A split that was saved before, checked against the catalog it is to be used with.

    Raises:
        HilumError: no split file, or one of another data set, with an unknown image or part, or
            without images to train or validate on.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise HilumError(f"{path}: there is no such split file. Give the split.parquet of a run.") from None
    except (OSError, ValueError) as error:
        raise HilumError(f"{path}: this is no split file: {error}.") from None
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
            f"{path}: ImageID {row['ImageID']} is of patient {row['PatientID']} there, but of "
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
    """The features whose share differs between the training part and another by more than `tolerance`.

    Targets, support devices, sex and view count as the share of images that have them; age as the
    share of each band of 20 years. What is not recorded in both parts is left out.

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
    wanted = round(number_images * total) if 0 < number_images < 1 else int(number_images)
    if wanted > total:
        raise HilumError(f"number_images asks for {wanted:,} images, but the catalog has {total:,}.")
    if not number_images:
        return np.arange(total)
    return np.sort(generator(seed, "subset").permutation(total)[:wanted])


def _deal(table: pd.DataFrame, shares: dict[str, float], unit: str, seed: int) -> pd.Series:
    """Deals shuffled patients (or images) to each part until it has its share of the images."""
    groups = table["PatientID"] if unit == "patient" else pd.Series(table.index, index=table.index)
    names = pd.unique(groups)
    order = generator(seed, "split").permutation(len(names))
    sizes = groups.value_counts().reindex(names).to_numpy()[order]
    # A group goes where its middle image falls: each share is met to within half a group.
    middle = (np.cumsum(sizes) - sizes / 2) / max(len(table), 1)
    bounds = np.cumsum(list(shares.values()))
    labels = np.array([*shares, "train"], dtype=object)
    part_of = pd.Series(labels[np.searchsorted(bounds, middle, side="right")], index=names[order])
    return groups.map(part_of)


def _as_table(table: pd.DataFrame, part: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {"ImageID": table.index, "PatientID": table["PatientID"].to_numpy(), "part": part.to_numpy()}
    )


def _refuse_empty(split: Split, val_fraction: float, test_fraction: float) -> None:
    counts = split.counts()
    wanted = {"train": None, "val": val_fraction, **({"test": test_fraction} if test_fraction else {})}
    for part, fraction in wanted.items():
        if part not in counts:
            total = len(split.table)
            patients = split.table["PatientID"].nunique()
            setting = f" with {part}_fraction={fraction:g}" if fraction is not None else ""
            raise HilumError(
                f"The split leaves the {part} part empty{setting}: {total:,} images of {patients:,} patients. "
                "Raise number_images, or change val_fraction and test_fraction."
            )


def _shared_patients(table: pd.DataFrame) -> pd.Index:
    parts_of = table.groupby("PatientID")["part"].nunique()
    return parts_of.index[parts_of > 1]


def _checked(split: Split, where: str, *, allow_shared: bool) -> Split:
    shared = _shared_patients(split.table)
    if len(shared) and not allow_shared:
        raise HilumError(
            f"{where} has images of {len(shared):,} patient(s) in two parts, {shared[0]} for one: the data "
            "set's own split mixes them. Set official_split to false, or split_unit to image."
        )
    return split


def _feature_shares(catalog: Catalog, table: pd.DataFrame) -> dict[str, float]:
    columns = [*catalog.targets, "Support Devices", "Sex_Male", "Sex_Unknown", "Orientation_PA"]
    shares = {name: float(table[name].mean()) for name in columns if table[name].notna().any()}
    ages = table["Age"].dropna()
    for low, high in zip(AGE_BANDS, (*AGE_BANDS[1:], np.inf), strict=True):
        if len(ages):
            name = f"Age {low} and over" if high == np.inf else f"Age {low} to {high - 1}"
            shares[name] = float(((ages >= low) & (ages < high)).mean())
    return shares
