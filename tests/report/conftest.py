"""A small run folder: every number in it can be checked on paper."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.config import RunConfig
from hilum.metrics import Metrics
from hilum.run_folder import RunFolder

MALICE = "<script>alert('x')</script>"


def metrics_of(targets: tuple[str, str], epochs: int) -> Metrics:
    """Two targets, four training and four validation images.

    In the last epoch the first target's validation has recall 1/2, precision 1/1, ROC AUC 3/4; the second
    target has no positive validation image.
    """
    train = pd.DataFrame(
        [[1, 0], [0, 1], [1, 1], [0, 0]], columns=targets, index=pd.Index([1, 2, 3, 4], name="ImageID")
    )
    val = pd.DataFrame(
        [[1, 0], [1, 0], [0, 0], [0, 0]], columns=targets, index=pd.Index([5, 6, 7, 8], name="ImageID")
    )
    metrics = Metrics(targets, train, val, {targets[1]: 0.25})
    val_outputs = np.array([[3.0, -3.0], [-2.0, -3.0], [-1.0, 2.0], [-3.0, -2.0]])
    for epoch in range(1, epochs + 1):
        metrics.append_epoch_batch_data(train.index.to_numpy(), train.to_numpy() * 4.0 - 2.0)
        metrics.close_epoch(epoch, loss=0.5 / epoch)
        metrics.append_epoch_batch_data(val.index.to_numpy(), val_outputs, is_validation=True)
        metrics.close_epoch(epoch, is_validation=True, loss=0.625 / epoch)
    return metrics


@pytest.fixture
def write_run(tmp_path, recwarn):
    """Writes a run folder of these targets; gives the folder and the metrics."""

    def write(
        targets=("Edema", "Mass"),
        epochs=2,
        name="run",
        save_path: Path | None = None,
        with_images=True,
        **record,
    ) -> tuple[RunFolder, Metrics]:
        metrics = metrics_of(targets, epochs)
        folder = RunFolder.create(
            save_path or tmp_path,
            name,
            "run",
            {
                "settings": RunConfig(
                    num_epochs=2, learning_rate=0.003, net_kwargs={"layers": 34}
                ).as_record(),
                "targets": list(targets),
                "thresholds": dict(zip(targets, metrics.target_thresholds.tolist(), strict=True)),
                "own_net": None,
                "seed": 0,
                "pixel_mean": 0.5064,
                "pixel_sd": 0.1667,
                "catalog": {
                    "name": "hand",
                    "fingerprint": "ab" * 32,
                    "images": 1234,
                    "origin": "/data/[old]/a.csv",
                },
                "split": {
                    "fingerprint": "cd" * 32,
                    "unit": "patient",
                    "parts": {"train": {"images": 4, "patients": 3}, "val": {"images": 4, "patients": 2}},
                    "train_images_after_oversampling": 6,
                    "imbalance": [{"feature": "Age", "part": "val", "train_share": 0.25, "part_share": 0.5}],
                },
                "versions": dict.fromkeys(
                    ("hilum", "python", "torch", "torchvision", "numpy", "pandas"), "1.2.3"
                ),
                "git_commit": "0123abcd",
                "device": {"type": "cpu", "name": "abacus", "threads": 1},
            }
            | record,
        )
        split = pd.DataFrame(
            {
                "ImageID": range(1, 9),
                "PatientID": [1, 2, 3, 3, 10, 11, 10, 11],
                "part": ["train"] * 4 + ["val"] * 4,
            }
        )
        folder.write_split(split)
        if with_images:
            folder.write_images(
                split.assign(
                    StudyID=[1, 1, 1, 2, 1, 1, 1, 2],
                    Age=50.0,
                    Sex_Male=[1.0, 0.0] * 4,
                    Sex_Unknown=0.0,
                    Orientation_PA=[1.0, 1.0, 0.0, 0.0] * 2,
                    **{"Support Devices": float("nan")},
                    Image_Path=[f"{number}.png" for number in range(1, 9)],
                )
            )
        for epoch in range(1, epochs + 1):
            folder.write_epoch(epoch, metrics.predictions(epoch), metrics.scores, metrics.combined)
        if epochs:
            folder.update(epochs_done=epochs, seconds=12.3, best_epoch=epochs, best_roc_auc=0.75)
        return folder, metrics

    yield write
    # That the second target has no score is what is shown, not a fault.
    assert all("undefined there" in str(warning.message) for warning in recwarn)


@pytest.fixture
def malice() -> str:
    """A name that does harm where it is not escaped."""
    return MALICE
