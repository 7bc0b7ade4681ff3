"""Tests of the generated pages: they are complete."""

import json
import re

import click
import pytest

from docs.generators import results
from docs.generators.commands import commands, commands_page, own_parameters
from docs.generators.results import measured_ratios, results_page
from docs.generators.settings import groups, settings_page
from hilum.cli import cli
from hilum.config import setting_fields


def test_every_command_and_every_option_is_on_the_page():
    page = commands_page()
    named = dict(commands())
    assert {f"hilum {name}" for name in cli.commands} <= set(named)
    for path, command in named.items():
        section = re.search(rf"^## {path}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
        assert section, path
        for option in own_parameters(command):
            if isinstance(option, click.Option):
                assert all(f"`{flag}`" in section[1] for flag in option.opts), (path, option.opts)


def test_defaults_are_shown_and_help_is_not():
    page = commands_page()
    assert "| `--out` | folder of the demo | `demo` |" in page
    assert "`--help` |" not in page


def test_settings_of_a_run_are_listed_once_and_linked_from_the_commands():
    page = commands_page()
    assert "--learning-rate" not in page.replace("--learning-rate 1e-3", "")
    train = page.partition("## hilum train\n")[2].partition("\n## ")[0]
    assert "(settings.md)" in train


def test_every_setting_is_in_one_group_with_its_default_and_description():
    listed = [name for names in groups().values() for name in names]
    assert sorted(listed) == sorted(setting_fields())
    page = settings_page()
    for name, field in setting_fields().items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        description = field.description.partition("{")[0].partition("|")[0]
        assert description.strip() in row
        assert len(re.split(r"(?<!\\)\|", row)) == 6, row


@pytest.mark.parametrize(
    ("name", "default", "values"),
    [
        ("learning_rate", "`0.0001`", "number, above 0"),
        ("val_fraction", "`0.2`", "number, 0 to 1"),
        ("deterministic", "`false`", "`true` or `false`"),
        ("optimizer", "`adam`", "`adam` or `adamw` or `sgd`"),
        ("image_width", "`320`", "whole number, 16 to 4096"),
        ("root", "–", "path"),
        ("best_rule", "`recall:0.01, roc_auc:0.002, precision`", "list of text"),
    ],
)
def test_defaults_and_limits_are_readable(name, default, values):
    row = next(line for line in settings_page().splitlines() if line.startswith(f"| `{name}` "))
    assert f"| {default} | {values} |" in row


def test_braces_of_examples_survive_markdown():
    row = next(line for line in settings_page().splitlines() if line.startswith("| `net_kwargs` "))
    assert "`{layers = 34}`" in row


def test_the_results_page_depends_only_on_the_json(tmp_path, monkeypatch):
    page = results_page()
    for path in results.RESULTS.glob("*.json"):
        for _, ratio in measured_ratios(json.loads(path.read_text())):
            assert results._number(ratio["median"]) in page
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "metrics.json").write_text(
        json.dumps({"benchmark": "metrics", "speedup": {"median": 12.5, "min": 11, "max": 14, "runs": 3}})
    )
    page = results_page()
    assert "| speedup | 12.5 | 11 – 14 | 3 |" in page
    assert "scikit-learn calls of the founding document" in page, "the first paragraph of the benchmark"
    assert "python benchmarks/metrics.py --json" in page


def test_the_nih_sample_is_shown_with_spread_and_intervals(tmp_path, monkeypatch):
    score = {"mean": 0.7, "sd": 0.05, "low": 0.55, "high": 0.81, "seeds": 5}
    nothing = {"mean": None, "sd": None, "low": None, "high": None, "seeds": 0}
    row = {
        "target": "Pleural_Effusion",
        "positives": [20, 26],
        "roc_auc": score,
        "avg_precision": score | {"seeds": 4},
    }
    record = {
        "benchmark": "scores",
        "data": "nih",
        "images": 866,
        "seeds": 5,
        "command": "python benchmarks/scores.py",
        "settings_summary": "ResNet-18 at 128 x 128, 5 epochs",
        "rows": [row | {"recall": score, "precision": nothing}],
    }
    (tmp_path / "nih-sample.json").write_text(json.dumps(record))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    page = results_page()
    page = page.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NON-BREAKING HYPHEN}", "-")
    assert "| Pleural Effusion | 20 – 26 | 0.70 ± 0.05<br>(0.55-0.81) |" in page
    assert "(0.55-0.81)<br>4 seeds |" in page
    assert "| n/a |" in page
