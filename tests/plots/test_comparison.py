"""A panel per score, with a row per target: its difference, its interval, or that it does not exist."""

from types import SimpleNamespace

import pytest

from hilum.metrics.comparison import COMPARED_SCORES, conclude, undefined
from hilum.plots.comparison import DRAWN_SCORES, MEAN, differences_figure


@pytest.fixture
def claim():
    better = {score: conclude(score, 0.5, 0.7, 0.01, 100) for score in COMPARED_SCORES}
    none = {
        score: undefined(0.5, float("nan"), "no patient has a positive image") for score in COMPARED_SCORES
    }
    return SimpleNamespace(mean=better, targets={"Edema": better, "Lung_Lesion": none})


def test_each_score_has_a_panel_with_a_row_per_target(claim, tmp_path):
    figure = differences_figure(claim, "A", "B")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(DRAWN_SCORES.values())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [MEAN, "Edema", "Lung Lesion"]
    figure.savefig(tmp_path / "differences.png")


def test_a_row_has_its_interval_or_n_a(claim):
    axes = differences_figure(claim, "A", "B").axes[0]
    expected = claim.mean["recall"]
    intervals = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2.4]
    assert [list(line.get_xdata()) for line in intervals] == [[expected.low, expected.high]] * 2
    assert [text.get_text().strip() for text in axes.texts] == ["n/a"]
