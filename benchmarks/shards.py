"""Cost of an image in shards: bytes, requests, and images/s compared with the local pack.

The shards are on an S3 server (moto), in its own process on loopback. Bytes and requests are those of any S3 storage;
the cold rate is an upper bound for a network. Batches have 64 images, read in one process. Runs alternate between
shards and pack, so that a slow moment of the machine affects both.

The last figures are for random order with a cache that holds only a fraction of the chunks: how often is the data set
downloaded again in one epoch? There, and in `warm_alone`, images are read one by one, because in a data set of millions
no two images of a batch are in the same chunk.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from common import make_parser, summarize

from hilum.data.pixels import CORRUPT, FORMAT, INDEX, PIXELS, RECORD, Pack
from hilum.data.shards import Shards, write_shards

BATCH = 64
SHARES = (1.0, 0.5, 0.25)


def synthetic_pack(folder: Path, images: int, side: int) -> Pack:
    """A pack of noise. Pixels are stored uncompressed, so their values have no effect."""
    folder.mkdir()
    pixels = np.lib.format.open_memmap(folder / PIXELS, "w+", dtype=np.uint8, shape=(images, side, side))
    draw = np.random.default_rng(0)
    for start in range(0, images, BATCH):
        rows = pixels[start : start + BATCH]
        rows[:] = draw.integers(0, 256, rows.shape, dtype=np.uint8)
    pixels.flush()
    ids = np.arange(images)
    paths = [f"{image_id}.png" for image_id in ids]
    pd.DataFrame({"ImageID": ids, "row": ids, "Image_Path": paths, "sha256": ""}).to_parquet(folder / INDEX)
    pd.DataFrame(columns=["ImageID", "Image_Path", "reason"]).to_csv(folder / CORRUPT, index=False)
    record = {
        **{"format": FORMAT, "catalog": "noise", "catalog_fingerprint": "", "images_fingerprint": ""},
        **{"width": side, "height": side, "fit": "stretch", "interpolation": "auto"},
        **{"images": images, "left_out": 0},
    }
    (folder / RECORD).write_text(json.dumps(record))
    return Pack(folder)


class Server:
    """The endpoint of the S3 server, and the number of its requests, read from its log."""

    def __init__(self, endpoint: str, log: Path):
        self.endpoint, self.log = endpoint, log

    def requests(self, part: str) -> int:
        """Number of requests so far whose path contains `part`."""
        return len(re.findall(rf"(?:GET|HEAD|PUT|POST) \S*{part}\S* HTTP", self.log.read_text()))


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """A moto server in a separate process, with environment variables that point boto3 to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint, log = f"http://127.0.0.1:{port}", folder / "server.log"
    os.environ |= {
        **{"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"},
        **{"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"},
        **{"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull},
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait_for(endpoint)
            import boto3

            boto3.client("s3").create_bucket(Bucket="radiographs")
            yield Server(endpoint, log)
        finally:
            process.terminate()


def _wait_for(endpoint: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit(f"the S3 server at {endpoint} does not answer")


def images_per_second(source: Pack | Shards, order: np.ndarray, batch: int = BATCH) -> float:
    """Reads all images in this order, in batches."""
    start = time.perf_counter()
    for first in range(0, len(order), batch):
        source.read(order[first : first + batch])
    return len(order) / (time.perf_counter() - start)


def measure_rates(pack: Pack, server: Server, folder: Path, chunk_bytes: int, runs: int) -> dict[str, object]:
    """Bytes and requests per image, and images/s from a cold cache, a warm cache and the pack."""
    url = "s3://radiographs/rates"
    report = write_shards(pack, url, chunk_bytes=chunk_bytes)
    written = server.requests("chunk-")
    order = np.random.default_rng(1).permutation(pack.ids)
    images_per_second(pack, order)  # read once before timing
    cold, warm, alone, local, requests = [], [], [], [], 0
    for run in range(runs):
        shards = Shards(url, folder / f"cold-{run}")
        before = server.requests("chunk-")
        cold.append(images_per_second(shards, pack.ids))
        requests = server.requests("chunk-") - before
        local.append(images_per_second(pack, order))
        warm.append(images_per_second(shards, order))
        alone.append(images_per_second(shards, order, batch=1))
    first = pack.ids[:: max(1, len(pack.ids) // 100)]
    return {
        "chunks": report.chunks,
        "chunk_bytes": chunk_bytes,
        "equal": bool(np.array_equal(shards.read(first), pack.read(first))),
        "pixels_per_image": pack.size[0] * pack.size[1],
        "bytes_per_image": report.bytes / report.images,
        "requests_per_chunk_written": written / report.chunks,
        "requests_per_chunk": requests / report.chunks,
        "requests_per_image": requests / report.images,
        "pack_images_per_second": summarize(local),
        "cold_images_per_second": summarize(cold),
        "warm_images_per_second": summarize(warm),
        "warm_alone_images_per_second": summarize(alone),
        "cold_ratio": summarize([a / b for a, b in zip(cold, local, strict=True)]),
        "warm_ratio": summarize([a / b for a, b in zip(warm, local, strict=True)]),
    }


def measure_cache(pack: Pack, server: Server, folder: Path, per_chunk: int, runs: int) -> dict[str, object]:
    """Chunks fetched per image in a random epoch, after a first epoch, by the fraction of chunks in the cache."""
    url, side = "s3://radiographs/cache", pack.size[0]
    report = write_shards(pack, url, chunk_bytes=per_chunk * side * side)
    fetched: dict[str, object] = {}
    for share in SHARES:
        bound = int(np.ceil(share * report.bytes))
        shards = Shards(url, folder / f"share-{share}", max_cache_size=bound)
        counts = []
        for epoch in range(runs + 1):
            before = server.requests("chunk-")
            for image_id in np.random.default_rng(epoch).permutation(pack.ids):
                shards.read(np.array([image_id]))
            counts.append((server.requests("chunk-") - before) / 2 / report.images)  # HEAD and GET
        fetched[f"{share:g}"] = summarize(counts[1:])
    return {"images_per_chunk": per_chunk, "chunks": report.chunks, "fetched_per_image": fetched}


def main() -> None:
    """Runs the measurements and prints the results."""
    parser = make_parser(__doc__, quick="256 images of 32 x 32, and 2 runs")
    parser.add_argument("--runs", type=int, default=None, help="timed runs (default: 5)")
    arguments = parser.parse_args()
    images, side, chunk_bytes = (256, 32, 2**16) if arguments.quick else (2560, 320, 2**26)
    cache_images, runs = (60 if arguments.quick else 600), arguments.runs or (2 if arguments.quick else 5)
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name)) as server:
        folder = Path(name)
        rates = measure_rates(
            synthetic_pack(folder / "pack", images, side), server, folder, chunk_bytes, runs
        )
        cache = measure_cache(
            synthetic_pack(folder / "small", cache_images, 32), server, folder, 6, min(runs, 3)
        )
    result = {"benchmark": "shards", "images": images, "side": side, **rates, "cache": cache}
    print(
        f"{images:,} images of {side} x {side} in {rates['chunks']} chunks: {rates['bytes_per_image']:,.1f} bytes "
        f"per image ({rates['pixels_per_image']:,} of pixels), {rates['requests_per_chunk']:.1f} requests per chunk"
    )
    for kind in ("cold", "warm"):
        rate, ratio = rates[f"{kind}_images_per_second"], rates[f"{kind}_ratio"]
        print(
            f"{kind}: {rate['median']:,.0f} images/s, {ratio['median']:.2g} times the local pack "
            f"({ratio['min']:.2g} to {ratio['max']:.2g} in {ratio['runs']} runs)"
        )
    alone = rates["warm_alone_images_per_second"]
    print(f"warm, one by one: {alone['median']:,.0f} images/s ({alone['min']:,.0f} to {alone['max']:,.0f})")
    for share, fetched in cache["fetched_per_image"].items():
        print(f"cache of {float(share):.0%} of the chunks: {fetched['median']:.2f} chunks fetched per image")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
