"""The comparison's page shows the result, is one file, and escapes names."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.plots.comparison import differences_figure
from hilum.report.comparison import compare_runs
from hilum.report.comparison_page import write_comparison
from hilum.report.comparison_types import MEAN
from hilum.report.format import format_difference
from hilum.run_folder import RunFolder

MALICE = "<script>alert('x')</script>"


@pytest.fixture
def write(tmp_path):
    """Writes a finished run of 120 patients, one image each; `skill` is how well it sees the finding."""
    draw = np.random.default_rng(4)
    labels = (draw.random((120, 2)) < (0.4, 0.3)).astype(np.float32)
    difficulty = draw.normal(size=(120, 2))
    ids = np.arange(120)
    images = tmp_path / "images"
    images.mkdir()
    for number in ids[:60].tolist():  # the others are not there
        cv2.imwrite(str(images / f"{number}.png"), np.full((24, 24), number, dtype=np.uint8))

    def write(name, skill=1.0, targets=("Edema", "Mass"), without_positives=False, **settings) -> RunFolder:
        truth = labels * ([1, 0] if without_positives else [1, 1])
        probabilities = 1 / (1 + np.exp(0.5 - skill * truth - difficulty))
        predictions = pd.DataFrame({"part": "val", "ImageID": ids, "draw": 0})
        for kind, values in (("label", truth), ("prob", probabilities)):
            for column, target in enumerate(targets):
                predictions[f"{kind}_{target}"] = values[:, column].astype(np.float32)
        folder = RunFolder.create(
            tmp_path / "runs",
            name,
            "run",
            {
                "settings": RunConfig(**settings).as_record(),
                "targets": list(targets),
                "thresholds": dict.fromkeys(targets, 0.5),
                "catalog": {"name": "hand", "fingerprint": "ab", "image_root": str(images)},
                "split": {"fingerprint": "cd", "unit": "patient"},
                "versions": {"hilum": "1"},
            },
        )
        split = pd.DataFrame({"ImageID": ids, "PatientID": ids, "part": "val"})
        folder.write_split(split)
        folder.write_images(split.assign(Image_Path=[f"{number}.png" for number in ids]))
        folder.write_epoch(1, predictions, pd.DataFrame(), pd.DataFrame())
        folder.update(best_epoch=1, status="finished")
        return folder

    return write


def page_of(comparison, tmp_path) -> str:
    return write_comparison(comparison, tmp_path / "page.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_the_page_has_the_comparisons_numbers(write, tmp_path):
    comparison = compare_runs([write("plain"), write("skilled", 3.0, learning_rate=0.01)], replicates=200)
    (side,) = comparison.comparisons
    text = text_of(page_of(comparison, tmp_path))
    assert side.changes.statement in text
    assert "settings: learning_rate 0.0001 0.01" in text
    assert side.about_models.statement in text
    assert "120 validation images of 120 patients" in text
    for scores in (side.about_models.mean, *side.about_models.targets.values()):
        for difference in scores.values():
            for value in (difference.difference, difference.low, difference.high):
                assert format_difference(value) in text
    assert side.about_models.mean["roc_auc"].verdict == "better"
    assert "better" in text
    for target, counts in side.flips.counts.items():
        row = [counts[kind] for kind in counts]
        assert f"{target} {' '.join(map(str, row))}" in text


def test_the_page_is_one_file(write, tmp_path):
    html = page_of(compare_runs([write("a"), write("b", 2.0, seed=1)], replicates=100), tmp_path)
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    assert set(re.findall(r'src="([^,]{0,30})', html)) <= {"data:image/png;base64", "data:image/jpeg;base64"}


def test_flipped_images_are_shown_where_they_can_be_read(write, tmp_path):
    comparison = compare_runs([write("a", 3.0), write("b", 0.0, learning_rate=0.01)], replicates=100)
    html = page_of(comparison, tmp_path)
    shown = {int(number) for number in re.findall(r"Radiograph, ImageID (\d+)", html)}
    listed = {int(number) for number in re.findall(r">ImageID (\d+),", html)}
    flips = comparison.comparisons[0].flips.images
    assert listed <= {flip.image_id for of_target in flips.values() for flip in of_target}
    assert shown == {number for number in listed if number < 60}
    assert html.count("image not available") > 0


def test_harmful_names_are_escaped(write, tmp_path):
    first, second = write("a", targets=(MALICE, "Mass")), write("b", 2.0, targets=(MALICE, "Mass"), seed=3)
    first.update(name=MALICE)
    html = page_of(compare_runs([RunFolder(first.path), second], replicates=100), tmp_path)
    assert MALICE not in html
    assert "&lt;script&gt;" in html


def test_a_score_that_does_not_exist_is_na_with_its_reason(write, tmp_path):
    runs = [write("a", without_positives=True), write("b", 2.0, without_positives=True, seed=2)]
    comparison = compare_runs(runs, replicates=100)
    reason = comparison.comparisons[0].about_models.targets["Mass"]["recall"].reason
    text = text_of(page_of(comparison, tmp_path))
    assert reason
    assert f"Mass: n/a where {reason}" in text


def test_the_figure_has_a_row_per_target_and_the_mean_with_its_interval(write):
    comparison = compare_runs([write("a"), write("b", 2.0, learning_rate=0.01)], replicates=100)
    claim = comparison.comparisons[0].about_models
    figure = differences_figure(claim.as_table(), "A", "B")
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == [MEAN, "Edema", "Mass"]
    points = [line for line in panel.lines if line.get_marker() in {"o", "s", "D"}]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(
        [claim.mean["recall"].difference, *(scores["recall"].difference for scores in claim.targets.values())]
    )


def test_a_page_that_cannot_be_written_raises(write, tmp_path):
    (tmp_path / "file").write_text("")
    comparison = compare_runs([write("a"), write("b", 2.0, seed=1)], replicates=100)
    with pytest.raises(HilumError, match=r"file/page.html: it cannot be written"):
        write_comparison(comparison, tmp_path / "file" / "page.html")
