import csv
import gzip
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.chexpert import PIXEL_STATS, CleanMetaData
from hilum.sources.images import read_gray
from hilum.targets import CHEXPERT_TARGETS

#: As the founding document prints them (its section 18.0.3; in some lines there, zeros at the left were
#: lost): P for positive, in the targets' order.
COMMONEST = {
    "000000000000": 25805,
    "00P000000000": 12816,
    "00P000000P00": 10586,
    "0000P0000000": 4834,
    "000000000P00": 4770,
    "00P0P0000P00": 4584,
    "00P0P0000000": 4116,
    "0000000P0000": 3409,
    "00000000P000": 2900,
    "0000P0000P00": 2479,
    "00P0000P0000": 2476,
    "0P0000000000": 2293,
    "0000000P0P00": 2206,
    "00P0000P0P00": 1766,
    "00000000000P": 1716,
}

#: As the founding document prints them (its section 14).
COLUMNS = [
    *("PatientID", "StudyID", "Age", "Sex_Male", "Sex_Unknown", "Orientation_PA", "Support Devices"),
    *("Image_Path", "Hierarchical_Path", "Enlarged_Cardiomediastinum", "Cardiomegaly", "Lung_Opacity"),
    *("Lung_Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"),
    *("Pleural_Effusion", "Pleural_Other", "Fracture"),
]


@pytest.fixture(scope="session")
def real(chexpert_index) -> pd.DataFrame:
    """The real index, cleaned with the defaults."""
    return CleanMetaData(csv_path=chexpert_index, cache=False).get_clean_df()


@pytest.fixture(scope="session")
def raw(chexpert_index) -> np.ndarray:
    """The cells of the real index, read with nothing of ours."""
    with gzip.open(chexpert_index, "rt", newline="") as file:
        return np.array(list(csv.reader(file)), dtype=object)


class TestTheRealIndex:
    def test_it_has_the_founding_documents_rows_and_columns_in_its_order(self, real):
        assert real.shape == (131_748, 21)
        assert list(real.columns) == COLUMNS
        assert real.index.name == "ImageID"

    def test_patients_views_and_sexes(self, real):
        assert real["PatientID"].nunique() == 64_534
        assert real["Orientation_PA"].sum() == 23_589
        assert real["Sex_Unknown"].sum() == 1
        assert real["StudyID"].max() == 4

    def test_the_15_commonest_target_vectors_of_802_have_the_counts_printed(self, real):
        vectors = np.where(real[list(CHEXPERT_TARGETS)].to_numpy() == 1, "P", "0")
        counts = Counter("".join(vector) for vector in vectors)
        assert len(counts) == 802
        assert dict(counts.most_common(15)) == COMMONEST

    def test_the_rows_that_the_founding_document_shows(self, real):
        shown = real.loc[[0, 1, 2, 4, 5, 223_409, 223_413]]
        assert shown["PatientID"].tolist() == [1, 2, 2, 3, 4, 64_537, 64_540]
        assert shown["StudyID"].tolist() == [1, 2, 1, 1, 1, 2, 1]
        assert shown["Age"].tolist() == [68, 87, 83, 41, 20, 59, 0]
        assert shown["Support Devices"].tolist()[:3] == [1.0, 0.0, 0.0]
        assert real.loc[[1, 2], "Lung_Opacity"].tolist() == [1.0, 1.0]
        assert real.index[-1] == 223_413

    def test_every_label_is_of_its_own_row(self, real, raw):
        # torchxrayvision's one-image-per-patient, groupby("PatientID").first(), mixes rows.
        header, cells = raw[0].tolist(), raw[1:][real.index]
        for target in CHEXPERT_TARGETS:
            positive = cells[:, header.index(target.replace("_", " "))] == "1.0"
            np.testing.assert_array_equal(real[target].to_numpy() == 1, positive, err_msg=target)
        np.testing.assert_array_equal(real["Support Devices"] == 1, cells[:, -1] == "1.0")

    def test_every_other_cell_is_of_its_own_row(self, real, raw):
        cells = raw[1:][real.index]
        assert ("CheXpert-v1.0-small/" + real["Image_Path"]).tolist() == cells[:, 0].tolist()
        assert real["Age"].tolist() == [int(age) for age in cells[:, 2]]
        assert (real["Sex_Male"] == 1).tolist() == (cells[:, 1] == "Male").tolist()
        patients = [int(path.split("/")[2].removeprefix("patient")) for path in cells[:, 0]]
        assert real["PatientID"].tolist() == patients

    def test_the_orientation_filter_is_what_leaves_out_13_frontal_images(self, chexpert_index, real, raw):
        every = ("AP", "PA", "LL", "RL", "")
        wider = CleanMetaData(csv_path=chexpert_index, orientations=every, cache=False).get_clean_df()
        added = wider.index.difference(real.index)
        assert len(added) == 13
        assert set(raw[1:][added, 4]) == {"LL", "RL"}


