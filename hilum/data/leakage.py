"""Images and patients that stand on both sides of a split: the same pixels, nearly the same, the same person.

Pixels are compared by SHA-256; near copies by a perceptual hash of 255 bits: the signs, about their
median, of the lowest 16 x 16 frequencies of the image at 64 x 64 (Zauner 2010, "Implementation and
Benchmarking of Perceptual Image Hash Functions", who uses 8 x 8 of 32 x 32).

Chest radiographs are all alike, so the usual 64 bits do not do. Measured on 866 NIH radiographs of 256 x 256
(374,545 pairs): two patients are at least 56 of 255 bits apart; copies as JPEG (quality 90 and 50), at half
size or at 64 x 64 at most 14; copies a tenth brighter, or with gamma 0.8, at most 22 (99 of 100 at most
18). With 64 bits two patients are 4 bits apart and a brighter copy up to 8. Copies after histogram
equalization (up to 92), or cropped by 2 % on each side (up to 82), are not found. Between 1,990 drawn
phantoms (1,978,135 pairs), which are more alike than people, the closest are 28 bits apart.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import cv2
import numpy as np
import pandas as pd

from hilum.data.split import PARTS, Split
from hilum.errors import HilumError
from hilum.machine import cores
from hilum.sources.catalog import Catalog
from hilum.sources.images import read_gray

#: In bits of 255: two images no further apart are called near copies. See the measurements above.
NEAR_DISTANCE = 20

#: In gray levels, of the image at 64 x 64: below it there is nothing but noise to take a hash of.
LEAST_CONTRAST = 4.0

LEAK_COLUMNS = ["kind", "PatientID", "ImageID_a", "part_a", "ImageID_b", "part_b", "distance"]

_SIDE, _FREQUENCIES = 64, 16
_WORDS = _FREQUENCIES**2 // 64
_ROWS_AT_ONCE = 16  # so that the distances to all other hashes stay in the processor's cache


def perceptual_hash(pixels: np.ndarray) -> np.ndarray | None:
    """What an image looks like, in 255 bits.

    Args:
        pixels: uint8 gray levels of shape (height, width).

    Returns:
        uint64 of shape (4,), whose last bit is 0; None if the image is nearly blank.
    """
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < LEAST_CONTRAST:
        return None
    lowest = cv2.dct(small)[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]  # the first is the brightness
    bits = np.append(lowest > np.median(lowest), False)
    return np.packbits(bits).view(np.uint64)


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of the gray levels and their shape; the same for a PNG and another PNG of the same pixels."""
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels))
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
        catalog: where the images are.
        split: whose parts are compared; its ImageIDs are the catalog's.
        images: decode every image and compare pixels; False compares patients only.
        near_distance: most bits, of 255, by which near copies differ.
        column: which paths the images are read by.
        progress: called after each image is read.

    Returns:
        One row per pair, with columns `LEAK_COLUMNS`. `kind` is "patient" (one row per patient and
        pair of parts, with the first image of each part), "same pixels" or "near copy". `PatientID` is
        that of the first image. `distance` is in bits, 0 for the same pixels and NaN for patients.

    Raises:
        HilumError: an image is missing or cannot be read.
    """
    table = split.table.reset_index(drop=True)
    found = [_shared_patients(table)]
    if images:
        hashes = _read_hashes(catalog.select_images(table["ImageID"].to_numpy()), column, progress)
        found.append(_pairs_of_images(table, *hashes, near_distance))
    rows = [row for pairs in found for row in pairs]
    return pd.DataFrame(rows, columns=LEAK_COLUMNS).astype({"distance": "float64"})


def refuse_leaks(
    catalog: Catalog,
    split: Split,
    *,
    images: bool = True,
    near_distance: int = NEAR_DISTANCE,
    column: str = "Image_Path",
    progress: Callable[[], None] | None = None,
) -> None:
    """Raises HilumError, listing the first 20 pairs, if `find_leaks` finds any; arguments as there."""
    leaks = find_leaks(
        catalog, split, images=images, near_distance=near_distance, column=column, progress=progress
    )
    if leaks.empty:
        return
    counts = ", ".join(f"{count:,} {kind}" for kind, count in leaks["kind"].value_counts(sort=False).items())
    more = f"\n  … and {len(leaks) - 20:,} more" if len(leaks) > 20 else ""
    raise HilumError(
        f"The split of {catalog.name} leaks: {len(leaks):,} pair(s) across its parts ({counts}).\n  "
        + "\n  ".join(_in_words(pair) for pair in leaks.head(20).itertuples())
        + more
        + '\nSplit by patient (split_unit = "patient"), remove one image of each pair from the data set, or '
        "leave strict_leaks off."
    )


def _in_words(pair: tuple) -> str:
    ends = f"ImageID {pair.ImageID_a} ({pair.part_a}) and {pair.ImageID_b} ({pair.part_b})"
    if pair.kind == "patient":
        return f"patient {pair.PatientID}: {ends}"
    return f"{pair.kind}: {ends}" + (f", {pair.distance:.0f} of 255 bits apart" if pair.distance else "")


def _shared_patients(table: pd.DataFrame) -> list[list]:
    """Each patient in two parts, with the first image of the patient in each."""
    first = table.pivot_table(index="PatientID", columns="part", values="ImageID", aggfunc="first")
    rows = []
    for a, b in combinations([part for part in PARTS if part in first.columns], 2):
        for patient, ends in first[[a, b]].dropna().iterrows():
            rows.append(["patient", patient, int(ends[a]), a, int(ends[b]), b, np.nan])
    return rows


def _read_hashes(
    catalog: Catalog, column: str, progress: Callable[[], None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel hashes (images,), perceptual hashes (images, 4), and which images have one (images,)."""
    paths = catalog.image_paths(column)
    exact = np.empty(len(paths), dtype=object)
    near = np.zeros((len(paths), _WORDS), dtype=np.uint64)
    has_near = np.zeros(len(paths), dtype=bool)

    def hash_one(position: int) -> None:
        pixels = read_gray(paths[position])
        exact[position] = pixel_hash(pixels)
        looks = perceptual_hash(pixels)
        if looks is not None:
            near[position], has_near[position] = looks, True

    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for _ in pool.map(hash_one, range(len(paths))):
            if progress:
                progress()
    return exact, near, has_near


