"""What concurrent requests ask of one model, taken together.

The model works in one thread. While it reads a batch, the images of other requests gather, and are its next batch:
nobody waits for company, and under load the batches grow by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hilum.service.errors import ServiceError, busy

if TYPE_CHECKING:
    from hilum.inference.reader import ImageResult, PreparedImage, Reader


@dataclass
class _Job:
    """An image to be read, or, with `work`, something else that needs the model."""

    answer: asyncio.Future
    image: "PreparedImage | None" = field(default=None, repr=False)
    work: Callable[[], Any] | None = None


class Batcher:
    """The queue before one reader. How many may wait is the business of whoever admits requests.

    Args:
        reader: its `read` is given at most `largest` images at once.
        largest: images in a batch.
        observe: is told each batch's size.
    """

    def __init__(self, reader: "Reader", largest: int, observe: Callable[[int], None] = lambda size: None):
        self.reader = reader
        self._largest, self._observe = largest, observe
        self._waiting: deque[_Job] = deque()
        self._in_work: list[_Job] = []
        self._users = 0
        self._closed = False
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hilum-model")
        self._worker: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """Jobs that the model has not begun."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nobody uses it, see `in_use`."""
        return self._users == 0

    @contextmanager
    def in_use(self) -> Iterator["Batcher"]:
        """For as long as a request may still ask: who closes what is idle leaves it open."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    async def read(self, image: "PreparedImage") -> "ImageResult":
        """The result of one image. If its awaiter is cancelled before its turn, it is not read.

        Raises:
            ServiceError: 503: it is closed, or was closed before it had the answer.
        """
        return await self._ask(image=image)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Calls `work` in the model's thread, when it is its turn.

        Raises:
            ServiceError: as `read`.
        """
        return await self._ask(work=work)

    async def close(self) -> None:
        """Answers whoever waits with a 503 at once, then waits for the model's thread to end."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        for job in (*self._in_work, *self._waiting):
            if not job.answer.done():
                job.answer.set_exception(_put_away())
        self._waiting.clear()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    async def _ask(self, **what: Any) -> Any:
        if self._closed:
            raise _put_away()
        if self._worker is None:
            self._worker = asyncio.create_task(self._serve())
        job = _Job(asyncio.get_running_loop().create_future(), **what)
        self._waiting.append(job)
        self._arrived.set()
        return await job.answer

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                continue
            self._in_work = batch
            try:
                answers = await loop.run_in_executor(self._thread, self._work_on, batch)
                for job, answer in zip(batch, answers, strict=True):
                    if not job.answer.done():
                        job.answer.set_result(answer)
            except Exception as error:
                for job in batch:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            self._in_work = []

    def _next_batch(self) -> list[_Job]:
        """The images at the head of the queue, or one other job, without those that nobody awaits any more."""
        batch: list[_Job] = []
        while self._waiting and len(batch) < self._largest:
            if self._waiting[0].answer.done():
                self._waiting.popleft()
            elif self._waiting[0].image is not None:
                batch.append(self._waiting.popleft())
            else:
                return batch or [self._waiting.popleft()]
        return batch

    def _work_on(self, batch: list[_Job]) -> list[Any]:
        if batch[0].work is not None:
            return [batch[0].work()]
        self._observe(len(batch))
        return self.reader.read([job.image for job in batch])


def _put_away() -> ServiceError:
    return busy("The service has put this model away.")
