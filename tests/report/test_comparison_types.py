"""All changes that can matter are found, and several causes are never called one."""

import pytest

from hilum.config import RunConfig, setting_fields
from hilum.report.comparison_types import WITHOUT_EFFECT, Change, find_changes, repeats_key
from hilum.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    """Makes the folder of a run, with these settings, and with these entries of run.json."""

    def make(record=None, **settings) -> RunFolder:
        entries = {
            "settings": RunConfig(**settings).as_record(),
            "targets": ["Edema", "Mass"],
            "own_net": None,
            "catalog": {"name": "nih", "fingerprint": "ab" * 32},
            "split": {"fingerprint": "cd" * 32, "unit": "patient"},
            "versions": {"hilum": "0.1", "torch": "2.11", "numpy": "2.1"},
            "git_commit": "0123abcd",
            "device": {"type": "cpu", "name": "abacus", "threads": 2},
            "platform": "Linux",
        }
        return RunFolder.create(tmp_path, None, "run", entries | (record or {}))

    return make


def test_one_changed_setting_is_the_single_cause(run):
    found = find_changes(run(), run(learning_rate=0.01))
    assert found.groups == {"settings": (Change("learning_rate", 0.0001, 0.01),)}
    assert found.statement == "One thing differs: learning_rate, 0.0001 → 0.01."
    assert not found.seeds_only


def test_settings_without_effect_are_not_a_change(run):
    other = run(
        name="another",
        save_path="elsewhere",
        quiet=True,
        epoch_args="none",
        num_workers=3,
        balance_tolerance=0.5,
        check_images=True,
        strict_leaks=True,
        loggers=["mlflow"],
        mlflow_uri="sqlite:///elsewhere.db",
    )
    changed = {name for name, value in other.settings.items() if value != RunConfig().as_record()[name]}
    assert changed == set(WITHOUT_EFFECT) & set(setting_fields())
    found = find_changes(run(), other)
    assert (found.groups, found.seeds_only) == ({}, False)
    assert found.statement == "Nothing that could matter differs between the runs."


def test_several_changes_are_not_a_single_cause(run):
    found = find_changes(
        run(), run({"git_commit": "ffff", "device": {"type": "cuda"}}, batch_size=8, blank_policy="ignore")
    )
    assert list(found.groups) == ["settings", "labels", "code", "machine"]
    assert found.statement == (
        "4 things differ (batch_size, blank_policy, code, machine), so no single cause can be claimed "
        "for a difference in the scores."
    )


@pytest.mark.parametrize(
    ("record", "group", "name", "statement"),
    [
        ({"git_commit": "ffff"}, "code", "git_commit", "One thing differs: the code."),
        (
            {"catalog": {"name": "nih", "fingerprint": "ef"}},
            "data",
            "fingerprint",
            "One thing differs: the data.",
        ),
        ({"split": {"fingerprint": "ef"}}, "split", "fingerprint", "One thing differs: the split."),
        (
            {"versions": {"hilum": "0.1", "torch": "2.12", "numpy": "2.1"}},
            "packages",
            "torch",
            "One thing differs: the packages.",
        ),
        ({"versions": {"hilum": "0.2", "torch": "2.11", "numpy": "2.1"}}, "code", "hilum", None),
        (
            {"device": {"type": "cpu", "name": "abacus", "threads": 8}},
            "machine",
            "threads",
            "One thing differs: the machine.",
        ),
        ({"own_net": "mine.Net"}, "settings", "own_net", "One thing differs: own_net, – → mine.Net."),
    ],
)
def test_a_change_in_each_group_is_found(run, record, group, name, statement):
    found = find_changes(run(), run(record))
    assert [change.name for change in found.groups[group]] == [name]
    assert list(found.groups) == [group]
    assert statement in (None, found.statement)


def test_a_changed_seed_also_explains_another_split(run):
    found = find_changes(run(), run(seed=1))
    assert found.seeds_only
    assert found.statement.startswith("Only the seed differs: ")
    found = find_changes(run(), run({"split": {"fingerprint": "ef"}}, seed=1))
    assert found.seeds_only
    assert found.statement.startswith("Only the seed and the split that it draws differ: ")


def test_another_split_is_a_cause_unless_a_setting_explains_it(run):
    other_split = {"split": {"fingerprint": "ef"}}
    found = find_changes(run(), run(other_split, learning_rate=0.01))
    assert found.statement.startswith("2 things differ (learning_rate, split)")
    found = find_changes(run(), run(other_split, val_fraction=0.3))
    assert found.statement == "One thing differs: val_fraction, 0.2 → 0.3."


def test_between_repeats_the_seed_is_not_a_change(run):
    found = find_changes(
        run(), run({"split": {"fingerprint": "ef"}}, seed=1, learning_rate=0.01), repeated=True
    )
    assert [change.name for change in found.groups["settings"]] == ["learning_rate"]
    assert found.statement == "One thing differs: learning_rate, 0.0001 → 0.01."


def test_repeats_may_differ_in_the_seed_the_split_and_the_machine(run):
    first = repeats_key(run())
    other_place = {"split": {"fingerprint": "ef"}, "device": {"type": "cuda"}, "platform": "other"}
    assert repeats_key(run(other_place, seed=5, name="x", quiet=True)) == first
    assert repeats_key(run(learning_rate=0.01)) != first
    assert repeats_key(run(blank_policy="ignore")) != first
    assert repeats_key(run({"git_commit": "ffff"})) != first
    assert repeats_key(run({"targets": ["Edema"]})) != first


def test_an_older_run_is_compared_by_what_it_recorded(run):
    older = run({"versions": {}, "device": {}, "git_commit": None, "platform": None, "catalog": {}})
    del older.record["settings"]["batch_size"]  # came later; its default is what there was before
    found = find_changes(older, run())
    assert "settings" not in found.groups
    assert found.groups["code"] == (Change("git_commit", None, "0123abcd"), Change("hilum", None, "0.1"))
