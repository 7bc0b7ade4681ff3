"""A search that was stopped continues as if it had not been."""

import pytest

from hilum.errors import HilumError
from hilum.sweeps._state import read_state

pytest.importorskip("optuna")

SETTINGS = {"learning_rate": {"from": 1e-3, "to": 0.3, "scale": "log"}, "batch_size": {"from": 8, "to": 64}}


def search(trials: int, **changes) -> dict:
    return {"trials": trials, "seed": 3, "settings": SETTINGS} | changes


def overrides(result) -> list[dict]:
    return [run.overrides for run in result.state.runs]


def test_a_search_that_was_stopped_continues(loop):
    import optuna

    whole = loop(search=search(3), name="whole").run()
    assert len(whole.table) == 3
    assert whole.table.iloc[0]["learning_rate"] == max(each["learning_rate"] for each in overrides(whole))
    assert all(isinstance(each["batch_size"], int) for each in overrides(whole))
    stopped = loop(search=search(1))
    stopped.run()
    longer = loop(search=search(3)).run()
    assert overrides(longer) == overrides(whole)
    study = optuna.load_study(study_name="lr", storage=f"sqlite:///{stopped.spec.folder / 'search.db'}")
    values = {trial.number: trial.value for trial in study.trials}
    assert values == pytest.approx(
        {n: 0.6 + each["learning_rate"] for n, each in enumerate(overrides(longer))}
    )
    with pytest.raises(HilumError, match=r"\[search\] metric was roc_auc, is loss"):
        loop(search=search(3, metric="loss")).run()


def test_failed_trials_count_and_can_be_retried(loop):
    base = {"source_kwargs": {"fail": "no", "once": True}}
    sweep = loop(
        base, search=search(2, settings={"learning_rate": [0.1, 0.2], "seed": [5]}, sampler="random", seed=0)
    )
    names = [run.name for run in sweep.run().state.in_state("failed")]
    assert names  # the same choice may be drawn twice, and is then trained once
    result = sweep.run(retry_failed=True)
    assert not result.failures
    assert sum(map(len, read_state(sweep.spec.folder).trials.values())) == 2


def test_a_trial_is_the_mean_over_its_seeds(loop):
    import optuna

    sweep = loop(search=search(1, settings={"learning_rate": [0.1]}), seeds=[0, 2])
    result = sweep.run(parallel=2)
    study = optuna.load_study(study_name="lr", storage=f"sqlite:///{sweep.spec.folder / 'search.db'}")
    assert study.best_value == pytest.approx(0.71)
    assert result.table["seeds"].tolist() == [2]
