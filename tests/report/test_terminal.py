"""The terminal's tables have the right numbers in the right columns, and n/a for undefined ones."""

import io

import pandas as pd
import pytest
from rich.console import Console

from hilum.errors import HilumError
from hilum.models.describe import Description, Layer, Summary
from hilum.report.terminal import (
    show_catalog,
    show_model,
    show_models,
    show_parameters,
    show_run,
    show_runs,
    standard_console,
    target_table,
)
from hilum.sources import Catalog


def printed(show, *arguments, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(*arguments, console)
    return console.file.getvalue()


def cells(text: str, first: str) -> list[str]:
    """The words of the last line that begins with `first`."""
    return [line.split() for line in text.splitlines() if line.startswith(first)][-1]


def test_the_target_table_has_each_targets_scores_and_na_for_undefined_ones(write_run):
    _, metrics = write_run()
    scores = metrics.scores
    val = scores[(scores["epoch"] == 2) & (scores["part"] == "val")]
    console = Console(file=io.StringIO(), width=160)
    console.print(target_table(val))
    text = console.file.getvalue()
    shown = dict(zip(headings(val), cells(text, "Edema")[1:], strict=True))
    assert shown == {
        "positives": "2",
        "predicted\npositives": "1",
        "true\npositives": "1",
        "recall": "0.500",
        "precision": "1.000",
        "F1": "0.667",
        "ROC AUC": "0.750",
        "average\nprecision": "0.833",
        "threshold": "0.500",
    }
    undefined = dict(zip(headings(val), cells(text, "Mass")[1:], strict=True))
    assert [undefined[name] for name in ("positives", "predicted\npositives", "true\npositives")] == [
        "0",
        "1",
        "0",
    ]
    assert [undefined[name] for name in ("recall", "F1", "ROC AUC", "average\nprecision")] == ["n/a"] * 4
    assert undefined["threshold"] == "0.250"


def headings(scores: pd.DataFrame) -> list[str]:
    return [column.header for column in target_table(scores).columns][1:]


def test_a_run_is_shown_with_its_state_parts_and_scores(write_run):
    folder, _ = write_run()
    folder.update(status="finished", digest="f" * 64)
    text = printed(show_run, folder)
    assert "finished, 2 of 2 epochs, 12 s on cpu, digest ffffffffffffffff" in text
    assert "train: 4 images of 3 patients" in text
    assert "val: 4 images of 2 patients" in text
    assert "not balanced: Age is 25.0% of train, 50.0% of val" in text
    assert "train, epoch 2" in text
    assert "val, epoch 2" in text
    # Loss, exact match, Hamming loss; recall, precision and F1 averaged over the images.
    assert cells(text, "2      val")[2:5] == ["0.312", "0.500", "0.250"]
    assert cells(text, "1      train")[2:] == ["0.500", "1.000", "0.000", "0.750", "0.750", "0.750"]
    assert str(folder.path) in text.replace("\n", "")


def test_parameters_show_every_setting_and_mark_those_that_were_changed(write_run):
    folder, _ = write_run()
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system="standard")
    show_parameters(folder, console)
    lines = console.file.getvalue().splitlines()
    styles = {
        name: line for line in lines for name in folder.settings if f"m{name}\x1b" in line.replace(" ", "")
    }
    assert set(styles) == set(folder.settings)
    changed = [name for name, line in styles.items() if line.startswith("\x1b[1m")]
    assert sorted(changed) == ["learning_rate", "net_kwargs", "num_epochs"]
    assert "layers: 34" in styles["net_kwargs"]


def test_brackets_in_names_paths_and_reasons_are_not_markup(write_run, tmp_path):
    folder, _ = write_run(
        targets=("[/x]", "[bold]Mass"),
        save_path=tmp_path / "[a]",
        status="failed",
        failure="RuntimeError: [/oops]",
    )
    text = printed(show_run, folder)
    assert "RuntimeError: [/oops]" in text
    assert "Targets: [/x], [bold]Mass" in text
    assert cells(text, "[/x]")
    assert cells(text, "[bold]Mass")
    assert "/[a]/run" in text


def test_a_run_without_an_epoch_raises(write_run):
    folder, _ = write_run(epochs=0)
    with pytest.raises(
        HilumError, match=r"the run is running\. A run has scores once its first epoch has ended"
    ):
        printed(show_run, folder)


def test_runs_are_listed_with_status_and_means_of_the_best_epoch(write_run):
    done, _ = write_run(name="a", status="finished", digest="e" * 64)
    begun, _ = write_run(name="b", epochs=0)
    text = printed(show_runs, [done, begun])
    assert cells(text, "a") == ["a", "finished", "2/2", "2", "0.500", "0.750", "1.000", "eeeeeeeeeeee"]
    assert cells(text, "b") == ["b", "running", "0/2", "–", "n/a", "n/a", "n/a", "–"]


def test_listed_recall_and_precision_are_those_of_the_frozen_points(write_run):
    done, _ = write_run(name="a", status="finished", digest="e" * 64)
    done.update(
        operating_points={
            "Edema": {"recall": 0.9, "precision": 0.3},
            "Mass": {"recall": 0.8, "precision": None},
        }
    )
    text = printed(show_runs, [done])
    assert cells(text, "a")[4:7] == ["0.850", "0.750", "0.300"]


