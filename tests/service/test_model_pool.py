import asyncio
import threading
from types import SimpleNamespace

import pytest

from hilum.errors import HilumError
from hilum.service import model_pool as module
from hilum.service.batching import Batcher
from hilum.service.errors import ServiceError
from hilum.service.model_pool import MOST_OPEN, ModelsOfRuns


class NamedReader:
    """Answers with its name; `held` ones wait until they may go on."""

    def __init__(self, name):
        self.name, self.go_on = name, threading.Event()
        self.begun = threading.Event()
        if not name.startswith("held"):
            self.go_on.set()

    def read(self, films):
        self.begun.set()
        self.go_on.wait(10)
        return [f"{film} by {self.name}" for film in films]


@pytest.fixture
def models(monkeypatch, tmp_path):
    """Runs of any name; `.readers` are those that were opened, in their order."""

    def run_of(folder, name):
        return SimpleNamespace(path=folder / name, record={"best_epoch": 1})

    readers = []

    def open_reader(path):
        if path.name == "broken":
            raise HilumError("no checkpoint")
        readers.append(NamedReader(path.name))
        return readers[-1]

    monkeypatch.setattr(module, "run_of", run_of)
    of_runs = ModelsOfRuns(tmp_path, open_reader, lambda reader: Batcher(reader, largest=4))
    of_runs.readers = readers
    return of_runs


def open_names(models):
    return [key.split(":")[0] for key in models._open]


async def read(models, run, film="film"):
    async with models.using(run) as batcher:
        await asyncio.sleep(0)
        return await batcher.read(film)


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
    asked = [(f"run{number % 5}", f"film{number}") for number in range(60)]

    async def ask():
        answers = await asyncio.wait_for(asyncio.gather(*(read(models, *one) for one in asked)), 30)
        assert len(models._open) <= MOST_OPEN
        await models.close()
        return answers

    assert asyncio.run(ask()) == [f"{film} by {run}" for run, film in asked]


def test_what_is_in_use_is_closed_later(models):
    async def ask():
        busy = [asyncio.create_task(read(models, f"held{number}")) for number in range(3)]
        while len(models.readers) < 3:
            await asyncio.sleep(0.01)
        assert len(models._open) == 3
        assert await asyncio.wait_for(read(models, "other"), 10) == "film by other"
        assert open_names(models) == ["held0", "held1", "held2"]
        for reader in models.readers:
            reader.go_on.set()
        answers = await asyncio.gather(*busy)
        assert len(models._open) == MOST_OPEN
        await models.close()
        return answers

    assert asyncio.run(ask()) == [f"film by held{number}" for number in range(3)]


def test_nobody_waits_for_the_thread_of_a_model_that_is_put_away(models):
    async def ask():
        given_up = asyncio.create_task(read(models, "held"))
        while not (models.readers and models.readers[0].begun.is_set()):
            await asyncio.sleep(0.01)
        given_up.cancel()
        for run in ("a", "b", "c"):
            assert await asyncio.wait_for(read(models, run), 5) == f"film by {run}"
        assert open_names(models) == ["b", "c"]
        models.readers[0].go_on.set()
        await models.close()

    asyncio.run(ask())


def test_a_run_that_cannot_be_opened_is_told_and_others_can(models):
    async def ask():
        with pytest.raises(ServiceError, match="no checkpoint") as told:
            await read(models, "broken")
        assert told.value.status == 409
        assert await read(models, "a") == "film by a"
        await models.close()

    asyncio.run(ask())


def test_after_the_end_nothing_is_opened(models):
    async def ask():
        await models.close()
        with pytest.raises(ServiceError) as told:
            await read(models, "a")
        assert told.value.status == 503

    asyncio.run(ask())
    assert models.readers == []
