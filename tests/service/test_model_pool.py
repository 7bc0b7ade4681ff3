import asyncio
import threading
from types import SimpleNamespace

import pytest

from hilum.errors import HilumError
from hilum.service import _model_pool as model_pool
from hilum.service._errors import ServiceError
from hilum.service._model_pool import MAX_OPEN, Batcher, ModelPool


class CountingReader:
    """Reads strings in place of images: the result is the string in capital letters."""

    def __init__(self):
        self.batches = []

    def read(self, images):
        self.batches.append(list(images))
        if "bad" in images:
            raise ValueError("bad image")
        return [image.upper() for image in images]


class HeldReader(CountingReader):
    """Waits in `read` until it is released."""

    def __init__(self):
        super().__init__()
        self.begun, self.release = threading.Event(), threading.Event()

    def read(self, images):
        self.begun.set()
        self.release.wait(10)
        return super().read(images)


def test_each_request_gets_its_own_answer():
    async def ask():
        reader = CountingReader()
        batcher = Batcher(reader, max_batch=3)
        answers = await asyncio.gather(
            *(batcher.read(name) for name in "abcdefg"), batcher.run(lambda: "work")
        )
        await batcher.close()
        return reader.batches, answers

    batches, answers = asyncio.run(ask())
    assert answers == [*"ABCDEFG", "work"]
    assert [len(batch) for batch in batches] == [3, 3, 1]


def test_the_queue_continues_after_a_failed_batch():
    async def ask():
        batcher = Batcher(CountingReader(), max_batch=1)
        outcomes = await asyncio.gather(
            *(batcher.read(name) for name in ("a", "bad", "c")), return_exceptions=True
        )
        await batcher.close()
        return outcomes

    first, second, third = asyncio.run(ask())
    assert (first, third) == ("A", "C")
    assert isinstance(second, ValueError)


def test_an_image_of_a_cancelled_request_is_not_read():
    async def ask():
        reader = CountingReader()
        batcher = Batcher(reader, max_batch=4)
        cancelled = asyncio.create_task(batcher.read("cancelled"))
        await asyncio.sleep(0)
        cancelled.cancel()
        kept = await batcher.read("kept")
        await batcher.close()
        return reader.batches, kept, batcher.waiting

    batches, kept, waiting = asyncio.run(ask())
    assert kept == "KEPT"
    assert batches == [["kept"]]
    assert waiting == 0


def test_closing_answers_waiting_and_running_requests():
    async def ask():
        reader = HeldReader()
        batcher = Batcher(reader, max_batch=1)
        running, waiting = (asyncio.create_task(batcher.read(name)) for name in ("a", "b"))
        await asyncio.to_thread(reader.begun.wait, 10)
        closing = asyncio.create_task(batcher.close())
        done, _ = await asyncio.wait([running, waiting], timeout=10)
        assert len(done) == 2, "they wait for the model"
        assert not closing.done()
        reader.release.set()
        await closing
        return [task.exception() for task in (running, waiting)], reader.batches

    outcomes, batches = asyncio.run(ask())
    for outcome in outcomes:
        assert isinstance(outcome, ServiceError)
        assert (outcome.status, outcome.headers) == (503, {"Retry-After": "1"})
    assert batches == [["a"]]


def test_a_closed_batcher_refuses():
    async def ask():
        batcher = Batcher(CountingReader(), max_batch=1)
        await batcher.close()
        with pytest.raises(ServiceError, match="has closed this model"):
            await batcher.read("late")
        with pytest.raises(ServiceError, match="Try again in a second"):
            await batcher.run(lambda: "late")

    asyncio.run(ask())


def test_a_reader_with_too_few_answers_fails_and_the_queue_continues():
    async def ask():
        reader = CountingReader()
        reader.read = lambda images: ["one"] if "short" not in images else []
        batcher = Batcher(reader, max_batch=1)
        with pytest.raises(ValueError, match="shorter"):
            await batcher.read("short")
        answer = await batcher.read("a")
        await batcher.close()
        return answer

    assert asyncio.run(ask()) == "one"


