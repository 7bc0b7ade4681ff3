import csv
import shutil
from collections import Counter

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.images import read_gray
from hilum.targets import NIH_TARGETS

#: The one finding that the data set names otherwise.
NAME_OF = {"Effusion": "Pleural_Effusion"}


def rows_of(root):
    with (root / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def edit(root, old, new):
    """Replaces the first `old` in the index."""
    path = root / "Data_Entry_2017_v2020.csv"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


@pytest.fixture(scope="session")
def catalog(nih_sample):
    return open_catalog("nih", nih_sample)


class TestTheRealSample:
    def test_every_image_and_patient_is_there(self, catalog):
        assert len(catalog) == 866
        assert catalog.table["PatientID"].nunique() == 594
        assert catalog.targets == NIH_TARGETS

    def test_findings_are_counted_as_the_index_has_them(self, catalog, nih_sample):
        counts = Counter(name for row in rows_of(nih_sample) for name in row["Finding Labels"].split("|"))
        counts.pop("No Finding")
        counted = {name: int(catalog.table[name].sum()) for name in NIH_TARGETS if catalog.table[name].any()}
        assert counted == {NAME_OF.get(name, name): count for name, count in counts.items()}

    def test_every_row_is_its_own(self, catalog, nih_sample):
        for row, (_, image) in zip(rows_of(nih_sample), catalog.table.iterrows(), strict=True):
            found = {NAME_OF.get(name, name) for name in row["Finding Labels"].split("|")} - {"No Finding"}
            assert {name for name in NIH_TARGETS if image[name] == 1} == found
            assert image["Image_Path"] == f"images/{row['Image Index']}"
            assert [image["PatientID"], image["StudyID"], image["Age"]] == [
                int(row["Patient ID"]),
                int(row["Follow-up #"]),
                int(row["Patient Age"]),
            ]
            assert image["Sex_Male"] == (row["Patient Gender"] == "M")
            assert image["Orientation_PA"] == (row["View Position"] == "PA")

    def test_images_are_gray_levels(self, catalog):
        pixels = read_gray(catalog.image_path(0))
        assert pixels.shape == (256, 256)
        assert 20 < pixels.mean() < 220


def test_labels_are_read_by_name(nih_tree):
    table = open_catalog("nih", nih_tree).table
    assert table["Pleural_Effusion"].tolist() == [0, 1, 1, 0, 0, 0] * 2
    assert table["Infiltration"].tolist() == [0, 0, 1, 0, 0, 0] * 2
    assert table["Mass"].tolist() == table["Pleural_Thickening"].tolist() == [0, 0, 0, 0, 1, 0] * 2
    assert table["Pneumonia"].sum() == 0


def test_what_the_data_set_does_not_record_is_nan(nih_tree):
    table = open_catalog("nih", nih_tree).table
    assert table["Support Devices"].isna().all()
    assert set(table["Sex_Unknown"]) == {0}


def test_two_spellings_of_a_finding_are_one(nih_tree):
    expected = open_catalog("nih", nih_tree).table
    edit(nih_tree, ",Effusion,", ",Pleural_Effusion|Effusion,")
    edit(nih_tree, "Effusion|Infiltration", "Infiltration| Effusion")
    assert open_catalog("nih", nih_tree).table.equals(expected)


@pytest.mark.parametrize(("written", "years"), [("058Y", 58), ("007Y", 7), ("58", 58), ("058", 58)])
def test_ages_of_both_editions_are_years(nih_tree, written, years):
    edit(nih_tree, ",30,M", f",{written},M")
    assert open_catalog("nih", nih_tree).table["Age"].iloc[0] == years


def test_the_first_editions_index_is_found_with_its_comma_at_each_line_end(nih_tree):
    expected = open_catalog("nih", nih_tree).fingerprint
    index = nih_tree / "Data_Entry_2017_v2020.csv"
    (nih_tree / "Data_Entry_2017.csv").write_text("".join(f"{x},\n" for x in index.read_text().splitlines()))
    index.unlink()
    assert open_catalog("nih", nih_tree).fingerprint == expected


def test_images_are_found_in_the_archives_folders(nih_tree):
    names = [row["Image Index"] for row in rows_of(nih_tree)]
    for number, name in enumerate(names):
        folder = nih_tree / f"images_{number % 3 + 1:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(nih_tree / "images" / name, folder / name)
    catalog = open_catalog("nih", nih_tree)
    assert catalog.table["Image_Path"].iloc[4] == f"images_002/images/{names[4]}"
    assert all(catalog.image_path(i).is_file() for i in catalog.table.index)


class TestTheOfficialLists:
    @pytest.fixture
    def names(self, nih_tree):
        return [row["Image Index"] for row in rows_of(nih_tree)]

    def write(self, root, train_val, test):
        (root / "train_val_list.txt").write_text("\n".join(train_val) + "\n")
        (root / "test_list.txt").write_text("\n".join(test))

    def test_without_them_nothing_is_fixed(self, nih_tree):
        assert open_catalog("nih", nih_tree).fixed_split is None

    def test_they_are_followed_and_may_name_more_images_than_the_index(self, nih_tree, names):
        self.write(nih_tree, [*names[:8], "other_000.png"], names[8:])
        catalog = open_catalog("nih", nih_tree)
        assert catalog.fixed_split.tolist() == ["train_val"] * 8 + ["test"] * 4
        assert catalog.fixed_split.index.equals(catalog.table.index)

    @pytest.mark.parametrize("absent", ["train_val_list.txt", "test_list.txt"])
    def test_one_alone_is_refused(self, nih_tree, names, absent):
        self.write(nih_tree, names[:8], names[8:])
        (nih_tree / absent).unlink()
        with pytest.raises(HilumError, match=f"is there but {absent} is not. Add it, or remove both"):
            open_catalog("nih", nih_tree)

    def test_an_image_in_neither_is_named(self, nih_tree, names):
        self.write(nih_tree, names[:7], names[9:])
        with pytest.raises(HilumError, match=rf"{names[7]} is in neither of the two lists \(2 such images\)"):
            open_catalog("nih", nih_tree)

    def test_an_image_in_both_is_named(self, nih_tree, names):
        self.write(nih_tree, names[:8], names[7:])
        with pytest.raises(HilumError, match=rf"test_list\.txt: {names[7]} is also in the other list"):
            open_catalog("nih", nih_tree)


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message"),
    [
        (",No Finding,", ",Cough,", 2, "Finding Labels", "'Cough' has the unknown finding 'Cough'"),
        (",Hernia,", ",Hernia|Fracture,", 5, "Finding Labels", "has the unknown finding 'Fracture'"),
        (",Hernia,", ",,", 5, "Finding Labels", "'' names no finding, not even No Finding"),
        (",Hernia,", ",Hernia|No Finding,", 5, "Finding Labels", "has No Finding together with a finding"),
        (",30,M,", ",30,X,", 2, "Patient Gender", "'X' is not one of 'M', 'F'"),
        (",30,M,AP", ",30,M,LL", 2, "View Position", "'LL' is not one of 'PA', 'AP'"),
        (",30,M,", ",011M,M,", 2, "Patient Age", "'011M' is not an age in years"),
        (",0,1,30,", ",0,one,30,", 2, "Patient ID", "'one' is not a patient number"),
        (",0,1,30,", ",-1,1,30,", 2, "Follow-up #", "'-1' is not a follow-up number"),
        (
            "00000001_001.png",
            "00000001_000.png",
            3,
            "Image Index",
            "is also in an earlier line. Remove one",
        ),
        ("00000001_001.png", "00000001_009.png", 3, "Image Index", "is in the index but not in"),
    ],
)
def test_a_wrong_cell_is_named_with_line_and_column(nih_tree, old, new, line, column, message):
    edit(nih_tree, old, new)
    with pytest.raises(HilumError) as error:
        open_catalog("nih", nih_tree)
    index = nih_tree / "Data_Entry_2017_v2020.csv"
    assert str(error.value).startswith(f"{index}, line {line}, column '{column}': ")
    assert message in str(error.value)


def test_images_that_are_missing_are_counted(nih_tree):
    shutil.rmtree(nih_tree / "images")
    with pytest.raises(
        HilumError, match=r"line 2, column 'Image Index'.*\(11 more like it\)\. Complete the down"
    ):
        open_catalog("nih", nih_tree)


def test_a_missing_column_is_named(nih_tree):
    edit(nih_tree, "View Position", "View")
    with pytest.raises(HilumError, match="the column 'View Position' is missing"):
        open_catalog("nih", nih_tree)


def test_a_folder_without_the_index_is_named(tmp_path):
    with pytest.raises(
        HilumError, match=r"does not contain Data_Entry_2017_v2020\.csv or .* root must be the folder"
    ):
        open_catalog("nih", tmp_path)


def test_labels_have_no_gaps(nih_tree):
    assert not np.isnan(open_catalog("nih", nih_tree).labels()).any()
