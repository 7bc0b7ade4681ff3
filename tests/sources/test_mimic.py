import csv
import gzip

import cv2
import numpy as np
import pytest

from hilum.config import SplitSettings
from hilum.data.split import make_split
from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.images import read_gray
from hilum.targets import CHEXPERT_FINDINGS, CHEXPERT_TARGETS

#: dicom_id, subject_id, study_id, ViewPosition, part
IMAGES = [
    ("02aa804e-bde0afdd", 10000032, 50414267, "PA", "train"),
    ("174413ec-4ec4c1f7", 10000032, 50414267, "LATERAL", "train"),
    ("2a2277a9-b0ded155", 10000032, 53189527, "AP", "train"),
    ("68b5c4b1-227d0485", 11000764, 57375967, "AP", "validate"),
    ("096052b7-d256dc40", 19000898, 50771383, "PA", "test"),
    ("d8309a1d-1d3f8a4f", 19000898, 54205396, "", "test"),
    ("ffffffff-00000000", 19000898, 59999999, "PA", "test"),  # a study that has no labels
]
CODES = {
    50414267: {"Edema": "1.0", "Cardiomegaly": "-1.0", "Support_Devices": "1.0"},
    53189527: {"Edema": "0.0", "No_Finding": "1.0"},
    57375967: {"Edema": "-1.0", "Pneumonia": "1.0"},
    50771383: {"Fracture": "1.0", "Support_Devices": "-1.0"},
    54205396: {},
}
PATIENT_OF = {study: patient for _, patient, study, _, _ in IMAGES}
TABLES = {
    "metadata": (
        ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows"],
        [
            [name, patient, study, "CHEST (PA AND LAT)", view, 3056]
            for name, patient, study, view, _ in IMAGES
        ],
    ),
    "split": (
        ["dicom_id", "study_id", "subject_id", "split"],
        [[name, study, patient, part] for name, patient, study, _, part in IMAGES[::-1]],
    ),
    "chexpert": (
        ["subject_id", "study_id", *sorted(finding.replace("_", " ") for finding in CHEXPERT_FINDINGS)],
        [
            [PATIENT_OF[study], study, *(codes.get(finding, "") for finding in sorted(CHEXPERT_FINDINGS))]
            for study, codes in CODES.items()
        ],
    ),
}


def write(root, kind, rows=None, packed=False):
    header, given = TABLES[kind]
    path = root / f"mimic-cxr-2.0.0-{kind}.csv{'.gz' if packed else ''}"
    with gzip.open(path, "wt", newline="") if packed else path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(given if rows is None else rows)])
    return path


def changed(kind, row, column, value):
    header, rows = TABLES[kind]
    rows = [list(cells) for cells in rows]
    rows[row][header.index(column)] = value
    return rows


@pytest.fixture
def root(tmp_path):
    for kind in TABLES:
        write(tmp_path, kind)
    for name, patient, study, _, _ in IMAGES:
        folder = tmp_path / f"files/p{str(patient)[:2]}/p{patient}/s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.jpg"), np.full((12, 10), 90, np.uint8))
    return tmp_path


def test_frontal_images_have_their_studys_labels_by_chexperts_rule(root):
    catalog = open_catalog("mimic", root)
    table = catalog.table
    assert catalog.targets == CHEXPERT_TARGETS
    assert table.index.tolist() == [0, 2, 3, 4]
    assert table["Edema"].tolist() == [1, 0, 0, 0]
    assert table["Cardiomegaly"].tolist() == [0, 0, 0, 0]
    assert table["Pneumonia"].tolist() == [0, 0, 1, 0]
    assert table["Fracture"].tolist() == [0, 0, 0, 1]
    assert table["Support Devices"].tolist() == [1, 0, 0, 0]
    assert table["Orientation_PA"].tolist() == [1, 0, 0, 1]
    assert table["PatientID"].tolist() == [10000032, 10000032, 11000764, 19000898]
    assert table["StudyID"].tolist() == [50414267, 53189527, 57375967, 50771383]


def test_the_raw_codes_are_kept(root):
    codes = open_catalog("mimic", root).codes
    np.testing.assert_array_equal(codes["Edema"], [1, 0, -1, np.nan])
    np.testing.assert_array_equal(codes["Cardiomegaly"], [-1, np.nan, np.nan, np.nan])