def _pairs_of_images(
    table: pd.DataFrame, exact: np.ndarray, near: np.ndarray, has_near: np.ndarray, most: int
) -> list[list]:
    """Rows of `LEAK_COLUMNS`, the closest pairs first."""
    part, ids = table["part"].to_numpy(), table["ImageID"].to_numpy()
    patients = table["PatientID"].to_numpy()
    rows = []
    for part_a, part_b in combinations(PARTS, 2):
        of_a, of_b = np.flatnonzero(part == part_a), np.flatnonzero(part == part_b)
        left, right = (pd.DataFrame({"position": of, "hash": exact[of]}) for of in (of_a, of_b))
        same = left.merge(right, on="hash", suffixes=("_a", "_b"))
        pairs = [
            ("same pixels", a, b, 0) for a, b in zip(same["position_a"], same["position_b"], strict=True)
        ]
        of_a, of_b = of_a[has_near[of_a]], of_b[has_near[of_b]]
        for a, b, distance in _close_pairs(near[of_a], near[of_b], most):
            if exact[of_a[a]] != exact[of_b[b]]:
                pairs.append(("near copy", of_a[a], of_b[b], distance))
        rows += [
            [kind, patients[a], int(ids[a]), part_a, int(ids[b]), part_b, distance]
            for kind, a, b, distance in pairs
        ]
    return sorted(rows, key=lambda row: (row[-1], row[2], row[4]))


def _close_pairs(a: np.ndarray, b: np.ndarray, most: int) -> Iterator[tuple[int, int, int]]:
    """Positions in `a` (rows, 4) and `b` (rows, 4) of hashes at most `most` bits apart, and the distance.

    Every pair is compared, half a hash first: the other half is rarely needed. An index would be
    no faster: at so many bits of difference it has to look nearly everywhere.
    """
    first, second = np.ascontiguousarray(b[:, 0]), np.ascontiguousarray(b[:, 1])
    for start in range(0, len(a), _ROWS_AT_ONCE):
        rows = a[start : start + _ROWS_AT_ONCE]
        half = np.bitwise_count(rows[:, None, 0] ^ first)
        half += np.bitwise_count(rows[:, None, 1] ^ second)
        for row, column in np.argwhere(half <= most):
            distance = int(np.bitwise_count(rows[row] ^ b[column]).sum())
            if distance <= most:
                yield start + int(row), int(column), distance
