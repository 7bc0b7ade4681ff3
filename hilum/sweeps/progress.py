"""What a sweep shows while it runs: a table on a terminal, lines elsewhere."""

import time
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hilum.errors import HilumError
from hilum.report.terminal import new_table, one_score
from hilum.sweeps.results import validation_means
from hilum.sweeps.state import SweepRun, SweepState

_REFRESH_SECONDS = 1.0
_STYLES = {"pending": "dim", "running": "cyan", "finished": "green", "failed": "red"}
_SHOWN = ("recall", "roc_auc")


class SweepView:
    """Shows the state table.

    Args:
        state: of the sweep.
        console: to show it on.
        total: how many runs there will be; None is as many as there are.
    """

    def __init__(self, state: SweepState, console: Console, total: int | None = None):
        self.state, self.console, self.total = state, console, total
        self._scores: dict[str, tuple[int, dict[str, float], int, int]] = {}
        self._refreshed = 0.0
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> "SweepView":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def started(self, run: SweepRun, *, again: bool = False) -> None:
        """A run has begun, or goes on after a stop."""
        where = f" on {run.device}" if run.device else ""
        self._line(f"{run.name} {'goes on' if again else 'began'}{where}")

    def ended(self, run: SweepRun) -> None:
        """A run has finished or failed."""
        if run.state == "failed":
            self.say(f"{self._count()} {run.name} failed: {run.failure}. It said: {self.state.log_file(run)}")
            return
        scores = self.progress(run)[2]
        words = ", ".join(f"{name} {one_score(scores[key])}" for name, key in _named(scores))
        seconds = "" if run.seconds is None else f" in {run.seconds:,.0f} s"
        self._line(f"{run.name} finished{seconds}{': ' if words else ''}{words}")
        if run.note:
            self.say(f"warning: {run.name}: {run.note}")

    def say(self, words: str) -> None:
        """A line that is to stay."""
        self.console.print(escape(words), highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Shows the table anew, once a second at most."""
        if self._live and time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self._live.update(Group(self.table(), Text(self._count(), style="bold")), refresh=True)

    def table(self, most: int = 30) -> Table:
        """The runs: all, or those that run and the nearest to them if there are many."""
        rows = new_table("run", "state", "epoch", "recall", "ROC AUC", "time", text=2)
        for run in self._chosen(most):
            done, epochs, scores = self.progress(run)
            rows.add_row(
                escape(run.name),
                f"[{_STYLES[run.state]}]{run.state}[/]",
                f"{done}/{epochs}" if epochs else "–",
                *(one_score(scores[key]) if key in scores else "–" for key in _SHOWN),
                self._time(run),
            )
        return rows

    def progress(self, run: SweepRun) -> tuple[int, int, dict[str, float]]:
        """Ended epochs, all epochs, and the scores of the best epoch so far; nothing of a run that has not begun.

        A file that is being exchanged is no reason to stop a sweep: what was known before is shown.
        """
        path = self.state.folder / run.name / "run.json"
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return 0, 0, {}
        known = self._scores.get(run.name)
        if known is None or known[0] != changed:
            folder = self.state.run_folder(run)
            if folder is None:
                return 0, 0, {}
            done, epochs = folder.record.get("epochs_done", 0), folder.settings.get("num_epochs", 0)
            try:
                scores = validation_means(folder)
            except HilumError:
                scores = {}
            known = self._scores[run.name] = (changed, scores, done, epochs)
        return known[2], known[3], known[1]

    def _chosen(self, most: int) -> list[SweepRun]:
        runs = self.state.runs
        if len(runs) <= most:
            return runs
        places = [place for place, run in enumerate(runs) if run.state == "running"] or [0]
        first = max(0, min(places[0] - most // 3, len(runs) - most))
        return runs[first : first + most]

    def _time(self, run: SweepRun) -> str:
        seconds = run.seconds
        if run.state == "running" and run.started:
            seconds = (datetime.now(UTC) - datetime.fromisoformat(run.started)).total_seconds()
        if seconds is None:
            return "–"
        minutes, rest = divmod(int(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

    def _count(self) -> str:
        ended = len(self.state.in_state("finished", "failed"))
        return f"[{ended}/{max(self.total or 0, len(self.state.runs))}]"

    def _line(self, words: str) -> None:
        if self._live is None:
            self.say(f"{self._count()} {words}")


def _named(scores: dict[str, float]) -> list[tuple[str, str]]:
    names = (("recall", "recall"), ("ROC AUC", "roc_auc"), ("precision", "precision"))
    return [(name, key) for name, key in names if key in scores]
