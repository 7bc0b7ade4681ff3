import csv
import warnings

import cv2
import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.folder import NoPatientsWarning
from hilum.sources.images import read_gray

HEADER = ["Image Index", "Patient ID", "study", "Age", "Sex", "View", "split", "Effusion", "Cough", "Note"]
ROWS = [
    ["a/1.png", "p1", "s1", "61", "M", "PA", "train", "1", "0", "seen"],
    ["a/2.png", "p1", "s2", "62.5", "F", "AP", "train", "0", "1.0", ""],
    ["b/3.png", "p2", "s1", "", "", "", "valid", "", "0.0", "1"],
    ["b/4.png", "p3", "s1", "7", "Unknown", "LL", "test", "1", "1", "0"],
]


def write(root, rows=ROWS, header=HEADER, name="labels.csv"):
    with (root / name).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def changed(row, column, value):
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = value
    return rows


@pytest.fixture
def root(tmp_path):
    for number, row in enumerate(ROWS):
        (tmp_path / row[0]).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / row[0]), np.full((8, 9), 1000 * number, np.uint16))
    write(tmp_path)
    return tmp_path


def test_columns_are_found_by_their_names(root):
    catalog = open_catalog("folder", root)
    table = catalog.table
    assert catalog.targets == ("Pleural_Effusion", "Cough")
    np.testing.assert_array_equal(catalog.labels(), [[1, 0], [0, 1], [np.nan, 0], [1, 1]])
    assert table["PatientID"].tolist() == ["p1", "p1", "p2", "p3"]
    assert table["StudyID"].tolist() == ["s1", "s2", "s1", "s1"]
    np.testing.assert_array_equal(table["Age"], [61, 62.5, np.nan, 7])
    assert table["Sex_Male"].tolist() == [1, 0, 0, 0]
    assert table["Sex_Unknown"].tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(table["Orientation_PA"], [1, 0, np.nan, np.nan])
    assert catalog.fixed_split.tolist() == ["train", "train", "val", "test"]
    assert catalog.codes is None
    assert read_gray(catalog.image_path(3)).shape == (8, 9)


def test_columns_may_be_named_and_left_out(root):
    write(root, [[*row, row[1]] for row in ROWS], [*HEADER, "who"], "other.csv")
    catalog = open_catalog(
        "folder",
        root,
        csv="other.csv",
        targets=["Cough"],
        patient_column="who",
        split_column="",
        age_column="",
    )
    assert catalog.targets == ("Cough",)
    assert catalog.fixed_split is None
    assert catalog.table["Age"].isna().all()
    assert catalog.table["PatientID"].tolist() == ["p1", "p1", "p2", "p3"]


def test_the_only_csv_there_is_taken_if_none_is_called_labels(root):
    (root / "labels.csv").rename(root / "index.csv")
    assert len(open_catalog("folder", root)) == 4
    write(root, name="other.csv")
    with pytest.raises(
        HilumError, match=r"a single CSV there; found index\.csv, other\.csv\. Name the index"
    ):
        open_catalog("folder", root)


