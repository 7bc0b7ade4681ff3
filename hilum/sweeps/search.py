"""Settings chosen by Optuna, trial by trial.

What is run stands in the sweep's state table; the study in search.db says what the trials came to. After a kill
both are brought together again: a trial whose runs have ended is told, one that no run was made of is given up.

Source: Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD.
"""

import json
import math
from typing import TYPE_CHECKING, Any

from hilum.errors import HilumError
from hilum.randomness import derived_seed
from hilum.sweeps.extras import require
from hilum.sweeps.plan import SweepPlan, planned_run, repeated
from hilum.sweeps.results import validation_means
from hilum.sweeps.search_space import SearchRange, SearchSpace
from hilum.sweeps.state import SweepState

if TYPE_CHECKING:
    import optuna

_AGAIN = "tried again"


def require_optuna() -> None:
    """Raises a HilumError if Optuna is not installed."""
    require("optuna", "sweep", "[search] in a sweep")


class Search:
    """Adds runs to a sweep as places become free.

    The draws of a trial depend on the search's seed, the trial's number, and the trials that have been told.
    One at a time these are always the same, whether or not the sweep was stopped in between.

    Args:
        plan: of the sweep.
        state: of the sweep; its runs may be of a search that was stopped.
    """

    def __init__(self, plan: SweepPlan, state: SweepState):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan, self.state, self.space = plan, state, plan.search
        self.study = optuna.create_study(
            storage=f"sqlite:///{(state.folder / 'search.db').resolve()}",
            study_name=plan.name,
            direction=self.space.direction,
            load_if_exists=True,
        )
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING and trial.number not in state.trials:
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def refill(self, free: int) -> None:
        """Tells the study what has ended, and asks for more trials while places are free."""
        self._tell_ended()
        while len(self.state.trials) < self.space.trials and len(self.state.in_state("pending")) < free:
            self._ask()
            self._tell_ended()

    def total(self) -> int:
        """How many runs there will be at most."""
        return self.space.trials * len(self.plan.seeds or (0,))

    def _ask(self) -> None:
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = _sampler(self.space, number)
        trial = self.study.ask()
        overrides = {key: _suggested(trial, key, given) for key, given in self.space.parameters.items()}
        taken = {run.name.lower() for run in self.state.runs}
        try:
            planned = [planned_run(self.plan, each, taken) for each in repeated(self.plan, overrides)]
        except HilumError as error:
            raise HilumError(
                f"{self.plan.origin}, [search]: trial {trial.number} with {overrides}: {error}"
            ) from None
        runs = self.state.add(planned)
        self.state.trials[trial.number] = [run.name for run in runs]
        self.state.save()

    def _tell_ended(self) -> None:
        import optuna

        states, trials = optuna.trial.TrialState, self.study.get_trials(deepcopy=False)
        tried_again = {trial.user_attrs.get(_AGAIN) for trial in trials}
        for number, names in self.state.trials.items():
            runs, trial = [self.state.run(name) for name in names], trials[number]
            if any(run.state in ("pending", "running") for run in runs):
                continue
            if trial.state == states.COMPLETE or number in tried_again:
                continue
            value = self._value(names) if all(run.state == "finished" for run in runs) else math.nan
            if trial.state == states.RUNNING:
                told = {"state": states.FAIL} if math.isnan(value) else {"values": value}
                self.study.tell(number, **told)
            elif not math.isnan(value):  # it had failed before, and a trial is told once
                self.study.add_trial(
                    optuna.trial.create_trial(
                        params=trial.params,
                        distributions=trial.distributions,
                        value=value,
                        user_attrs={_AGAIN: number},
                    )
                )

    def _value(self, names: list[str]) -> float:
        """The mean of the metric over the seeds of a trial."""
        values = []
        for name in names:
            folder = self.state.run_folder(self.state.run(name))
            values.append(math.nan if folder is None else validation_means(folder)[self.space.metric])
        return sum(values) / len(values)


def _sampler(space: SearchSpace, number: int) -> "optuna.samplers.BaseSampler":
    import optuna

    seed = derived_seed(space.seed, "search", number) % 2**32
    if space.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def _suggested(trial: "optuna.Trial", key: str, given: SearchRange | list[Any]) -> Any:
    if isinstance(given, SearchRange):
        if given.whole:
            return trial.suggest_int(key, given.low, given.high, log=given.log)
        return trial.suggest_float(key, given.low, given.high, log=given.log)
    # Optuna knows choices that are scalars; lists and tables go by their text.
    labels = [value if isinstance(value, str | bool | int | float) else json.dumps(value) for value in given]
    return given[labels.index(trial.suggest_categorical(key, labels))]