def test_images_are_where_the_data_set_has_them(root):
    catalog = open_catalog("mimic", root)
    assert catalog.table["Image_Path"].iloc[0] == "files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg"
    assert read_gray(catalog.image_path(4)).shape == (12, 10)


def test_the_official_split_is_kept(root):
    catalog = open_catalog("mimic", root)
    assert catalog.fixed_split.tolist() == ["train", "train", "val", "test"]
    split = make_split(catalog, SplitSettings(), seed=0)
    assert split.table["part"].tolist() == ["train", "train", "val", "test"]


def test_other_views_are_a_filter(root):
    table = open_catalog("mimic", root, views=["LATERAL", ""]).table
    assert table.index.tolist() == [1, 5]
    assert table["Orientation_PA"].isna().all()


def test_packed_files_and_negbios_labels_are_found(root):
    expected = open_catalog("mimic", root).fingerprint
    for kind in TABLES:
        (root / f"mimic-cxr-2.0.0-{kind}.csv").unlink()
        write(root, kind, packed=True)
    assert open_catalog("mimic", root).fingerprint == expected
    (root / "mimic-cxr-2.0.0-chexpert.csv.gz").rename(root / "mimic-cxr-2.0.0-negbio.csv.gz")
    assert open_catalog("mimic", root, labeller="negbio").fingerprint == expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "row", "column", "value", "message"),
        [
            (
                "metadata",
                2,
                "dicom_id",
                IMAGES[0][0],
                "line 4, column 'dicom_id': .* is also in an earlier line",
            ),
            ("metadata", 2, "dicom_id", "../x", r"line 4, column 'dicom_id': '\.\./x' is not a dicom_id"),
            ("metadata", 2, "dicom_id", "abc", "line 4, .*'abc' has no part in mimic-cxr-2.0.0-split.csv"),
            ("metadata", 2, "subject_id", "p1", "'p1' is not a patient number"),
            ("metadata", 2, "study_id", "", "'' is not a study number"),
            ("metadata", 2, "ViewPosition", "OBLIQUE", "'OBLIQUE' is not one of AP, PA"),
            ("split", 1, "split", "holdout", "line 3, column 'split': 'holdout' is not one of 'train'"),
            (
                "split",
                1,
                "dicom_id",
                IMAGES[-1][0],
                "line 3, column 'dicom_id': .* is also in an earlier line",
            ),
            ("chexpert", 1, "Edema", "2.0", "line 3, column 'Edema': '2.0' is not one of '1.0'"),
            (
                "chexpert",
                1,
                "study_id",
                "50414267",
                "line 3, column 'study_id': .* is also in an earlier line",
            ),
        ],
    )
    def test_cells(self, root, kind, row, column, value, message):
        path = write(root, kind, changed(kind, row, column, value))
        # An image without a part is named in the metadata file.
        with pytest.raises(HilumError, match=message) as error:
            open_catalog("mimic", root)
        assert str(error.value).startswith(str(path))

    @pytest.mark.parametrize("kind", TABLES)
    def test_missing_files_and_columns(self, root, kind):
        path = root / f"mimic-cxr-2.0.0-{kind}.csv"
        path.write_text(path.read_text().replace("_id", "_no", 3))
        with pytest.raises(HilumError, match=rf"{kind}\.csv: the column '\w+_id' is missing"):
            open_catalog("mimic", root)
        path.unlink()
        with pytest.raises(
            HilumError, match=rf"the folder that holds MIMIC-CXR-JPG's mimic-cxr-2\.0\.0-{kind}\.csv"
        ):
            open_catalog("mimic", root)

    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"views": "PA"}, "views must be a list of 'AP', 'PA'"),
            ({"views": ["Frontal"]}, "views must be a list"),
            ({"views": ["SWIMMERS"]}, r"no image is left after the filters views=\['SWIMMERS'\]"),
            ({"labeller": "me"}, "labeller must be chexpert or negbio; it is 'me'"),
        ],
    )
    def test_filters(self, root, filters, message):
        with pytest.raises(HilumError, match=message):
            open_catalog("mimic", root, **filters)

    def test_a_missing_image_is_named_when_it_is_read(self, root):
        catalog = open_catalog("mimic", root)
        catalog.image_path(0).unlink()
        with pytest.raises(HilumError, match="the image is missing"):
            read_gray(catalog.image_path(0))
