"""One small phantom, one run on it, one bundle of the run, for all tests of inference."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.inference.export import export_bundle
from hilum.inference.reader import open_reader
from hilum.metrics import UndefinedScoreWarning
from hilum.phantom import write_phantom
from hilum.run_folder import RunFolder
from hilum.training.run import StandardTraining


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """The root of 90 phantom images, 64 x 64."""
    return write_phantom(tmp_path_factory.mktemp("inference") / "phantom", images=90, size=64, workers=1)


@pytest.fixture(scope="session")
def run(phantom, tmp_path_factory) -> RunFolder:
    """One epoch on it at 32 x 32, with calibration."""
    training = StandardTraining(
        source="phantom",
        root=phantom,
        image_width=32,
        image_height=32,
        num_epochs=1,
        batch_size=16,
        learning_rate=1e-3,
        val_fraction=0.4,
        calibration="platt",
        num_workers=0,
        precision="32",  # a device with fast bfloat16 would train in it
        device="cpu",
        quiet=True,
        epoch_args="none",
        save_path=tmp_path_factory.mktemp("runs"),
        name="tiny",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hilum.training.run.write_figures", lambda folder, metrics: [])
        patch.setattr("hilum.training.run.write_report", lambda folder: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedScoreWarning)  # some findings are missing in 90 images
            training.train()
    return training.folder


@pytest.fixture(scope="session")
def bundle(run, tmp_path_factory) -> Path:
    """The run's bundle."""
    return export_bundle(run, tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def reader(run):
    """The run, opened."""
    return open_reader(run.path, "cpu")


@pytest.fixture(scope="session")
def bundle_reader(bundle):
    """The bundle, opened."""
    return open_reader(bundle, "cpu")


@pytest.fixture(scope="session")
def frontal(phantom) -> Path:
    """The file of a frontal view."""
    return next(iter(sorted(phantom.rglob("view1_frontal.jpg"))))


@pytest.fixture(scope="session")
def lateral(phantom) -> Path:
    """The file of a lateral view."""
    return next(iter(sorted(phantom.rglob("*_lateral.jpg"))))


@pytest.fixture(scope="session")
def gray(frontal) -> np.ndarray:
    """The pixels of the frontal view, uint8 (64, 64)."""
    return cv2.imread(str(frontal), cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="session")
def as_dicom():
    """A function: uint8 or uint16 pixels and header elements to the bytes of a DICOM file."""

    def encode(pixels: np.ndarray, **elements) -> bytes:
        from io import BytesIO

        meta = FileMetaDataset()
        meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.PatientName = "Secret^Name"
        dataset.PatientID = "SECRET-ID"
        bits = pixels.dtype.itemsize * 8
        given = {
            "Modality": "DX",
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": 0,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "ViewPosition": "PA",
            "PixelData": pixels.tobytes(),
        }
        for name, value in (given | elements).items():
            setattr(dataset, name, value)
        if "PixelData" in dataset:
            dataset["PixelData"].VR = "OW"
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return encode