def test_all_four_codes_but_a_positive_count_as_negative(chexpert_tree):
    clean = CleanMetaData(chexpert_tree).get_clean_df()
    with (chexpert_tree / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    codes = set()
    for image_id, row in clean.iterrows():
        for target in CHEXPERT_TARGETS:
            code = rows[image_id][target.replace("_", " ")]
            codes.add(code)
            assert row[target] == (code == "1.0")
    assert codes == {"1.0", "0.0", "-1.0", ""}


def test_codes_without_a_decimal_point_mean_the_same(chexpert_tree):
    expected = CleanMetaData(chexpert_tree).get_clean_df()
    path = chexpert_tree / "train.csv"
    path.write_text(path.read_text().replace("1.0,", "1,").replace("0.0,", "0,").replace("v1,", "v1.0,"))
    pd.testing.assert_frame_equal(CleanMetaData(chexpert_tree).get_clean_df(), expected)


@pytest.mark.parametrize(
    ("filters", "column", "kept"),
    [
        ({"max_studies": 1}, "StudyID", {1}),
        ({"max_studies": None}, "StudyID", {1, 2, 3, 4, 5}),
        ({}, "StudyID", {1, 2, 3, 4}),
        ({"orientations": ["PA"]}, "Orientation_PA", {1}),
        ({"orientations": ["AP"]}, "Orientation_PA", {0}),
    ],
)
def test_a_filter_keeps_what_it_says(chexpert_tree, filters, column, kept):
    assert set(CleanMetaData(chexpert_tree, **filters).get_clean_df()[column]) == kept


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"views": ["Lateral"], "orientations": [""]}, "lateral"),
        ({"views": ("Frontal",)}, "frontal"),
    ],
)
def test_a_view_is_kept_alone(chexpert_tree, filters, message):
    paths = CleanMetaData(chexpert_tree, **filters).get_clean_df()["Image_Path"]
    assert len(paths)
    assert paths.str.contains(message).all()


def test_without_filters_every_row_is_kept(chexpert_tree):
    everything = CleanMetaData(
        chexpert_tree,
        max_studies=None,
        views=["Frontal", "Lateral"],
        orientations=["AP", "PA", "LL", "RL", ""],
    ).get_clean_df()
    images = list(chexpert_tree.rglob("*.jpg"))
    assert everything.index.tolist() == list(range(len(images)))
    assert {str(chexpert_tree / path) for path in everything["Image_Path"]} == set(map(str, images))


def test_an_unknown_sex_is_marked_and_is_not_male(chexpert_tree):
    clean = CleanMetaData(chexpert_tree).get_clean_df()
    unknown = clean[clean["Sex_Unknown"] == 1]
    assert set(unknown["PatientID"]) == {16}
    assert (unknown["Sex_Male"] == 0).all()


def test_the_catalog_has_the_12_targets_and_the_published_pixel_statistics(small_catalog):
    assert small_catalog.targets == CHEXPERT_TARGETS
    assert small_catalog.pixel_stats == PIXEL_STATS == (0.5064167, 0.16673872)
    assert small_catalog.fixed_split is None
    assert CleanMetaData(small_catalog.root).target_columns == list(CHEXPERT_TARGETS)


def test_the_folder_around_the_data_set_is_root_too(chexpert_tree, small_catalog):
    around = open_catalog("chexpert", chexpert_tree.parent)
    assert around.fingerprint == small_catalog.fingerprint
    assert around.root == chexpert_tree


def test_a_gzipped_index_gives_the_same_table(chexpert_tree, small_catalog, tmp_path):
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress((chexpert_tree / "train.csv").read_bytes()))
    assert CleanMetaData(csv_path=path).catalog().fingerprint == small_catalog.fingerprint


def test_an_image_is_displayed_by_its_id(chexpert_tree):
    data = CleanMetaData(chexpert_tree)
    image_id = data.get_clean_df().index[5]
    shown = data.display_image(image_id)
    assert shown.shape == (64, 64)
    np.testing.assert_array_equal(shown, read_gray(data.catalog().image_path(image_id)))


def test_without_a_root_there_is_a_table_but_no_image(chexpert_tree):
    data = CleanMetaData(csv_path=chexpert_tree / "train.csv")
    assert len(data.get_clean_df()) == 33
    with pytest.raises(HilumError, match="Give root"):
        data.display_image(0)


