import csv
import gzip
import shutil

import cv2
import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.images import decode_channels, read_bytes, read_gray
from hilum.sources.padchest import DEVICES, FINDINGS, INDEX_NAMES

HEADER = [
    *(
        "",
        "ImageID",
        "ImageDir",
        "StudyDate_DICOM",
        "StudyID",
        "PatientID",
        "PatientBirth",
        "PatientSex_DICOM",
    ),
    *("ViewPosition_DICOM", "Projection", "MethodLabel", "Report", "Labels"),
]
#: PatientIDs of the data set have up to 39 digits: no integer type holds them.
LONG = "839860488694292331637988235681460987"


def row_of(number, folder, date, study, patient, birth, sex, view, method, labels):
    return [number, f"i{number}.png", folder, date, study, patient, birth, sex, "", view, method, "", labels]


PNEUMONIA, DRAIN = "['pneumonia', ' pleural effusion']", "['NSG tube', 'hydropneumothorax', '']"
OUTSIDE = "['subcutaneous emphysema', 'mediastinal mass']"
ROWS = [
    row_of(0, "0", "20140915", "s0", LONG, "1930.0", "F", "PA", "Physician", "['normal']"),
    row_of(1, "0", "20150914", "s1", LONG, "1930.0", "F", "AP", "RNN_model", PNEUMONIA),
    row_of(2, "0", "20150914", "s1", LONG, "1930.0", "F", "L", "RNN_model", "['pneumonia']"),
    row_of(3, "5", "20100101", "s2", "2", "2010.0", "M", "AP_horizontal", "Physician", DRAIN),
    row_of(4, "5", "20100101", "s3", "3", "", "O", "PA", "Physician", "['unchanged', 'multiple nodules']"),
    row_of(5, "5", "20100101", "s4", "4", "1950", "nan", "PA", "Physician", "['unchanged']"),
    row_of(6, "5", "20100101", "s5", "5", "1950", "M", "PA", "Physician", "['exclude', 'nodule']"),
    row_of(7, "5", "20100101", "s6", "6", "1950", "M", "PA", "Physician", "nan"),
    row_of(8, "5", "20100101", "s7", "7", "nan", "M", "PA", "Physician", OUTSIDE),
]


def write(root, rows=ROWS, header=HEADER):
    with (root / INDEX_NAMES[0]).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def changed(row, column, value):
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = value
    return rows


@pytest.fixture
def root(tmp_path):
    for number, row in enumerate(ROWS):
        (tmp_path / row[2]).mkdir(exist_ok=True)
        image = np.full((10, 12), 7000 * number, np.uint16)
        cv2.imwrite(str(tmp_path / row[2] / row[1]), image)
    write(tmp_path)
    return tmp_path


def test_frontal_images_with_labels_are_kept_with_their_rows_as_ids(root):
    catalog = open_catalog("padchest", root)
    assert catalog.table.index.tolist() == [0, 1, 3, 4, 8]
    assert catalog.table["Image_Path"].tolist() == [
        "0/i0.png",
        "0/i1.png",
        "5/i3.png",
        "5/i4.png",
        "5/i8.png",
    ]
    assert catalog.fixed_split is None


def test_findings_are_those_listed_and_what_the_hierarchy_has_below_them(root):
    catalog = open_catalog("padchest", root)
    positive = {i: {t for t in catalog.targets if row[t] == 1} for i, row in catalog.table.iterrows()}
    assert positive == {
        0: set(),
        1: {"Pneumonia", "Pleural_Effusion"},
        3: {"Pneumothorax", "Pleural_Effusion"},
        4: {"Nodule"},
        8: set(),  # air under the skin and a mediastinal mass are neither emphysema nor a lung's mass
    }
    assert set(np.unique(catalog.labels())) == {0, 1}


def test_features(root):
    table = open_catalog("padchest", root).table
    assert table["PatientID"].iloc[0] == LONG
    np.testing.assert_array_equal(table["Age"], [84, 85, 0, np.nan, np.nan])
    assert table["Sex_Male"].tolist() == [0, 0, 1, 0, 1]
    assert table["Sex_Unknown"].tolist() == [0, 0, 0, 1, 0]
    assert table["Orientation_PA"].tolist() == [1, 0, 0, 1, 1]
    assert table["Support Devices"].tolist() == [0, 0, 1, 0, 0]


