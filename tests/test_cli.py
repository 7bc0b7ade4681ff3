import subprocess
import sys
import warnings
from types import SimpleNamespace

import pandas as pd
import pytest

from hilum import __version__, cli
from hilum.config import RunConfig, setting_fields
from hilum.errors import HilumError
from hilum.run_folder import RunFolder


@pytest.fixture
def hilum(monkeypatch, capsys):
    """Runs the command line in this process; gives its exit code and what it printed."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which main sets

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hilum", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        told = capsys.readouterr()
        return SimpleNamespace(code=code, out=told.out, err=told.err)

    return run


@pytest.fixture
def trained_with(monkeypatch):
    """Puts a stand-in in the place of training; gives the settings that it was called with."""
    given = []

    class StandardTraining:
        def __init__(self, **settings):
            given.append(settings)
            self.folder = SimpleNamespace(path="runs/stand-in")
            self.devices = 1

        def train(self):
            pass

    stand_in = SimpleNamespace(StandardTraining=StandardTraining)
    monkeypatch.setitem(sys.modules, "hilum.training.run", stand_in)
    return given


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A finished run of one epoch with two targets, of which one has no positive in val."""
    record = {
        "settings": RunConfig(num_epochs=1, source="nih", root="x").as_record(),
        "targets": ["Edema", "Hernia"],
        "split": {
            "parts": {"train": {"images": 8, "patients": 4}, "val": {"images": 2, "patients": 1}},
            "imbalance": [{"feature": "Age_60_80", "part": "val", "train_share": 0.25, "part_share": 0.5}],
        },
        "epochs_done": 1,
        "best_epoch": 1,
        "digest": "0123456789abcdef" * 4,
        "status": "finished",
    }
    folder = RunFolder.create(tmp_path / "runs", "first", "", record)
    counts = {"positives": 1, "negatives": 1, "predicted_positives": 2, "true_positives": 1, "threshold": 0.5}
    good = {"recall": 1.0, "precision": 0.5, "f1": 0.667, "roc_auc": 0.875, "avg_precision": 0.75}
    none = dict.fromkeys(good, float("nan"))
    rows = [
        {"epoch": 1, "part": part, "target": target} | counts | (none if target == "Hernia" else good)
        for part in ("train", "val")
        for target in ("Edema", "Hernia")
    ]
    combined = {
        "loss": 0.6,
        "accuracy": 0.5,
        "hamming_loss": 0.25,
        "recall": 1.0,
        "precision": 0.5,
        "f1": 0.6,
    }
    folder.write_epoch(
        1,
        pd.DataFrame({"part": ["val"], "ImageID": [1]}),
        pd.DataFrame(rows),
        pd.DataFrame([{"epoch": 1, "part": part} | combined for part in ("train", "val")]),
    )
    return folder


