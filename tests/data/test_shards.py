import json
import logging
import os
import pickle
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hilum.config import PixelSettings
from hilum.data.pack_builder import build_pack
from hilum.data.pixels import Pack
from hilum.data.shards import RECORD, Shards, write_shards
from hilum.errors import HilumError
from hilum.files import Bucket
from hilum.training.run import StandardTraining

pytest.importorskip("litdata", reason="litdata is not installed: pip install hilum[shards]")
moto_server = pytest.importorskip(
    "moto.server", reason="moto[server] is not installed: pip install hilum[dev]"
)

SIDE = 16
CHUNK = 5 * SIDE * SIDE  # five images a chunk


class Requests(logging.Handler):
    """What the S3 server was asked for, by method; from its own log."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += re.findall(r"(GET|HEAD|PUT|POST) (\S+) HTTP", record.getMessage())

    def of(self, method: str, part: str) -> list[str]:
        return [path for verb, path in self.seen if verb == method and part in path]


@pytest.fixture(scope="module")
def server():
    """A server that speaks the S3 protocol on loopback, and its log of requests."""
    requests, log = Requests(), logging.getLogger("werkzeug")
    kept = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(requests)
    threaded = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    yield f"http://{host}:{port}", requests
    threaded.stop()
    log.removeHandler(requests)
    log.setLevel(kept[0])
    log.propagate = kept[1]


@pytest.fixture
def bucket(server, monkeypatch):
    """The URL of a new place in a bucket, with the environment that leads there, and the server's log."""
    import boto3

    endpoint, requests = server
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    name = f"radiographs-{time.time_ns()}"
    boto3.client("s3").create_bucket(Bucket=name)
    requests.seen.clear()
    return f"s3://{name}/chexpert-{SIDE}", requests


@pytest.fixture
def pack(small_catalog, tmp_path) -> Pack:
    return build_pack(small_catalog, tmp_path / "pack", width=SIDE, height=SIDE, workers=1)


@pytest.fixture
def folder(pack, tmp_path) -> Path:
    """Shards in a folder."""
    write_shards(pack, tmp_path / "shards", chunk_bytes=CHUNK)
    return tmp_path / "shards"


def test_streamed_images_are_the_images_of_the_pack(pack, bucket, tmp_path):
    url, requests = bucket
    seen = []
    report = write_shards(pack, url, chunk_bytes=CHUNK, progress=seen.append)
    assert (report.images, report.chunks, report.sent, report.kept) == (33, 7, 7, 0)
    assert sum(seen) == 33
    assert requests.of("PUT", "/")[-1].endswith(RECORD)

    shards = Shards(url, tmp_path / "cache")
    assert (shards.size, shards.meta, len(shards)) == (pack.size, pack.meta, 33)
    np.testing.assert_array_equal(shards.ids, pack.ids)
    order = np.random.default_rng(0).permutation(pack.ids)
    batch = shards.read(order)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, pack.read(order))
    twice = pack.ids[[4, 4, 0]]
    np.testing.assert_array_equal(shards.read(twice), pack.read(twice))
    batch[:] = 0
    np.testing.assert_array_equal(shards.read(order[:2]), pack.read(order[:2]))


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 12))


@pytest.mark.filterwarnings("ignore:.*undefined there")
def test_a_run_has_the_same_digest_from_a_url_as_from_the_pack(
    pack, bucket, small_catalog, tmp_path, monkeypatch
):
    url, requests = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    monkeypatch.setattr("hilum.training.run.write_figures", lambda folder, metrics: [])
    monkeypatch.setattr("hilum.training.run.write_report", lambda folder: None)
    digests = []
    for where in (str(pack.path), url):
        training = StandardTraining(
            catalog=small_catalog,
            net=small_net(),
            pack=where,
            image_width=SIDE,
            image_height=SIDE,
            aug_fraction=0.5,
            batch_size=8,
            num_epochs=1,
            num_workers=0,
            device="cpu",
            quiet=True,
            save_path=tmp_path / "runs",
        )
        training.train()
        digests.append(training.folder.record["digest"])
    assert digests[0] == digests[1]
    assert requests.of("GET", "chunk-")


def test_a_second_reader_fetches_no_chunk(pack, bucket, tmp_path):
    url, requests = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    Shards(url, tmp_path / "cache").read(pack.ids)
    assert len(requests.of("GET", "chunk-")) == 7
    requests.seen.clear()
    np.testing.assert_array_equal(Shards(url, tmp_path / "cache").read(pack.ids), pack.read(pack.ids))
    assert requests.of("GET", "chunk-") == requests.of("GET", "ids-") == []
    assert len(requests.of("GET", RECORD)) == 1


