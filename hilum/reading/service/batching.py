"""What concurrent requests ask of one model, taken together.

The model works in one thread. While it reads a batch, the images of other requests gather, and are its next batch:
nobody waits for company, and under load the batches grow by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilum.reading.reader import Film, Reader, Reading


@dataclass
class _Job:
    """An image to be read, or, with `work`, something else that needs the model."""

    answer: asyncio.Future
    film: "Film | None" = field(default=None, repr=False)
    work: Callable[[], Any] | None = None


class Batcher:
    """The queue before one reader. How many may wait is the business of whoever admits requests.

    Args:
        reader: its `read` is given at most `largest` films at once.
        largest: images in a batch.
        observe: is told each batch's size.
    """

    def __init__(self, reader: "Reader", largest: int, observe: Callable[[int], None] = lambda size: None):
        self.reader = reader
        self._largest, self._observe = largest, observe
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hilum-model")
        self._worker: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """Jobs that the model has not begun."""
        return len(self._waiting)

    async def read(self, film: "Film") -> "Reading":
        """The reading of one film. If its awaiter is cancelled before its turn, it is not read."""
        return await self._ask(film=film)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Calls `work` in the model's thread, when it is its turn."""
        return await self._ask(work=work)

    async def close(self) -> None:
        """Ends the worker; what still waits is cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for job in self._waiting:
            job.answer.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _ask(self, **what: Any) -> Any:
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
            try:
                answers = await loop.run_in_executor(self._thread, self._work_on, batch)
            except Exception as error:
                for job in batch:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            else:
                for job, answer in zip(batch, answers, strict=True):
                    if not job.answer.done():
                        job.answer.set_result(answer)

    def _next_batch(self) -> list[_Job]:
        """The films at the head of the queue, or one other job, without those that nobody awaits any more."""
        batch: list[_Job] = []
        while self._waiting and len(batch) < self._largest:
            if self._waiting[0].answer.done():
                self._waiting.popleft()
            elif self._waiting[0].film is not None:
                batch.append(self._waiting.popleft())
            else:
                return batch or [self._waiting.popleft()]
        return batch

    def _work_on(self, batch: list[_Job]) -> list[Any]:
        if batch[0].work is not None:
            return [batch[0].work()]
        self._observe(len(batch))
        return self.reader.read([job.film for job in batch])
