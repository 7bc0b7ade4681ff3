import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.sources import FEATURE_COLUMNS, Catalog, open_catalog
from hilum.sources.catalog import hierarchical_paths


def table_of(**changes) -> pd.DataFrame:
    """Four images of three patients, with `changes` to the columns."""
    columns = {
        "PatientID": [1, 1, 2, 3],
        "StudyID": [1, 2, 1, 1],
        "Age": [60, 61, 70, 80],
        "Sex_Male": [1, 1, 0, 0],
        "Sex_Unknown": 0,
        "Orientation_PA": [0, 1, 0, 1],
        "Support Devices": [1.0, 0.0, 0.0, np.nan],
        "Image_Path": ["a.png", "b.png", "c.png", "d.png"],
        "Hierarchical_Path": ["data/d0/d0/i3.jpg", "e", "f", "g"],
        "Edema": [1.0, 0.0, np.nan, 1.0],
        "Fracture": [0.0, 0.0, 1.0, 0.0],
    }
    return pd.DataFrame(columns | changes, index=pd.Index([3, 5, 8, 9], name="ImageID"))


def catalog_of(table=None, **changes) -> Catalog:
    settings = {"name": "own", "targets": ("Edema", "Fracture")} | changes
    return Catalog(table=table_of() if table is None else table, **settings)


def test_labels_are_float32_with_nan_where_left_out():
    labels = catalog_of().labels()
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, [[1, 0], [0, 0], [np.nan, 1], [1, 0]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (table_of().drop(columns=["Age", "Edema"]), r"lacks the column\(s\) Age, Edema"),
        (table_of(Edema=[1.0, -1.0, 0.0, 1.0]), "ImageID 5, column Edema: -1.0 is not a label"),
        (table_of(Fracture=[0.0, 0.0, 0.0, 0.5]), "ImageID 9, column Fracture: 0.5 is not a label"),
        (table_of(Fracture=["no", "no", "yes", "no"]), "column Fracture: it holds .*, not numbers"),
        (table_of(Image_Path=["a", "b", "a", "d"]), "ImageID 8, column Image_Path: 'a' appears twice"),
        (table_of(PatientID=[1, np.nan, 2, 3]), "ImageID 5, column PatientID: nan is missing"),
        (table_of().iloc[:0], "no image is left"),
        (table_of().reset_index(drop=True), "must be whole numbers named ImageID"),
        (table_of().set_axis(pd.Index(list("abcd"), name="ImageID")), "must be whole numbers"),
        (table_of().set_axis(pd.Index([3, 5, 5, 9], name="ImageID")), "ImageID 5 appears twice"),
    ],
)
def test_an_error_names_the_catalog_the_row_and_the_column(table, message):
    with pytest.raises(HilumError, match=rf"catalog 'own': .*{message}"):
        catalog_of(table)


def test_the_file_it_came_from_is_named(tmp_path):
    with pytest.raises(HilumError, match=r"train\.csv: ImageID 5, column Edema"):
        catalog_of(table_of(Edema=[1.0, 2.0, 0.0, 1.0]), origin=tmp_path / "train.csv")


def test_a_catalog_without_targets_is_refused():
    with pytest.raises(HilumError, match="names no target"):
        catalog_of(targets=())


def test_nullable_integers_are_labels_too():
    edema = pd.array([1, 0, None, 1], dtype="Int64")
    assert np.isnan(catalog_of(table_of(Edema=edema)).labels()[2, 0])


@pytest.mark.parametrize(
    ("parts", "ids", "message"),
    [
        (
            ["train", "val", "test", "holdout"],
            [3, 5, 8, 9],
            "ImageID 9, column fixed split: 'holdout' is not a part",
        ),
        (["train", "val", "test", None], [3, 5, 8, 9], "ImageID 9, column fixed split: None is not a part"),
        (["train", "val", "test", "test"], [3, 5, 9, 8], "in the same order"),
        (["train", "val"], [3, 5], "must have the table's ImageIDs"),
    ],
)
def test_a_fixed_split_that_does_not_fit_is_refused(parts, ids, message):
    with pytest.raises(HilumError, match=message):
        catalog_of(fixed_split=pd.Series(parts, index=ids, dtype=object))


