import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.config import SplitSettings
from hilum.data.split import make_split
from hilum.errors import HilumError
from hilum.sources import FEATURE_COLUMNS, Catalog, open_catalog
from hilum.sources.images import read_gray
from hilum.sources.merge import ID_STRIDE, merge
from hilum.targets import COMPETITION_TARGETS


@pytest.fixture
def nih(nih_tree):
    return open_catalog("nih", nih_tree)


@pytest.fixture
def kaggle(tmp_path):
    for part, name in (
        ("train", "person1_bacteria_1"),
        ("train", "person2_virus_2"),
        ("test", "person1_virus_9"),
    ):
        folder = tmp_path / "kaggle" / part
        (folder / "PNEUMONIA").mkdir(parents=True, exist_ok=True)
        (folder / "NORMAL").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "PNEUMONIA" / f"{name}.jpeg"), np.zeros((9, 9), np.uint8))
        cv2.imwrite(str(folder / "NORMAL" / "IM-0001-0001.jpeg"), np.zeros((9, 9), np.uint8))
    return open_catalog("kaggle", tmp_path / "kaggle")


@pytest.fixture
def merged(small_catalog, nih, kaggle):
    return merge([small_catalog, nih, kaggle])


def test_only_shared_targets_are_kept_in_the_order_of_the_first(small_catalog, nih, merged):
    assert merged.targets == ("Pneumonia",)
    both = merge([small_catalog, nih])
    assert both.targets == tuple(name for name in small_catalog.targets if name in nih.targets)
    assert len(both.targets) == 7
    np.testing.assert_array_equal(
        both.labels(),
        np.concatenate([small_catalog.table[list(both.targets)], nih.table[list(both.targets)]]),
    )


def test_targets_may_be_asked_for(small_catalog, nih):
    assert merge([small_catalog, nih], "competition").targets == COMPETITION_TARGETS
    assert merge([nih, small_catalog], ["Effusion"]).targets == ("Pleural_Effusion",)
    with pytest.raises(HilumError, match=r"merge of chexpert, nih, .*: target_columns: .* no target 'Mass'"):
        merge([small_catalog, nih], ["Mass"])


def test_sources_that_name_a_finding_otherwise_are_brought_together(nih):
    spelt = replace(
        nih,
        name="other",
        table=nih.table.rename(columns={"Pleural_Effusion": "effusion"}),
        targets=tuple("effusion" if name == "Pleural_Effusion" else name for name in nih.targets),
    )
    both = merge([spelt, nih])
    assert both.targets == nih.targets
    np.testing.assert_array_equal(both.labels()[: len(nih)], both.labels()[len(nih) :])


def test_ids_stay_unique_and_a_source_appended_changes_no_other(small_catalog, nih, kaggle, merged):
    assert merged.table.index.is_unique
    first, second, third = (
        merged.table.index[merged.table["Source"] == name] for name in ("chexpert", "nih", "kaggle")
    )
    assert first.tolist() == small_catalog.table.index.tolist()
    assert second.tolist() == (nih.table.index + ID_STRIDE).tolist()
    assert third.tolist() == (kaggle.table.index + 2 * ID_STRIDE).tolist()
    before = merge([small_catalog, nih], ["Pneumonia"]).table
    assert before.equals(merged.table.loc[before.index])


def test_patients_of_two_sources_are_never_one(small_catalog, nih, merged):
    assert set(small_catalog.table["PatientID"]) & set(nih.table["PatientID"])
    counts = merged.table.groupby("PatientID")["Source"].nunique()
    assert (counts == 1).all()
    assert (
        merged.table["PatientID"].nunique()
        == sum(part.nunique() for part in (small_catalog.table["PatientID"], nih.table["PatientID"])) + 5
    )
    assert merged.table["PatientID"].iloc[-1] == "kaggle/test-person1"


def test_the_source_is_a_column_that_stays(merged):
    assert tuple(merged.table.columns) == (*FEATURE_COLUMNS, "Source", "Pneumonia")
    assert merged.select_targets("Pneumonia").table["Source"].nunique() == 3
    assert merged.select_images(merged.table.index[-2:]).table["Source"].tolist() == ["kaggle", "kaggle"]


def test_images_are_read_from_their_own_roots(merged):
    paths = merged.image_paths()
    assert [str(merged.image_path(i)) for i in merged.table.index] == paths
    for image_id in (merged.table.index[0], ID_STRIDE, 2 * ID_STRIDE):
        assert read_gray(merged.image_path(image_id)).ndim == 2
    with pytest.raises(HilumError, match="is merged, and its images are only in the folders of its sources"):
        merged.image_paths("Hierarchical_Path")


def test_the_fingerprint_does_not_depend_on_the_sources_folders(small_catalog, nih, tmp_path):
    shutil.copytree(nih.root, tmp_path / "moved" / "deep")
    moved = open_catalog("nih", tmp_path / "moved" / "deep")
    assert merge([small_catalog, moved]).fingerprint == merge([small_catalog, nih]).fingerprint
    assert merge([nih, small_catalog]).fingerprint != merge([small_catalog, nih]).fingerprint


