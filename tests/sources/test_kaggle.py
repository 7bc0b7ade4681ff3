import shutil

import cv2
import numpy as np
import pytest

from hilum.config import SplitSettings
from hilum.data.split import make_split
from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.images import read_gray

FILES = {
    "train/NORMAL": ["IM-0115-0001.jpeg", "IM-0117-0001.jpeg", "NORMAL2-IM-0927-0001.jpeg"],
    "train/PNEUMONIA": [
        "person1_bacteria_1.jpeg",
        "person1_bacteria_2.jpeg",
        "person7_bacteria_24.jpeg",
        "person7_virus_30.jpeg",
    ],
    "val/NORMAL": ["IM-0120-0001-0002.jpeg", "NORMAL2-IM-0927-0002.jpeg"],
    "val/PNEUMONIA": ["person7_bacteria_25.jpeg"],
    "test/NORMAL": ["IM-0001-0001.jpeg"],
    "test/PNEUMONIA": ["person100_bacteria_475.jpeg", "person1_virus_6.jpeg"],
}


@pytest.fixture
def root(tmp_path):
    """A tree in the layout of Kaggle's archive."""
    for number, (folder, names) in enumerate(FILES.items()):
        (tmp_path / "chest_xray" / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(
                str(tmp_path / "chest_xray" / folder / name), np.full((20, 30), 20 * number, np.uint8)
            )
    return tmp_path / "chest_xray"


def test_images_labels_and_patients_come_from_folders_and_names(root):
    catalog = open_catalog("kaggle", root)
    table = catalog.table.set_index("Image_Path")
    assert list(table.index) == [f"{folder}/{name}" for folder, names in FILES.items() for name in names]
    assert table["Pneumonia"].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1]
    assert table["PatientID"].tolist() == [
        *("IM-0115", "IM-0117", "NORMAL2-IM-0927", "person1", "person1", "person7", "person7"),
        *("IM-0120", "NORMAL2-IM-0927", "person7", "test-IM-0001", "test-person100", "test-person1"),
    ]
    assert catalog.targets == ("Pneumonia",)
    assert set(table["Orientation_PA"]) == {0}
    assert table[["Age", "Sex_Male", "Sex_Unknown", "Support Devices"]].isna().all(axis=None)
    assert read_gray(catalog.image_path(12)).shape == (20, 30)


def test_val_joins_train_and_test_stays_test(root):
    assert open_catalog("kaggle", root).fixed_split.tolist() == ["train_val"] * 10 + ["test"] * 3


def test_the_split_keeps_a_person_of_train_and_val_together(root):
    settings = SplitSettings(val_fraction=0.4)
    split = make_split(open_catalog("kaggle", root), settings, seed=1)
    assert split.counts()["test"] == {"images": 3, "patients": 3}
    assert (split.table.groupby("PatientID")["part"].nunique() == 1).all()
    with pytest.raises(HilumError, match="the data set's own split mixes them"):
        make_split(open_catalog("kaggle", root, official_val=True), settings, seed=1)


def test_the_official_val_is_kept_when_asked_for(root):
    parts = open_catalog("kaggle", root, official_val=True).fixed_split
    assert parts.tolist() == ["train"] * 7 + ["val"] * 3 + ["test"] * 3


def test_causes_are_targets_when_asked_for(root):
    catalog = open_catalog("kaggle", root, causes=True)
    assert catalog.targets == ("Pneumonia", "Bacterial_Pneumonia", "Viral_Pneumonia")
    labels = catalog.labels()
    np.testing.assert_array_equal(labels[:, 1], [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(labels[:, 1] + labels[:, 2], labels[:, 0])


@pytest.mark.parametrize("given", [".", "..", "../.."])
def test_the_folder_is_found_from_around_it_and_where_archives_nest_it(root, given):
    nested = root / "chest_xray"
    shutil.move(root, root.parent / "moved")
    nested.parent.mkdir()
    shutil.move(root.parent / "moved", nested)
    (root.parent / "__MACOSX").mkdir()
    (nested / "train/NORMAL/._IM-0115-0001.jpeg").write_bytes(b"")
    (nested / "train/NORMAL/.DS_Store").write_bytes(b"")
    catalog = open_catalog("kaggle", (nested / given).resolve())
    assert catalog.root == nested
    assert len(catalog) == 13


def test_mendeleys_edition_is_read_too(root):
    shutil.rmtree(root / "val")
    for folder, old, new in (
        ("NORMAL", "IM-0115-0001.jpeg", "NORMAL-1003233-0001.jpeg"),
        ("PNEUMONIA", "person7_virus_30.jpeg", "VIRUS-1980593-0002.jpeg"),
    ):
        (root / "train" / folder / old).rename(root / "train" / folder / new)
    catalog = open_catalog("kaggle", root, causes=True)
    table = catalog.table.set_index("Image_Path")
    assert table.at["train/NORMAL/NORMAL-1003233-0001.jpeg", "PatientID"] == "NORMAL-1003233"
    assert table.at["train/PNEUMONIA/VIRUS-1980593-0002.jpeg", "Viral_Pneumonia"] == 1
    assert len(catalog) == 10


class TestRefusals:
    def refused(self, root, message):
        with pytest.raises(HilumError, match=message):
            open_catalog("kaggle", root)

    def test_another_folder(self, tmp_path):
        self.refused(tmp_path / "none", "the folders train and test are neither there")

    def test_a_missing_class(self, root):
        shutil.rmtree(root / "test/NORMAL")
        self.refused(root, r"test/NORMAL: there is no such folder\. Complete the download")

    def test_an_empty_class(self, root):
        (root / "test/NORMAL/IM-0001-0001.jpeg").unlink()
        self.refused(root, "test/NORMAL: it contains no image")

    def test_a_name_without_a_patient(self, root):
        shutil.copy(root / "test/NORMAL/IM-0001-0001.jpeg", root / "train/NORMAL/copy of IM.jpeg")
        self.refused(root, r"train/NORMAL/copy of IM\.jpeg: the name contains no patient \(1 such files\)")

    def test_a_pneumonia_among_the_normal(self, root):
        shutil.move(root / "train/PNEUMONIA/person1_bacteria_1.jpeg", root / "train/NORMAL")
        self.refused(root, r"train/NORMAL/person1_bacteria_1\.jpeg: the name and the folder disagree")
