"""What a sweep came to."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from hilum.config import DEFAULTS, RunConfig
from hilum.errors import HilumError
from hilum.metrics.selection import parse_rule
from hilum.report.terminal import in_words, new_table, one_score, standard_console
from hilum.run_folder import RunFolder
from hilum.sweeps.overrides import value_at
from hilum.sweeps.search_space import SEARCH_METRICS
from hilum.sweeps.state import SweepRun, SweepState

if TYPE_CHECKING:
    from hilum.report.comparison_types import Comparison

_HEADINGS = {"recall": "recall", "roc_auc": "ROC AUC", "precision": "precision"}


@dataclass(frozen=True)
class SweepResult:
    """The end of a sweep, or how far it has come.

    Attributes:
        state: the state table.
        table: one row per setting combination, see `hilum.sweeps.results.comparison_table`.
    """

    state: SweepState
    table: pd.DataFrame

    @classmethod
    def of(cls, state: SweepState) -> "SweepResult":
        """What the run folders of a sweep say."""
        return cls(state, comparison_table(state))

    @property
    def runs(self) -> pd.DataFrame:
        """The state table: a row per run."""
        return pd.DataFrame([asdict(run) for run in self.state.runs]).drop(columns=["settings", "key"])

    @property
    def run_folders(self) -> list[RunFolder]:
        """Of the finished runs, in order."""
        folders = [self.state.run_folder(run) for run in self.state.in_state("finished")]
        return [folder for folder in folders if folder is not None]

    @property
    def failures(self) -> dict[str, str]:
        """Name of a failed run -> why."""
        return {run.name: run.failure or "" for run in self.state.in_state("failed")}

    @property
    def compare_command(self) -> str | None:
        """The command that says whether the best combination differs from the reference; None if it is alone."""
        pair = reference_and_best(self.state, self.table)
        if pair is None:
            return None
        return shlex.join(
            ["hilum", "compare", *(str(self.state.folder / name) for names in pair for name in names)]
        )

    def compare(self, **options: Any) -> "Comparison":
        """Compares the best combination with the reference, as `hilum compare` does.

        The reference is the combination equal to the base, or the first.

        Args:
            options: `replicates` and `seed` of `hilum.report.comparison.compare_runs`.

        Raises:
            HilumError: there are not two combinations with finished runs.
        """
        from hilum.report.comparison import compare_runs

        pair = reference_and_best(self.state, self.table)
        if pair is None:
            raise HilumError(
                f"{self.state.folder}: there are not two combinations with finished runs to compare."
            )
        return compare_runs(
            [RunFolder(self.state.folder / name) for names in pair for name in names], **options
        )

    def as_record(self) -> dict[str, Any]:
        """As JSON values; a score that does not exist is null."""
        settings = setting_columns(self.table)
        rows = [
            {"settings": {name: row[name] for name in settings}}
            | {name: _plain(value) for name, value in row.items() if name not in settings}
            for row in self.table.to_dict("records")
        ]
        return {
            "sweep": self.state.name,
            "folder": str(self.state.folder),
            "threads": self.state.threads,
            "table": rows,
            "runs": json.loads(self.runs.to_json(orient="records")),
            "failures": self.failures,
            "compare": self.compare_command,
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        """What to know when reading the table."""
        notes, folders = [], self.run_folders
        chosen = set().union(*map(policies, folders))
        if chosen and all(policy.startswith("recall>=") for policy in chosen):
            notes.append(
                f"The thresholds were chosen by {', '.join(sorted(chosen))}, so recall is what was asked for: "
                "ROC AUC, and the precision at that recall, tell the rows apart."
            )
        notes += self._notes_of_targets()
        if len(self.table) and self.table["failed"].any():
            notes.append(
                "A row with failed runs is the mean of fewer seeds, and each seed draws a split of its own: "
                "compare it with care."
            )
        for what in ("name", "threads"):
            values = {str((folder.record.get("device") or {}).get(what)) for folder in folders}
            if len(values) > 1:
                notes.append(
                    f"The runs differ in the device's {what} ({', '.join(sorted(values))}), and so in their last bits."
                )
        if len(self.table) > 2:
            notes.append(
                f"The best of {len(self.table)} rows on the same validation images looks better than it is; "
                "judge the one you choose on test images."
            )
        if len(self.table) and self.table["seeds"].min() < 2:
            notes.append("A row of one seed has no spread: another seed may turn the order around.")
        return notes

    def _notes_of_targets(self) -> list[str]:
        scores = finished_scores(self.state)
        targets = len({target for each in scores.values() for target in each.index})
        common = common_targets(scores)
        few = {name: len(common[name]) for name in TABLE_SCORES if len(common[name]) < targets}
        if not few:
            return []
        counts = ", ".join(f"{_HEADINGS[name]} {count or 'none'}" for name, count in few.items())
        return [
            f"Means are over the targets that have the score in every run; of {targets} targets these are: {counts}."
        ]

    def show(self, console: Console | None = None) -> None:
        """Prints the table, what failed and why, and how to go on."""
        console = console or standard_console()
        settings = setting_columns(self.table)
        if len(self.table):
            console.print(
                "\n[bold]validation, best epoch, mean over targets ± standard deviation over seeds[/]"
            )
            headings = [*settings, *_HEADINGS.values(), "seeds"]
            rows = new_table(*map(escape, headings or [""]), text=len(settings))
            for row in self.table.to_dict("records"):
                scores = (_with_spread(row[name], row[f"{name}_sd"]) for name in TABLE_SCORES)
                seeds = (
                    f"{row['seeds']} of {row['seeds'] + row['failed']}"
                    if row["failed"]
                    else str(row["seeds"])
                )
                rows.add_row(*(escape(in_words(row[name])) for name in settings), *scores, seeds)
            console.print(rows)
        for note in self.notes():
            _say(console, f"note: {note}")
        for name, failure in self.failures.items():
            _say(console, f"failed: {name}: {failure}")
        if self.failures:
            _say(console, "What they said is in " + str(self.state.folder / "logs"))
        if self.compare_command:
            _say(console, f"Is the difference real? {self.compare_command}")
        _say(console, f"Everything is in {self.state.folder}")


def _with_spread(mean: float, spread: float) -> str:
    return one_score(mean) + ("" if math.isnan(spread) else f" ± {spread:.3f}")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _say(console: Console, words: str) -> None:
    console.print(escape(words), highlight=False, soft_wrap=True)


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


def validation_scores(folder: RunFolder) -> pd.DataFrame:
    """One row per target, a column for each of `SEARCH_METRICS` but the loss; NaN where a score does not exist.

    Recall and precision are those of the frozen operating points; until a run has them, and for the other
    scores that need a threshold, those at the thresholds of its settings.

    Raises:
        HilumError: no epoch has ended, or a file is missing or damaged.
    """
    scores = folder.scores()
    at_best = scores[(scores["epoch"] == folder.best_epoch) & (scores["part"] == "val")].set_index("target")
    found = at_best.reindex(columns=[name for name in SEARCH_METRICS if name != "loss"]).astype(float)
    points = folder.record.get("operating_points")
    if points:
        frozen = pd.DataFrame.from_dict(points, orient="index")
        for name in ("recall", "precision"):
            found[name] = frozen[name].astype(float).reindex(found.index)
    return found


def validation_means(folder: RunFolder) -> dict[str, float]:
    """Each of `SEARCH_METRICS`: the mean over the targets that have it, NaN where none has.

    Raises:
        HilumError: no epoch has ended, or a file is missing or damaged.
    """
    combined = folder.combined()
    at_best = combined[(combined["epoch"] == folder.best_epoch) & (combined["part"] == "val")]
    loss = float(at_best["loss"].mean()) if len(at_best) else math.nan
    return {**{name: float(value) for name, value in validation_scores(folder).mean().items()}, "loss": loss}


def policies(folder: RunFolder) -> set[str]:
    """How the thresholds of the frozen operating points were chosen."""
    return {point["policy"] for point in (folder.record.get("operating_points") or {}).values()}
