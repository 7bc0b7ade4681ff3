"""Copies are found however they were written; different patients are not; what is found is listed."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.data.leakage import (
    LEAK_COLUMNS,
    NEAR_DISTANCE,
    find_leaks,
    perceptual_hash,
    pixel_hash,
    refuse_leaks,
)
from hilum.data.split import Split
from hilum.errors import HilumError
from hilum.sources import Catalog, open_catalog
from hilum.sources.images import read_gray


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Catalog:
    return open_catalog("phantom", tmp_path_factory.mktemp("phantom") / "p", images=24, size=96)


@pytest.fixture
def copies(phantom, tmp_path):
    """A catalog of the phantom's images and of copies of its first, which the function given writes."""

    def make(*write_copies) -> tuple[Catalog, Split]:
        table = phantom.table.reset_index(drop=True).rename_axis("ImageID").drop_duplicates("PatientID")
        table = table.reset_index(drop=True).rename_axis("ImageID")
        rows = []
        for position, pixels in enumerate(table["Image_Path"]):
            cv2.imwrite(str(tmp_path / f"{position}.png"), read_gray(phantom.root / pixels))
            rows.append(f"{position}.png")
        table["Image_Path"] = rows
        original = read_gray(tmp_path / "0.png")
        added = []
        for number, write in enumerate(write_copies):
            name = write(original, tmp_path, f"copy{number}")
            added.append({**table.iloc[0], "PatientID": 90000 + number, "Image_Path": name})
        both = pd.concat([table, pd.DataFrame(added)]) if added else table
        both = both.reset_index(drop=True).rename_axis("ImageID")
        catalog = replace(phantom, table=both, root=tmp_path, codes=None)
        part = ["train"] * (len(table) - 3) + ["val"] * (len(added) + 3)
        return catalog, split_of(catalog, part)

    return make


def split_of(catalog: Catalog, part: list[str]) -> Split:
    ids, patients = catalog.table.index, catalog.table["PatientID"].to_numpy()
    return Split(pd.DataFrame({"ImageID": ids, "PatientID": patients, "part": part}), "image")


