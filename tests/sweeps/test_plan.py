"""Every mistake of a sweep file is told before anything starts, with its table, its key and what is near."""

import pytest

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.sweeps.plan import make_plan, read_plan


@pytest.fixture
def written(tmp_path):
    """Writes a sweep file; gives its path."""

    def write(text: str):
        path = tmp_path / "lr.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_is_a_grid_times_seeds_and_single_runs(written):
    plan = read_plan(
        written("""
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
    )
    assert plan.folder.as_posix() == "runs/lr"  # the file's name, where it gives none
    assert len(plan.runs) == 3 * 2 * 2 + 2
    first, last = plan.runs[0], plan.runs[-1]
    assert first.name == "lr-learning_rate-1e-6-net_kwargs.layers-18-seed-0"
    assert first.settings == {
        "source": "nih",
        "net_kwargs": {"layers": 18, "drop_out_percent": 0.1},
        "learning_rate": 1e-6,
        "seed": 0,
    }
    assert (last.name, last.overrides) == ("lr-batch_size-8-seed-7", {"batch_size": 8, "seed": 7})
    assert all(RunConfig(name=run.name) for run in plan.runs)


def test_unquoted_dots_are_the_same_in_a_grid(written):
    plan = read_plan(
        written("[grid]\nnet_kwargs.layers = [18, 34]\nsource_kwargs.a.b = {from=0, to=1, steps=2}")
    )
    assert plan.grid == {"net_kwargs.layers": [18, 34], "source_kwargs.a.b": [0, 1]}


def test_all_mistakes_are_told_at_once(written):
    path = written("""
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
        seed = 3
        save_path = ["a"]
        "batch_size.x" = [1]
        val_fraction = [0.1, 0.1]
        [[runs]]
        image_width = "wide"
        """)
    with pytest.raises(HilumError) as error:
        read_plan(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: 18 mistakes:"
    for words in (
        "there is no 'nmae' in a sweep file. Did you mean 'name'?",
        "there is no 'learning_rate' in a sweep file. Settings of a run go into [base].",
        "repeats is 0; it must be a whole number from 1 on.",
        "threads is 1.5; it must be a whole number from 1 on.",
        "[base]: there is no setting 'sourc'. Did you mean 'source'?",
        "[base] name: each run's name is made from what is particular about it; `name` at the top names the sweep.",
        "[base] batch_size: 0 must be greater than or equal to 1.",
        "[grid]: there is no setting 'lerning_rate'. Did you mean 'learning_rate'?",
        "[grid] l2_reg: the list is empty; give at least one value.",
        "[grid] momentum: the range goes from 0.9 to 0.1; from must be below to.",
        "[grid] clip_norm: from is 0; a logarithmic range begins above 0.",
        "[grid] aug_fraction: a range has no 'form'. Did you mean 'from'? It has from, to, steps, scale.",
        "[grid] ema_decay: steps is 1; it is the number of values with both ends, a whole number from 2 on.",
        "[grid] seed: 3 is one value; give a list such as [3], or a range.",
        "[grid] save_path: all runs lie in the sweep's folder; `save_path` at the top says where that is.",
        "[grid] batch_size.x: batch_size is no table, so it has no 'x'.",
        "[grid] val_fraction: the value 0.1 is there twice; it would be the same run twice.",
        "[[runs]] number 1 image_width: 'wide' must be a valid integer, unable to parse string as an integer.",
    ):
        assert f"  {words}" in lines, words


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "nothing varies"),
        ({"runs": []}, "runs must be a list of tables"),
        ({"runs": [{"l2_reg": 0.1}, {"l2_reg": 0.1}]}, "the same run twice: l2_reg = 0.1 and l2_reg = 0.1"),
        ({"runs": [{}, {"batch_size": 64}]}, "the same run twice: no changes and batch_size = 64"),
        ({"grid": {"val_fraction": [0.2, 0.9]}, "base": {"test_fraction": 0.2}}, "leave nothing to train on"),
        ({"seeds": [1, 1]}, "seeds: 1 is there twice"),
        ({"seeds": [-1]}, "-1 must be greater than or equal to 0"),
        ({"seeds": [1], "repeats": 2}, "seeds and repeats say the same thing twice"),
        ({"seeds": [1], "base": {"seed": 2}}, "[base] seed does nothing where seeds are given"),
        ({"seeds": [1], "grid": {"seed": [2]}}, "[grid] seed: seeds or repeats are given too"),
        ({"seeds": [1], "name": "a b"}, "name: 'a b' must be letters"),
        (
            {"grid": {"uncertain_policy.Edema": ["ones"]}, "base": {"uncertain_policy": "zeros"}},
            "to be a table",
        ),
        (
            {"grid": {"l2_reg": [0.1]}, "flags": {"l2_reg": 0.2}},
            "--l2-reg does nothing, because [grid] gives l2_reg",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(parts, words):
    with pytest.raises(HilumError) as error:
        make_plan(**parts)
    assert words in str(error.value)


def test_repeats_begin_at_the_seed_of_the_base():
    plan = make_plan({"seed": 4}, repeats=3)
    assert [run.overrides for run in plan.runs] == [{"seed": 4}, {"seed": 5}, {"seed": 6}]


def test_a_base_may_be_a_run_config():
    plan = make_plan(RunConfig(source="nih", num_epochs=4), seeds=range(2))
    assert plan.base == {"source": "nih", "num_epochs": 4}  # what was given, its default's value too


def test_names_are_unique_even_where_case_is_not_told_apart():
    plan = make_plan(runs=[{"pack": "a/B"}, {"pack": "a-b"}, {"pack": "x" * 300}], name="s")
    names = [run.name for run in plan.runs]
    assert names[:2] == ["s-pack-a-B", "s-pack-a-b-2"]
    assert len(names[2]) < 120


def test_flags_win_over_the_base(written):
    plan = read_plan(
        written("seeds = [0]\n[base]\nroot = 'a'"), {"root": "b", "name": "other", "save_path": "s"}
    )
    assert plan.base["root"] == "b"
    assert plan.folder.as_posix() == "s/other"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(HilumError, match="this settings file does not exist"):
        read_plan(tmp_path / "no.toml")


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
        make_plan(search=search, grid={"l2_reg": [0.1]})
    for words in (
        "[search] trials is 0",
        "[search] metric: 'auc' is none. Did you mean 'roc_auc'?",
        "[search] direction: 'up' is none.",
        "[search] sampler: 'grid' is none.",
        "[search] has no 'samler'. Did you mean 'sampler'?",
        "[search.settings] learning_rate: a range has no 'steps'.",
        "[search.settings] batch_size: it is a whole number, so from and to must be whole numbers.",
        "[search.settings]: there is no setting 'dropout'.",
        "[search.settings] net_name: the list is empty",
        "[search.settings] momentum: 2 must be less than 1.",
    ):
        assert words in str(error.value), words
    good = {"trials": 1, "settings": {"learning_rate": [0.1]}}
    with pytest.raises(HilumError, match=r"\[search\] chooses the settings itself"):
        make_plan(search=good, grid={"l2_reg": [0.1]})