def test_only_the_chunks_that_are_asked_for_are_fetched(pack, bucket, tmp_path):
    url, requests = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    Shards(url, tmp_path / "cache").read(pack.ids[[0, 3, 31]])
    assert len(requests.of("GET", "chunk-")) == 2


def test_an_interrupted_upload_is_incomplete_and_continues(pack, bucket, tmp_path, monkeypatch):
    url, requests = bucket
    send, sent = Bucket.send, []

    def cut_off_at_the_fourth(self, file, name):
        if len(sent) == 3:
            raise KeyboardInterrupt
        send(self, file, name)
        sent.append(name)

    monkeypatch.setattr(Bucket, "send", cut_off_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        write_shards(pack, url, chunk_bytes=CHUNK, workers=1)
    with pytest.raises(HilumError, match=r"incomplete.*continues where it stopped"):
        Shards(url, tmp_path / "cache")

    monkeypatch.setattr(Bucket, "send", send)
    requests.seen.clear()
    report = write_shards(pack, url, chunk_bytes=CHUNK)
    assert (report.sent, report.kept) == (4, 3)
    assert len(requests.of("PUT", "chunk-")) == 4
    np.testing.assert_array_equal(Shards(url, tmp_path / "cache").read(pack.ids), pack.read(pack.ids))


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_an_interrupted_download_leaves_no_chunk(pack, bucket, tmp_path, monkeypatch, end):
    url, _ = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    shards = Shards(url, tmp_path / "cache")
    fetch = Bucket.fetch

    def half(self, name, file):
        fetch(self, name, file)
        file.write_bytes(file.read_bytes()[:300])
        raise end(28, "No space left on device")

    monkeypatch.setattr(Bucket, "fetch", half)
    with pytest.raises(KeyboardInterrupt if end is KeyboardInterrupt else HilumError):
        shards.read(pack.ids[:1])
    assert list((tmp_path / "cache").glob("*chunk*")) == []
    monkeypatch.setattr(Bucket, "fetch", fetch)
    np.testing.assert_array_equal(shards.read(pack.ids[:1]), pack.read(pack.ids[:1]))


def test_the_remains_of_a_killed_download_are_removed(pack, bucket, tmp_path):
    url, _ = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    left, under_way = (tmp_path / "cache" / f".chunk-{c * 64}.{c}.partial.bin" for c in "12")
    left.parent.mkdir()
    left.write_bytes(b"half")
    under_way.write_bytes(b"growing")
    os.utime(left, (0, 0))
    Shards(url, tmp_path / "cache").read(pack.ids)
    assert (left.exists(), under_way.exists()) == (False, True)


def test_a_chunk_damaged_in_the_bucket_is_refused(pack, bucket, tmp_path):
    import boto3

    url, _ = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    shards = Shards(url, tmp_path / "cache")
    client, (name, prefix) = boto3.client("s3"), url.removeprefix("s3://").split("/")
    keys = [
        item["Key"] for item in client.list_objects_v2(Bucket=name, Prefix=f"{prefix}/chunk-")["Contents"]
    ]
    for key in keys:
        content = client.get_object(Bucket=name, Key=key)["Body"].read()
        client.put_object(Bucket=name, Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(HilumError, match="its content does not have the SHA-256 of its name"):
        shards.read(pack.ids)
    client.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in keys]})
    with pytest.raises(HilumError, match=r"it is missing, though.*sends what is missing"):
        shards.read(pack.ids)


def test_a_chunk_cut_short_in_the_cache_is_fetched_again(pack, bucket, tmp_path):
    url, _ = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    shards = Shards(url, tmp_path / "cache")
    shards.read(pack.ids)
    for path in (tmp_path / "cache").glob("chunk-*"):
        path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(shards.read(pack.ids), pack.read(pack.ids))


def test_the_cache_stays_within_its_limit_and_drops_the_least_recently_used(pack, bucket, tmp_path):
    url, requests = bucket
    report = write_shards(pack, url, chunk_bytes=CHUNK)
    limit = 3 * report.bytes // report.chunks + SIDE * SIDE
    cache = tmp_path / "cache"
    shards = Shards(url, cache, max_cache_size=limit)
    for image_id in np.random.default_rng(1).permutation(np.repeat(pack.ids, 2)):
        np.testing.assert_array_equal(shards.read(np.array([image_id])), pack.read(np.array([image_id])))
        assert sum(path.stat().st_size for path in cache.glob("chunk-*.bin")) <= limit
    for image_id in pack.ids[[0, 5, 10, 0, 15]]:  # the second chunk is the one not used for longest
        shards.read(np.array([image_id]))
        time.sleep(0.01)
    requests.seen.clear()
    shards.read(pack.ids[[0, 10, 15]])
    assert requests.of("GET", "chunk-") == []
    shards.read(pack.ids[[5]])
    assert len(requests.of("GET", "chunk-")) == 1
    np.testing.assert_array_equal(shards.read(pack.ids), pack.read(pack.ids))

    with pytest.raises(HilumError, match="max_cache_size is 100 bytes, but a chunk"):
        Shards(url, cache, max_cache_size=100)


