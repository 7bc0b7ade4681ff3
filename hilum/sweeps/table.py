"""The comparison table of a sweep: one row per setting combination, the best first."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hilum.config import DEFAULTS, RunConfig
from hilum.errors import HilumError
from hilum.metrics.best_epoch import parse_rule
from hilum.sweeps.overrides import value_at
from hilum.sweeps.scores import validation_scores
from hilum.sweeps.state import SweepRun, SweepState

#: The scores of the table, in the order of their importance.
TABLE_SCORES = ("recall", "roc_auc", "precision")


def comparison_table(state: SweepState) -> pd.DataFrame:
    """Mean and spread over seeds of each combination's scores; validation, best epoch, means over targets.

    Another seed draws another split, in which other rare targets have a score: so each score is the mean over
    the targets that have it in every finished run, or, where there are none, that have it in the run.

    Columns: the settings that vary, dotted; for each of `TABLE_SCORES` its mean and, as `<score>_sd`, the
    sample standard deviation over the seeds (NaN for one); `seeds`, how many finished; `failed`, how many did
    not; `runs`, the names of the finished ones. Recall and precision are at the frozen operating points.
    Rows are ordered by the rule of `best_first`; a combination without a finished run has no row.
    """
    scores = finished_scores(state)
    common = common_targets(scores)
    rows = [_row(of_row, scores, common) for of_row in _combinations(state)]
    rows = [row for row in rows if row["runs"]]
    varying = _varying([row["settings"] for row in rows])
    table = pd.DataFrame(
        [
            {**{key: value_at(row["settings"], key) for key in varying}, **_without(row, "settings")}
            for row in rows
        ],
        columns=[
            *varying,
            *(name for score in TABLE_SCORES for name in (score, f"{score}_sd")),
            *("seeds", "failed", "runs"),
        ],
    )
    order = best_first(table, _rule(state))
    return table.iloc[order].reset_index(drop=True)


def finished_scores(state: SweepState) -> dict[str, pd.DataFrame]:
    """Name of each finished run -> its `validation_scores`."""
    folders = {run.name: state.run_folder(run) for run in state.in_state("finished")}
    return {name: validation_scores(folder) for name, folder in folders.items() if folder is not None}


def common_targets(scores: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """For each of `TABLE_SCORES`, the targets that have it in every run."""
    defined = {
        score: [set(each.index[each[score].notna()]) for each in scores.values()] for score in TABLE_SCORES
    }
    order = list(dict.fromkeys(target for each in scores.values() for target in each.index))
    return {
        score: [target for target in order if sets and all(target in each for each in sets)]
        for score, sets in defined.items()
    }


def setting_columns(table: pd.DataFrame) -> list[str]:
    """The settings that vary."""
    return [*table.columns[: list(table.columns).index(TABLE_SCORES[0])]]


def best_first(table: pd.DataFrame, rule: Sequence[tuple[str, float]]) -> list[int]:
    """The rows' positions, the best first.

    The best has, of the rows whose first score is the highest to within its tolerance, and of these whose
    second is, …, the highest last score. What is left is ordered the same way. Rows without a score come last.
    """
    left, order = list(range(len(table))), []
    while left:
        candidates = left
        for score, tolerance in rule:
            values = {place: table[score].iloc[place] for place in candidates}
            values = {place: -math.inf if math.isnan(value) else value for place, value in values.items()}
            highest = max(values.values())
            candidates = [place for place in candidates if values[place] >= highest - tolerance]
        best = max(candidates, key=lambda place: (_number(table[rule[-1][0]].iloc[place]), -place))
        order.append(best)
        left = [place for place in left if place != best]
    return order


def reference_and_best(state: SweepState, table: pd.DataFrame) -> tuple[list[str], list[str]] | None:
    """The names of the runs to compare: those of the reference, then those of the best other combination.

    The reference is the combination that is equal to the sweep's base, or else the first of the file. None if
    there is nothing to compare.
    """
    if len(table) < 2:
        return None
    base = {**DEFAULTS.as_record(), **RunConfig(**state.plan["base"]).as_record()}
    by_name = {run.name: run for run in state.runs}

    def is_base(names: list[str]) -> bool:
        overrides = _without(by_name[names[0]].overrides, "seed")
        return all(value_at(base, key) == value for key, value in overrides.items())

    first_names = [run.name for run in state.runs]
    in_file_order = sorted(table["runs"], key=lambda names: first_names.index(names[0]))
    reference = next((names for names in in_file_order if is_base(names)), in_file_order[0])
    best = next(names for names in table["runs"] if names != reference)
    return reference, best


def _combinations(state: SweepState) -> list[list[SweepRun]]:
    """Runs that are equal but for the seed, together."""
    grouped: dict[str, list[SweepRun]] = {}
    for run in state.runs:
        key = json.dumps(_without(json.loads(run.key), "seed"), sort_keys=True)
        grouped.setdefault(key, []).append(run)
    return list(grouped.values())


def _row(
    runs: list[SweepRun], scores: Mapping[str, pd.DataFrame], common: Mapping[str, list[str]]
) -> dict[str, Any]:
    names = [run.name for run in runs if run.name in scores]
    row: dict[str, Any] = {"settings": _without(json.loads(runs[0].key), "seed")}
    for score in TABLE_SCORES:
        of_runs = (scores[name][score] for name in names)
        means = [(each[common[score]] if common[score] else each).mean() for each in of_runs]
        values = pd.Series(means, dtype=float)
        row |= {score: values.mean(), f"{score}_sd": values.std()}
    failed = sum(run.state == "failed" for run in runs)
    return row | {"seeds": len(names), "failed": failed, "runs": names}


def _varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted names of what is not the same in all rows."""
    flat = [_flat(each) for each in settings]
    keys = dict.fromkeys(key for each in flat for key in each)
    return [
        key
        for key in keys
        if any(each.get(key) != flat[0].get(key) for each in flat)
        # Where a setting is a table in one row and none in another, it is shown whole.
        and not any(key.startswith(f"{other}.") for other in keys if other != key)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        elif value != {}:
            found[f"{prefix}{key}"] = value
    return found


def _rule(state: SweepState) -> list[tuple[str, float]]:
    """The base's `best_rule`, as far as the table has its scores."""
    try:
        rule = parse_rule(RunConfig(**state.plan["base"]).best_rule)
    except HilumError:
        rule = ()
    return [
        (criterion.score, criterion.tolerance) for criterion in rule if criterion.score in TABLE_SCORES
    ] or [("roc_auc", 0.0)]


def _without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value
