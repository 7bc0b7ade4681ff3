"""Every mistake in a sweep file is reported before anything starts, with its table, key, value and remedy."""

import numpy as np
import pytest

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.sweeps._spec import make_spec
from hilum.sweeps.model_loop import ModelLoop


@pytest.fixture
def read(tmp_path):
    """The SweepSpec of a sweep file with this text."""

    def read_text(text: str, **flags):
        path = tmp_path / "lr.toml"
        path.write_text(text)
        return ModelLoop.from_toml(path, **flags).spec

    return read_text


def test_a_file_is_a_grid_times_seeds_and_single_runs(read):
    spec = read("""
        seeds = [0, 7]
        threads = 2
        [base]
        source = "nih"
        net_kwargs = {layers = 18, drop_out_percent = 0.1}
        [grid]
        learning_rate = {from = 1e-6, to = 1e-4, steps = 3, scale = "log"}
        "net_kwargs.layers" = [18, 34]
        [[runs]]
        batch_size = 8
        """)
    assert spec.folder.as_posix() == "runs/lr"  # the name of the file, which has no `name`
    runs = spec.plan_runs()
    assert len(runs) == 3 * 2 * 2 + 2
    first, last = runs[0], runs[-1]
    assert first.name == "lr-learning_rate-1e-6-net_kwargs.layers-18-seed-0"
    assert first.settings == {
        "source": "nih",
        "net_kwargs": {"layers": 18, "drop_out_percent": 0.1},
        "learning_rate": 1e-6,
        "seed": 0,
    }
    assert (last.name, last.overrides) == ("lr-batch_size-8-seed-7", {"batch_size": 8, "seed": 7})
    assert all(RunConfig(name=run.name) for run in runs)


def test_unquoted_dots_in_a_grid_are_entries_of_a_table(read):
    spec = read("[grid]\nnet_kwargs.layers = [18, 34]\nsource_kwargs.a.b = {from=0, to=1, steps=2}")
    assert spec.grid == {"net_kwargs.layers": [18, 34], "source_kwargs.a.b": [0, 1]}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"from": 1e-6, "to": 1e-3, "steps": 4, "scale": "log"}, [1e-06, 1e-05, 0.0001, 0.001]),
        ({"from": 1, "to": 7, "steps": 3}, [1, 4, 7]),
        ({"from": 1, "to": 2, "steps": 3}, [1.0, 1.5, 2.0]),
        (np.array([0.1, 0.2]), [0.1, 0.2]),
        ((0.1, 0.2), [0.1, 0.2]),
    ],
)
def test_a_range_has_both_ends_and_whole_numbers_where_all_values_are(given, values):
    found = make_spec({"grid": {"source_kwargs.x": given}}).grid["source_kwargs.x"]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_all_mistakes_are_reported_at_once(read, tmp_path):
    with pytest.raises(HilumError) as error:
        read("""
            nmae = "x"
            learning_rate = 1
            repeats = 0
            threads = 1.5
            [base]
            sourc = "nih"
            name = "a"
            batch_size = 0
            [grid]
            lerning_rate = [1]
            l2_reg = []
            momentum = {from = 0.9, to = 0.1, steps = 3}
            clip_norm = {from = 0, to = 1, steps = 3, scale = "log"}
            aug_fraction = {form = 0, to = 1}
            ema_decay = {from = 0.1, to = 0.2, steps = 1}
            shear_degrees = {from = true, to = 2, steps = 2}
            layer_decay = 3
            save_path = ["a"]
            "batch_size.x" = [1]
            val_fraction = [0.1, 0.1]
            [[runs]]
            image_width = "wide"
            """)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tmp_path / 'lr.toml'}: 21 mistakes:"
    for start, *parts in (
        ("nmae: there is no such key.", "Did you mean 'name'?"),
        ("learning_rate: there is no such key.", "Settings of a run go into [base]."),
        ("repeats: 0 must be", "1"),
        ("threads: 1.5 must be", "integer"),
        ("[base] sourc: There is no setting 'sourc'.", "Did you mean 'source'?"),
        ("[base] name:", "`name` at the top of the file names the sweep."),
        ("[base] batch_size: 0 must be", "1"),
        ("[grid] lerning_rate: There is no setting 'lerning_rate'.", "Did you mean 'learning_rate'?"),
        ("[grid] l2_reg:", "the list is empty", "at least one value"),
        ("[grid] momentum:", "from 0.9 to 0.1", "`from` must be below `to`"),
        ("[grid] clip_norm:", "`from` is 0", "above 0"),
        ("[grid] aug_fraction form: there is no such key.", "'from'?", "from, to, scale, steps"),
        ("[grid] aug_fraction from:", "missing"),
        ("[grid] aug_fraction steps:", "missing"),
        ("[grid] ema_decay steps: 1 must be", "2"),
        ("[grid] shear_degrees:", "must be numbers, not True and 2"),
        ("[grid] layer_decay: 3 is one value;", "a list such as [3], or a range."),
        ("[grid] save_path:", "`save_path` at the top of the file"),
        ("[grid] batch_size.x: {'x': 1} must be", "whole number"),
        ("[grid] val_fraction: 0.1", "twice"),
        ("[[runs]] number 1 image_width: 'wide' must be", "whole number"),
    ):
        (line,) = [line for line in lines if line.startswith(f"  {start}")]
        assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "nothing varies"),
        ({"runs": []}, "runs: must be a list of tables"),
        ({"base": 3, "seeds": [1]}, "base: must be a table of settings, not 3"),
        ({"search": 3}, "search: must be a table, not 3"),
        ({"runs": [{"l2_reg": 0.1}, {"l2_reg": 0.1}]}, "the same run twice: l2_reg = 0.1 and l2_reg = 0.1"),
        ({"runs": [{}, {"batch_size": 64}]}, "the same run twice: no changes and batch_size = 64"),
        ({"grid": {"val_fraction": [0.2, 0.9]}, "base": {"test_fraction": 0.2}}, "leave nothing to train on"),
        ({"seeds": [1, 1]}, "seeds: 1 is there twice"),
        ({"seeds": [-1]}, "-1 must be greater than or equal to 0"),
        ({"seeds": [1], "repeats": 2}, "seeds and repeats exclude each other"),
        ({"seeds": [1], "base": {"seed": 2}}, "[base] seed: seeds or repeats are given too"),
        ({"seeds": [1], "grid": {"seed": [2]}}, "[grid] seed: seeds or repeats are given too"),
        ({"repeats": 2, "runs": [{"seed": 2}]}, "[[runs]] number 1 seed: seeds or repeats are given too"),
        ({"seeds": [1], "name": "a b"}, "name: 'a b' must be letters"),
        ({"seeds": [1], "base": {"aug_percent": 0.1, "aug_fraction": 0.1}}, "give one of them"),
        (
            {"grid": {"uncertain_policy.Edema": ["ones"]}, "base": {"uncertain_policy": "zeros"}},
            "to be a table, not 'zeros'",
        ),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused(parts, text):
    with pytest.raises(HilumError) as error:
        make_spec(parts)
    assert text in str(error.value)