def test_the_cache_can_be_filled_beforehand(pack, bucket, tmp_path):
    url, requests = bucket
    report = write_shards(pack, url, chunk_bytes=CHUNK)
    shards, seen = Shards(url, tmp_path / "cache"), []
    shards.read(pack.ids[:1])
    shards.fill_cache(progress=seen.append)
    assert seen == [5, 5, 5, 5, 5, 5, 3]
    assert len(requests.of("GET", "chunk-")) == 7
    requests.seen.clear()
    np.testing.assert_array_equal(shards.read(pack.ids), pack.read(pack.ids))
    assert requests.seen == []
    with pytest.raises(HilumError, match="do not all fit"):
        Shards(url, tmp_path / "cache", max_cache_size=report.bytes - 1).fill_cache()


def test_shards_can_be_pickled_after_use(pack, bucket, tmp_path):
    url, requests = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    shards = Shards(url, tmp_path / "cache")
    shards.read(pack.ids[:1])
    requests.seen.clear()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards)).read(pack.ids), pack.read(pack.ids))
    assert len(requests.of("GET", "chunk-")) == 6
    assert requests.of("GET", RECORD) == []


class Batches(torch.utils.data.Dataset):
    def __init__(self, shards: Shards):
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitems__(self, rows: list[int]) -> torch.Tensor:
        return torch.from_numpy(self.shards.read(self.shards.ids[rows]))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_of_a_loader_share_the_cache(pack, bucket, tmp_path):
    url, requests = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    shards = Shards(url, tmp_path / "cache")
    shards.read(pack.ids[:1])  # this process has its connection before the workers are forked
    order = np.random.default_rng(2).permutation(33).tolist()
    loader = torch.utils.data.DataLoader(
        Batches(shards),
        batch_size=8,
        sampler=order,
        num_workers=2,
        collate_fn=lambda batch: batch,
        timeout=60,
    )
    np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), pack.read(pack.ids[order]))
    assert len(requests.of("GET", "chunk-")) == 7  # each once, whoever asked first


def test_a_folder_is_read_where_it_is(pack, folder, tmp_path):
    shards = Shards(folder, tmp_path / "cache")
    np.testing.assert_array_equal(shards.read(pack.ids[::-1]), pack.read(pack.ids[::-1]))
    assert not (tmp_path / "cache").exists()


def test_litdata_reads_the_same_images(pack, folder):
    import litdata

    dataset = litdata.StreamingDataset(str(folder))
    images = [
        np.frombuffer(dataset[place], dtype=np.uint8).reshape(SIDE, SIDE) for place in range(len(dataset))
    ]
    np.testing.assert_array_equal(np.stack(images), pack.read(pack.ids))


