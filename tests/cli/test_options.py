"""Flags, settings, help and errors of the command line."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from hilum import __version__, cli
from hilum.config import setting_fields, setting_groups


@pytest.fixture
def trained_with(monkeypatch):
    """Replaces StandardTraining; gives the settings that it was called with."""
    given = []

    class StandardTraining:
        def __init__(self, **settings):
            given.append(settings)
            self.folder = SimpleNamespace(path="runs/first")
            self.devices = 1

        def train(self):
            pass

    stand_in = SimpleNamespace(StandardTraining=StandardTraining)
    monkeypatch.setitem(sys.modules, "hilum.training.run", stand_in)
    return given


def test_a_misspelt_flag_is_refused_with_the_nearest_name(hilum, trained_with):
    result = hilum("train", "--imge-width", "64")
    assert result.code == 2
    assert "No such option '--imge-width'" in result.err
    assert "--image-width" in result.err
    assert trained_with == []


def test_a_misspelt_command_is_refused_with_the_nearest_name(hilum):
    result = hilum("trian")
    assert result.code == 2
    assert "No such command 'trian'. Did you mean 'train'?" in result.err


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["--image-width", "64"], {"image_width": 64}),
        (["--learning-rate", "1e-3"], {"learning_rate": 0.001}),
        (["--number-images", "0.25"], {"number_images": 0.25}),
        (["--quiet"], {"quiet": True}),
        (["--no-official-split"], {"official_split": False}),
        (["--net-kwargs", "{layers = 34, dropout = 0.2}"], {"net_kwargs": {"layers": 34, "dropout": 0.2}}),
        (["--source-kwargs", '{views = ["Frontal"]}'], {"source_kwargs": {"views": ["Frontal"]}}),
        (["--target-columns", "Edema,Fracture"], {"target_columns": "Edema,Fracture"}),
        (["--target-columns", '["Edema"]'], {"target_columns": ["Edema"]}),
        (["--target-thresholds", "[0.2, 0.3]"], {"target_thresholds": [0.2, 0.3]}),
        (["--target-thresholds", "{Edema = 0.2}"], {"target_thresholds": {"Edema": 0.2}}),
        (["--root", "2024"], {"root": "2024"}),
        (["--name", "2024-01-01"], {"name": "2024-01-01"}),
        (["--num-workers", "none"], {"num_workers": None}),
        (["--epoch-args", "none"], {"epoch_args": "none"}),
        (["--brightness-jitter", "0.1", "--seed", "3"], {"brightness_jitter": 0.1, "seed": 3}),
        ([], {}),
    ],
)
def test_a_flag_is_the_setting_it_names(hilum, trained_with, arguments, setting):
    result = hilum("train", *arguments)
    assert (result.code, result.err) == (0, "")
    assert trained_with == [setting]
    assert "hilum show runs/first" in result.out


def test_flags_overrule_the_file(hilum, trained_with, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('source = "nih"\nnum_epochs = 3\nquiet = true\nnet_kwargs = {layers = 50}\n')
    hilum("train", file, "--num-epochs", "5", "--no-quiet")
    assert trained_with == [
        {"source": "nih", "num_epochs": 5, "quiet": False, "net_kwargs": {"layers": 50}},
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--num-epochs", "0"], "Setting num_epochs: 0 must be greater than or equal to 1."),
        (["--image-width", "wide"], "Setting image_width: 'wide' must be a whole number"),
        (["--target-thresholds", "1.5"], "Setting target_thresholds: 1.5 must be within 0..1"),
        (
            ["--net-kwargs", "{layers: 34}"],
            "--net-kwargs: '{layers: 34}' is not a TOML value; a table is written {",
        ),
        (["--source-kwargs", "5"], "Setting source_kwargs: 5 must be a valid dictionary."),
        (["none.toml"], "none.toml: this settings file does not exist."),
    ],
)
def test_an_impossible_setting_is_refused_before_anything_starts(hilum, trained_with, arguments, text):
    result = hilum("train", *arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {text}")
    assert result.out == ""
    assert trained_with == []


def test_a_misspelt_setting_in_a_file_is_refused_with_the_nearest_name(hilum, trained_with, tmp_path):
    (tmp_path / "settings.toml").write_text("bach_size = 8\n")
    result = hilum("train", tmp_path / "settings.toml")
    assert result.code == 2
    assert "There is no setting 'bach_size'. Did you mean 'batch_size'?" in result.err
    assert trained_with == []


def loaded_by(*arguments) -> set[str]:
    """The heavy packages that a command imports."""
    code = (
        f"import sys; sys.argv = ['hilum', *{list(arguments)!r}]; from hilum.cli import main; main(); "
        "print('loaded', *(name for name in ('torch', 'pandas', 'pydantic', 'cv2', 'rich') if name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split()[1:])


def test_help_imports_no_heavy_package():
    assert loaded_by("--help") == set()


def test_help_of_train_imports_only_the_settings():
    assert loaded_by("train", "--help") == {"pydantic"}


def test_help_names_every_command(hilum):
    result = hilum("--help")
    assert result.code == 0
    assert all(f"  {command} " in result.out for command in ("catalog", "demo", "runs", "show", "train"))
    assert "Research use only" in result.out


def test_the_version_is_printed(hilum):
    assert hilum("--version").out == f"hilum, version {__version__}\n"


def test_every_setting_has_its_flag_with_dashes_and_its_description(hilum):
    result = " ".join(hilum("train", "--help").out.split())
    for name, field in setting_fields().items():
        assert f"--{name.replace('_', '-')}" in result
        assert field.description in result


def test_settings_are_in_their_groups_and_a_part_of_them_is_among_the_options(hilum):
    lines = hilum("train", "--help").out.splitlines()
    headings = [line.removesuffix(":") for line in lines if line and not line.startswith(" ")][1:]
    assert headings == ["Options", *(kind.__doc__.strip() for kind in setting_groups().values())]
    lines = hilum("pack", "--help").out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")][1:] == ["Options:"]
    assert any(line.startswith("  --image-width VALUE") for line in lines)
    assert not any(line.startswith("  --learning-rate") for line in lines)


def test_examples_in_the_help_are_on_their_own_lines(hilum):
    assert "\n  hilum train settings.toml --learning-rate 1e-3\n" in hilum("train", "--help").out


def test_an_interrupt_has_no_traceback(hilum, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupt)
    result = hilum("runs")
    assert (result.code, result.err) == (130, "interrupted\n")


def test_a_defect_of_ours_is_not_hidden(hilum, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(ZeroDivisionError):
        hilum("runs")


def test_warnings_are_one_line_on_stderr(hilum, monkeypatch):
    monkeypatch.setattr(cli.cli, "main", lambda **_: warnings.warn("Hernia has no positives", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = hilum("runs")
    assert result.err == "warning: Hernia has no positives\n"


def test_an_error_is_one_message_and_exit_code_2(chexpert_tree):
    path = chexpert_tree / "train.csv"
    path.write_text(path.read_text().replace(",Male,24,", ",Male,old,", 1))
    done = subprocess.run(
        [sys.executable, "-m", "hilum", "catalog", "--source", "chexpert", "--root", str(chexpert_tree)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {path}, line 2, column 'Age': 'old' is not an age in years. "
        "Correct the line, or restore the file from the data set.\n"
    )