def test_repeats_start_at_the_seed_of_the_base():
    spec = make_spec({"base": {"seed": 4}, "repeats": 3})
    assert [run.overrides for run in spec.plan_runs()] == [{"seed": 4}, {"seed": 5}, {"seed": 6}]


def test_a_base_may_be_a_run_config():
    spec = make_spec({"base": RunConfig(source="nih", num_epochs=4), "seeds": range(2)})
    assert spec.base == {"source": "nih", "num_epochs": 4}  # what was given, even if it equals the default


def test_older_names_of_settings_are_accepted():
    spec = make_spec({"base": {"aug_percent": 0.1}, "grid": {"translate_percent": [0.1, 0.2]}})
    assert (spec.base, spec.grid) == ({"aug_fraction": 0.1}, {"translate_fraction": [0.1, 0.2]})


def test_names_differ_in_more_than_case():
    spec = make_spec({"runs": [{"pack": "a/B"}, {"pack": "a-b"}, {"pack": "x" * 300}], "name": "s"})
    names = [run.name for run in spec.plan_runs()]
    assert names[:2] == ["s-pack-a-B", "s-pack-a-b-2"]
    assert len(names[2]) < 120


def test_flags_overrule_the_base(read):
    spec = read("seeds = [0]\n[base]\nroot = 'a'", root="b", name="other", save_path="s")
    assert spec.base["root"] == "b"
    assert spec.folder.as_posix() == "s/other"


def test_a_flag_that_the_grid_overrules_is_refused(read):
    with pytest.raises(HilumError, match=r"--l2-reg has no effect, because \[grid\] gives l2_reg"):
        read("[grid]\nl2_reg = [0.1]", l2_reg=0.2)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(HilumError, match="this settings file does not exist"):
        ModelLoop.from_toml(tmp_path / "no.toml")


def test_a_search_is_checked():
    search = {
        "trials": 0,
        "metric": "auc",
        "direction": "up",
        "sampler": "grid",
        "samler": "tpe",
        "settings": {
            "learning_rate": {"from": 1e-5, "to": 1e-2, "steps": 3},
            "batch_size": {"from": 8.5, "to": 64},
            "dropout": [1],
            "net_name": [],
            "momentum": {"from": 0, "to": 2},
        },
    }
    with pytest.raises(HilumError) as error:
        make_spec({"search": search, "grid": {"l2_reg": [0.1]}})
    for text in (
        "[search] trials: 0 must be",
        "[search] metric: 'auc' must be",
        "Did you mean 'roc_auc'?",
        "[search] direction: 'up' must be 'maximize' or 'minimize'.",
        "[search] sampler: 'grid' must be 'tpe' or 'random'.",
        "[search] samler: there is no such key. Did you mean 'sampler'?",
        "[search.settings] learning_rate steps: there is no such key.",
        "[search.settings] batch_size: the setting is a whole number, so `from` and `to` must be",
        "[search.settings] dropout: There is no setting 'dropout'.",
        "[search.settings] net_name: the list is empty",
        "[search.settings] momentum: 2 must be less than 1.",
        "[search] chooses the settings itself",
    ):
        assert text in str(error.value), text


def test_a_search_of_a_setting_that_is_a_fraction_draws_fractions():
    settings = {
        "l2_reg": {"from": 0, "to": 1},
        "batch_size": {"from": 8, "to": 64},
        "net_kwargs.x": {"from": 1, "to": 2},
    }
    search = make_spec({"search": {"trials": 1, "metric": "loss", "settings": settings}}).search
    assert {key: each.whole for key, each in search.settings.items()} == {
        "l2_reg": False,
        "batch_size": True,
        "net_kwargs.x": True,
    }
    assert search.as_record() == {
        "trials": 1,
        "metric": "loss",
        "direction": "minimize",
        "sampler": "tpe",
        "seed": 0,
        "settings": settings,
    }
