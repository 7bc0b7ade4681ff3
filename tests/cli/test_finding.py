import pytest
from click.testing import CliRunner

from hilum.cli.finding import find_lr
from hilum.errors import HilumError


@pytest.fixture
def small(nih_tree) -> list[str]:
    """Flags for a search that takes a second."""
    return [
        *("--source", "nih", "--root", str(nih_tree), "--image-width", "32", "--image-height", "32"),
        *("--batch-size", "4", "--num-workers", "0", "--device", "cpu", "--steps", "12"),
    ]


def test_a_rate_is_suggested_with_its_curve(small, tmp_path):
    out = tmp_path / "figures" / "rates.png"
    result = CliRunner().invoke(find_lr, [*small, "--lowest", "1e-6", "--highest", "0.1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "learning rate  smoothed loss" in result.output
    assert "  steepest descent" in result.output
    assert "Suggested: --learning-rate " in result.output
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in out.parent.iterdir()] == ["rates.png"]


def test_without_out_nothing_is_written(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    assert CliRunner().invoke(find_lr, small).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == before


def test_mistakes_are_told_before_any_work(small, tmp_path):
    result = CliRunner().invoke(find_lr, [*small, "--out", str(tmp_path / "rates.jpg")])
    assert isinstance(result.exception, HilumError)
    assert "rates.jpg does not end in .png" in str(result.exception)
    result = CliRunner().invoke(find_lr, ["--image-width", "3"])
    assert "Setting image_width" in str(result.exception)
    result = CliRunner().invoke(find_lr, ["--imge-width", "3"])
    assert result.exit_code == 2
    assert "--image-width" in result.output