def test_the_fingerprint_is_of_the_content():
    catalog = catalog_of()
    assert len(catalog.fingerprint) == 64
    assert catalog_of().fingerprint == catalog.fingerprint
    assert catalog_of(root="elsewhere", origin="x").fingerprint == catalog.fingerprint
    others = [
        catalog_of(table_of(Edema=[1.0, 0.0, 0.0, 1.0])),
        catalog_of(table_of(PatientID=[1, 1, 2, 2])),
        catalog_of(table_of(Image_Path=["a.png", "b.png", "c.png", "z.png"])),
        catalog_of(table_of().rename(index={9: 10})),
        catalog_of(table_of().iloc[::-1]),
        catalog_of(name="other"),
        catalog_of().select_targets("Edema"),
    ]
    assert len({catalog.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_the_fingerprint_is_the_same_in_another_process(small_catalog):
    code = (
        "import sys; from hilum.sources.chexpert import CleanMetaData; "
        "print(CleanMetaData(sys.argv[1], cache=False).catalog().fingerprint)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(small_catalog.root)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "5"},
    )
    assert process.stdout.strip() == small_catalog.fingerprint


def test_targets_are_selected_by_alias_with_their_own_labels(small_catalog):
    chosen = small_catalog.select_targets(["effusion", "Edema"])
    assert chosen.targets == ("Pleural_Effusion", "Edema")
    assert tuple(chosen.table.columns) == (*FEATURE_COLUMNS, "Pleural_Effusion", "Edema")
    np.testing.assert_array_equal(chosen.labels()[:, 1], small_catalog.table["Edema"])
    assert (chosen.root, len(chosen)) == (small_catalog.root, len(small_catalog))


def test_images_are_selected_in_the_order_given_with_their_part():
    catalog = catalog_of(fixed_split=pd.Series(["train", "val", "test", "train"], index=[3, 5, 8, 9]))
    chosen = catalog.select_images([9, 5])
    assert chosen.table["Image_Path"].tolist() == ["d.png", "b.png"]
    assert chosen.fixed_split.tolist() == ["train", "val"]


def test_image_paths_lead_to_the_images(small_catalog):
    paths = small_catalog.image_paths()
    assert [str(small_catalog.image_path(i)) for i in small_catalog.table.index] == paths
    assert all(os.path.isfile(path) for path in paths)  # noqa: PTH113


def test_an_unknown_image_id_raises_with_the_range_of_ids():
    with pytest.raises(HilumError, match=r"own has no ImageID 4\. Its 4 ids run from 3 to 9"):
        catalog_of(root="x").image_path(4)


def test_image_paths_need_a_root(small_catalog):
    with pytest.raises(HilumError, match=r"without its images\. Give root"):
        replace(small_catalog, root=None).image_paths()


def test_the_table_is_written_and_reads_back(small_catalog, tmp_path):
    small_catalog.write(tmp_path / "out" / "table.parquet")
    small_catalog.write(tmp_path / "out" / "table.csv")
    expected = small_catalog.table.reset_index()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "table.parquet"), expected)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "table.csv"), expected)