def test_changing_the_table_that_was_given_changes_nothing(chexpert_tree):
    data = CleanMetaData(chexpert_tree)
    given = data.get_clean_df()
    given["Edema"] = 7.0
    assert set(data.get_clean_df()["Edema"]) == {0.0, 1.0}


class TestTheCachedTable:
    @pytest.fixture
    def cleanings(self, monkeypatch):
        """How many times an index was cleaned."""
        from hilum.sources import chexpert

        done, clean = [], chexpert.clean
        monkeypatch.setattr(chexpert, "clean", lambda *args, **more: done.append(1) or clean(*args, **more))
        return done

    def test_it_is_used_while_the_index_is_unchanged(self, chexpert_tree, cleanings):
        first = CleanMetaData(chexpert_tree).get_clean_df()
        again = CleanMetaData(chexpert_tree).get_clean_df()
        assert len(cleanings) == 1
        pd.testing.assert_frame_equal(again, first)

    def test_it_gives_the_same_fingerprint(self, chexpert_tree, small_catalog):
        CleanMetaData(chexpert_tree).get_clean_df()
        assert CleanMetaData(chexpert_tree).catalog().fingerprint == small_catalog.fingerprint

    def test_a_copy_of_the_index_elsewhere_is_the_same_index(self, chexpert_tree, cleanings, tmp_path):
        CleanMetaData(chexpert_tree).get_clean_df()
        shutil.copytree(chexpert_tree, tmp_path / "moved")
        CleanMetaData(tmp_path / "moved").get_clean_df()
        assert len(cleanings) == 1

    def test_a_changed_index_is_cleaned_again(self, chexpert_tree, cleanings):
        CleanMetaData(chexpert_tree).get_clean_df()
        path = chexpert_tree / "train.csv"
        path.write_text(path.read_text().replace(",24,Frontal", ",99,Frontal"))
        assert 99 in set(CleanMetaData(chexpert_tree).get_clean_df()["Age"])
        assert len(cleanings) == 2

    def test_other_filters_are_another_table(self, chexpert_tree, cleanings):
        CleanMetaData(chexpert_tree).get_clean_df()
        assert CleanMetaData(chexpert_tree, max_studies=1).get_clean_df()["StudyID"].max() == 1
        CleanMetaData(
            chexpert_tree, orientations=("PA", "AP")
        ).get_clean_df()  # as the default, in another order
        assert len(cleanings) == 2

    @pytest.mark.parametrize("damage", [b"", b"PAR1 but no more", None])
    def test_a_damaged_one_is_replaced(self, chexpert_tree, cleanings, own_cache, damage):
        first = CleanMetaData(chexpert_tree).get_clean_df()
        (kept,) = own_cache.glob("*.parquet")
        kept.write_bytes(kept.read_bytes()[:-50] if damage is None else damage)
        pd.testing.assert_frame_equal(CleanMetaData(chexpert_tree).get_clean_df(), first)
        pd.testing.assert_frame_equal(CleanMetaData(chexpert_tree).get_clean_df(), first)
        assert len(cleanings) == 2

    def test_a_cache_that_cannot_be_written_does_no_harm(self, chexpert_tree, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("HILUM_CACHE", str(tmp_path / "file" / "cache"))
        assert len(CleanMetaData(chexpert_tree).get_clean_df()) == 33

    def test_nothing_is_cached_if_the_cache_is_off(self, chexpert_tree, own_cache):
        CleanMetaData(chexpert_tree, cache=False).get_clean_df()
        assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message"),
    [
        (
            "patient00001/study1",
            "patient00001/1",
            2,
            "Path",
            "is not a CheXpert path: expected .../train/patient",
        ),
        ("patient00001/study1", f"patient{'9' * 20}/study1", 2, "Path", "is not a CheXpert path"),
        (",Male,24,", ",M,24,", 2, "Sex", "'M' is not one of 'Male', 'Female', 'Unknown'"),
        (",Male,24,", ",Male,old,", 2, "Age", "'old' is not an age in years"),
        (",Male,24,", ",Male,,", 2, "Age", "'' is not an age in years"),
        (",24,Frontal,", ",24,Oblique,", 2, "Frontal/Lateral", "'Oblique' is not Frontal or Lateral"),
        (",24,Frontal,AP,", ",24,Frontal,PAL,", 2, "AP/PA", "'PAL' is not AP, PA, LL, RL or blank"),
    ],
)
def test_a_wrong_cell_is_named_with_line_and_column(chexpert_tree, old, new, line, column, message):
    path = chexpert_tree / "train.csv"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    with pytest.raises(HilumError) as error:
        CleanMetaData(chexpert_tree).get_clean_df()
    assert str(error.value).startswith(f"{path}, line {line}, column '{column}': ")
    assert message in str(error.value)
    assert "Correct the line, or restore the file from the data set." in str(error.value)


