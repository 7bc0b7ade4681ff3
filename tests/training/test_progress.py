"""Progress counts images and seconds; it draws bars on a terminal and nothing elsewhere."""

import io
import math

import pytest

from hilum.training import progress
from hilum.training.progress import EpochProgress


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = {"seconds": 100.0}
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now["seconds"])
    return now


def test_images_per_second_are_of_the_parts_last_pass(clock):
    with EpochProgress(2, {"train": (10, 20), "val": (4, 4)}, quiet=True) as shown:
        assert math.isnan(shown.images_per_second("train"))
        for seconds, part, images in [(101, "train", 6), (102, "train", 4), (104, "val", 4)]:
            clock["seconds"] = seconds
            shown.on_batch_end(part, images)
        assert shown.images_per_second("train") == 10  # two processes with ten images each
        assert shown.images_per_second("val") == 2
        clock["seconds"] = 150  # the files of the epoch are written
        shown.on_epoch_begin(2)
        clock["seconds"] = 151
        shown.on_batch_end("train", 10)
        assert shown.images_per_second("train") == 20


def on_a_terminal(monkeypatch) -> Terminal:
    """Called within the test: pytest sets its own stdout after the fixtures."""
    screen = Terminal()
    monkeypatch.setattr(progress.sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    return screen


def run_an_epoch(quiet):
    with EpochProgress(3, {"train": (1234, 1234), "val": (40, 40)}, quiet=quiet) as shown:
        shown.on_epoch_begin(1)
        shown.on_batch_end("train", 1000)
        shown.bars.refresh()
        shown.on_batch_end("train", 234)
        shown.on_batch_end("val", 20)
        shown.bars.refresh()


def test_a_terminal_gets_a_bar_with_epoch_part_images_rate_and_time_left(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    run_an_epoch(quiet=False)
    for words in ("epoch 1/3 train", "1000/1234", "epoch 1/3 val", "20/40", "images/s", "-:--:--"):
        assert words in terminal.getvalue()


def test_quiet_draws_nothing(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    run_an_epoch(quiet=True)
    assert terminal.getvalue() == ""


def test_where_there_is_no_terminal_nothing_is_drawn(capsys):
    run_an_epoch(quiet=False)
    assert capsys.readouterr().out == ""
