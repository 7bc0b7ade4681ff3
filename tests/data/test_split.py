"""The split keeps patients apart, meets its fractions, and reports imbalance and leaks.

Copies are found whatever their format; images of different patients are not.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.config import SplitSettings
from hilum.data.split import (
    LEAK_COLUMNS,
    NEAR_DISTANCE,
    Split,
    check_balance,
    check_leaks,
    find_leaks,
    load_split,
    make_split,
    perceptual_hash,
    pixel_hash,
)
from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog
from hilum.sources.images import read_gray


def catalog_of(patients, fixed=None, **columns) -> Catalog:
    """A catalog with one image per entry of `patients`, and these columns instead of constant ones."""
    count = len(patients)
    table = pd.DataFrame(
        {
            "PatientID": patients,
            "StudyID": 1,
            "Age": 50.0,
            "Sex_Male": 1,
            "Sex_Unknown": 0,
            "Orientation_PA": 1,
            "Support Devices": 0.0,
            "Image_Path": [f"{row}.png" for row in range(count)],
            "Hierarchical_Path": "",
            "Edema": 0.0,
            "Fracture": 0.0,
        }
        | columns,
        index=pd.RangeIndex(100, 100 + count, name="ImageID"),
    )
    if fixed is not None:
        fixed = pd.Series(fixed, index=table.index, dtype=object)
    return Catalog(
        "made", table[[*FEATURE_COLUMNS, "Edema", "Fracture"]], ("Edema", "Fracture"), None, None, fixed
    )


def split_of(catalog, seed=0, **changes) -> Split:
    return make_split(catalog, SplitSettings(**changes), seed)


def parts_per_patient(split: Split) -> pd.Series:
    return split.table.groupby("PatientID")["part"].nunique()


@settings(max_examples=60, deadline=None)
@given(
    images_of_patients=st.lists(st.integers(1, 6), min_size=12, max_size=60),
    fractions=st.sampled_from([(0.2, 0.0), (0.3, 0.3), (0.5, 0.25)]),
    seed=st.integers(0, 2**63 - 1),
)
def test_no_patient_is_in_two_parts_and_each_fraction_is_met_to_within_a_patient(
    images_of_patients, fractions, seed
):
    patients = np.repeat(np.arange(len(images_of_patients)), images_of_patients)
    patients = np.random.default_rng(seed).permutation(patients)
    val_fraction, test_fraction = fractions
    split = split_of(catalog_of(patients), val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    assert parts_per_patient(split).max() == 1
    assert sorted(split.table["ImageID"]) == list(range(100, 100 + len(patients)))
    counts = split.counts()
    for part, fraction in {"val": val_fraction, "test": test_fraction}.items():
        images = counts.get(part, {"images": 0})["images"]
        assert abs(images - fraction * len(patients)) <= max(images_of_patients)


@pytest.mark.parametrize(("wanted", "images"), [(0, 80), (30, 30), (0.25, 20), (80, 80)])
def test_a_subset_is_a_count_or_a_fraction_of_the_images(wanted, images):
    split = split_of(catalog_of(np.arange(80) // 2), number_images=wanted)
    assert len(split.table) == images
    assert split.table["ImageID"].is_monotonic_increasing
    assert split.table["ImageID"].is_unique


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    catalog = catalog_of(np.arange(60) // 2)
    first, again, other = (split_of(catalog, seed=seed, number_images=40) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.table, again.table)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_the_fingerprint_depends_on_the_parts_and_not_on_the_order_of_rows():
    split = split_of(catalog_of(np.arange(20)))
    shuffled = Split(split.table.sample(frac=1, random_state=0), split.unit)
    swapped = split.table.assign(part=split.table["part"].replace({"val": "train", "train": "val"}))
    assert shuffled.fingerprint == split.fingerprint
    assert Split(swapped, split.unit).fingerprint != split.fingerprint


def test_the_official_test_images_stay_test_and_the_rest_is_drawn():
    fixed = ["test" if patient % 4 == 0 else "train_val" for patient in np.arange(40) // 2]
    catalog = catalog_of(np.arange(40) // 2, fixed)
    split = split_of(catalog)
    is_test = (split.table["part"] == "test").to_numpy()
    np.testing.assert_array_equal(is_test, np.array(fixed) == "test")
    assert set(split.table.loc[~is_test, "part"]) == {"train", "val"}
    assert parts_per_patient(split).max() == 1
    ignored = split_of(catalog, official_split=False)
    assert set(ignored.table["part"]) == {"train", "val"}


def test_an_official_split_in_three_parts_is_used_unchanged():
    fixed = ["train", "train", "val", "test", "train", "val"]
    split = split_of(catalog_of(np.arange(6), fixed), val_fraction=0.9)
    assert split.table["part"].tolist() == fixed


def test_a_test_fraction_with_an_official_test_part_is_refused():
    catalog = catalog_of(np.arange(6), ["train_val"] * 5 + ["test"])
    with pytest.raises(
        HilumError, match=r"test_fraction is 0.1, but made has an official test part.*official_split"
    ):
        split_of(catalog, test_fraction=0.1)


def test_an_official_split_that_mixes_patients_is_refused_unless_the_split_is_by_image():
    catalog = catalog_of([1, 1, 2, 3, 4, 5], ["train", "test", "train", "val", "train", "val"])
    with pytest.raises(HilumError, match=r"1 patient\(s\) in two parts, for example 1: .*official_split"):
        split_of(catalog)
    assert split_of(catalog, split_unit="image").counts()["test"] == {"images": 1, "patients": 1}


def test_a_split_by_image_may_divide_a_patient_when_asked():
    split = split_of(catalog_of(np.repeat([1, 2], 50)), split_unit="image")
    assert split.unit == "image"
    assert parts_per_patient(split).max() == 2
    assert split.counts()["val"]["images"] == 20


@pytest.mark.parametrize(
    ("patients", "changes", "message"),
    [
        (
            [1] * 10,
            {},
            r"leaves the val part empty with val_fraction=0.2: 10 images of 1 patients.*number_images",
        ),
        (range(10), {"val_fraction": 0}, "val part empty with val_fraction=0"),
        (range(10), {"test_fraction": 0.01}, "test part empty with test_fraction=0.01"),
        (range(10), {"number_images": 0.01}, "train part empty: 0 images.*Raise number_images"),
        (range(10), {"number_images": 11}, "number_images asks for 11 images, but the catalog has 10"),
    ],
)
def test_an_empty_part_is_refused_by_its_settings_name(patients, changes, message):
    with pytest.raises(HilumError, match=message):
        split_of(catalog_of(list(patients)), **changes)


def split_by_feature(val_columns: dict) -> tuple[Catalog, Split]:
    """Ten training and ten validation images, alike but for `val_columns` and Edema, 3 of 10 in train."""
    columns = {"Edema": [1.0] * 3 + [0.0] * 7 + [1.0] * 3 + [0.0] * 7}
    for name, (train, val) in val_columns.items():
        columns[name] = [*train, *val]
    catalog = catalog_of(np.arange(20), **columns)
    table = catalog.table.reset_index()[["ImageID", "PatientID"]].assign(part=["train"] * 10 + ["val"] * 10)
    return catalog, Split(table, "patient")


def test_the_balance_check_names_each_feature_beyond_the_tolerance_with_both_proportions():
    catalog, split = split_by_feature(
        {
            "Fracture": ([1.0] * 2 + [0.0] * 8, [1.0] * 6 + [0.0] * 4),  # 0.2 against 0.6
            "Sex_Male": ([1] * 5 + [0] * 5, [1] * 6 + [0] * 4),  # 0.5 against 0.6: within
            "Orientation_PA": ([1] * 5 + [0] * 5, [1] * 2 + [0] * 8),  # 0.5 against 0.2
            "Age": ([30.0] * 10, [30.0] * 8 + [65.0] * 2),  # 20 to 39: 1 against 0.8, 60 to 79: 0 against 0.2
        }
    )
    found = check_balance(catalog, split, tolerance=0.15)
    assert found["feature"].head(2).tolist() == ["Fracture", "Orientation_PA"]  # the largest difference first
    assert found["part"].unique().tolist() == ["val"]
    shares = found.set_index("feature")[["train_share", "part_share"]].sort_index()
    assert shares.index.tolist() == ["Age 20 to 39", "Age 60 to 79", "Fracture", "Orientation_PA"]
    np.testing.assert_allclose(shares["train_share"], [1.0, 0.0, 0.2, 0.5])
    np.testing.assert_allclose(shares["part_share"], [0.8, 0.2, 0.6, 0.2])


def test_a_difference_within_the_tolerance_is_not_named():
    catalog, split = split_by_feature({"Sex_Male": ([1] * 5 + [0] * 5, [1] * 6 + [0] * 4)})
    assert check_balance(catalog, split, tolerance=0.11).empty
    assert check_balance(catalog, split, tolerance=0.09)["feature"].tolist() == ["Sex_Male"]


def test_an_unknown_label_is_in_no_proportion_of_the_balance_check():
    known = [1.0, 0.0] + [np.nan] * 8
    catalog, split = split_by_feature({"Fracture": ([1.0] * 5 + [0.0] * 5, known)})
    assert check_balance(catalog, split, tolerance=0.02).empty


def test_a_feature_that_one_part_does_not_record_is_left_out_of_the_balance_check():
    unknown = [np.nan] * 10
    catalog, split = split_by_feature({"Fracture": ([1.0] * 10, unknown), "Age": ([30.0] * 10, unknown)})
    assert check_balance(catalog, split, tolerance=0.02).empty


def test_a_saved_split_is_loaded_unchanged(tmp_path):
    catalog = catalog_of(np.arange(40) // 2)
    split = split_of(catalog, test_fraction=0.2, number_images=30)
    split.table.to_parquet(tmp_path / "split.parquet", index=False)
    loaded = load_split(tmp_path / "split.parquet", catalog)
    pd.testing.assert_frame_equal(loaded.table, split.table, check_dtype=False)
    assert (loaded.unit, loaded.fingerprint) == ("patient", split.fingerprint)


def test_a_saved_split_by_image_has_the_unit_image(tmp_path):
    catalog = catalog_of(np.repeat([1, 2], 20))
    split_of(catalog, split_unit="image").table.to_parquet(tmp_path / "split.parquet", index=False)
    assert load_split(tmp_path / "split.parquet", catalog).unit == "image"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="part"), r"lacks the column\(s\) part"),
        (
            lambda table: table.assign(ImageID=table["ImageID"] + 5),
            r"ImageID 120 \(5 such rows\) is not in the made",
        ),
        (
            lambda table: table.assign(PatientID=7),
            "ImageID 100 is of patient 7 in this file, but of 0 in the made catalog",
        ),
        (lambda table: table.assign(part="dev"), "each image must have one part of train, val, test"),
        (lambda table: pd.concat([table, table.head(1)]), "each image must have one part"),
        (lambda table: table[table["part"] == "train"], "the split has no val image"),
        (lambda table: table[table["part"] == "val"], "the split has no train image"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    catalog = catalog_of(np.arange(20))
    path = tmp_path / "split.parquet"
    change(split_of(catalog).table).to_parquet(path, index=False)
    with pytest.raises(HilumError, match=message) as refusal:
        load_split(path, catalog)
    assert str(refusal.value).startswith(str(path))


def test_a_missing_split_file_and_another_kind_of_file_are_refused(tmp_path):
    catalog = catalog_of(np.arange(20))
    with pytest.raises(HilumError, match=r"absent\.parquet: this split file does not exist"):
        load_split(tmp_path / "absent.parquet", catalog)
    (tmp_path / "text.parquet").write_text("ImageID,part\n")
    with pytest.raises(HilumError, match=r"text\.parquet: this is not a split file"):
        load_split(tmp_path / "text.parquet", catalog)


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
        return catalog, split_with(catalog, part)

    return make


def split_with(catalog: Catalog, part: list[str]) -> Split:
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


def test_different_patients_have_no_leak(copies):
    catalog, split = copies()
    leaks = find_leaks(catalog, split)
    assert len(leaks) == 0
    assert list(leaks.columns) == LEAK_COLUMNS
    check_leaks(catalog, split)


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
def test_a_copy_in_another_format_or_size_is_found(copies, write):
    catalog, split = copies(write)
    (pair,) = find_leaks(catalog, split).to_dict("records")
    assert (pair["kind"], pair["ImageID_a"], pair["ImageID_b"]) == ("near copy", 0, len(catalog) - 1)
    assert 0 <= pair["distance"] <= NEAR_DISTANCE


def test_copies_within_one_part_are_not_a_leak(copies):
    catalog, _ = copies(as_png, as_jpeg)
    part = ["val", *["train"] * (len(catalog) - 3), "val", "val"]
    assert len(find_leaks(catalog, split_with(catalog, part))) == 0


def test_copies_are_found_between_all_three_parts(copies):
    catalog, split = copies(as_png, as_jpeg)
    part = [*split.table["part"][:-2], "test", "val"]
    found = find_leaks(catalog, split_with(catalog, part))
    ends = set(zip(found["part_a"], found["part_b"], strict=True))
    assert ends == {("train", "test"), ("train", "val"), ("val", "test")}
    assert found.groupby("kind").size().to_dict() == {"near copy": 2, "same pixels": 1}


def test_patients_in_two_parts_are_listed_once_with_an_image_of_each(small_catalog):
    part = ["val" if position % 2 else "train" for position in range(len(small_catalog))]
    split = split_with(small_catalog, part)
    found = find_leaks(small_catalog, split, images=False)
    parts_of = split.table.groupby("PatientID")["part"].nunique()
    assert found["PatientID"].tolist() == parts_of.index[parts_of > 1].tolist()
    assert set(found["kind"]) == {"patient"}
    assert found["distance"].isna().all()
    for pair in found.itertuples():
        for image_id, name in ((pair.ImageID_a, pair.part_a), (pair.ImageID_b, pair.part_b)):
            row = split.table[split.table["ImageID"] == image_id].iloc[0]
            assert (row["PatientID"], row["part"]) == (pair.PatientID, name)


def test_the_error_lists_the_pairs_and_the_remedies(copies):
    catalog, split = copies(as_png, as_jpeg)
    last = len(catalog) - 1
    with pytest.raises(HilumError) as refused:
        check_leaks(catalog, split)
    message = str(refused.value)
    assert "leaks: 2 pair(s) across its parts (1 same pixels, 1 near copy)" in message
    assert f"same pixels: ImageID 0 (train) and {last - 1} (val)" in message
    assert f"near copy: ImageID 0 (train) and {last} (val)" in message
    assert "strict_leaks" in message


def test_the_error_lists_twenty_pairs_and_counts_the_rest():
    ids = np.arange(60)
    split = Split(
        pd.DataFrame({"ImageID": ids, "PatientID": ids // 2, "part": ["train", "val"] * 30}), "image"
    )
    with pytest.raises(HilumError) as refused:
        check_leaks(_Named(), split, images=False)
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
    (pair,) = find_leaks(catalog, split_with(catalog, part)).to_dict("records")
    assert (pair["kind"], pair["ImageID_a"], pair["ImageID_b"]) == (
        "same pixels",
        len(catalog) - 3,
        len(catalog) - 1,
    )


def test_a_hash_of_the_pixels_depends_on_their_shape():
    pixels = np.arange(24, dtype=np.uint8)
    assert pixel_hash(pixels.reshape(4, 6)) != pixel_hash(pixels.reshape(6, 4))
    assert pixel_hash(pixels.reshape(4, 6)) == pixel_hash(np.asfortranarray(pixels.reshape(4, 6)))


def test_progress_counts_every_image_and_a_missing_one_is_named(copies):
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