@pytest.mark.parametrize("images", [1, 2, 33, 1000])
def test_chunks_may_have_any_size(pack, tmp_path, images):
    report = write_shards(pack, tmp_path / "out", chunk_bytes=images * SIDE * SIDE)
    assert report.chunks == -(-33 // images)
    np.testing.assert_array_equal(Shards(tmp_path / "out").read(pack.ids), pack.read(pack.ids))


def test_other_shards_in_the_same_folder_replace_the_first(pack, folder, small_catalog, tmp_path):
    few = small_catalog.select_images(small_catalog.table.index[:12])
    other = build_pack(few, tmp_path / "other", width=SIDE, height=SIDE, workers=1)
    assert write_shards(other, folder, chunk_bytes=CHUNK).kept == 2
    shards = Shards(folder)
    np.testing.assert_array_equal(shards.ids, other.ids)
    np.testing.assert_array_equal(shards.read(other.ids), other.read(other.ids))


def test_check_accepts_its_catalog_and_subsets_and_names_what_differs(folder, small_catalog, tmp_path):
    settings = PixelSettings(image_width=SIDE, image_height=SIDE)
    shards, ids = Shards(folder), small_catalog.table.index
    shards.check(small_catalog, settings)
    shards.check(small_catalog.select_images(ids[5:9]), settings)
    with pytest.raises(HilumError, match="width is 16 there, but 32 here"):
        shards.check(small_catalog, PixelSettings(image_width=32, image_height=SIDE))
    with pytest.raises(HilumError, match="catalog is 'chexpert' there, but 'nih' here"):
        shards.check(replace(small_catalog, name="nih"), settings)
    table = small_catalog.table.copy()
    table.loc[ids[3], "Image_Path"] = "train/other.jpg"
    with pytest.raises(HilumError, match=rf"ImageID {ids[3]} is train/patient\d+/.* but train/other\.jpg in"):
        shards.check(replace(small_catalog, table=table), settings)


def test_shards_of_fewer_images_do_not_fit(small_catalog, tmp_path):
    ids = small_catalog.table.index
    few = build_pack(
        small_catalog.select_images(ids[:12]), tmp_path / "few", width=SIDE, height=SIDE, workers=1
    )
    write_shards(few, tmp_path / "out")
    with pytest.raises(HilumError, match=rf"ImageID {ids[12]} is not in the shards .* \(nor are 20 others\)"):
        Shards(tmp_path / "out").check(small_catalog, PixelSettings(image_width=SIDE, image_height=SIDE))


def test_an_unknown_id_is_named(folder):
    with pytest.raises(HilumError, match="ImageID 123456 is not in the shards"):
        Shards(folder).read(np.array([123456]))


def test_missing_shards_are_one_clear_error(bucket, tmp_path):
    url, _ = bucket
    for absent in (url, "s3://no-such-bucket-here/shards", str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(HilumError, match=r"shards.json: it is missing.*Check the bucket"):
            Shards(absent, tmp_path / "cache")


def test_a_wrong_bucket_or_endpoint_cannot_be_written(pack, bucket, monkeypatch):
    with pytest.raises(HilumError, match=r"s3://no-such-bucket-here/x/.*it cannot be written.*NoSuchBucket"):
        write_shards(pack, "s3://no-such-bucket-here/x", chunk_bytes=CHUNK)
    monkeypatch.setattr("hilum.files._ATTEMPTS", 1)
    with pytest.raises(HilumError, match=r"cannot be reached.*127\.0\.0\.1:9.*Check the URL, the endpoint"):
        write_shards(pack, bucket[0], storage_options={"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(HilumError, match=r"it cannot be read.*Check the URL, the endpoint"):
        Shards(bucket[0], storage_options={"endpoint_url": "http://127.0.0.1:9"})


def test_missing_credentials_are_named(pack, bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(HilumError, match=r"[Cc]redentials"):
        Shards(bucket[0])


@pytest.mark.parametrize("url", ["ftp://host/x", "https://host/x", "s3:///x", "s3://bucket", "s3://bucket/"])
def test_an_impossible_url_is_refused(pack, url):
    with pytest.raises(HilumError, match=f"{url}: "):
        Shards(url)
    with pytest.raises(HilumError, match=f"{url}: "):
        write_shards(pack, url)


def test_without_the_extra_the_package_to_install_is_named(pack, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(HilumError, match=r"boto3.*pip install hilum\[shards\]"):
        Shards("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "litdata.streaming.writer", None)
    with pytest.raises(HilumError, match=r"'litdata.*pip install hilum\[shards\]"):
        write_shards(pack, tmp_path / "out")


@pytest.mark.parametrize("setting", [{"chunk_bytes": 0}, {"chunk_bytes": 1.5}, {"workers": 0}])
def test_impossible_settings_are_refused(pack, tmp_path, setting):
    with pytest.raises(HilumError, match="whole numbers, 1 or more"):
        write_shards(pack, tmp_path / "out", **setting)


def test_a_folder_that_cannot_be_written_is_named(pack, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(HilumError, match="it cannot be written"):
        write_shards(pack, tmp_path / "out")


def test_a_folder_with_a_chunk_missing_or_cut_short_is_named(pack, folder):
    chunk = next(folder.glob("chunk-*"))
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-10])
    with pytest.raises(HilumError, match=f"{chunk.name}: it is cut short"):
        Shards(folder).read(pack.ids)
    chunk.unlink()
    with pytest.raises(HilumError, match=f"{chunk.name}: it is missing"):
        Shards(folder).read(pack.ids)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record | {"format": 99},
        lambda record: record | {"ids": "../../ids.parquet"},
        lambda record: record | {"chunks": [["/etc/passwd", 10]]},
        lambda record: {key: value for key, value in record.items() if key != "pack"},
        lambda record: [record],
    ],
)
def test_a_record_of_another_kind_is_refused(folder, change):
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(change(record)))
    with pytest.raises(HilumError, match=r"not the record of shards|cannot be read"):
        Shards(folder)


def test_the_default_cache_is_in_the_users_cache_folder(own_cache, pack, bucket):
    url, _ = bucket
    write_shards(pack, url, chunk_bytes=CHUNK)
    Shards(url).read(pack.ids)
    assert len(list((own_cache / "shards").glob("chunk-*.bin"))) == 7