def test_a_batcher_is_idle_when_no_request_uses_it():
    batcher = Batcher(CountingReader(), max_batch=1)
    with batcher.in_use(), batcher.in_use():
        assert not batcher.idle
    assert batcher.idle


class NamedReader:
    """Answers with its name; one whose name begins with `held` waits until it is released."""

    def __init__(self, name):
        self.name, self.release = name, threading.Event()
        self.begun = threading.Event()
        if not name.startswith("held"):
            self.release.set()

    def read(self, images):
        self.begun.set()
        self.release.wait(10)
        return [f"{image} by {self.name}" for image in images]


@pytest.fixture
def models(monkeypatch, tmp_path):
    """A pool with runs of any name; `.readers` are the opened ones, in order."""

    def find_run(folder, name):
        return SimpleNamespace(path=folder / name, record={"best_epoch": 1})

    readers = []

    def open_reader(path):
        if path.name == "broken":
            raise HilumError("no checkpoint")
        readers.append(NamedReader(path.name))
        return readers[-1]

    monkeypatch.setattr(model_pool, "find_run", find_run)
    models = ModelPool(tmp_path, open_reader, lambda reader: Batcher(reader, max_batch=4))
    models.readers = readers
    return models


def open_names(models):
    return [key.split(":")[0] for key in models._open]


async def read(models, run, image="image"):
    async with models.using(run) as batcher:
        await asyncio.sleep(0)
        return await batcher.read(image)


def test_the_last_used_stay_open(models):
    async def ask():
        for run in ("a", "b", "a", "c"):
            await read(models, run)
        assert open_names(models) == ["a", "c"]
        await read(models, "a")
        await models.close()

    asyncio.run(ask())
    assert [reader.name for reader in models.readers] == ["a", "b", "c"]


def test_concurrent_requests_for_many_runs_are_all_answered(models):
    requests = [(f"run{number % 5}", f"image{number}") for number in range(60)]

    async def ask():
        answers = await asyncio.wait_for(asyncio.gather(*(read(models, *each) for each in requests)), 30)
        assert len(models._open) <= MAX_OPEN
        await models.close()
        return answers

    assert asyncio.run(ask()) == [f"{image} by {run}" for run, image in requests]


def test_a_model_in_use_is_closed_later(models):
    async def ask():
        running = [asyncio.create_task(read(models, f"held{number}")) for number in range(3)]
        while len(models.readers) < 3:
            await asyncio.sleep(0.01)
        assert len(models._open) == 3
        assert await asyncio.wait_for(read(models, "other"), 10) == "image by other"
        assert open_names(models) == ["held0", "held1", "held2"]
        for reader in models.readers:
            reader.release.set()
        answers = await asyncio.gather(*running)
        assert len(models._open) == MAX_OPEN
        await models.close()
        return answers

    assert asyncio.run(ask()) == [f"image by held{number}" for number in range(3)]


def test_no_request_waits_for_the_thread_of_a_closing_model(models):
    async def ask():
        cancelled = asyncio.create_task(read(models, "held"))
        while not (models.readers and models.readers[0].begun.is_set()):
            await asyncio.sleep(0.01)
        cancelled.cancel()
        for run in ("a", "b", "c"):
            assert await asyncio.wait_for(read(models, run), 5) == f"image by {run}"
        assert open_names(models) == ["b", "c"]
        models.readers[0].release.set()
        await models.close()

    asyncio.run(ask())


def test_a_run_that_cannot_be_opened_is_an_error_and_others_can(models):
    async def ask():
        with pytest.raises(ServiceError, match="no checkpoint") as error:
            await read(models, "broken")
        assert error.value.status == 409
        assert await read(models, "a") == "image by a"
        await models.close()

    asyncio.run(ask())


def test_a_closed_pool_opens_nothing(models):
    async def ask():
        await models.close()
        with pytest.raises(ServiceError) as error:
            await read(models, "a")
        assert error.value.status == 503

    asyncio.run(ask())
    assert models.readers == []
