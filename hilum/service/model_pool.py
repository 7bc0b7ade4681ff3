"""The models that the service reads with: one, or those of a folder of runs, the last used kept open."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import HilumError, nearest
from hilum.run_folder import RunFolder, find_runs
from hilum.service.batching import Batcher
from hilum.service.errors import ServiceError, busy

if TYPE_CHECKING:
    from hilum.inference.reader import Reader

#: So many runs' models are kept open; more only while more than that are in use.
MOST_OPEN = 2

Opener = Callable[[Path], "Reader"]


class OneModel:
    """A service for one run or bundle.

    Args:
        batcher: before its reader.
    """

    def __init__(self, batcher: Batcher):
        self._batcher = batcher
        self.runs_folder: Path | None = None

    @asynccontextmanager
    async def using(self, run: str | None = None) -> AsyncIterator[Batcher]:
        """The only batcher, for the time of a request.

        Raises:
            ServiceError: a run was asked for by name.
        """
        if run is not None:
            raise ServiceError(404, "no-run", "This service reads with one model: leave out run.")
        with self._batcher.in_use() as batcher:
            yield batcher

    async def close(self) -> None:
        """Ends its worker."""
        await self._batcher.close()


class ModelsOfRuns:
    """A service for a folder of runs, each opened when it is first asked for.

    Args:
        folder: of run folders.
        open_reader: opens one of them.
        make_batcher: puts a queue before a reader.
    """

    def __init__(self, folder: Path, open_reader: Opener, make_batcher: Callable[["Reader"], Batcher]):
        self.runs_folder: Path | None = folder
        self._open_reader, self._make_batcher = open_reader, make_batcher
        self._open: OrderedDict[str, Batcher] = OrderedDict()
        self._opening = asyncio.Lock()
        self._ending: set[asyncio.Task] = set()
        self._closed = False

    @asynccontextmanager
    async def using(self, run: str | None = None) -> AsyncIterator[Batcher]:
        """The batcher of a run, or of the best one, for the time of a request: it is not closed before the end.

        Raises:
            ServiceError: there is no such run, or none that can be read with.
        """
        with ExitStack() as held:
            held.callback(self._put_away_idle)
            if run is None:
                yield await self._best(held)
            else:
                yield await self._opened(await asyncio.to_thread(run_of, self.runs_folder, run), held)

    async def close(self) -> None:
        """Ends the workers of all that are open."""
        self._closed = True
        while self._open:
            self._end(self._open.popitem()[1])
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _best(self, held: ExitStack) -> Batcher:
        lacks = []
        for run in await asyncio.to_thread(readable_runs, self.runs_folder):
            try:
                return await self._opened(run, held)
            except ServiceError as error:
                if error.status == 503:
                    raise
                lacks.append(error.message)
        detail = f" {lacks[0]}" if lacks else " None of its runs has a finished epoch."
        raise ServiceError(404, "no-model", f"There is no run to read with.{detail}")

    async def _opened(self, run: RunFolder, held: ExitStack) -> Batcher:
        # A run that has gone on training since has another best epoch.
        key = f"{run.path.name}:{run.record.get('best_epoch')}"
        if key not in self._open:
            async with self._opening:
                if key not in self._open:
                    await self._open_it(key, run)
        self._open.move_to_end(key)
        batcher = held.enter_context(self._open[key].in_use())
        self._put_away_idle()
        return batcher

    async def _open_it(self, key: str, run: RunFolder) -> None:
        if self._closed:
            raise busy("The service ends.")
        try:
            reader = await asyncio.to_thread(self._open_reader, run.path)
        except HilumError as error:
            raise ServiceError(409, "no-model", str(error)) from None
        if self._closed:
            raise busy("The service ends.")
        self._open[key] = self._make_batcher(reader)

    def _put_away_idle(self) -> None:
        """Those beyond `MOST_OPEN` that nobody uses, the ones used longest ago first."""
        idle = [key for key, batcher in self._open.items() if batcher.idle]
        for key in idle[: max(0, len(self._open) - MOST_OPEN)]:
            self._end(self._open.pop(key))

    def _end(self, batcher: Batcher) -> None:
        """In a task of its own: nobody who asks for another model waits for this one's thread."""
        ending = asyncio.create_task(batcher.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def run_of(folder: Path, name: str) -> RunFolder:
    """A run by its folder's name, which must be one of those that are listed: it is never made part of a path.

    Raises:
        ServiceError: there is none of that name.
    """
    runs, _ = find_runs(folder)
    by_name = {run.path.name: run for run in runs}
    if name not in by_name:
        raise ServiceError(404, "no-run", f"There is no run {name!r}.{nearest(name, by_name)}")
    return by_name[name]


def readable_runs(folder: Path) -> list[RunFolder]:
    """The runs with a best epoch, that of the highest mean validation ROC AUC first."""
    runs, _ = find_runs(folder)
    rated = [run for run in runs if run.record.get("best_epoch")]
    return sorted(rated, key=lambda run: -(run.record.get("best_roc_auc") or 0.0))
