import asyncio
import threading

import pytest

from hilum.service.batching import Batcher
from hilum.service.errors import ServiceError


class CountingReader:
    def __init__(self):
        self.batches = []

    def read(self, films):
        self.batches.append(list(films))
        if "bad" in films:
            raise ValueError("bad film")
        return [film.upper() for film in films]


class HeldReader(CountingReader):
    """Waits in `read` until it may go on."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def read(self, films):
        self.begun.set()
        self.go_on.wait(10)
        return super().read(films)


def test_answers_come_to_those_who_asked():
    async def ask():
        reader = CountingReader()
        batcher = Batcher(reader, largest=3)
        answers = await asyncio.gather(
            *(batcher.read(name) for name in "abcdefg"), batcher.run(lambda: "work")
        )
        await batcher.close()
        return reader.batches, answers

    batches, answers = asyncio.run(ask())
    assert answers == [*"ABCDEFG", "work"]
    assert [len(batch) for batch in batches] == [3, 3, 1]


def test_a_failing_batch_fails_alone_and_the_queue_goes_on():
    async def ask():
        batcher = Batcher(CountingReader(), largest=1)
        outcomes = await asyncio.gather(
            *(batcher.read(name) for name in ("a", "bad", "c")), return_exceptions=True
        )
        await batcher.close()
        return outcomes

    first, second, third = asyncio.run(ask())
    assert (first, third) == ("A", "C")
    assert isinstance(second, ValueError)


def test_what_nobody_waits_for_any_more_is_not_read():
    async def ask():
        reader = CountingReader()
        batcher = Batcher(reader, largest=4)
        given_up = asyncio.create_task(batcher.read("given up"))
        await asyncio.sleep(0)
        given_up.cancel()
        kept = await batcher.read("kept")
        await batcher.close()
        return reader.batches, kept, batcher.waiting

    batches, kept, waiting = asyncio.run(ask())
    assert kept == "KEPT"
    assert batches == [["kept"]]
    assert waiting == 0


def test_closing_answers_what_waits_and_what_is_read():
    async def ask():
        reader = HeldReader()
        batcher = Batcher(reader, largest=1)
        in_flight, waiting = (asyncio.create_task(batcher.read(name)) for name in ("a", "b"))
        await asyncio.to_thread(reader.begun.wait, 10)
        closing = asyncio.create_task(batcher.close())
        done, _ = await asyncio.wait([in_flight, waiting], timeout=10)
        assert len(done) == 2, "they wait for the model"
        assert not closing.done()
        reader.go_on.set()
        await closing
        return [task.exception() for task in (in_flight, waiting)], reader.batches

    outcomes, batches = asyncio.run(ask())
    for outcome in outcomes:
        assert isinstance(outcome, ServiceError)
        assert (outcome.status, outcome.headers) == (503, {"Retry-After": "1"})
    assert batches == [["a"]]


def test_a_closed_batcher_refuses():
    async def ask():
        batcher = Batcher(CountingReader(), largest=1)
        await batcher.close()
        with pytest.raises(ServiceError, match="has put this model away"):
            await batcher.read("late")
        with pytest.raises(ServiceError, match="Try again in a second"):
            await batcher.run(lambda: "late")

    asyncio.run(ask())


def test_a_reader_that_answers_too_little_fails_and_the_queue_goes_on():
    async def ask():
        reader = CountingReader()
        reader.read = lambda films: ["one"] if "short" not in films else []
        batcher = Batcher(reader, largest=1)
        with pytest.raises(ValueError, match="shorter"):
            await batcher.read("short")
        answer = await batcher.read("a")
        await batcher.close()
        return answer

    assert asyncio.run(ask()) == "one"


def test_it_is_idle_when_nobody_uses_it():
    batcher = Batcher(CountingReader(), largest=1)
    with batcher.in_use(), batcher.in_use():
        assert not batcher.idle
    assert batcher.idle
