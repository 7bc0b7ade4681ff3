import importlib.util

import pytest

from hilum.errors import HilumError
from hilum.training.trackers import Trackers, check_trackers, open_trackers


class Recorder:
    """A tracker that remembers its calls, and fails on request."""

    def __init__(self, has=()):
        self.has, self.told, self.broken = set(has), [], False

    def _tell(self, *what):
        if self.broken:
            raise OSError("No space left on device\nand more")
        self.told.append(what)

    def open(self):
        self._tell("open")
        return set(self.has)

    def epoch(self, epoch, scalars):
        self._tell("epoch", epoch, scalars.get("learning_rate"))

    def finish(self, end):
        self._tell("finish", end.record["digest"])

    def fail(self, reason):
        self._tell("fail", reason)


def test_no_trackers(end_epoch, copy_of_finished):
    folder, metrics = copy_of_finished()
    trackers = open_trackers([], folder)
    end_epoch(trackers, 1, metrics, None)
    trackers.finish()
    trackers.fail("x")
    assert not (folder.path / "tensorboard").exists()


def test_each_epoch_is_sent_once(end_epoch, copy_of_finished, up_to):
    folder, metrics = copy_of_finished()
    fresh, resumed = Recorder(), Recorder(has={1})
    trackers = Trackers(folder, {"fresh": fresh, "resumed": resumed})
    end_epoch(trackers, 1, up_to(folder, 1), 0.1)
    end_epoch(trackers, 2, metrics, 0.2)
    trackers.finish()
    end = ("finish", folder.record["digest"])
    assert fresh.told == [("open",), ("epoch", 1, 0.1), ("epoch", 2, 0.2), end]
    assert resumed.told == [("open",), ("epoch", 2, 0.2), end]


def test_a_run_whose_epochs_had_all_ended(copy_of_finished):
    folder, _ = copy_of_finished()
    tracker = Recorder(has={1})
    Trackers(folder, {"it": tracker}).finish()
    assert [what[:2] for what in tracker.told[:2]] == [("open",), ("epoch", 2)]


def test_a_tracker_that_fails_is_reported_once_and_stops_nothing(end_epoch, copy_of_finished, capsys):
    folder, metrics = copy_of_finished()
    broken, whole = Recorder(), Recorder()
    trackers = Trackers(folder, {"mlflow": broken, "tensorboard": whole})
    broken.broken = True
    for epoch in (1, 2):
        end_epoch(trackers, epoch, metrics, None)
    trackers.finish()
    warning = "warning: mlflow has failed: No space left on device. The training continues"
    assert capsys.readouterr().out.count("warning") == 1
    assert (folder.path / "log.txt").read_text().count(warning) == 1
    assert [what[0] for what in whole.told] == ["open", "epoch", "epoch", "finish"]
    assert [what[0] for what in broken.told] == ["open"]


def test_a_tracker_that_comes_back_has_everything_at_the_end(end_epoch, copy_of_finished, capsys):
    folder, metrics = copy_of_finished()
    tracker = Recorder()
    trackers = Trackers(folder, {"mlflow": tracker})
    tracker.broken = True
    end_epoch(trackers, 1, metrics, 0.1)
    tracker.broken = False
    end_epoch(trackers, 2, metrics, 0.1)  # not bothered with at every epoch
    assert tracker.told == [("open",)]
    trackers.finish()
    assert [what[:2] for what in tracker.told[1:4]] == [("open",), ("epoch", 1), ("epoch", 2)]
    assert "mlflow can be reached again" in capsys.readouterr().out


def test_fail_never_raises(copy_of_finished, capsys):
    folder, _ = copy_of_finished()
    broken, whole = Recorder(), Recorder()
    trackers = Trackers(folder, {"mlflow": broken, "tensorboard": whole})
    broken.broken = True
    trackers.fail("interrupted")
    assert whole.told[-1] == ("fail", "interrupted")
    assert "warning: mlflow" in capsys.readouterr().out


def test_a_tracker_that_cannot_begin_stops_the_run_before_it_trains(copy_of_finished):
    folder, _ = copy_of_finished()
    broken = Recorder()
    broken.broken = True
    with pytest.raises(HilumError, match=r"^loggers: mlflow cannot be opened: No space left on device\. "):
        Trackers(folder, {"mlflow": broken})


def test_missing_packages(monkeypatch, copy_of_finished):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else there(name))
    check_trackers([])
    check_trackers(("tensorboard",))
    with pytest.raises(
        HilumError, match=r"mlflow cannot be used: the package is not installed.*hilum\[track\]"
    ):
        check_trackers(("tensorboard", "mlflow"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HilumError, match="tensorboard and mlflow cannot be used: the packages are not"):
        check_trackers(("tensorboard", "mlflow"))
    folder, _ = copy_of_finished()
    with pytest.raises(HilumError, match="not installed"):
        open_trackers(["mlflow"], folder)
