"""The progress of a sweep: a table on a terminal, lines elsewhere."""

import time
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hilum.errors import HilumError
from hilum.metrics.selection import best_epoch_means
from hilum.report.format import format_number
from hilum.report.terminal import new_table
from hilum.sweeps._spec import SweepRun
from hilum.sweeps._state import SweepState
from hilum.sweeps.results import TABLE_SCORES

_REFRESH_SECONDS = 1.0
_STYLES = {"pending": "dim", "running": "cyan", "finished": "green", "failed": "red"}


class SweepView:
    """Shows the state of a sweep. `total` is its largest number of runs; None: the runs of `state` are all."""

    def __init__(self, state: SweepState, console: Console, total: int | None = None):
        self.state, self.console, self.total = state, console, total or 0
        self._known: dict[str, tuple[int, int, int, dict[str, float]]] = {}
        self._refreshed = 0.0
        live = Live(console=console, auto_refresh=False, transient=True)
        self._live = live if console.is_terminal else None

    def __enter__(self) -> "SweepView":
        if self._live:
            self._live.start()
        counts = {name: len(self.state.in_state(name)) for name in ("finished", "failed", "pending")}
        if counts["finished"] or counts["failed"]:
            listed = ", ".join(f"{count} {name}" for name, count in counts.items())
            self.print(f"Sweep {self.state.folder.name} continues: {listed}.")
        if counts["failed"]:
            self.print("Failed runs are not started again; --retry-failed does so.")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def started(self, run: SweepRun, *, resumed: bool = False) -> None:
        """Shows that a run has started or resumed."""
        device = f" on {run.device}" if run.device else ""
        self._print_line(f"{run.name} {'resumed' if resumed else 'started'}{device}")

    def ended(self, run: SweepRun) -> None:
        """Shows that a run has finished or failed."""
        if run.state == "failed":
            self.print(f"{self._count()} {run.name} failed: {run.failure}. Log: {self.state.log_file(run)}")
            return
        scores = self.progress(run)[2]
        shown = [f"{TABLE_SCORES[key]} {format_number(scores[key])}" for key in TABLE_SCORES if key in scores]
        seconds = "" if run.seconds is None else f" in {run.seconds:,.0f} s"
        self._print_line(f"{run.name} finished{seconds}{': ' if shown else ''}{', '.join(shown)}")
        if run.note:
            self.print(f"warning: {run.name}: {run.note}")

    def print(self, text: str) -> None:
        """Prints a line above the table."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draws the table again, at most once a second."""
        if self._live and time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self._live.update(Group(self.table(), Text(self._count(), style="bold")), refresh=True)

    def table(self, most: int = 30) -> Table:
        """At most this many runs: those around the first running one."""
        rows = new_table("run", "state", "epoch", "recall", "ROC AUC", "time", text=2)
        runs = self.state.runs
        running = next((place for place, run in enumerate(runs) if run.state == "running"), 0)
        first = max(0, min(running - most // 3, len(runs) - most))
        for run in runs[first : first + most]:
            done, epochs, scores = self.progress(run)
            state, epoch = f"[{_STYLES[run.state]}]{run.state}[/]", f"{done}/{epochs}" if epochs else "–"
            shown = (format_number(scores[key]) if key in scores else "–" for key in ("recall", "roc_auc"))
            rows.add_row(escape(run.name), state, epoch, *shown, _duration(run))
        return rows

    def progress(self, run: SweepRun) -> tuple[int, int, dict[str, float]]:
        """Ended epochs, all epochs, and the scores of the best epoch so far; empty before the run has started.

        If a file is being replaced at this moment, the scores are empty until the run's next epoch.
        """
        path = self.state.folder / run.name / "run.json"
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return 0, 0, {}
        if run.name not in self._known or self._known[run.name][0] != changed:
            folder = self.state.run_folder(run)
            if folder is None:
                return 0, 0, {}
            try:
                scores = best_epoch_means(folder)
            except HilumError:
                scores = {}
            epochs = folder.record.get("epochs_done", 0), folder.settings.get("num_epochs", 0)
            self._known[run.name] = (changed, *epochs, scores)
        return self._known[run.name][1:]

    def _count(self) -> str:
        ended = len(self.state.in_state("finished", "failed"))
        return f"[{ended}/{max(self.total, len(self.state.runs))}]"

    def _print_line(self, text: str) -> None:
        if self._live is None:
            self.print(f"{self._count()} {text}")


def _duration(run: SweepRun) -> str:
    seconds = run.seconds
    if run.state == "running" and run.started:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(run.started)).total_seconds()
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