@pytest.mark.parametrize("label", ["2.0", "0.5", "-2", "yes", "nan", " 1.0"])
@pytest.mark.parametrize("column", ["No Finding", "Edema", "Support Devices"])
def test_a_wrong_label_is_named_with_line_and_column(chexpert_tree, label, column):
    path = chexpert_tree / "train.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    rows[30][rows[0].index(column)] = label
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(HilumError) as error:
        CleanMetaData(chexpert_tree).get_clean_df()
    assert str(error.value).startswith(
        f"{path}, line 31, column '{column}': {label!r} is not one of '1.0', '0.0'"
    )


def test_an_image_listed_twice_is_named_whatever_its_prefix(chexpert_tree):
    path = chexpert_tree / "train.csv"
    lines = path.read_text().splitlines()
    for again in (lines[3], lines[3].replace("CheXpert-v1.0-small/", "CheXpert-v1.0/")):
        path.write_text("\n".join([*lines, again]) + "\n")
        with pytest.raises(HilumError) as error:
            CleanMetaData(chexpert_tree).get_clean_df()
        assert f"{path}, line {len(lines) + 1}, column 'Path': " in str(error.value)
        assert "is also in an earlier line. Remove one of the two lines." in str(error.value)


def test_a_missing_column_is_named(chexpert_tree):
    path = chexpert_tree / "train.csv"
    path.write_text(path.read_text().replace("Pleural Effusion", "Effusion", 1))
    with pytest.raises(HilumError, match=r"train\.csv: the column 'Pleural Effusion' is missing"):
        CleanMetaData(chexpert_tree).get_clean_df()


def test_a_truncated_index_raises_and_is_not_read_as_blanks(chexpert_tree):
    path = chexpert_tree / "train.csv"
    content = path.read_text().rstrip()
    path.write_text(content[: content.rindex(",") - 8])
    with pytest.raises(HilumError, match="cells, the header has 19"):
        CleanMetaData(chexpert_tree).get_clean_df()


def test_a_folder_without_the_index_is_named(tmp_path):
    with pytest.raises(
        HilumError, match=r"it does not contain train\.csv or train\.csv\.gz\. root must be the fol"
    ):
        CleanMetaData(tmp_path)
    with pytest.raises(HilumError, match="none: there is no such folder"):
        CleanMetaData(tmp_path / "none")
    with pytest.raises(HilumError, match=r"none\.csv: there is no such file\. csv_path must be"):
        CleanMetaData(csv_path=tmp_path / "none.csv")
    with pytest.raises(HilumError, match="needs root"):
        CleanMetaData()


def test_an_index_elsewhere_is_taken_with_the_images_of_root(chexpert_tree, small_catalog, tmp_path):
    index = (chexpert_tree / "train.csv").rename(tmp_path / "index.csv")
    catalog = CleanMetaData(chexpert_tree, index).catalog()
    assert catalog.image_paths() == small_catalog.image_paths()
    with pytest.raises(HilumError, match="none: there is no such folder"):
        CleanMetaData(tmp_path / "none", index)
    with pytest.raises(HilumError, match=r"csv_path must be the path .* it is 5"):
        CleanMetaData(chexpert_tree, 5)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"max_studies": 0}, "max_studies must be a whole number, 1 or more.*it is 0"),
        ({"max_studies": "4"}, "it is '4'"),
        ({"max_studies": 1.5}, r"it is 1\.5"),
        ({"max_studies": True}, "it is True"),
        ({"views": "Frontal"}, "views must be a list of 'Frontal', 'Lateral'; it is 'Frontal'"),
        ({"views": []}, r"views must be a list .*; it is \[\]"),
        ({"views": 3}, "views must be a list .*; it is 3"),
        ({"views": [["Frontal"]]}, r"it is \[\['Frontal'\]\]"),
        ({"orientations": ["AP", "PAA"]}, "orientations must be a list of 'AP', 'PA', 'LL', 'RL', ''"),
    ],
)
def test_a_wrong_filter_raises_at_once(chexpert_tree, filters, message):
    with pytest.raises(HilumError, match=message):
        CleanMetaData(chexpert_tree, **filters)


def test_filters_that_leave_nothing_raise(chexpert_tree):
    with pytest.raises(HilumError, match=r"no image is left .*orientations=\['RL'\].*Loosen one"):
        CleanMetaData(chexpert_tree, orientations=["RL"]).get_clean_df()
