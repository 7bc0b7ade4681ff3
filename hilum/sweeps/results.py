"""The results of a sweep: a table of its setting combinations, and the comparison of the best with the base."""

import itertools
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.metrics.selection import best_epoch_scores, parse_rule
from hilum.report.comparison import compare_runs
from hilum.report.comparison_types import Comparison
from hilum.report.format import format_number, format_setting
from hilum.report.terminal import new_table, standard_console
from hilum.run_folder import RunFolder
from hilum.sweeps._spec import SweepRun
from hilum.sweeps._state import SweepState

#: The scores of the table, the most important first -> their headings.
TABLE_SCORES = {"recall": "recall", "roc_auc": "ROC AUC", "precision": "precision"}


@dataclass(frozen=True)
class SweepResult:
    """The state of a sweep, and its `comparison_table` so far."""

    state: SweepState
    table: pd.DataFrame

    @property
    def runs(self) -> pd.DataFrame:
        """The state of each run, one row each."""
        return pd.DataFrame([asdict(run) for run in self.state.runs]).drop(columns=["settings", "key"])

    @property
    def run_folders(self) -> list[RunFolder]:
        """The folders of the finished runs, in order."""
        return list(finished_folders(self.state).values())

    @property
    def failures(self) -> dict[str, str]:
        """Name of a failed run -> why it failed."""
        return {run.name: run.failure or "" for run in self.state.in_state("failed")}

    @property
    def compare_command(self) -> str | None:
        """The command that compares the best combination with the reference; None if there is only one."""
        folders = self._compared_folders()
        return shlex.join(["hilum", "compare", *map(str, folders)]) if folders else None

    def compare(self, **options: Any) -> Comparison:
        """Compares the best combination with the reference, see `reference_and_best`, as `hilum compare` does.

        `options` are `replicates` and `seed` of `hilum.report.comparison.compare_runs`.

        Raises:
            HilumError: fewer than two combinations have finished runs.
        """
        folders = self._compared_folders()
        if not folders:
            raise HilumError(f"{self.state.folder}: a comparison needs two combinations with finished runs.")
        return compare_runs([RunFolder(folder) for folder in folders], **options)

    def _compared_folders(self) -> list[Path]:
        pair = reference_and_best(self.state, self.table) or ()
        return [self.state.folder / name for names in pair for name in names]

    def as_record(self) -> dict[str, Any]:
        """The results as JSON values; a score that is not defined is null."""
        settings = setting_columns(self.table)
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {
            "sweep": self.state.folder.name,
            "folder": str(self.state.folder),
            "threads": self.state.threads,
            "table": [{"settings": {name: row.pop(name) for name in settings}, **row} for row in rows],
            "runs": json.loads(self.runs.to_json(orient="records")),
            "failures": self.failures,
            "compare": self.compare_command,
            "notes": list(self.notes()),
        }

    def notes(self) -> Iterator[str]:
        """What to know when reading the table."""
        table, folders = self.table, self.run_folders
        points = [folder.record.get("operating_points") or {} for folder in folders]
        policies = {point["policy"] for each in points for point in each.values()}
        if policies and all(policy.startswith("recall>=") for policy in policies):
            yield (
                f"The policy of the thresholds is {', '.join(sorted(policies))}, so it fixes recall: compare the "
                "rows by ROC AUC, and by the precision at that recall."
            )
        scores = finished_scores(self.state)
        targets = len({target for each in scores.values() for target in each.index})
        counts = {name: len(found) for name, found in common_targets(scores).items() if len(found) < targets}
        if counts:
            listed = ", ".join(f"{TABLE_SCORES[name]} {count or 'none'}" for name, count in counts.items())
            yield f"Means are over the targets that have the score in every run. Of {targets} targets: {listed}."
        if len(table) and table["failed"].any():
            yield (
                "A row with failed runs is the mean of fewer seeds, and each seed draws its own split: compare it "
                "with care."
            )
        for name in ("name", "threads"):
            values = {str((folder.record.get("device") or {}).get(name)) for folder in folders}
            if len(values) > 1:
                found = ", ".join(sorted(values))
                yield f"The runs differ in the device's {name} ({found}), and so in the last bits of their results."
        if len(table) > 2:
            yield (
                f"The best of {len(table)} rows on the same validation images looks better than it is; evaluate the "
                "one that you choose on test images."
            )
        if len(table) and table["seeds"].min() < 2:
            yield "A row of one seed has no standard deviation: another seed may reverse the order."

    def show(self, console: Console | None = None) -> None:
        """Prints the table, the failures, and the command that compares."""
        console = console or standard_console()
        settings = setting_columns(self.table)
        if len(self.table):
            title = "validation, best epoch, mean over targets ± standard deviation over seeds"
            console.print(f"\n[bold]{title}[/]")
            rows = new_table(*map(escape, settings), *TABLE_SCORES.values(), "seeds", text=len(settings))
            for row in self.table.to_dict("records"):
                pairs = [(format_number(row[name]), row[f"{name}_sd"]) for name in TABLE_SCORES]
                scores = (mean if math.isnan(sd) else f"{mean} ± {sd:.3f}" for mean, sd in pairs)
                seeds = f"{row['seeds']} of {row['seeds'] + row['failed']}" if row["failed"] else row["seeds"]
                rows.add_row(*(escape(format_setting(row[name])) for name in settings), *scores, str(seeds))
            console.print(rows)
        lines = [f"note: {note}" for note in self.notes()]
        lines += [f"failed: {name}: {failure}" for name, failure in self.failures.items()]
        lines += [f"The output of each run is in {self.state.folder / 'logs'}"] if self.failures else []
        lines += [f"Is the difference real? {self.compare_command}"] if self.compare_command else []
        for line in [*lines, f"Everything is in {self.state.folder}"]:
            console.print(escape(line), highlight=False, soft_wrap=True)