def test_official_splits_stay_and_the_rest_is_drawn(small_catalog, nih, kaggle, merged):
    assert merge([small_catalog, nih]).fixed_split is None
    expected = ["train_val"] * (len(small_catalog) + len(nih)) + kaggle.fixed_split.tolist()
    assert merged.fixed_split.tolist() == expected
    split = make_split(merged, SplitSettings(val_fraction=0.3), seed=0)
    assert set(split.table.loc[split.table["part"] == "test", "PatientID"]) == {
        "kaggle/test-person1",
        "kaggle/test-IM-0001",
    }


def test_codes_stay_if_every_source_has_them(small_catalog, nih):
    again = merge({"a": small_catalog, "b": small_catalog}, ["Edema"])
    expected = np.concatenate([small_catalog.codes["Edema"]] * 2)
    np.testing.assert_array_equal(again.codes["Edema"], expected)
    assert merge([small_catalog, nih]).codes is None


def test_the_table_can_be_written(merged, tmp_path):
    merged.write(tmp_path / "all.parquet")
    assert pd.read_parquet(tmp_path / "all.parquet")["ImageID"].tolist() == merged.table.index.tolist()


class TestAsASource:
    def test_sources_are_opened_by_their_tables(self, nih, small_catalog):
        of = [
            {"source": "nih", "root": str(nih.root)},
            {
                "source": "chexpert",
                "root": str(small_catalog.root),
                "name": "cx",
                "source_kwargs": {"max_studies": 1},
            },
        ]
        catalog = open_catalog("merge", None, of=of, targets=["Edema"])
        assert catalog.name == "nih+cx"
        assert catalog.targets == ("Edema",)
        assert (catalog.table.loc[catalog.table["Source"] == "cx", "StudyID"] == "1").all()

    def test_roots_may_be_below_a_root(self, nih, small_catalog):
        of = [{"source": "nih", "root": "nih"}, {"source": "chexpert", "root": small_catalog.root.name}]
        catalog = open_catalog("merge", nih.root.parent, of=of)
        assert read_gray(catalog.image_path(0)).shape == (48, 48)

    @pytest.mark.parametrize(
        ("of", "message"),
        [
            ([], r"for each of two or more sources, such as .*; it is \[\]"),
            ([{"source": "nih", "root": "x"}], "two or more sources"),
            (
                {"source": "nih"},
                r"a merge needs of, a list with a table for each of two or more sources, such as .*; it is \{",
            ),
            (["nih", {}], "entry 1 is 'nih'"),
            ([{"root": "x"}, {}], "entry 1 is {'root': 'x'}"),
            ([{"source": "nih", "rot": "x"}, {}], r"entry 1: unknown key 'rot'\. Did you mean 'root'\?"),
            ([{"source": "nih"}, {}], "root is missing: give the folder of the nih data set"),
            ([{"source": "nhi", "root": "x"}, {}], "Unknown source 'nhi'"),
        ],
    )
    def test_mistakes(self, of, message):
        with pytest.raises(HilumError, match=message):
            open_catalog("merge", None, of=of)

    def test_two_of_one_name(self, nih):
        entry = {"source": "nih", "root": str(nih.root)}
        with pytest.raises(HilumError, match=r"two sources are named 'nih'\. Give one another name"):
            open_catalog("merge", None, of=[entry, entry])
        assert len(open_catalog("merge", None, of=[entry, entry | {"name": "again"}])) == 2 * len(nih)


class TestRefusals:
    def refused(self, catalogs, message):
        with pytest.raises(HilumError, match=message):
            merge(catalogs)

    def test_nothing_shared(self, nih, kaggle):
        cough: Catalog = replace(
            kaggle, table=kaggle.table.rename(columns={"Pneumonia": "Cough"}), targets=("Cough",)
        )
        self.refused([nih, cough], "the sources share no target: nih has Atelectasis, .*; kaggle has Cough")

    def test_one_alone_and_one_twice(self, nih):
        self.refused([nih], "merge needs two or more catalogs; it has 1")
        self.refused([nih, nih], "two catalogs are named 'nih'. Give a dictionary")

    def test_a_name_that_is_no_name(self, nih, kaggle):
        self.refused({"a/b": nih, "c": kaggle}, "'a/b' cannot be a source's name")

    def test_a_merge_in_a_merge(self, nih, kaggle):
        self.refused({"a": merge([nih, kaggle]), "b": nih}, "a is a merge itself")

    def test_images_that_are_not_at_hand(self, nih, kaggle):
        self.refused([nih, replace(kaggle, root=None)], "the kaggle catalog was made without its images")

    def test_ids_too_large(self, nih, kaggle):
        far = replace(
            nih, table=nih.table.set_axis(nih.table.index + ID_STRIDE, axis="index").rename_axis("ImageID")
        )
        self.refused([kaggle, far], "the ImageIDs of nih must be within 0..99,999,999")
