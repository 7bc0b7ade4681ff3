"""Settings chosen by Optuna, trial by trial.

sweep.json has the runs of each trial, the study in search.db has the trials' values. After a kill the two are
made consistent: a trial whose runs have ended gets its value, a trial without runs fails.

Source: Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD.
"""

import json
import math
from typing import Any

from hilum.config import ALIASES
from hilum.errors import HilumError
from hilum.metrics.selection import best_epoch_means
from hilum.randomness import derived_seed
from hilum.sweeps._spec import Interval, Search, SweepSpec
from hilum.sweeps._state import SweepState

#: Marks a second attempt in the study; its text is in the studies of earlier versions.
_RETRIED = "tried again"


class Trials:
    """Adds the runs of new trials to a sweep when slots are free.

    The settings of a trial depend on the search's seed, the trial's number, and the trials that have a value. With
    one run at a time these are always the same, whether or not the sweep was stopped in between.

    `state` may already have trials.
    """

    def __init__(self, spec: SweepSpec, search: Search, state: SweepState):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec, self.search, self.state = spec, search, state
        self.study = optuna.create_study(
            storage=f"sqlite:///{(state.folder / 'search.db').resolve()}",
            study_name=spec.name,
            direction=search.direction,
            load_if_exists=True,
        )
        trials = self.study.get_trials(deepcopy=False)
        # A study of an earlier version keeps the settings' names of that version.
        before = {name for trial in trials for name in trial.params}
        self.names = {name: alias for alias, name in ALIASES.items() if alias in before}
        for trial in trials:
            if trial.state == optuna.trial.TrialState.RUNNING and trial.number not in state.trials:
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def refill(self, free: int) -> None:
        """Gives ended trials their values, and adds trials while slots are free."""
        self._tell_ended()
        while len(self.state.trials) < self.search.trials and len(self.state.in_state("pending")) < free:
            self._ask()
            self._tell_ended()

    def max_runs(self) -> int:
        """Largest number of runs of the sweep."""
        return self.search.trials * len(self.spec.all_seeds or (0,))

    def _ask(self) -> None:
        import optuna

        number = len(self.study.get_trials(deepcopy=False))
        seed = derived_seed(self.search.seed, "search", number) % 2**32
        samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
        self.study.sampler = samplers[self.search.sampler](seed=seed)
        trial = self.study.ask()
        settings = self.search.settings
        overrides = {key: _suggested(trial, self.names.get(key, key), settings[key]) for key in settings}
        names = {run.name.lower() for run in self.state.runs}
        try:
            planned = [self.spec.plan_run(each, names) for each in self.spec.repeated(overrides)]
        except HilumError as error:
            where = f"{self.state.folder}, [search]: trial {trial.number} with {overrides}"
            raise HilumError(f"{where}: {error}") from None
        self.state.trials[trial.number] = [run.name for run in self.state.add(planned)]
        self.state.save()

    def _tell_ended(self) -> None:
        import optuna

        states, trials = optuna.trial.TrialState, self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(_RETRIED) for trial in trials}
        for number, names in self.state.trials.items():
            runs, trial = [self.state.run(name) for name in names], trials[number]
            unfinished = any(run.state in ("pending", "running") for run in runs)
            if unfinished or trial.state == states.COMPLETE or number in retried:
                continue
            value = self._value(names) if all(run.state == "finished" for run in runs) else math.nan
            if trial.state == states.RUNNING:
                failed = math.isnan(value)
                self.study.tell(number, None if failed else value, states.FAIL if failed else None)
            elif not math.isnan(value):  # it failed before, and Optuna does not change a trial that has ended
                known: dict[str, Any] = {"params": trial.params, "distributions": trial.distributions}
                again = optuna.trial.create_trial(**known, value=value, user_attrs={_RETRIED: number})
                self.study.add_trial(again)

    def _value(self, names: list[str]) -> float:
        """The mean of the metric over the seeds of a trial."""
        folders = [self.state.run_folder(self.state.run(name)) for name in names]
        means = [best_epoch_means(folder)[self.search.metric] if folder else math.nan for folder in folders]
        return sum(means) / len(means)


def _suggested(trial: Any, key: str, given: Interval | list[Any]) -> Any:
    if isinstance(given, Interval):
        suggest = trial.suggest_int if given.whole else trial.suggest_float
        return suggest(key, given.low, given.high, log=given.scale == "log")
    # Optuna knows choices that are scalars; lists and tables are represented by their JSON text.
    labels: list[Any] = [
        value if isinstance(value, str | bool | int | float) else json.dumps(value) for value in given
    ]
    return given[labels.index(trial.suggest_categorical(key, labels))]