def comparison_table(state: SweepState) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each combination's scores; validation, best epoch, mean over targets.

    Each seed draws its own split, in which other rare targets have a score. So each score is the mean over the
    targets that have it in every finished run or, if there is no such target, that have it in the run.

    Columns: the settings that vary, dotted; for each of `TABLE_SCORES` its mean and, as `<score>_sd`, the
    sample standard deviation over the seeds (NaN for one seed); `seeds`, the number of finished runs; `failed`, of
    failed ones; `runs`, the names of the finished ones. Recall and precision are at the frozen operating points.
    Rows are in the order of `best_first`; a combination without a finished run has no row.
    """
    scores = finished_scores(state)
    common = common_targets(scores)
    grouped: dict[str, list[SweepRun]] = {}
    for run in state.runs:
        grouped.setdefault(json.dumps(_without_seed(json.loads(run.key))), []).append(run)
    rows = {settings: _row(runs, scores, common) for settings, runs in grouped.items()}
    found = [(json.loads(settings), row) for settings, row in rows.items() if row["runs"]]
    varying = _varying([settings for settings, _ in found])
    score_columns = [name for score in TABLE_SCORES for name in (score, f"{score}_sd")]
    table = pd.DataFrame(
        [{key: _value_at(settings, key) for key in varying} | row for settings, row in found],
        columns=[*varying, *score_columns, "seeds", "failed", "runs"],
    )
    return table.iloc[best_first(table, _rule(state))].reset_index(drop=True)


def finished_folders(state: SweepState) -> dict[str, RunFolder]:
    """Name of each finished run -> its folder, in order."""
    folders = {run.name: state.run_folder(run) for run in state.in_state("finished")}
    return {name: folder for name, folder in folders.items() if folder is not None}


def finished_scores(state: SweepState) -> dict[str, pd.DataFrame]:
    """Name of each finished run -> its `best_epoch_scores`."""
    return {name: best_epoch_scores(folder) for name, folder in finished_folders(state).items()}


def common_targets(scores: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """For each of `TABLE_SCORES`, the targets that have it in every run."""
    targets = dict.fromkeys(target for each in scores.values() for target in each.index)
    return {
        score: [name for name in targets if all(pd.notna(each[score].get(name)) for each in scores.values())]
        for score in TABLE_SCORES
    }


def setting_columns(table: pd.DataFrame) -> list[str]:
    """The settings that vary: the columns before the scores."""
    return [*itertools.takewhile(lambda name: name not in TABLE_SCORES, table.columns)]


def best_first(table: pd.DataFrame, rule: Sequence[tuple[str, float]]) -> list[int]:
    """The positions of the rows, the best first.

    The scores of the rule are applied in turn: each keeps the rows within its tolerance of the highest. Of the rows
    left, the one with the highest last score is the best. The other rows are ordered the same way, and a row without
    a score comes after those that have it.
    """
    values = {score: table[score].fillna(-math.inf).tolist() for score, _ in rule}
    left, order = list(range(len(table))), []
    while left:
        candidates = left
        for score, tolerance in rule:
            highest = max(values[score][place] for place in candidates)
            candidates = [place for place in candidates if values[score][place] >= highest - tolerance]
        best = max(candidates, key=lambda place: (values[rule[-1][0]][place], -place))
        order.append(best)
        left = [place for place in left if place != best]
    return order


def reference_and_best(state: SweepState, table: pd.DataFrame) -> tuple[list[str], list[str]] | None:
    """The names of the reference's runs, and those of the best other combination; None if there is only one.

    The reference is the combination equal to the sweep's base, or else the first.
    """
    if len(table) < 2:
        return None
    base = RunConfig(**state.spec["base"]).as_record()
    order = [run.name for run in state.runs]
    combinations = sorted(table["runs"], key=lambda names: order.index(names[0]))

    def is_base(names: list[str]) -> bool:
        overrides = _without_seed(state.run(names[0]).overrides)
        return all(_value_at(base, key) == value for key, value in overrides.items())

    reference = next(filter(is_base, combinations), combinations[0])
    return reference, next(names for names in table["runs"] if names != reference)


def _row(
    runs: list[SweepRun], scores: Mapping[str, pd.DataFrame], common: Mapping[str, list[str]]
) -> dict[str, Any]:
    """The row of a combination, without its settings."""
    names = [run.name for run in runs if run.name in scores]
    row: dict[str, Any] = {}
    for score in TABLE_SCORES:
        of_runs = (scores[name][score] for name in names)
        means = [(each[common[score]] if common[score] else each).mean() for each in of_runs]
        values = pd.Series(means, dtype=float)
        row |= {score: values.mean(), f"{score}_sd": values.std()}
    return row | {"seeds": len(names), "failed": sum(run.state == "failed" for run in runs), "runs": names}


def _varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted names of the settings that differ between rows."""
    flat = [dict(_flat(each)) for each in settings]
    keys = dict.fromkeys(key for each in flat for key in each)
    return [
        key
        for key in keys
        if any(each.get(key) != flat[0].get(key) for each in flat)
        # A setting that is a table in one row and not in another is shown as a whole.
        and not any(key.startswith(f"{other}.") for other in keys)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif value != {}:
            yield f"{prefix}{key}", value


def _value_at(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None if it is missing."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _rule(state: SweepState) -> list[tuple[str, float]]:
    """The base's `best_rule`, limited to the scores of the table."""
    found = []
    with suppress(HilumError):
        rule = parse_rule(RunConfig(**state.spec["base"]).best_rule)
        found = [(each.score, each.tolerance) for each in rule if each.score in TABLE_SCORES]
    return found or [("roc_auc", 0.0)]


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "seed"}
