import asyncio

import pytest

from hilum.reading.service.batching import Batcher


class CountingReader:
    def __init__(self):
        self.batches = []

    def read(self, films):
        self.batches.append(list(films))
        if "bad" in films:
            raise ValueError("bad film")
        return [film.upper() for film in films]


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


def test_closing_cancels_what_waits():
    async def ask():
        batcher = Batcher(CountingReader(), largest=4)
        waiting = asyncio.create_task(batcher.read("late"))
        await asyncio.sleep(0)
        await batcher.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(ask())
