import pytest

from hilum import demo

pytestmark = pytest.mark.slow


@pytest.fixture
def short_demo(monkeypatch):
    monkeypatch.setattr(demo, "IMAGES", 60)
    small = {"image_width": 32, "image_height": 32, "num_epochs": 1, "num_workers": 0}
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS | small)


@pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning")
def test_demo_goes_the_whole_way_and_says_where_things_lie(short_demo, tmp_path, capsys):
    demo.run_demo(tmp_path)
    said = capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    for name in ("run.json", "report.html", "scores.parquet", "figures/roc.png", "checkpoints/best"):
        assert (run / name).exists()
    assert f"{run / 'report.html'}" in said
    assert "Mean ROC AUC over the five targets of the CheXpert competition" in said
    assert "Pleural_Effusion" in said


@pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning")
def test_demo_a_second_time_uses_the_same_radiographs_and_makes_another_run(short_demo, tmp_path):
    demo.run_demo(tmp_path)
    drawn = (tmp_path / "phantom" / "phantom.json").stat().st_mtime_ns
    demo.run_demo(tmp_path)
    assert (tmp_path / "phantom" / "phantom.json").stat().st_mtime_ns == drawn
    assert len(list((tmp_path / "runs").iterdir())) == 2
