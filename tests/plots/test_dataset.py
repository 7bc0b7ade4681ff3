"""Figures of a data set; co-occurrence of predicted and actual findings, computed manually."""

import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hilum.metrics.label_statistics import (
    ALL_TOGETHER,
    FEATURES,
    co_occurrence,
    findings_per_image,
    prevalence,
)
from hilum.plots.dataset import (
    co_occurrence_figure,
    co_predicted,
    co_prediction_figure,
    feature_figure,
    findings_figure,
    leaks_figure,
    policy_figure,
    prevalence_figure,
)
from hilum.targets import CHEXPERT_TARGETS, COMPETITION_TARGETS, NIH_TARGETS

LABELS = pd.DataFrame({"Edema": [1, 1, 1, 1, 0], "Mass": [1, 0, np.nan, 0, 1], "Hernia": [0, 0, 0, 0, 0.0]})
PREDICTED = pd.DataFrame(
    {
        "Edema": [True, True, True, False, True],
        "Mass": [True, False, True, True, False],
        "Hernia": [False, False, False, False, True],
    }
)


def test_shares_are_of_the_images_with_the_rows_finding():
    shares = co_predicted(LABELS, PREDICTED)
    assert shares.loc["Edema"].tolist() == [0.75, 0.75, 0.0]  # the first is its recall
    assert shares.loc["Mass"].tolist() == [1.0, 0.5, 0.5]
    assert shares.loc["Hernia"].isna().all()
    assert co_predicted(LABELS, LABELS == 1).loc["Edema"].tolist() == [1.0, 0.25, 0.0]


def test_the_figure_has_both_matrices_in_per_cent(tmp_path):
    figure = co_prediction_figure(LABELS, PREDICTED)
    actual, predicted = figure.axes[:2]
    assert [text.get_text() for text in actual.texts] == ["100", "25", "0", "50", "100", "0", *["n/a"] * 3]
    assert [text.get_text() for text in predicted.texts] == ["75", "75", "0", "100", "50", "50", *["n/a"] * 3]
    figure.savefig(tmp_path / "co-occurrence.png")


TARGETS = [("Edema",), COMPETITION_TARGETS, NIH_TARGETS]


def labels_of(targets: tuple[str, ...], rows: int = 4000) -> np.ndarray:
    shares = np.linspace(0.45, 0.01, len(targets))
    return (np.random.default_rng(2).random((rows, len(targets))) < shares).astype(float)


def texts_of(figure: Figure) -> list[str]:
    """Every text that is drawn, as it reads."""
    drawn = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
    return [artist.get_text() for artist in drawn if artist.get_text()]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of upright texts in one panel whose boxes meet, of those that are inside the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        marks = [*axes.texts, *axes.get_yticklabels(), axes.title, axes.xaxis.label]
        boxes = [(mark.get_text(), mark.get_window_extent(renderer)) for mark in marks if mark.get_text()]
        found += [(a, b) for (a, box_a), (b, box_b) in combinations(boxes, 2) if box_a.overlaps(box_b)]
    return found


@pytest.mark.parametrize("targets", TARGETS, ids=len)
def test_prevalence_names_each_target_with_its_count(targets):
    table = prevalence(labels_of(targets), targets)
    figure = prevalence_figure(table)
    texts = texts_of(figure)
    for target, row in table.iterrows():
        assert target.replace("_", " ") in texts
        assert f"{row['prevalence']:.1%}   {int(row['positives']):,} of 4,000" in texts
    assert not overlapping(figure)


def test_a_target_without_labels_says_so():
    figure = prevalence_figure(prevalence(np.array([[1, np.nan], [0, np.nan]]), ["Edema", "Mass"]))
    assert "no label" in texts_of(figure)
    figure.savefig(io.BytesIO(), format="png")


def test_the_histogram_has_each_count_and_share():
    counts = findings_per_image(labels_of(CHEXPERT_TARGETS))
    figure = findings_figure(counts)
    texts = texts_of(figure)
    for images in counts:
        assert f"{images:,}\n{images / 4000:.1%}" in texts
    assert not overlapping(figure)


@pytest.mark.parametrize("targets", TARGETS[1:], ids=len)
def test_the_heat_map_has_phi_and_count_of_each_pair(targets):
    labels = labels_of(targets)
    pairs = co_occurrence(labels, np.arange(len(labels)), targets, seed=0, replicates=5)
    figure = co_occurrence_figure(pairs, prevalence(labels, targets))
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert len(cells) == len(pairs) + len(targets)
    for pair in pairs.itertuples():
        assert any(cell.endswith(f"\n{pair.both:,}") for cell in cells)
    assert "-" not in "".join(cells)  # a true minus
    assert "−0.00" not in "".join(cells)
    assert not overlapping(figure)


@pytest.mark.parametrize("targets", TARGETS, ids=len)
def test_a_panel_of_groups_for_each_target(targets):
    groups = [("View", "PA"), ("View", "AP or other"), ("Sex", "male"), ("Age", "80 years and over")]
    rows = [
        {
            **{"target": target, "feature": feature, "level": level},
            **{"images": 40, "prevalence": 0.2, "low": 0.1, "high": 0.34},
        }
        for target in targets
        for feature, level in groups
    ]
    figure = feature_figure(pd.DataFrame(rows), targets)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        name.replace("_", " ") for name in targets
    ]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [level for _, level in groups]
    assert not overlapping(figure)


@pytest.mark.parametrize("targets", TARGETS, ids=len)
def test_the_leaks_have_a_column_for_each_feature_and_say_where_there_are_too_few(targets):
    features = [*FEATURES, ALL_TOGETHER]
    rows = [
        {"feature": feature, "target": target, "auc": 0.5 + place / 10, "low": 0.45, "high": 0.93}
        for place, feature in enumerate(features)
        for target in targets
    ]
    table = pd.DataFrame(rows)
    table.loc[len(targets) - 1, ["auc", "low", "high"]] = np.nan
    figure = leaks_figure(table, targets)
    assert [axes.get_title(loc="left") for axes in figure.axes] == features
    assert texts_of(figure).count("too few") == 1
    assert [text.get_text() for text in figure.axes[3].texts] == ["0.80"] * len(targets)
    assert not overlapping(figure)


def test_leaks_without_any_auc_can_be_drawn():
    table = pd.DataFrame([{"feature": "age", "target": "Mass", "auc": np.nan, "low": np.nan, "high": np.nan}])
    assert "too few" in texts_of(leaks_figure(table, ["Mass"]))


def test_the_policys_bars_are_of_the_same_length_and_each_kind_is_in_the_legend_once():
    before = pd.DataFrame({"positive": [5, 1], "negative": [2, 1], "uncertain": [2, 6], "blank": [1, 2]})
    after = pd.DataFrame(
        {"positive": [5, 1], "negative": [3, 3], "smoothed": [2, 0], "uncertain_class": [0, 6], "left_out": 0}
    )
    before.index = after.index = pd.Index(["Edema", "Mass"], name="target")
    figure = policy_figure(before, after)
    ends: dict[float, float] = {}
    for bar in figure.axes[0].patches:
        ends[round(bar.get_y(), 3)] = max(ends.get(round(bar.get_y(), 3), 0), bar.get_x() + bar.get_width())
    assert len(ends) == 4
    assert all(end == pytest.approx(1) for end in ends.values())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == ["blank", "negative", "positive", "smoothed", "uncertain"]