def test_pixels_are_16_bit_and_their_full_range_is_shown(root):
    catalog = open_catalog("padchest", root)
    assert decode_channels(read_bytes(catalog.image_path(4)), "i4.png")[0, 0] == 28_000
    assert read_gray(catalog.image_path(4))[0, 0] == 109  # 28000 / 257 = 108.95


def test_views_and_methods_are_filters(root):
    assert open_catalog("padchest", root, views=["L"]).table.index.tolist() == [2]
    assert np.isnan(open_catalog("padchest", root, views=["L"]).table["Orientation_PA"].iloc[0])
    assert open_catalog("padchest", root, methods=["RNN_model"]).table.index.tolist() == [1]


@pytest.mark.parametrize("layout", ["images/{dir}/{name}", "images/{name}"])
def test_other_layouts_and_a_packed_index_are_found(root, layout):
    for row in ROWS:
        place = root / layout.format(dir=row[2], name=row[1])
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / row[2] / row[1], place)
    plain = root / INDEX_NAMES[0]
    (root / INDEX_NAMES[1]).write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    catalog = open_catalog("padchest", root)
    assert catalog.table["Image_Path"].iloc[2] == layout.format(dir="5", name="i3.png")
    assert all(catalog.image_path(i).is_file() for i in catalog.table.index)


def test_no_label_means_both_a_finding_and_a_device():
    labels = [label for of in FINDINGS.values() for label in of]
    assert not set(labels) & set(DEVICES)
    assert len(DEVICES) == len(set(DEVICES))
    assert all(label == label.strip() for label in (*labels, *DEVICES))


class TestRefusals:
    @pytest.mark.parametrize(
        ("row", "column", "value", "message"),
        [
            (1, "ImageID", "i0.png", "line 3, column 'ImageID': 'i0.png' is also in an earlier line"),
            (
                1,
                "ImageID",
                "i99.png",
                "line 3, column 'ImageID': 'i99.png' is in the index but not in",
            ),
            (1, "PatientID", "", "line 3, column 'PatientID': '' is not a patient"),
            (1, "Projection", "OBLIQUE", "column 'Projection': 'OBLIQUE' is not one of PA, AP"),
            (1, "MethodLabel", "LLM", "column 'MethodLabel': 'LLM' is not one of Physician"),
            (1, "PatientSex_DICOM", "X", "column 'PatientSex_DICOM': 'X' is not one of 'M'"),
            (1, "PatientBirth", "30", "column 'PatientBirth': '30' is not a year of birth"),
            (1, "PatientBirth", "2030", "'2030' is a year of birth after the study"),
            (1, "StudyDate_DICOM", "2015", "'2015' is not a date"),
            (1, "Labels", "pneumonia", "column 'Labels': 'pneumonia' is not a list of labels"),
            (1, "Labels", "['a', 3]", "is not a list of labels"),
            (1, "Labels", "__import__('os')", "is not a list of labels"),
        ],
    )
    def test_cells(self, root, row, column, value, message):
        write(root, changed(row, column, value))
        with pytest.raises(HilumError, match=message) as error:
            open_catalog("padchest", root)
        assert str(error.value).startswith(str(root / INDEX_NAMES[0]))

    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"views": ["Frontal"]}, "views must be a list of 'PA', 'AP'"),
            ({"views": "PA"}, "views must be a list"),
            ({"methods": []}, "methods must be a list of 'Physician', 'RNN_model'"),
            ({"views": ["COSTAL"]}, r"no image is left after the filters views=\['COSTAL'\]"),
        ],
    )
    def test_filters(self, root, filters, message):
        with pytest.raises(HilumError, match=message):
            open_catalog("padchest", root, **filters)

    def test_no_index_and_a_missing_column(self, root, tmp_path):
        write(root, [row[:-1] for row in ROWS], HEADER[:-1])
        with pytest.raises(HilumError, match="the column 'Labels' is missing"):
            open_catalog("padchest", root)
        (root / INDEX_NAMES[0]).unlink()
        with pytest.raises(HilumError, match="root must be the folder that holds PadChest's"):
            open_catalog("padchest", root)
