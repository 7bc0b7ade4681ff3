from io import BytesIO

import numpy as np
import pandas as pd
import pytest

from hilum.metrics import itemized_scores
from hilum.metrics.calibration import reliability_curve
from hilum.metrics.scores import rank_targets
from hilum.plots import curves
from hilum.targets import CHEXPERT_TARGETS, COMPETITION_TARGETS

PNG = b"\x89PNG\r\n\x1a\n"


def part(targets, rows, seed):
    draw = np.random.default_rng(seed)
    labels = (draw.random((rows, len(targets))) < 0.3).astype(float)
    labels[draw.random(labels.shape) < 0.1] = np.nan
    return labels, (0.6 * draw.random(labels.shape) + 0.4 * np.nan_to_num(labels)).astype(np.float32)


def rankings(targets, without_positives=()):
    both = {}
    for name, rows in (("train", 3000), ("val", 200)):
        labels, probabilities = part(targets, rows, rows)
        labels[:, list(without_positives)] = 0
        both[name] = rank_targets(labels, probabilities, targets)
    return both


def picture(figure):
    """The figure as PNG; with warnings as errors this also shows that everything fits."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


def texts(axes):
    return " ".join([axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)])


@pytest.mark.parametrize("make", [curves.roc_figure, curves.precision_recall_figure])
@pytest.mark.parametrize("targets", [CHEXPERT_TARGETS, COMPETITION_TARGETS, ("Edema",)], ids=len)
def test_curves_have_a_panel_per_target(make, targets):
    figure = make(rankings(targets), dict.fromkeys(targets, 0.5))
    assert picture(figure).startswith(PNG)
    assert [axes.get_title(loc="left").replace(" ", "_") for axes in figure.axes] == list(targets)
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert {"-", "--"} <= set(styles)


def test_the_heading_holds_areas_and_threshold():
    both = rankings(["Edema"])
    (axes,) = curves.roc_figure(both, {"Edema": 0.25}).axes
    assert (
        f"AUC {both['val']['Edema'].roc_auc():.3f} val, {both['train']['Edema'].roc_auc():.3f} train"
        in texts(axes)
    )
    assert "≥ 0.25" in texts(axes)


def test_curves_go_through_the_point_of_the_threshold():
    both = rankings(["Edema"])
    counts = both["val"]["Edema"].confusion(0.5)
    (axes,) = curves.roc_figure({"val": both["val"]}, {"Edema": 0.5}).axes
    marker = next(line for line in axes.lines if line.get_marker() == "o")
    assert marker.get_xydata()[0].tolist() == [
        counts.false_positives / both["val"]["Edema"].negatives,
        counts.recall,
    ]


@pytest.mark.parametrize("make", [curves.roc_figure, curves.precision_recall_figure])
def test_a_target_without_a_score_says_why(make):
    figure = make(
        rankings(COMPETITION_TARGETS, without_positives=[1]), dict.fromkeys(COMPETITION_TARGETS, 0.5)
    )
    assert picture(figure).startswith(PNG)
    empty = figure.axes[1]
    assert not empty.lines
    assert "is positive" in texts(empty).replace("\n", " ")


def progression(targets, epochs, without_positives=()):
    tables = []
    for epoch in range(1, epochs + 1):
        for name, rows in (("train", 300), ("val", 100)):
            labels, probabilities = part(targets, rows, epoch * rows)
            labels[:, list(without_positives)] = 0
            table = itemized_scores(labels, probabilities, targets, [0.5] * len(targets))
            tables.append(table.assign(epoch=epoch, part=name))
    return pd.concat(tables)


@pytest.mark.parametrize(
    ("targets", "epochs"), [(CHEXPERT_TARGETS, 12), (COMPETITION_TARGETS, 2), (("Edema",), 1)]
)
def test_progression_has_a_panel_per_target_on_one_scale(targets, epochs):
    figure = curves.progression_figure(progression(targets, epochs), "roc_auc", "ROC AUC")
    assert picture(figure).startswith(PNG)
    assert len(figure.axes) == len(targets)
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1


@pytest.mark.parametrize("score", ["recall", "precision", "f1", "roc_auc", "avg_precision"])
def test_progression_of_an_undefined_score_says_why(score):
    scores = progression(COMPETITION_TARGETS, 2, without_positives=[0])
    figure = curves.progression_figure(scores, score, "Score")
    assert not figure.axes[0].lines
    assert "is positive" in texts(figure.axes[0]).replace("\n", " ")


def test_combined_progression_leaves_out_what_was_not_recorded():
    columns = {"loss": np.nan, "accuracy": [0.1, 0.2], "hamming_loss": 0.3}
    combined = pd.DataFrame({"epoch": [1, 2], "part": "val", **columns})
    names = {"loss": "Loss", "accuracy": "Accuracy", "hamming_loss": "Hamming loss"}
    figure = curves.combined_progression_figure(combined, names)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Accuracy", "Hamming loss"]
    assert picture(figure).startswith(PNG)


def test_a_long_curve_is_thinned_but_keeps_its_ends():
    shown = curves._thinned(131_749)
    assert len(shown) <= curves.MOST_POINTS
    assert (shown[0], shown[-1]) == (0, 131_748)
    assert curves._thinned(5).tolist() == [0, 1, 2, 3, 4]


def test_a_reliability_panel_has_the_curves_points_or_a_reason(tmp_path):
    draw = np.random.default_rng(0)
    probabilities = draw.random((300, 2))
    labels = (draw.random((300, 2)) < probabilities).astype(float)
    labels[:, 1] = np.nan
    names = ("Edema", "Lung_Lesion")
    figure = curves.reliability_figure(
        {
            name: reliability_curve(labels[:, place], probabilities[:, place])
            for place, name in enumerate(names)
        }
    )
    edema, lesion = figure.axes[:2]
    points = next(line for line in edema.lines if line.get_marker() == "o")
    curve = reliability_curve(labels[:, 0], probabilities[:, 0])
    np.testing.assert_allclose(points.get_xdata(), curve.mean_probability)
    np.testing.assert_allclose(points.get_ydata(), curve.positive_share)
    assert edema.get_title(loc="left") == "Edema"
    assert lesion.get_title(loc="left") == "Lung Lesion"
    assert any("no image has a known label" in text.get_text() for text in lesion.texts)
    figure.savefig(tmp_path / "reliability.png")