def test_a_catalog_is_shown_with_counts_views_and_prevalences(small_catalog):
    table = small_catalog.table.copy()
    table.loc[table.index[:3], "Edema"] = [1.0, float("nan"), float("nan")]
    fixed = pd.Series("train_val", index=table.index, dtype=object)
    fixed.iloc[0] = "test"
    catalog = Catalog("hand", table, small_catalog.targets, None, small_catalog.origin, fixed)
    text = printed(show_catalog, catalog)
    images, positives = len(table), int((table["Edema"] == 1).sum())
    assert f"{images} images of {table['PatientID'].nunique()} patients" in text
    assert f"{table['Orientation_PA'].mean():.1%} PA; {table['Sex_Male'].mean():.1%} male" in text
    assert f"median age {table['Age'].median():.0f}" in text
    assert f"official split train_val {images - 1}, test 1" in text
    known = images - 2
    assert cells(text, "Edema") == [
        "Edema", str(positives), str(known - positives), "2", f"{positives / known:.1%}"
    ]  # fmt: skip
    assert catalog.fingerprint in text


def test_a_target_without_any_label_has_no_prevalence(small_catalog):
    table = small_catalog.table.assign(Edema=float("nan"), Age=float("nan"))
    text = printed(show_catalog, Catalog("hand", table, small_catalog.targets))
    assert cells(text, "Edema") == ["Edema", "0", "0", str(len(table)), "n/a"]
    assert "median age" not in text


def test_a_pipe_gets_whole_lines(write_run, capsys):
    _, metrics = write_run()
    standard_console().print(target_table(metrics.scores))
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith(("Edema", "Mass"))]) == 8
    assert all(len(line) <= 160 for line in lines)


def test_the_frozen_operating_points_are_shown_with_their_notes(write_run):
    point = {
        "threshold": 0.25,
        "policy": "recall>=0.9",
        "recall": 0.95,
        "recall_low": 0.8123,
        "recall_high": 0.99,
        "precision": None,
        "specificity": 0.5,
        "predicted_positive_rate": 0.97,
        "positives": 20,
        "negatives": 80,
        "notes": ["calls nearly every image positive"],
    }
    folder, _ = write_run()
    folder.update(operating_points={"Edema": point})
    text = printed(show_run, folder)
    assert "frozen operating points, val, epoch 2" in text
    shown = text.partition("frozen operating points")[2]
    assert cells(shown, "Edema  ")[1:] == [
        "0.950",
        "(0.81–0.99)",
        "n/a",
        "0.500",
        "97%",
        "0.250",
        "recall>=0.9",
    ]
    assert "Edema: calls nearly every image positive" in text


def summary(**changes) -> Summary:
    values = {
        "name": "custom_pneumonia",
        "net_kwargs": {},
        "about": "Blocks [of convolution].",
        "image_size": (320, 256),
        "outputs": 14,
        "parameters": 1_885_070,
        "trainable": 1_885_070,
    }
    return Summary(**(values | changes))


def lines_of(show, *arguments) -> list[str]:
    return printed(show, *arguments, width=80).splitlines()


def test_the_tables_of_layers_have_the_same_columns():
    layers = (
        Layer("blocks.0.0", "Conv2d", (1, 256, 320), (16, 256, 320), 160, "16 × (1 × 3 × 3 + 1)"),
        Layer(
            "hidden", "Linear", (12_800,), (128,), 1_638_528, "128 × (12,800 + 1)", "a row of 12,800 numbers"
        ),
    )
    lines = lines_of(show_model, Description(summary(), 1_000, 2_500_000, layers))
    headings = [line for line in lines if line.startswith("layer")]
    assert len(headings) == 2
    assert headings[0].index("parameters") == headings[1].index("parameters")
    assert any(
        "Here convolution meets fully connected layers: a row of 12,800 numbers." in line for line in lines
    )
    assert any("image" in line and "1 x 256 x 320" in line for line in lines)
    assert "all of them trainable" in " ".join(lines)
    assert "2.5 MB" in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_frozen_parameters_and_settings_are_shown():
    model = summary(net_kwargs={"hidden": 10}, trainable=70)
    text = " ".join(lines_of(show_model, Description(model, 1, 1, ())))
    assert "with hidden = 10" in text
    assert "1,885,070 parameters, 70 of them trainable" in text


def test_the_list_of_models_shows_timm_and_what_is_left_out():
    lines = lines_of(show_models, [summary()], ["densenet cannot take images of 16 x 16."], None)
    assert lines[1].split()[0] == "custom_pneumonia"
    assert "custom_pneumonia: Blocks [of convolution]." in lines
    assert "densenet cannot take images of 16 x 16." in lines
    assert any("it is not installed: pip install 'hilum[timm]'" in line for line in lines)
    assert any("timm 1.0 is installed" in line for line in lines_of(show_models, [summary()], [], "1.0"))
