"""Tests of hilum.demo at a small size."""

import contextlib
import io

import pytest

from hilum import demo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning"),
]


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory):
    """The folder of a demo with 60 images and one epoch, its output, and the function."""
    out, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    small = {"image_width": 32, "image_height": 32, "num_epochs": 1, "num_workers": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "IMAGES", 60)
        patch.setattr(demo, "SETTINGS", demo.SETTINGS | small)
        with contextlib.redirect_stdout(printed):
            demo.run_demo(out)
        yield out, printed.getvalue(), demo.run_demo


def test_the_demo_trains_and_prints_scores_and_files(short_demo):
    out, printed, _ = short_demo
    run = next((out / "runs").iterdir())
    for name in ("run.json", "report.html", "scores.parquet", "figures/roc.png", "checkpoints/best"):
        assert (run / name).exists()
    assert f"{run / 'report.html'}" in printed
    assert "Mean ROC AUC over the five targets of the CheXpert competition" in printed
    assert "Pointing game" in printed
    assert "Pleural_Effusion" in printed


def test_a_second_demo_reuses_the_radiographs_and_makes_a_new_run(short_demo):
    out, _, run_demo = short_demo
    drawn = (out / "phantom" / "phantom.json").stat().st_mtime_ns
    run_demo(out)
    assert (out / "phantom" / "phantom.json").stat().st_mtime_ns == drawn
    assert len(list((out / "runs").iterdir())) == 2
