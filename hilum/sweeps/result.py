"""What a sweep came to."""

import json
import math
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from hilum.errors import HilumError
from hilum.report.tables import in_words, new_table, one_score, standard_console
from hilum.run_folder import RunFolder
from hilum.sweeps.scores import policies
from hilum.sweeps.state import SweepState
from hilum.sweeps.table import (
    TABLE_SCORES,
    common_targets,
    comparison_table,
    finished_scores,
    reference_and_best,
    setting_columns,
)

if TYPE_CHECKING:
    from hilum.report.comparison_tree import Comparison

_HEADINGS = {"recall": "recall", "roc_auc": "ROC AUC", "precision": "precision"}


@dataclass(frozen=True)
class SweepResult:
    """The end of a sweep, or how far it has come.

    Attributes:
        state: the state table.
        table: one row per setting combination, see `hilum.sweeps.table.comparison_table`.
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
