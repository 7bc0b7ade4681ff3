"""The open models, each with a queue in front of it: one model, or those of a folder of runs.

A model works in one thread. While it reads a batch, the images of other requests wait and become its next batch: an
image never waits for others to arrive, and batches grow with the load.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilum.errors import HilumError, nearest
from hilum.inference.image import PreparedImage
from hilum.inference.reader import ImageResult, Reader
from hilum.run_folder import RunFolder, find_runs
from hilum.service._errors import ServiceError, busy

#: Models of a folder of runs that stay open; there are more only while more than that are in use.
MAX_OPEN = 2

_CLOSED = "The service has closed this model."


@dataclass
class _Job:
    """An image to read, or another function that needs the model."""

    answer: asyncio.Future[Any]
    image: PreparedImage | None = field(default=None, repr=False)
    function: Callable[[], Any] | None = None


class Batcher:
    """The queue in front of one model. The caller limits its length.

    Args:
        reader: the model.
        max_batch: images in a batch.
        observe: called with the size of each batch.
    """

    def __init__(self, reader: Reader, max_batch: int, observe: Callable[[int], None] = lambda size: None):
        self.reader = reader
        self._max_batch, self._observe = max_batch, observe
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._users = 0
        self._closed = False
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hilum-model")
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of jobs that have not begun."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether no request uses it."""
        return self._users == 0

    @contextmanager
    def in_use(self) -> Iterator["Batcher"]:
        """Marks it as used by a request: the pool closes idle ones only."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    async def read(self, image: PreparedImage) -> ImageResult:
        """The result of one image. If the request is cancelled before the image's turn, it is not read.

        ServiceError (503) if the batcher is closed before it has the answer.
        """
        return await self._submit(image=image)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Calls a function in the model's thread, at its turn; raises as `read`."""
        return await self._submit(function=function)

    async def close(self) -> None:
        """Answers all that wait with 503 at once, then waits for the model's thread to end."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        _fail([*self._running, *self._waiting], busy(_CLOSED))
        self._waiting.clear()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    async def _submit(self, **work: Any) -> Any:
        if self._closed:
            raise busy(_CLOSED)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        job = _Job(asyncio.get_running_loop().create_future(), **work)
        self._waiting.append(job)
        self._arrived.set()
        return await job.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                continue
            self._running = batch
            try:
                answers = await loop.run_in_executor(self._thread, self._answers, batch)
                for job, answer in zip(batch, answers, strict=True):
                    if not job.answer.done():
                        job.answer.set_result(answer)
            except Exception as error:
                _fail(batch, error)
            self._running = []

    def _next_batch(self) -> list[_Job]:
        """The images at the head of the queue, or one function, without cancelled jobs."""
        batch: list[_Job] = []
        while self._waiting and len(batch) < self._max_batch:
            if self._waiting[0].answer.done():
                self._waiting.popleft()
            elif self._waiting[0].image is not None:
                batch.append(self._waiting.popleft())
            else:
                return batch or [self._waiting.popleft()]
        return batch

    def _answers(self, batch: list[_Job]) -> list[Any]:
        if batch[0].function is not None:
            return [batch[0].function()]
        self._observe(len(batch))
        return self.reader.read([job.image for job in batch if job.image is not None])


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.answer.done():
            job.answer.set_exception(error)


class SingleModel:
    """The model of a service for one run or bundle."""

    def __init__(self, batcher: Batcher):
        self._batcher = batcher

    @asynccontextmanager
    async def using(self, run: str | None = None) -> AsyncIterator[Batcher]:
        """The batcher, for the time of a request; ServiceError (404) if it names a run."""
        if run is not None:
            raise ServiceError(404, "no-run", "This service has one model only: leave out run.")
        with self._batcher.in_use() as batcher:
            yield batcher

    async def close(self) -> None:
        """Closes the model."""
        await self._batcher.close()


class ModelPool:
    """The models of a service for a folder of runs, each opened by its first request.

    Args:
        folder: of run folders.
        open_reader: opens one of them.
        make_batcher: makes the queue in front of a model.
    """

    def __init__(
        self, folder: Path, open_reader: Callable[[Path], Reader], make_batcher: Callable[[Reader], Batcher]
    ):
        self._folder, self._open_reader, self._make_batcher = folder, open_reader, make_batcher
        self._open: OrderedDict[str, Batcher] = OrderedDict()
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def using(self, run: str | None = None) -> AsyncIterator[Batcher]:
        """The batcher of a run, or of the best one. It stays open until the request ends.

        ServiceError if there is no such run (404), or its model cannot be opened (409).
        """
        with ExitStack() as stack:
            stack.callback(self._close_idle)
            if run is None:
                yield await self._best(stack)
            else:
                yield await self._opened(await asyncio.to_thread(find_run, self._folder, run), stack)

    async def close(self) -> None:
        """Closes all models."""
        self._closed = True
        while self._open:
            self._close(self._open.popitem()[1])
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _best(self, stack: ExitStack) -> Batcher:
        reasons = []
        for run in await asyncio.to_thread(evaluated_runs, self._folder):
            try:
                return await self._opened(run, stack)
            except ServiceError as error:
                if error.status == 503:
                    raise
                reasons.append(error.message)
        detail = reasons[0] if reasons else "No run has a finished epoch."
        raise ServiceError(404, "no-model", f"There is no model to read with. {detail}")

    async def _opened(self, run: RunFolder, stack: ExitStack) -> Batcher:
        # A run that is still training may have another best epoch now.
        key = f"{run.path.name}:{run.record.get('best_epoch')}"
        if key not in self._open:
            async with self._opening:
                if key not in self._open:
                    self._open[key] = self._make_batcher(await self._open_model(run))
        self._open.move_to_end(key)
        batcher = stack.enter_context(self._open[key].in_use())
        self._close_idle()
        return batcher

    async def _open_model(self, run: RunFolder) -> Reader:
        if self._closed:
            raise busy("The service is stopping.")
        try:
            reader = await asyncio.to_thread(self._open_reader, run.path)
        except HilumError as error:
            raise ServiceError(409, "no-model", str(error)) from None
        if self._closed:
            raise busy("The service is stopping.")
        return reader

    def _close_idle(self) -> None:
        """Closes idle models above `MAX_OPEN`, the least recently used first."""
        idle = [key for key, batcher in self._open.items() if batcher.idle]
        for key in idle[: max(0, len(self._open) - MAX_OPEN)]:
            self._close(self._open.pop(key))

    def _close(self, batcher: Batcher) -> None:
        """In a task: a request for another model does not wait for the thread of this one."""
        task = asyncio.create_task(batcher.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def find_run(folder: Path, name: str) -> RunFolder:
    """A run by its folder's name, which is compared with the listed ones and never made part of a path.

    ServiceError (404) if no run has this name.
    """
    runs = {run.path.name: run for run in find_runs(folder)[0]}
    if name not in runs:
        raise ServiceError(404, "no-run", f"There is no run {name!r}.{nearest(name, runs)}")
    return runs[name]


def evaluated_runs(folder: Path) -> list[RunFolder]:
    """The runs with a best epoch, the highest mean validation ROC AUC first."""
    runs = [run for run in find_runs(folder)[0] if run.record.get("best_epoch")]
    return sorted(runs, key=lambda run: -(run.record.get("best_roc_auc") or 0.0))
