"""A reader without a trained network, drawn radiographs, and a folder of two small runs."""

import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from fastapi.testclient import TestClient
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.config import RunConfig
from hilum.inference.reader import OcclusionCheck, Reader
from hilum.metrics import Metrics
from hilum.phantom.drawing import ImagePlan, draw_image
from hilum.run_folder import RunFolder
from hilum.service.app import make_app

TARGETS = ("Cardiomegaly", "Pleural_Effusion", "Edema")


class BrightnessNetwork:
    """Returns logits that rise with an image's brightness; records the sizes of its batches."""

    def __init__(self):
        self.batches = []

    def logits(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        brightness = images.reshape(len(images), -1).mean(axis=1, keepdims=True) / 255
        return (np.array([[6.0, 3.0, -3.0]]) * brightness + [[-1.0, -3.5, -1.0]]).astype(np.float32)


class Explain:
    """A hot spot at a place per target; hiding it lowers the probability of the first target only."""

    def __call__(self, prepared: np.ndarray, target: int, method: str) -> np.ndarray:
        height, width = prepared.shape
        rows, columns = np.mgrid[:height, :width]
        distance = np.hypot(rows - height * (0.4 + 0.15 * target), columns - width * 0.6)
        return np.exp(-((distance / (0.18 * width)) ** 2)).astype(np.float32)

    def occlusion_check(self, prepared: np.ndarray, target: int, heat: np.ndarray) -> OcclusionCheck:
        return (
            OcclusionCheck(0.81, 0.42, True, 0.97) if target == 0 else OcclusionCheck(0.3, 0.31, False, 0.2)
        )


def make_reader(name: str = "bright") -> Reader:
    point = {"recall": 0.9, "recall_low": 0.82, "recall_high": 0.95, "policy": "recall>=0.9"}
    card = {
        "name": name,
        "digest": "ab" * 32,
        "epoch": 2,
        "targets": list(TARGETS),
        "thresholds": {target: {"threshold": 0.25, **point} for target in TARGETS[:2]}
        | {"Edema": {"threshold": 0.25, **dict.fromkeys(point)}},
        "preprocessing": {
            "width": 64,
            "height": 64,
            "fit": "stretch",
            "interpolation": "auto",
            "views": {"PA": 30, "AP": 10},
            "reference": None,
        },
        "calibration": None,
        "scores": [
            {"target": target, "roc_auc": 0.8, "recall": 0.9, "precision": 0.3, "specificity": 0.6}
            for target in TARGETS
        ],
        "provenance": {"net_name": "brightness"},
    }
    return Reader(card, BrightnessNetwork(), Explain)


@pytest.fixture
def reader() -> Reader:
    return make_reader()


@pytest.fixture
def client(reader):
    """A client of a service for one model."""
    with TestClient(make_app(reader), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture(scope="session")
def make_png():
    """Makes PNG files of noise."""

    def make(rows=80, columns=80):
        noise = np.random.default_rng(0).integers(100, 180, (rows, columns))
        return cv2.imencode(".png", noise.astype(np.uint8))[1].tobytes()

    return make


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory) -> dict[str, Path]:
    """Files by name: drawn radiographs as PNG, JPEG, 16-bit PNG and DICOM, and one that is broken."""
    folder = tmp_path_factory.mktemp("radiographs")
    drawn = [
        draw_image(ImagePlan(1, patient, 1, 1, patient % 2 == 0, 50, "PA", severities), 320)[0]
        for patient, severities in ((1, {"Cardiomegaly": 0.8}), (2, {"Pleural_Effusion": 0.8}))
    ]
    files = {
        name: folder / name for name in ("heart.png", "fluid.jpg", "deep.png", "chest.dcm", "broken.png")
    }
    cv2.imwrite(str(files["heart.png"]), drawn[0])
    cv2.imwrite(str(files["fluid.jpg"]), drawn[1])
    cv2.imwrite(str(files["deep.png"]), drawn[0].astype(np.uint16) * 257)
    files["chest.dcm"].write_bytes(dicom_of(drawn[1]))
    files["broken.png"].write_bytes(files["heart.png"].read_bytes()[:20_000])
    return files


def dicom_of(pixels: np.ndarray) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    header.PatientName, header.PatientID, header.PatientBirthDate = "Secretname^Anna", "MRN-77", "19500101"
    header.Modality, header.ViewPosition, header.BodyPartExamined = "DX", "PA", "CHEST"
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PixelData = (pixels.astype(np.uint16) * 16).tobytes()
    content = io.BytesIO()
    pydicom.dcmwrite(content, header)
    return content.getvalue()


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory) -> Path:
    """Two runs of 12 training and 12 validation images, two epochs; they differ in the learning rate."""
    root = tmp_path_factory.mktemp("data")
    for number in range(1, 25):
        plan = ImagePlan(2, number, 1, 1, number % 2 == 0, 40 + number, "PA", {"Cardiomegaly": 0.7})
        cv2.imwrite(str(root / f"{number}.png"), draw_image(plan, 96)[0])
    save_path = tmp_path_factory.mktemp("runs")
    write_run(save_path, "first", root, learning_rate=1e-4, skill=0.1)
    write_run(save_path, "second", root, learning_rate=1e-3, skill=2.0)
    return save_path


