"""A small run: two epochs of a train and a validation part, some labels unknown."""

import numpy as np
import pandas as pd
import pytest

from hilum.metrics import Metrics
from hilum.run_folder import RunFolder

TARGETS = ["Edema", "Fracture", "Pleural_Effusion"]


class Run:
    """Labels of both parts, and the raw outputs that a model gave for them."""

    def __init__(self):
        draw = np.random.default_rng(5)
        self.targets = TARGETS
        self.actual = {}
        for part, ids in (("train", np.arange(100, 160)), ("val", np.arange(500, 540))):
            labels = (draw.random((len(ids), 3)) < 0.4).astype(np.float64)
            labels[draw.random(labels.shape) < 0.1] = np.nan
            self.actual[part] = pd.DataFrame(labels, columns=TARGETS, index=pd.Index(ids, name="ImageID"))
        self.logits = {
            (epoch, part): draw.normal(np.nan_to_num(table.to_numpy()) * epoch, 1).astype(np.float32)
            for epoch in (1, 2)
            for part, table in self.actual.items()
        }

    def feed(self, metrics, epoch, part, order=None, batch_size=16):
        """Appends a part of an epoch in batches, rows in `order`."""
        ids, logits = self.actual[part].index.to_numpy(), self.logits[epoch, part]
        order = np.arange(len(ids)) if order is None else order
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            metrics.append_epoch_batch_data(ids[rows], logits[rows], is_validation=part == "val")

    def metrics(self, thresholds=None, shuffle_seed=None, **changes):
        """Metrics after both epochs."""
        metrics = Metrics(TARGETS, changes.get("train", self.actual["train"]), self.actual["val"], thresholds)
        shuffle = np.random.default_rng(shuffle_seed)
        for epoch, part in self.logits:
            order = None if shuffle_seed is None else shuffle.permutation(len(self.actual[part]))
            self.feed(metrics, epoch, part, order)
            metrics.close_epoch(epoch, is_validation=part == "val", loss=1 / epoch)
        return metrics


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def run_folder(run, tmp_path):
    """A run folder of two epochs, of which the first is the best, and the metrics it was written from."""
    metrics = run.metrics({"Edema": 0.3})
    folder = RunFolder.create(
        tmp_path,
        "run",
        "run",
        {
            "settings": {},
            "targets": run.targets,
            "thresholds": dict(zip(run.targets, metrics.target_thresholds.tolist(), strict=True)),
            "operating_points": {"Fracture": {"threshold": 0.25}},
        },
    )
    ids = [*metrics.train_actual.index, *metrics.val_actual.index]
    split = pd.DataFrame({"ImageID": ids, "PatientID": [number // 2 for number in ids]})
    folder.write_split(split.sample(frac=1, random_state=1))
    for epoch in metrics.epochs():
        folder.write_epoch(epoch, metrics.predictions(epoch), metrics.scores, metrics.combined)
    return folder, metrics