def test_without_patients_it_warns(root):
    with pytest.warns(NoPatientsWarning, match="each image counts as its own patient"):
        catalog = open_catalog("folder", root, patient_column="")
    assert catalog.table["PatientID"].tolist() == [0, 1, 2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_catalog("folder", root)


def test_a_catalog_that_was_written_out_is_read_back(small_catalog):
    small_catalog.write(small_catalog.root / "labels.csv")
    catalog = open_catalog("folder", small_catalog.root)
    assert catalog.targets == small_catalog.targets
    np.testing.assert_array_equal(catalog.labels(), small_catalog.labels())
    assert catalog.table["Image_Path"].tolist() == small_catalog.table["Image_Path"].tolist()


class TestUncertainLabels:
    @pytest.fixture(autouse=True)
    def uncertain_row(self, root):
        write(root, changed(1, "Effusion", "-1"))

    def test_they_raise_unless_their_meaning_is_set(self, root):
        with pytest.raises(
            HilumError, match=r"line 3, column 'Effusion': '-1' is uncertain\. Set its meaning"
        ):
            open_catalog("folder", root)

    @pytest.mark.parametrize(("meaning", "label"), [("zeros", 0), ("ones", 1), ("ignore", np.nan)])
    def test_they_become_what_is_set(self, root, meaning, label):
        catalog = open_catalog("folder", root, uncertain=meaning)
        np.testing.assert_array_equal(catalog.labels()[:, 0], [1, label, np.nan, 1])
        assert catalog.codes is None

    def test_they_are_left_to_the_runs_policy(self, root):
        catalog = open_catalog("folder", root, uncertain="policy")
        np.testing.assert_array_equal(catalog.codes["Pleural_Effusion"], [1, -1, np.nan, 1])
        np.testing.assert_array_equal(catalog.labels()[:, 0], [1, 0, 0, 1])

    def test_an_unknown_meaning_raises(self, root):
        with pytest.raises(HilumError, match="uncertain must be zeros, ones, ignore, policy or left out"):
            open_catalog("folder", root, uncertain="maybe")


def test_a_window_is_part_of_the_path_and_of_the_pixels(root):
    catalog = open_catalog("folder", root, window=[0, 4000])
    assert catalog.table["Image_Path"].iloc[1] == "a/2.png#window=0,4000"
    assert [int(read_gray(catalog.image_path(i))[0, 0]) for i in range(4)] == [0, 64, 128, 191]
    plain = open_catalog("folder", root)
    assert [int(read_gray(plain.image_path(i))[0, 0]) for i in range(4)] == [0, 4, 8, 12]
    with pytest.raises(HilumError, match=r"window \[9, 3\] must be two numbers"):
        open_catalog("folder", root, window=[9, 3])


class TestRefusals:
    @pytest.mark.parametrize(
        ("row", "column", "value", "message"),
        [
            (
                1,
                "Image Index",
                "a/9.png",
                r"line 3, column 'Image Index': 'a/9\.png' is in the index but not in .*Complete the download",
            ),
            (1, "Image Index", "a/1.png", "line 3, .*is also in an earlier line"),
            (1, "Image Index", "../x.png", "is not a path below root"),
            (1, "Image Index", "/x.png", "is not a path below root"),
            (1, "Image Index", "", "is not a path below root"),
            (2, "Patient ID", "", "line 4, column 'Patient ID': '' is not a patient"),
            (0, "Age", "old", "line 2, column 'Age': 'old' is not an age in years"),
            (0, "Sex", "X", "line 2, column 'Sex': 'X' is not one of 'M'"),
            (0, "View", "OBLIQUE", "line 2, column 'View': 'OBLIQUE' is not one of 'PA'"),
            (3, "split", "holdout", "line 5, column 'split': 'holdout' is not one of 'train'"),
        ],
    )
    def test_cells(self, root, row, column, value, message):
        write(root, changed(row, column, value))
        with pytest.raises(HilumError, match=rf"labels\.csv.*{message}"):
            open_catalog("folder", root)

    def test_a_given_target_holds_something_else(self, root):
        with pytest.raises(HilumError, match="line 2, column 'Note': 'seen' is not one of '1'"):
            open_catalog("folder", root, targets=["Note"])

    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"targets": ["Coug"]}, r"the column 'Coug' of targets is missing\. Did you mean 'Cough'\?"),
            ({"targets": "Cough"}, "targets must be a list of columns"),
            ({"targets": ["Cough", "Cough"]}, "the target Cough has two columns"),
            (
                {"sex_column": "Sx"},
                r"the column 'Sx' of sex_column is missing\. Did you mean 'Sex'",
            ),
            ({"path_column": ""}, "no column holds the images' paths"),
            ({"csv": "none.csv"}, r"none\.csv: there is no such file"),
        ],
    )
    def test_settings(self, root, filters, message):
        with pytest.raises(HilumError, match=message):
            open_catalog("folder", root, **filters)

    def test_no_target_at_all(self, root):
        write(root, [row[:7] for row in ROWS], HEADER[:7])
        with pytest.raises(HilumError, match="no column holds only 1, 0, -1 and blanks"):
            open_catalog("folder", root)

    def test_no_folder(self, tmp_path):
        with pytest.raises(HilumError, match="there is no such folder"):
            open_catalog("folder", tmp_path / "none")