def write_run(save_path: Path, name: str, root: Path, learning_rate: float, skill: float) -> RunFolder:
    draw = np.random.default_rng(5)
    labels = pd.DataFrame(
        (draw.random((24, 3)) < 0.5).astype(float),
        columns=list(TARGETS),
        index=pd.RangeIndex(1, 25, name="ImageID"),
    )
    train, val = labels.iloc[:12], labels.iloc[12:]
    metrics = Metrics(TARGETS, train, val)
    for epoch in (1, 2):
        for part, is_validation in ((train, False), (val, True)):
            logits = draw.normal(0, 1, part.shape) + skill * epoch * (part.to_numpy() - 0.5)
            metrics.append_epoch_batch_data(part.index.to_numpy(), logits, is_validation=is_validation)
            metrics.close_epoch(epoch, is_validation=is_validation, loss=0.7 / epoch)
    folder = RunFolder.create(
        save_path,
        name,
        "run",
        {
            "settings": RunConfig(num_epochs=2, learning_rate=learning_rate, name=name).as_record(),
            "targets": list(TARGETS),
            "thresholds": dict.fromkeys(TARGETS, 0.5),
            "own_net": None,
            "seed": 0,
            "pixel_mean": 0.5,
            "pixel_sd": 0.2,
            "catalog": {"name": "drawn", "fingerprint": "ab" * 32, "images": 24, "image_root": str(root)},
            "split": {"fingerprint": "cd" * 32, "unit": "patient", "parts": {}, "imbalance": []},
            "versions": {"hilum": "1"},
            "git_commit": "0123",
            "device": {"type": "cpu", "name": "abacus", "threads": 1},
        },
    )
    split = pd.DataFrame(
        {"ImageID": range(1, 25), "PatientID": range(101, 125), "part": ["train"] * 12 + ["val"] * 12}
    )
    folder.write_split(split)
    folder.write_images(
        split.assign(
            StudyID=1,
            Age=50.0,
            Sex_Male=1.0,
            Sex_Unknown=0.0,
            Orientation_PA=1.0,
            **{"Support Devices": float("nan")},
            Image_Path=[f"{number}.png" for number in range(1, 25)],
        )
    )
    for epoch in (1, 2):
        folder.write_epoch(epoch, metrics.predictions(epoch), metrics.scores, metrics.combined)
    folder.update(
        epochs_done=2, status="finished", best_epoch=2, best_roc_auc=0.5 + skill / 10, digest="ef" * 32
    )
    return folder


@pytest.fixture(scope="session")
def new_reader():
    """Makes readers by name."""
    return make_reader
