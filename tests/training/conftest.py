"""A data set that a model can learn in two epochs, and a finished run on it."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from hilum.sources.catalog import FEATURE_COLUMNS, Catalog
from hilum.training import run as run_module

TARGETS = ("Edema", "Fracture", "Mine")


class TinyNet(nn.Module):
    """A linear model on 4 x 4 means of the image: its training takes milliseconds."""

    def __init__(self, targets: int = len(TARGETS)):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.linear = nn.Linear(16, targets)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-0.1, 0.1, 16 * targets).reshape(targets, 16))
            self.linear.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 1, height, width) to logits (B, targets)."""
        return self.linear(self.pool(images).flatten(1))


@pytest.fixture
def tiny_net() -> TinyNet:
    """A fresh one, always with the same weights."""
    return TinyNet()


@pytest.fixture
def make_tiny_net() -> type[TinyNet]:
    """For more than one, or for another number of targets."""
    return TinyNet


@pytest.fixture(scope="session")
def own_catalog(tmp_path_factory) -> Catalog:
    """48 images, 40 x 40, of 24 patients; each target brightens a corner, a few labels are unknown."""
    root = tmp_path_factory.mktemp("own-data")
    draw = np.random.default_rng(11)
    labels = (draw.random((48, 3)) < 0.5).astype(np.float64)
    for number, row in enumerate(labels):
        image = draw.normal(90, 20, (40, 40))
        for target, (top, left) in enumerate([(0, 0), (0, 20), (20, 0)]):
            image[top : top + 20, left : left + 20] += 90 * row[target]
        cv2.imwrite(str(root / f"{number}.png"), np.clip(image, 0, 255).astype(np.uint8))
    labels[[3, 17, 30], [0, 1, 2]] = np.nan
    table = pd.DataFrame(
        {
            "PatientID": np.arange(48) // 2,
            "StudyID": np.arange(48) % 2,
            "Age": draw.integers(20, 90, 48),
            "Sex_Male": draw.integers(0, 2, 48),
            "Sex_Unknown": 0,
            "Orientation_PA": draw.integers(0, 2, 48),
            "Support Devices": np.nan,
            "Image_Path": [f"{number}.png" for number in range(48)],
            "Hierarchical_Path": "",
            **{target: labels[:, column] for column, target in enumerate(TARGETS)},
        },
        index=pd.RangeIndex(1000, 1048, name="ImageID"),
    )
    return Catalog("own", table[[*FEATURE_COLUMNS, *TARGETS]], TARGETS, root)


@pytest.fixture(scope="session")
def finished(own_catalog, tmp_path_factory):
    """A StandardTraining that has ended, two epochs of a ResNet-18, and the Metrics that it gave."""
    training = run_module.StandardTraining(
        catalog=own_catalog,
        image_width=32,
        image_height=32,
        batch_size=16,
        num_epochs=2,
        learning_rate=1e-3,
        val_fraction=0.3,
        test_fraction=0.1,
        target_thresholds={"Edema": 0.3},
        net_kwargs={"layers": 18},
        num_workers=0,
        device="cpu",
        precision="32",
        quiet=True,
        save_path=tmp_path_factory.mktemp("runs"),
        name="finished",
    )
    return training, training.train()


@pytest.fixture
def without_pictures(monkeypatch) -> None:
    """Figures and pages take longer than the training of a tiny model; here they are left out."""
    monkeypatch.setattr(run_module, "write_figures", lambda folder, metrics: [])
    monkeypatch.setattr(run_module, "write_report", lambda folder: None)


@pytest.fixture
def train(own_catalog, tmp_path, without_pictures):
    """Trains a tiny net on `own_catalog` with these changes, without pictures; gives the StandardTraining."""

    def run(**changes) -> run_module.StandardTraining:
        small = {
            "catalog": own_catalog,
            "image_width": 16,
            "image_height": 16,
            "batch_size": 8,
            "num_epochs": 1,
            "learning_rate": 0.01,
            "aug_fraction": 0.5,
            "num_workers": 0,
            "device": "cpu",
            "precision": "32",
            "quiet": True,
            "save_path": tmp_path / "runs",
        }
        if "net_name" not in changes and "net_kwargs" not in changes:
            small["net"] = TinyNet()
        training = run_module.StandardTraining(**small | changes)
        training.train()
        return training

    return run


def files_below(folder: Path) -> set[str]:
    """All files, as paths relative to the folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(name="files_below")
def files_below_fixture():
    """The function of that name."""
    return files_below


class TwoStages(nn.Module):
    """A convolution with batch normalization, and a head."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.convolution = nn.Conv2d(1, 4, 3, stride=2)
        self.normalization = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, images):
        return self.head(self.normalization(self.convolution(images)).relu().mean((2, 3)))


@pytest.fixture
def two_stages() -> type[TwoStages]:
    """The class: a backbone and a head, always with the same weights."""
    return TwoStages
