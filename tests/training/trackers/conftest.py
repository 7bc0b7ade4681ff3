"""A finished run to send to trackers."""

import shutil
from types import SimpleNamespace

import pytest

from hilum.metrics import Metrics
from hilum.run_folder import RunFolder
from hilum.training.trackers import Trackers


@pytest.fixture
def copy_of_finished(finished, tmp_path):
    """Makes copies of the finished run, by name, in a save_path of their own."""
    training, _ = finished

    def copy(name: str = "copy") -> tuple[RunFolder, Metrics]:
        path = tmp_path / "my runs" / name
        shutil.copytree(training.folder.path, path, ignore=shutil.ignore_patterns("checkpoints", ".lock"))
        folder = RunFolder(path)
        return folder, Metrics.from_run(folder)

    return copy


@pytest.fixture
def up_to():
    """A Metrics as it was when that epoch had just ended."""

    def cut(folder: RunFolder, epoch: int) -> Metrics:
        predictions = {number: folder.predictions(number) for number in range(1, epoch + 1)}
        return Metrics.from_predictions(predictions, folder.record["thresholds"], folder.combined())

    return cut


@pytest.fixture
def end_epoch():
    """Ends an epoch as the training loop does, at a learning rate."""

    def end(trackers: Trackers, epoch: int, metrics: Metrics, learning_rate: float | None) -> None:
        trackers.on_train_begin(SimpleNamespace(learning_rate=learning_rate))
        trackers.on_epoch_end(epoch, metrics)

    return end
