"""A panel per score, with a row per target: its difference, its interval, or that it does not exist."""

import pandas as pd
import pytest

from hilum.plots.comparison import DRAWN_SCORES, differences_figure


@pytest.fixture
def differences():
    nan = float("nan")
    drawn = ("difference", "low", "high", "verdict")
    values = {"Mean": (0.2, 0.18, 0.22, "better"), "Edema": (-0.1, -0.2, 0.0, "worse")}
    values["Lung_Lesion"] = (nan, nan, nan, "n/a")
    return pd.DataFrame(
        {"target": target, "score": score} | dict(zip(drawn, row, strict=True))
        for target, row in values.items()
        for score in DRAWN_SCORES
    )


def test_each_score_has_a_panel_with_a_row_per_target(differences, tmp_path):
    figure = differences_figure(differences, "A", "B")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(DRAWN_SCORES.values())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["Mean", "Edema", "Lung Lesion"]
    figure.savefig(tmp_path / "differences.png")


def test_a_row_has_its_interval_or_n_a(differences):
    axes = differences_figure(differences, "A", "B").axes[0]
    intervals = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2.4]
    assert [list(line.get_xdata()) for line in intervals] == [[0.18, 0.22], [-0.2, 0.0]]
    assert [text.get_text().strip() for text in axes.texts] == ["n/a"]