def loaded_by(*arguments) -> set[str]:
    """Which heavy packages a command of its own process imports."""
    code = (
        f"import sys; sys.argv = ['hilum', *{list(arguments)!r}]; from hilum.cli import main; main(); "
        "print('loaded', *(name for name in ('torch', 'pandas', 'pydantic', 'cv2', 'rich') if name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(told.stdout.splitlines()[-1].split()[1:])


def test_help_waits_for_no_heavy_package():
    assert loaded_by("--help") == set()


def test_help_on_training_needs_the_settings_alone():
    assert loaded_by("train", "--help") == {"pydantic"}


def test_help_names_every_command(hilum):
    told = hilum("--help")
    assert told.code == 0
    assert all(f"  {command} " in told.out for command in ("catalog", "demo", "runs", "show", "train"))
    assert "Research use only" in told.out


def test_the_version_is_told(hilum):
    assert hilum("--version").out == f"hilum, version {__version__}\n"


def test_every_setting_has_its_flag_with_dashes_and_its_description(hilum):
    told = " ".join(hilum("train", "--help").out.split())
    for name, field in setting_fields().items():
        assert f"--{name.replace('_', '-')}" in told
        assert field.description in told


def test_the_examples_in_the_help_stand_on_lines_of_their_own(hilum):
    assert "\n  hilum train settings.toml --learning-rate 1e-3\n" in hilum("train", "--help").out


def test_a_misspelt_flag_is_refused_with_the_nearest_name(hilum, trained_with):
    told = hilum("train", "--imge-width", "64")
    assert told.code == 2
    assert "No such option '--imge-width'" in told.err
    assert "--image-width" in told.err
    assert trained_with == []


def test_a_misspelt_command_is_refused_with_the_nearest_name(hilum):
    told = hilum("trian")
    assert told.code == 2
    assert "No such command 'trian'. Did you mean 'train'?" in told.err


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
    told = hilum("train", *arguments)
    assert (told.code, told.err) == (0, "")
    assert trained_with == [setting]
    assert "hilum show runs/stand-in" in told.out


def test_flags_win_over_the_file(hilum, trained_with, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('source = "nih"\nnum_epochs = 3\nquiet = true\nnet_kwargs = {layers = 50}\n')
    hilum("train", file, "--num-epochs", "5", "--no-quiet")
    assert trained_with == [
        {"source": "nih", "num_epochs": 5, "quiet": False, "net_kwargs": {"layers": 50}},
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num-epochs", "0"], "Setting num_epochs: 0 must be greater than or equal to 1."),
        (["--image-width", "wide"], "Setting image_width: 'wide' must be a valid integer"),
        (["--target-thresholds", "1.5"], "Setting target_thresholds: 1.5 must be within 0..1"),
        (
            ["--net-kwargs", "{layers: 34}"],
            "--net-kwargs: '{layers: 34}' is no TOML value; a table is written {",
        ),
        (["--source-kwargs", "5"], "Setting source_kwargs: 5 must be a valid dictionary."),
        (["none.toml"], "none.toml: this settings file does not exist."),
    ],
)
def test_a_setting_that_cannot_be_is_told_before_anything_starts(hilum, trained_with, arguments, words):
    told = hilum("train", *arguments)
    assert told.code == 2
    assert told.err.startswith(f"error: {words}")
    assert told.out == ""
    assert trained_with == []


def test_a_misspelt_setting_in_a_file_is_told_with_the_nearest_name(hilum, trained_with, tmp_path):
    (tmp_path / "settings.toml").write_text("bach_size = 8\n")
    told = hilum("train", tmp_path / "settings.toml")
    assert told.code == 2
    assert "There is no setting 'bach_size'. Did you mean 'batch_size'?" in told.err
    assert trained_with == []


def test_a_catalog_is_shown_with_its_counts(hilum, chexpert_tree, small_catalog):
    told = hilum("catalog", "--source", "chexpert", "--root", chexpert_tree)
    assert told.code == 0
    assert "33 images of 16 patients" in told.out
    assert small_catalog.fingerprint in told.out
    for target in small_catalog.targets:
        (line,) = [line for line in told.out.splitlines() if line.startswith(f"{target} ")]
        positive = int(small_catalog.table[target].sum())
        assert line.split()[1:4] == [str(positive), str(33 - positive), "0"]


def test_a_catalog_is_filtered_checked_and_written(hilum, chexpert_tree, tmp_path):
    out = tmp_path / "table.csv"
    told = hilum(
        *("catalog", "--source", "chexpert", "--root", chexpert_tree),
        *("--source-kwargs", "{max_studies = 1}", "--check-images", "--out", out),
    )
    assert told.code == 0
    assert set(pd.read_csv(out)["StudyID"]) == {1}


def test_a_bad_image_is_found_when_asked_and_nothing_is_written(
    hilum, chexpert_tree, small_catalog, tmp_path
):
    bad = small_catalog.image_path(small_catalog.table.index[3])
    bad.write_bytes(bad.read_bytes()[:-40])
    arguments = ("catalog", "--source", "chexpert", "--root", chexpert_tree, "--out", tmp_path / "table.csv")
    told = hilum(*arguments, "--check-images")
    assert told.code == 2
    assert told.err.startswith(f"error: 1 image(s) cannot be used:\n  {bad}: the image is truncated")
    assert not (tmp_path / "table.csv").exists()
    assert hilum(*arguments).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "nhi"], "Unknown source 'nhi'. Did you mean 'nih'?"),
        (["--source", "nih"], "root is missing: give the folder of the nih data set (--root DIR)."),
        (["--source", "nih", "--root", "none"], "none: there is no such folder."),
        (["--source", "chexpert", "--root", ".", "--source-kwargs", "3"], "Setting source_kwargs: 3 must be"),
        (
            ["--source", "chexpert", "--root", ".", "--source-kwargs", "{max_study = 3}"],
            "source_kwargs: the source",
        ),
    ],
)
def test_a_catalog_that_cannot_be_read_is_told(hilum, arguments, words):
    told = hilum("catalog", *arguments)
    assert told.code == 2
    assert told.err.startswith(f"error: {words}")
    assert told.out == ""


def test_runs_are_listed_with_the_means_over_the_targets_that_have_scores(hilum, run):
    told = hilum("runs", run.path.parent)
    assert told.code == 0
    heading, line = told.out.splitlines()
    assert heading.split()[:2] == ["run", "status"]
    assert line.split() == ["first", "finished", "1/1", "1", "1.000", "0.875", "0.500", "0123456789ab"]


def test_a_run_that_has_only_begun_is_listed_too(hilum, tmp_path):
    RunFolder.create(tmp_path, "new", "", {"settings": RunConfig().as_record(), "targets": ["Edema"]})
    (line,) = hilum("runs", tmp_path).out.splitlines()[1:]
    assert line.split() == ["new", "running", "0/4", "–", "n/a", "n/a", "n/a", "–"]


def test_a_run_is_shown_with_settings_parts_and_scores(hilum, run):
    told = hilum("show", run.path)
    assert (told.code, told.err) == (0, "")
    words = " ".join(told.out.split())
    assert "train: 8 images of 4 patients val: 2 images of 1 patients" in words
    assert "not balanced: Age_60_80 is 25.0% of train, 50.0% of val" in words
    for name in setting_fields():
        assert f"\n{name} " in told.out
    hernia = [line.split() for line in told.out.splitlines() if line.startswith("Hernia ")]
    assert hernia == [["Hernia", "1", "2", "1", *["n/a"] * 5, "0.500"]] * 2
    assert str(run.path) in told.out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("show", "none: this is not a run folder: run.json is missing."),
        ("runs", "none: there is no such folder."),
    ],
)
def test_a_run_that_is_not_there_is_told(hilum, command, words):
    told = hilum(command, "none")
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"error: {words}")


def test_an_interrupt_is_no_traceback(hilum, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupt)
    told = hilum("runs")
    assert (told.code, told.err) == (130, "interrupted\n")


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
        told = hilum("runs")
    assert told.err == "warning: Hernia has no positives\n"


def test_the_error_that_ends_with_code_2_is_a_value_error():
    assert issubclass(HilumError, ValueError)


def test_in_a_process_of_its_own_an_error_is_one_message_and_code_2(chexpert_tree):
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
