import csv
from collections import Counter

import cv2
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from hilum.errors import HilumError
from hilum.sources import open_catalog
from hilum.sources.images import read_gray
from hilum.sources.vindr import COLUMN_OF
from hilum.targets import VINDR_TARGETS

FINDINGS = [*COLUMN_OF.values(), "Other diseases", "No finding"]
TRAIN = [
    "50a418190bc3fb1ef1633bf9678929b3",
    "21a10246a5ec7af151081d0cd6d65dc9",
    "9a5094b2563a1ef3ff50dc5c7ff71345",
]
TEST = ["051132a778e61a86eb147c7c6f564dfe", "063319de25ce7edb9b1c6b8881290140"]
#: Which of a training image's three radiologists marked what.
MARKS = {
    TRAIN[0]: [["No finding"], ["No finding"], ["Cardiomegaly"]],
    TRAIN[1]: [["Cardiomegaly", "Rib fracture"], ["Cardiomegaly"], ["No finding"]],
    TRAIN[2]: [["Pulmonary fibrosis", "Other diseases"]] * 3,
}
CONSENSUS = {TEST[0]: ["Nodule/Mass", "Rib fracture"], TEST[1]: ["No finding"]}


def cells(found):
    assert not Counter(found) - Counter(FINDINGS)
    return [("1.0" if name in found else "0.0") for name in FINDINGS]


def train_rows():
    return [
        [i, f"R{reader}", *cells(found)]
        for i, marks in MARKS.items()
        for reader, found in enumerate(marks, 8)
    ]


def write(root, train=None, test=None):
    (root / "annotations").mkdir(exist_ok=True)
    test = [[i, *cells(found)] for i, found in CONSENSUS.items()] if test is None else test
    header = ["Other disease" if name == "Other diseases" else name for name in FINDINGS]
    for part, names, rows in (
        ("train", ["image_id", "rad_id", *FINDINGS], train_rows() if train is None else train),
        ("test", ["image_id", *header], test),
    ):
        with (root / f"annotations/image_labels_{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows])


def save_dicom(path, value):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns, file.SamplesPerPixel = 6, 4, 1
    file.PhotometricInterpretation, file.PixelRepresentation = "MONOCHROME1", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 14, 13
    file.PixelData = np.full((6, 4), value, np.uint16).tobytes()
    file.save_as(path)


@pytest.fixture
def root(tmp_path):
    write(tmp_path)
    for part, names in (("train", TRAIN), ("test", TEST)):
        (tmp_path / part).mkdir()
        for number, name in enumerate(names):
            save_dicom(tmp_path / part / f"{name}.dicom", 16383 - 3276 * number)
    return tmp_path


@pytest.mark.parametrize(
    ("agreement", "cardiomegaly", "rib_fracture"),
    [(1, [1, 1, 0], [0, 1, 0]), (2, [0, 1, 0], [0, 0, 0]), (3, [0, 0, 0], [0, 0, 0])],
)
def test_training_findings_are_voted_on(root, agreement, cardiomegaly, rib_fracture):
    table = open_catalog("vindr", root, agreement=agreement).table
    assert table["Cardiomegaly"].tolist() == [*cardiomegaly, 0, 0]
    assert table["Rib_Fracture"].tolist() == [*rib_fracture, 1, 0]
    assert table["Fracture"].tolist() == [*rib_fracture, 1, 0]


def test_every_finding_is_read_by_name(root):
    catalog = open_catalog("vindr", root)
    assert catalog.targets == VINDR_TARGETS
    assert len(catalog.targets) == 28
    third, fourth = catalog.table.loc[2], catalog.table.loc[3]
    assert {name for name in VINDR_TARGETS if third[name] == 1} == {"Fibrosis", "Other_Disease"}
    assert {name for name in VINDR_TARGETS if fourth[name] == 1} == {
        "Nodule_Mass",
        "Rib_Fracture",
        "Fracture",
    }


def test_order_parts_and_patients(root):
    write(root, train=train_rows()[::-1])
    catalog = open_catalog("vindr", root)
    assert catalog.table["PatientID"].tolist() == [*TRAIN[::-1], *TEST]
    assert catalog.fixed_split.tolist() == ["train_val"] * 3 + ["test"] * 2
    assert set(catalog.table["Orientation_PA"]) == {1}


def test_the_dicoms_are_read(root):
    catalog = open_catalog("vindr", root)
    # 14 bits, MONOCHROME1: 16383 is black, 16383 - 3276 * 2 is 0.39995 of the way to white
    assert [int(read_gray(catalog.image_path(i))[0, 0]) for i in range(3)] == [0, 51, 102]


def test_converted_images_and_plain_index_names_are_accepted(root):
    for part, names in (("train", TRAIN), ("test", TEST)):
        (root / f"annotations/image_labels_{part}.csv").rename(root / f"{part}.csv")
        for name in names[:1]:
            (root / part / f"{name}.dicom").unlink()
            cv2.imwrite(str(root / part / f"{name}.png"), np.zeros((4, 4), np.uint8))
    paths = open_catalog("vindr", root).table["Image_Path"].tolist()
    assert paths[0] == f"train/{TRAIN[0]}.png"
    assert paths[1] == f"train/{TRAIN[1]}.dicom"
    assert paths[3] == f"test/{TEST[0]}.png"


class TestRefusals:
    def refused(self, root, message, **filters):
        with pytest.raises(HilumError, match=message):
            open_catalog("vindr", root, **filters)

    def test_another_folder(self, tmp_path):
        self.refused(tmp_path, r"does not contain annotations/image_labels_train\.csv or .*")

    def test_the_test_labels_are_missing(self, root):
        (root / "annotations/image_labels_test.csv").unlink()
        self.refused(root, r"does not contain annotations/image_labels_test\.csv")

    @pytest.mark.parametrize("agreement", [0, 4, 2.0, True])
    def test_agreement(self, root, agreement):
        self.refused(root, "agreement must be 1, 2 or 3 of the three", agreement=agreement)

    def test_a_missing_reader(self, root):
        write(root, train=train_rows()[1:])
        self.refused(
            root,
            r"image_labels_train\.csv, line 2, column 'image_id': '50a4.* does not have the lines of 3 radiologists",
        )

    def test_a_reader_twice(self, root):
        rows = train_rows()
        rows[1][1] = rows[0][1]
        write(root, train=rows)
        self.refused(root, "line 3, column 'image_id': .* has this radiologist also in an earlier line")

    def test_a_test_image_twice(self, root):
        row = [TEST[0], *cells(["No finding"])]
        write(root, test=[row, row])
        self.refused(root, r"image_labels_test\.csv, line 3, .* is also in an earlier line")

    def test_a_label(self, root):
        rows = train_rows()
        rows[2][5] = "2"
        write(root, train=rows)
        self.refused(root, "line 4, column 'Cardiomegaly': '2' is not one of '1'")

    def test_no_finding_together_with_a_finding(self, root):
        rows = train_rows()
        rows[2][-1] = "1"
        write(root, train=rows)
        self.refused(root, "line 4, column 'No finding': '1' is marked together with a finding")

    def test_a_missing_image(self, root):
        (root / "train" / f"{TRAIN[1]}.dicom").unlink()
        self.refused(root, rf"line 5, column 'image_id': '{TRAIN[1]}' is in the index but not in .*train")

    @pytest.mark.parametrize("column", ["image_id", "rad_id", "ILD"])
    def test_a_missing_column(self, root, column):
        path = root / "annotations/image_labels_train.csv"
        path.write_text(path.read_text().replace(column, "else", 1))
        self.refused(root, rf"image_labels_train\.csv: the column '{column}' is missing")