def as_png(pixels: np.ndarray, folder: Path, name: str) -> str:
    cv2.imwrite(str(folder / f"{name}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return f"{name}.png"


def as_jpeg(pixels: np.ndarray, folder: Path, name: str) -> str:
    cv2.imwrite(str(folder / f"{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return f"{name}.jpg"


def smaller(pixels: np.ndarray, folder: Path, name: str) -> str:
    return as_png(cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), folder, name)


def larger(pixels: np.ndarray, folder: Path, name: str) -> str:
    return as_jpeg(cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR), folder, name)


def test_patients_that_are_all_different_have_no_leak(copies):
    catalog, split = copies()
    leaks = find_leaks(catalog, split)
    assert len(leaks) == 0
    assert list(leaks.columns) == LEAK_COLUMNS
    refuse_leaks(catalog, split)


def test_a_copy_of_the_pixels_is_found_in_another_file(copies):
    catalog, split = copies(as_png)
    last = len(catalog) - 1
    assert find_leaks(catalog, split).to_dict("records") == [
        {
            **{"kind": "same pixels", "PatientID": catalog.table.at[0, "PatientID"]},
            **{"ImageID_a": 0, "part_a": "train", "ImageID_b": last, "part_b": "val", "distance": 0.0},
        }
    ]


@pytest.mark.parametrize("write", [as_jpeg, smaller, larger])
def test_a_copy_that_was_written_anew_is_found(copies, write):
    catalog, split = copies(write)
    (pair,) = find_leaks(catalog, split).to_dict("records")
    assert (pair["kind"], pair["ImageID_a"], pair["ImageID_b"]) == ("near copy", 0, len(catalog) - 1)
    assert 0 <= pair["distance"] <= NEAR_DISTANCE


def test_copies_within_one_part_are_no_leak(copies):
    catalog, _ = copies(as_png, as_jpeg)
    part = ["val", *["train"] * (len(catalog) - 3), "val", "val"]
    assert len(find_leaks(catalog, split_of(catalog, part))) == 0


def test_copies_are_looked_for_between_all_three_parts(copies):
    catalog, split = copies(as_png, as_jpeg)
    part = [*split.table["part"][:-2], "test", "val"]
    found = find_leaks(catalog, split_of(catalog, part))
    ends = set(zip(found["part_a"], found["part_b"], strict=True))
    assert ends == {("train", "test"), ("train", "val"), ("val", "test")}
    assert found.groupby("kind").size().to_dict() == {"near copy": 2, "same pixels": 1}


def test_patients_in_two_parts_are_listed_once_with_an_image_of_each(small_catalog):
    part = ["val" if position % 2 else "train" for position in range(len(small_catalog))]
    split = split_of(small_catalog, part)
    found = find_leaks(small_catalog, split, images=False)
    parts_of = split.table.groupby("PatientID")["part"].nunique()
    assert found["PatientID"].tolist() == parts_of.index[parts_of > 1].tolist()
    assert set(found["kind"]) == {"patient"}
    assert found["distance"].isna().all()
    for pair in found.itertuples():
        for image_id, name in ((pair.ImageID_a, pair.part_a), (pair.ImageID_b, pair.part_b)):
            row = split.table[split.table["ImageID"] == image_id].iloc[0]
            assert (row["PatientID"], row["part"]) == (pair.PatientID, name)


def test_the_refusal_lists_the_pairs_and_says_what_to_do(copies):
    catalog, split = copies(as_png, as_jpeg)
    last = len(catalog) - 1
    with pytest.raises(HilumError) as refused:
        refuse_leaks(catalog, split)
    message = str(refused.value)
    assert "leaks: 2 pair(s) across its parts (1 same pixels, 1 near copy)" in message
    assert f"same pixels: ImageID 0 (train) and {last - 1} (val)" in message
    assert f"near copy: ImageID 0 (train) and {last} (val)" in message
    assert "strict_leaks" in message


def test_the_refusal_lists_twenty_pairs_and_counts_the_rest():
    ids = np.arange(60)
    split = Split(
        pd.DataFrame({"ImageID": ids, "PatientID": ids // 2, "part": ["train", "val"] * 30}), "image"
    )
    with pytest.raises(HilumError) as refused:
        refuse_leaks(_Named(), split, images=False)
    message = str(refused.value)
    assert "30 pair(s)" in message
    assert "patient 0: ImageID 0 (train) and 1 (val)" in message
    assert message.count("\n  patient ") == 20
    assert "… and 10 more" in message


class _Named:
    name = "made"


def test_nearly_blank_images_are_compared_by_their_pixels_only(copies):
    blank = np.full((40, 40), 7, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 2, (40, 40), dtype=np.uint8)
    assert perceptual_hash(blank) is None
    assert perceptual_hash(noise) is None
    write = [
        lambda _, folder, name, pixels=pixels: as_png(pixels, folder, name)
        for pixels in (blank, noise, blank)
    ]
    catalog, _ = copies(*write)
    part = [*["train"] * (len(catalog) - 2), "val", "val"]
    (pair,) = find_leaks(catalog, split_of(catalog, part)).to_dict("records")
    assert (pair["kind"], pair["ImageID_a"], pair["ImageID_b"]) == (
        "same pixels",
        len(catalog) - 3,
        len(catalog) - 1,
    )


def test_a_hash_of_the_pixels_knows_their_shape():
    pixels = np.arange(24, dtype=np.uint8)
    assert pixel_hash(pixels.reshape(4, 6)) != pixel_hash(pixels.reshape(6, 4))
    assert pixel_hash(pixels.reshape(4, 6)) == pixel_hash(np.asfortranarray(pixels.reshape(4, 6)))


def test_every_image_is_told_as_progress_and_a_missing_one_is_named(copies):
    catalog, split = copies()
    seen = []
    find_leaks(catalog, split, progress=lambda: seen.append(1))
    assert len(seen) == len(catalog)
    (catalog.root / "0.png").unlink()
    with pytest.raises(HilumError, match=r"0\.png: the image is missing"):
        find_leaks(catalog, split)


def test_real_patients_are_far_apart_and_their_copies_near(nih_sample):
    catalog = open_catalog("nih", nih_sample)
    chosen = catalog.table.drop_duplicates("PatientID").index[:200]
    images = [read_gray(path) for path in catalog.select_images(chosen).image_paths()]
    hashes = np.array([perceptual_hash(pixels) for pixels in images])
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    assert distances[np.triu_indices(len(hashes), 1)].min() > 2 * NEAR_DISTANCE
    for pixels, own in zip(images[:40], hashes, strict=False):
        _, data = cv2.imencode(".jpg", cv2.resize(pixels, (128, 128), interpolation=cv2.INTER_AREA))
        copy = perceptual_hash(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))
        assert np.bitwise_count(copy ^ own).sum() <= NEAR_DISTANCE
