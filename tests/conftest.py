"""Fixtures for tests of several modules: small data sets in their real layouts, and the real data sets."""

import csv
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.metrics.predictions import Predictions
from hilum.sources import Catalog
from hilum.sources.chexpert import CleanMetaData
from hilum.targets import CHEXPERT_FINDINGS, CHEXPERT_TARGETS

CHEXPERT_HEADER = [
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"),
    *(finding.replace("_", " ") for finding in CHEXPERT_FINDINGS),
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory) -> Path:
    """An empty cache folder for each test, instead of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HILUM_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_predictions():
    """Builds Predictions: one patient per image and thresholds of 0.5 unless given."""

    def make(y_true, y_score, patients=None, thresholds=None, targets=None) -> Predictions:
        images, count = np.shape(y_true)
        return Predictions(
            y_true=y_true,
            y_score=y_score,
            image_ids=np.arange(images),
            patients=np.arange(images) if patients is None else patients,
            targets=[f"target {place}" for place in range(count)] if targets is None else targets,
            thresholds=np.full(count, 0.5) if thresholds is None else thresholds,
        )

    return make


@pytest.fixture(scope="session")
def nih_sample() -> Path:
    """The folder of 866 real NIH radiographs, if it exists next to the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "nih-sample"
    if not folder.is_dir():
        pytest.skip("the NIH sample is missing: ../shared/data/nih-sample does not exist")
    return folder


@pytest.fixture(scope="session")
def chexpert_index() -> Path:
    """The real CheXpert index of 223,414 images, part of the torchxrayvision package."""
    package = importlib.util.find_spec("torchxrayvision")
    if package is None:
        pytest.skip("the CheXpert index is missing: the torchxrayvision package is not installed")
    path = Path(package.origin).parent / "data" / "chexpert_train.csv.gz"
    if not path.is_file():
        pytest.skip(f"the CheXpert index is missing: {path} does not exist")
    return path


@pytest.fixture
def chexpert_tree(tmp_path) -> Path:
    """The root of a tree in CheXpert's layout: 46 radiographs, 64 x 64, of 16 patients.

    They include lateral views, a frontal LL, a patient with five studies, an unknown sex and all four label
    codes. Each positive target brightens its own cell of the image, so a model can learn it.
    """
    root = tmp_path / "CheXpert-v1.0-small"
    draw = np.random.default_rng(3)
    rows = []
    for patient in range(1, 17):
        sex = "Unknown" if patient == 16 else ("Female", "Male")[patient % 2]
        for study in range(1, 6 if patient == 7 else 2 + patient % 3):
            positive = draw.random(len(CHEXPERT_TARGETS)) < 0.35
            codes = dict(
                zip(
                    CHEXPERT_TARGETS,
                    np.where(positive, "1.0", draw.choice(["0.0", "-1.0", ""], 12)),
                    strict=True,
                )
            )
            codes["No_Finding"] = "" if positive.any() else "1.0"
            codes["Support_Devices"] = "1.0" if study > 1 else ""
            orientation = "LL" if (patient, study) == (11, 3) else ("AP", "PA")[(patient + study) % 2]
            views = [("view1_frontal.jpg", "Frontal", orientation)]
            if patient % 2 == 0 and study == 1:
                views.append(("view2_lateral.jpg", "Lateral", ""))
            for file, view, orientation in views:
                place = f"train/patient{patient:05d}/study{study}/{file}"
                (root / place).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / place), _radiograph(positive, draw))
                findings = [codes[finding] for finding in CHEXPERT_FINDINGS]
                rows.append([f"{root.name}/{place}", sex, 20 + 4 * patient, view, orientation, *findings])
    _write_rows(root / "train.csv", CHEXPERT_HEADER, rows)
    return root


def _radiograph(positive: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    cells = np.kron(positive.reshape(3, 4), np.ones((22, 16)))[:64]
    return np.clip(draw.normal(90 + 90 * cells, 15), 0, 255).astype(np.uint8)


@pytest.fixture
def small_catalog(chexpert_tree) -> Catalog:
    """The Catalog of `chexpert_tree`, cleaned with the default filters."""
    return CleanMetaData(chexpert_tree, cache=False).catalog()


@pytest.fixture
def nih_tree(tmp_path) -> Path:
    """The root of a tree in ChestX-ray14's layout: 12 radiographs, 48 x 48, of 6 patients, no split lists."""
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    draw = np.random.default_rng(4)
    labels = ["No Finding", "Effusion", "Effusion|Infiltration", "Hernia", "Pleural_Thickening|Mass", "Edema"]
    rows = []
    for number in range(12):
        patient, study = divmod(number, 2)
        name = f"{patient + 1:08d}_{study:03d}.png"
        cv2.imwrite(str(root / "images" / name), draw.integers(0, 256, (48, 48), dtype=np.uint8))
        view = ("PA", "AP")[number % 3 == 0]
        finding = labels[number % len(labels)]
        rows.append(
            [name, finding, study, patient + 1, 30 + patient, "MF"[patient % 2], view, 48, 48, 0.1, 0.1]
        )
    header = [
        *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"),
        *("View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"),
    ]
    _write_rows(root / "Data_Entry_2017_v2020.csv", header, rows)
    return root


def _write_rows(path: Path, header: list, rows: list[list]) -> None:

    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
