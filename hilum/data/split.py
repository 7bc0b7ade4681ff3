"""The training, validation and test parts of a data set: their proportions, and leaks between them.

A leak is an image or a patient in two parts. Exact copies of an image have the same SHA-256 of their pixels.
Near copies have similar perceptual hashes of 255 bits: the signs, about their median, of the lowest 16 x 16
frequencies of the image at 64 x 64 (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions", which uses 8 x 8 of 32 x 32).

Chest radiographs are all similar, so the usual 64 bits are not enough. Measured on 866 NIH radiographs of
256 x 256 (374,545 pairs): two patients are at least 56 of 255 bits apart; copies as JPEG (quality 90 and 50),
at half size or at 64 x 64 at most 14; copies a tenth brighter, or with gamma 0.8, at most 22 (99 of 100 at
most 18). With 64 bits two patients are 4 bits apart and a brighter copy up to 8. Copies after histogram
equalization (up to 92), or cropped by 2 % on each side (up to 82), are not found. Between 1,990 drawn phantoms
(1,978,135 pairs), which are more similar than people, the closest are 28 bits apart.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from hilum.config import SplitSettings
from hilum.errors import HilumError, first_lines
from hilum.machine import cores
from hilum.randomness import generator
from hilum.sources.catalog import Catalog
from hilum.sources.images import read_gray

PARTS = ("train", "val", "test")

#: Lower bounds of the age bands whose proportions are compared, in years.
AGE_BANDS = (0, 20, 40, 60, 80)

#: Two images at most this far apart are near copies, in bits of 255; see the measurements above.
NEAR_DISTANCE = 20

#: Smallest standard deviation of the image at 64 x 64, in gray levels; below it a hash is of noise alone.
LEAST_CONTRAST = 4.0

LEAK_COLUMNS = ["kind", "PatientID", "ImageID_a", "part_a", "ImageID_b", "part_b", "distance"]

_SIDE, _FREQUENCIES = 64, 16
_WORDS = _FREQUENCIES**2 // 64
_ROWS_TOGETHER = 16  # so that the distances to all other hashes stay in the processor's cache


@dataclass(frozen=True)
class Split:
    """The part of each image: columns `ImageID`, `PatientID`, `part` of `table`, in the catalog's order.

    `unit` is "patient" if no patient has images in two parts, else "image".
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

    With the unit "patient", shuffled patients are assigned to test, then val, until each part has its fraction of the
    images; so a patient's images stay together. If the data set has an official split and `official_split` is true,
    its test images stay test, and only what it leaves open is drawn.

    Raises:
        HilumError: more images are asked for than the catalog has, a part is empty, a test fraction is asked of a
            data set with an official test part, or the official split mixes patients.
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
        HilumError: the file is missing or not a split file, is of another data set, has an unknown image or part, or
            has no images to train or validate on.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise HilumError(
            f"{path}: this split file does not exist. Give the split.parquet of a run."
        ) from None
    except (OSError, ValueError) as error:
        raise HilumError(f"{path}: this is not a split file: {error}.") from None
    if missing := [name for name in ("ImageID", "PatientID", "part") if name not in table.columns]:
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
    tables = {part: catalog.table.loc[split.image_ids(part)] for part in split.counts()}
    shares = {part: _feature_shares(catalog, table) for part, table in tables.items()}
    rows = [
        (feature, part, train_share, shares[part][feature])
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


def perceptual_hash(pixels: np.ndarray) -> np.ndarray | None:
    """A hash of 255 bits that is similar for images, uint8 (height, width), that look similar.

    It is uint64 (4,), whose last bit is 0; None if the image is nearly blank.
    """
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < LEAST_CONTRAST:
        return None
    lowest = cv2.dct(small)[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]  # the first is the brightness
    bits = np.append(lowest > np.median(lowest), False)
    return np.packbits(bits).view(np.uint64)


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of the gray levels and their shape; equal for two PNG files of the same pixels."""
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def find_leaks(
    catalog: Catalog,
    split: Split,
    *,
    images: bool = True,
    near_distance: int = NEAR_DISTANCE,
    column: str = "Image_Path",
    progress: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """The patients and the images that are in two parts.

    Args:
        catalog: of the images.
        split: the parts to compare; its ImageIDs are the catalog's.
        images: decode every image and compare pixels; False compares patients only.
        near_distance: largest distance of near copies, in bits of 255.
        column: the path that the images are read from.
        progress: called after each image is read.

    Returns:
        One row per pair, with columns `LEAK_COLUMNS`. `kind` is "patient" (one row per patient and pair of parts, with
        the first image of each part), "same pixels" or "near copy". `PatientID` is that of the first image. `distance`
        is in bits, 0 for the same pixels and NaN for patients.

    Raises:
        HilumError: an image is missing or cannot be read.
    """
    table = split.table.reset_index(drop=True)
    rows = _patient_leaks(table)
    if images:
        paths = catalog.select_images(table["ImageID"].to_numpy()).image_paths(column)
        rows += _pairs_of_images(table, *_read_hashes(paths, progress), near_distance)
    return pd.DataFrame(rows, columns=LEAK_COLUMNS).astype({"distance": "float64"})


def check_leaks(catalog: Catalog, split: Split, **arguments: Any) -> None:
    """Raises HilumError, listing the first 20 pairs, if `find_leaks` finds any; the same arguments."""
    leaks = find_leaks(catalog, split, **arguments)
    if leaks.empty:
        return
    counts = ", ".join(f"{count:,} {kind}" for kind, count in leaks["kind"].value_counts(sort=False).items())
    raise HilumError(
        f"The split of {catalog.name} leaks: {len(leaks):,} pair(s) across its parts ({counts}).\n  "
        + first_lines([_as_text(pair) for pair in leaks.to_dict("records")], 20)
        + '\nSplit by patient (split_unit = "patient"), remove one image of each pair from the data set, or '
        "leave strict_leaks off."
    )


def _as_text(pair: dict[Any, Any]) -> str:
    ends = "ImageID {ImageID_a} ({part_a}) and {ImageID_b} ({part_b})".format_map(pair)
    if pair["kind"] == "patient":
        return f"patient {pair['PatientID']}: {ends}"
    apart = f", {pair['distance']:.0f} of 255 bits apart" if pair["distance"] else ""
    return f"{pair['kind']}: {ends}{apart}"


def _patient_leaks(table: pd.DataFrame) -> list[list]:
    """Rows of `LEAK_COLUMNS` for the patients in two parts, with their first image in each."""
    first = table.pivot_table(index="PatientID", columns="part", values="ImageID", aggfunc="first")
    return [
        ["patient", patient, int(ends[a]), a, int(ends[b]), b, np.nan]
        for a, b in combinations([part for part in PARTS if part in first.columns], 2)
        for patient, ends in first[[a, b]].dropna().iterrows()
    ]


def _read_hashes(
    paths: list[str], progress: Callable[[], None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel hashes (images,), perceptual hashes (images, 4), and which images have one (images,)."""
    exact = np.empty(len(paths), dtype=object)
    near = np.zeros((len(paths), _WORDS), dtype=np.uint64)
    has_near = np.zeros(len(paths), dtype=bool)

    def hash_one(position: int) -> None:
        pixels = read_gray(paths[position])
        exact[position] = pixel_hash(pixels)
        if (similar := perceptual_hash(pixels)) is not None:
            near[position], has_near[position] = similar, True

    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for _ in pool.map(hash_one, range(len(paths))):
            if progress:
                progress()
    return exact, near, has_near


def _pairs_of_images(
    table: pd.DataFrame, exact: np.ndarray, near: np.ndarray, has_near: np.ndarray, most: int
) -> list[list]:
    """Rows of `LEAK_COLUMNS`, the closest pairs first."""
    part, ids, patients = (table[name].to_numpy() for name in ("part", "ImageID", "PatientID"))
    pairs: list[tuple[str, int, int, int]] = []
    for part_a, part_b in combinations(PARTS, 2):
        of_a, of_b = np.flatnonzero(part == part_a), np.flatnonzero(part == part_b)
        left, right = (pd.DataFrame({"position": of, "hash": exact[of]}) for of in (of_a, of_b))
        same = left.merge(right, on="hash", suffixes=("_a", "_b"))
        pairs += [("same pixels", a, b, 0) for a, b in same[["position_a", "position_b"]].to_numpy()]
        of_a, of_b = of_a[has_near[of_a]], of_b[has_near[of_b]]
        pairs += [
            ("near copy", of_a[a], of_b[b], distance)
            for a, b, distance in _close_pairs(near[of_a], near[of_b], most)
            if exact[of_a[a]] != exact[of_b[b]]
        ]
    rows = [
        [kind, patients[a], int(ids[a]), part[a], int(ids[b]), part[b], bits] for kind, a, b, bits in pairs
    ]
    return sorted(rows, key=lambda row: (row[-1], row[2], row[4]))


def _close_pairs(a: np.ndarray, b: np.ndarray, most: int) -> Iterator[tuple[int, int, int]]:
    """Positions in `a` (rows, 4) and `b` (rows, 4) of hashes at most `most` bits apart, and the distance.

    Every pair is compared, half a hash first: the other half is rarely needed. An index would not be
    faster: at this many bits of difference it searches nearly everywhere.
    """
    first, second = np.ascontiguousarray(b[:, 0]), np.ascontiguousarray(b[:, 1])
    for start in range(0, len(a), _ROWS_TOGETHER):
        rows = a[start : start + _ROWS_TOGETHER]
        half = np.bitwise_count(rows[:, None, 0] ^ first)
        half += np.bitwise_count(rows[:, None, 1] ^ second)
        for row, column in np.argwhere(half <= most):
            distance = int(np.bitwise_count(rows[row] ^ b[column]).sum())
            if distance <= most:
                yield start + int(row), int(column), distance