def test_a_table_of_another_kind_or_place_is_refused(small_catalog, tmp_path):
    with pytest.raises(HilumError, match=r"table\.xlsx: a catalog is written as \.parquet or \.csv"):
        small_catalog.write(tmp_path / "table.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(HilumError, match="cannot be written"):
        small_catalog.write(tmp_path / "file" / "table.csv")


@pytest.mark.parametrize(
    ("source", "root", "filters", "message"),
    [
        (
            "chexprt",
            "x",
            {},
            r"Unknown source 'chexprt'\. Did you mean 'chexpert'\? Known: chexpert, nih, .*phantom",
        ),
        ("nih", None, {}, r"root is missing: give the folder of the nih data set \(--root DIR\)"),
        ("chexpert", None, {}, "root is missing"),
        ("chexpert", "x", {"max_study": 2}, r"no filter 'max_study'\. Did you mean 'max_studies'\?"),
        ("nih", "x", {"views": ["PA"]}, "'nih' has no filter 'views'.* It takes none"),
    ],
)
def test_a_source_that_cannot_be_opened_is_named(source, root, filters, message):
    with pytest.raises(HilumError, match=message):
        open_catalog(source, root, **filters)


def test_sources_know_nothing_of_torch():
    code = (
        "import sys, hilum.sources.chexpert, hilum.sources.nih; "
        "print(sorted({'torch', 'matplotlib', 'hilum.training'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("path", ["../elsewhere.png", "a/../../b.png", "/etc/passwd"])
def test_a_path_that_leads_out_of_the_folder_is_refused(small_catalog, path):
    table = small_catalog.table.copy()
    table.loc[table.index[3], "Image_Path"] = path
    with pytest.raises(HilumError, match="leads out of the data set's folder"):
        replace(small_catalog, table=table)


def test_features_of_images_are_added_without_labels_and_hierarchical_paths(small_catalog):
    ids = small_catalog.table.index[[2, 0]].to_numpy()
    parts = pd.DataFrame(
        {
            "ImageID": ids,
            "PatientID": small_catalog.table.loc[ids, "PatientID"].to_numpy(),
            "part": ["val", "train"],
        }
    )
    described = small_catalog.add_features(parts)
    pd.testing.assert_frame_equal(described[["ImageID", "PatientID", "part"]], parts)
    assert not {"Hierarchical_Path", *small_catalog.targets} & set(described.columns)
    for name in ("StudyID", "Age", "Image_Path"):
        assert described[name].tolist() == small_catalog.table.loc[ids, name].tolist()


def largest_folder(paths: list[str]) -> int:
    """The most entries, files and subfolders together, that any folder of these paths has."""
    entries = defaultdict(set)
    for path in paths:
        folder = ""
        for name in path.split("/"):
            entries[folder].add(name)
            folder += f"/{name}"
    return max(len(names) for names in entries.values())


@pytest.mark.parametrize("images", [1, 50, 51, 2_501, 125_000, 125_001, 131_748, 223_414])
def test_no_folder_has_more_than_50_entries(images):
    paths = hierarchical_paths(np.arange(images))
    assert largest_folder(paths) <= 50
    assert len(set(paths)) == images


def test_ids_with_gaps_keep_to_the_limit_too():
    ids = np.random.default_rng(0).choice(223_414, size=131_748, replace=False)
    paths = hierarchical_paths(ids)
    assert largest_folder(paths) <= 50
    assert [int(PurePosixPath(path).stem[1:]) for path in paths] == ids.tolist()


@pytest.mark.parametrize("folder_size", [2, 7, 10])
def test_another_limit_is_kept(folder_size):
    assert largest_folder(hierarchical_paths(np.arange(3_000), folder_size)) <= folder_size


def test_the_levels_follow_from_the_largest_id_and_are_at_least_two():
    assert hierarchical_paths(np.array([7])) == ["data/d0/d0/i7.jpg"]
    assert hierarchical_paths(np.array([7, 124_999]))[1].count("/d") == 2
    assert hierarchical_paths(np.array([7, 125_000])) == ["data/d0/d0/d0/i7.jpg", "data/d1/d0/d0/i125000.jpg"]


def test_no_ids_no_paths():
    assert hierarchical_paths(np.array([], dtype=np.int64)) == []


def test_extensions_are_kept():
    assert hierarchical_paths(np.array([7, 8]), extensions=[".png", ".dcm"]) == [
        "data/d0/d0/i7.png",
        "data/d0/d0/i8.dcm",
    ]


@pytest.mark.parametrize("folder_size", [1, 0, -5, 2.5, True])
def test_a_folder_of_fewer_than_two_entries_is_refused(folder_size):
    with pytest.raises(HilumError, match="folder_size must be a whole number of entries, 2 or more"):
        hierarchical_paths(np.array([7]), folder_size)
