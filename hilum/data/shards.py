"""The images of a pack as shards at a URL, read by id through a local cache.

The shards are in the format of litdata (`litdata.StreamingDataset` reads them too, in order): chunks of several hundred
images, and an index. A chunk is named by the SHA-256 of its content. So an interrupted upload continues where it
stopped, an incomplete download is never taken for a chunk, and a cached chunk stays valid. litdata's own reader is for
passes in its own order: it fetches each image's bytes again. A run here draws its own order, so whole chunks are
fetched into the cache, and images are read from there.
"""

import contextlib
import json
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hilum.config import PixelSettings
from hilum.data.pixels import INDEX, Pack, check_paths, check_settings, rows_of
from hilum.errors import HilumError
from hilum.files import Bucket, Folder, cache_folder, locked, replacing, sha256_of_file, storage_at
from hilum.sources.catalog import Catalog

#: Written last: shards that have it are complete. `LITDATA_INDEX` is for other readers of the format.
RECORD, LITDATA_INDEX = "shards.json", "index.json"
#: Rises when older code could not read shards, or newer code older ones.
FORMAT = 1

_NAME = re.compile(r"(chunk-[0-9a-f]{64}\.bin|ids-[0-9a-f]{64}\.parquet)")
_READ_TOGETHER = 64  # images
_STALE_SECONDS = 3600  # a download that has not grown for this long belongs to a killed process


@dataclass(frozen=True)
class ShardsReport:
    """The result of `write_shards`: chunks sent now, chunks sent earlier, and the bytes of all."""

    url: str
    images: int
    chunks: int
    sent: int
    kept: int
    bytes: int


def write_shards(
    pack: Pack,
    out: str | Path,
    *,
    chunk_bytes: int = 64 * 2**20,
    storage_options: dict[str, Any] | None = None,
    workers: int = 4,
    progress: Callable[[int], None] | None = None,
) -> ShardsReport:
    """Writes the images of a pack as shards, pixel for pixel, with their ids and the pack's record.

    Called again after an interruption, it sends only the missing chunks. Memory and disk hold a few chunks at a time.

    Args:
        pack: the images.
        out: `s3://bucket/name`, `gs://bucket/name`, or a folder.
        chunk_bytes: approximate size of a chunk; at least one image.
        storage_options: of the cloud's client, such as `endpoint_url`; its environment variables also hold.
        workers: number of parallel uploads.
        progress: called with the number of images of each chunk that is in the storage.

    Raises:
        HilumError: `out` cannot be written, its scheme is unknown, or litdata is not installed.
    """
    if type(chunk_bytes) is not int or chunk_bytes < 1 or type(workers) is not int or workers < 1:
        raise HilumError(
            f"chunk_bytes ({chunk_bytes!r}) and workers ({workers!r}) must be whole numbers, 1 or more."
        )
    if not len(pack):
        raise HilumError("The pack has no image, so there is nothing to write.")
    storage = storage_at(out, storage_options)
    width, height = pack.size
    images_per_chunk = max(1, chunk_bytes // (width * height))

    chunks, new, images_left = [], 0, len(pack)
    with tempfile.TemporaryDirectory(prefix="hilum-shards-") as temporary:
        folder = Path(temporary)
        files = _chunk_files(pack, images_per_chunk, folder)
        for name, size, is_new in _in_parallel(partial(_send_chunk, storage), files, workers):
            chunks.append((name, size))
            new += is_new
            if progress:
                progress(min(images_per_chunk, images_left))
            images_left -= images_per_chunk
        record = {
            "format": FORMAT,
            "images": len(pack),
            "images_per_chunk": images_per_chunk,
            "chunks": chunks,
            "ids": _send_ids(pack, storage, folder),
            "pack": pack.meta,
        }
        _send_records(record, storage, folder)
    total = sum(size for _, size in chunks)
    return ShardsReport(str(storage), len(pack), len(chunks), new, len(chunks) - new, total)


def _send_chunk(storage: Folder | Bucket, file: Path) -> tuple[str, int, bool]:
    """Sends a file that the storage lacks, and deletes it here; its name, size and whether it was sent."""
    name, size = f"chunk-{sha256_of_file(file)}.bin", file.stat().st_size
    is_new = not storage.has(name)
    if is_new:
        storage.send(file, name)
    file.unlink()
    return name, size, is_new


def _in_parallel(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """The results of a function, in order; at most one more item than workers waits."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk_files(pack: Pack, images_per_chunk: int, folder: Path) -> Iterator[Path]:
    """Each chunk as litdata writes it; at the end its index is in the folder too."""
    try:
        from litdata.streaming.writer import BinaryWriter
    except ModuleNotFoundError as error:
        raise HilumError(
            f"Shards need the package {error.name!r}, which is not installed: pip install hilum[shards]"
        ) from None
    writer = BinaryWriter(str(folder), chunk_size=images_per_chunk)
    for start in range(0, len(pack), _READ_TOGETHER):
        images = pack.read(pack.ids[start : start + _READ_TOGETHER])
        for number, image in enumerate(images, start=start):
            if finished := writer.add_item(number, image.tobytes()):
                yield Path(finished)
    yield from map(Path, writer.done())
    writer.merge()


def _send_ids(pack: Pack, storage: Folder | Bucket, folder: Path) -> str:
    file = folder / "ids.parquet"
    table = pq.read_table(pack.path / INDEX, columns=["ImageID", "Image_Path"])
    pq.write_table(table.sort_by("ImageID"), file)
    name = f"ids-{sha256_of_file(file)}.parquet"
    storage.send(file, name)
    return name


def _send_records(record: dict[str, Any], storage: Folder | Bucket, folder: Path) -> None:
    index = json.loads((folder / LITDATA_INDEX).read_text(encoding="utf-8"))
    for chunk, (name, _) in zip(index["chunks"], record["chunks"], strict=True):
        chunk["filename"] = name
    for file, content in ((LITDATA_INDEX, index), (RECORD, record)):
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
        storage.send(folder / file, file)


class Shards:
    """The images of shards, by their ids. A `PixelSource`; can be pickled, and forked.

    Chunks of a bucket are kept in the cache, also for later runs; shards in a folder are read from there.

    Args:
        url: `s3://bucket/name`, `gs://bucket/name`, or a folder.
        cache_dir: for the chunks; None for `shards` in $HILUM_CACHE or the user's cache folder.
        storage_options: of the cloud's client, such as `endpoint_url`; its environment variables also hold.
        max_cache_size: bytes. Beyond it the least recently used chunks are removed; processes that fetch at
            the same moment may exceed it by a chunk each. None keeps all.

    Attributes:
        url: as given.
        meta: the record of the pack that the shards were made from, see `Pack.meta`.
        size: (width, height) in pixels.
        ids: int64 (N,), ascending.

    Raises:
        HilumError: the shards are missing or incomplete; the storage cannot be reached; an unknown scheme;
            `max_cache_size` is less than a chunk.
    """

    def __init__(
        self,
        url: str | Path,
        cache_dir: str | Path | None = None,
        storage_options: dict[str, Any] | None = None,
        max_cache_size: int | None = None,
    ):
        self.url = str(url)
        self._storage = storage_at(url, storage_options)
        self.cache_dir = Path(cache_dir) if cache_dir is not None else cache_folder() / "shards"
        record = self._read_record()
        self.meta: dict[str, Any] = record["pack"]
        self.size: tuple[int, int] = (self.meta["width"], self.meta["height"])
        self._images_per_chunk: int = record["images_per_chunk"]
        self._chunks: list[tuple[str, int]] = [(name, size) for name, size in record["chunks"]]
        self._ids_file: str = record["ids"]
        self.max_cache_size = max_cache_size
        largest = max(size for _, size in self._chunks)
        if max_cache_size is not None and max_cache_size < largest:
            raise HilumError(
                f"max_cache_size is {max_cache_size!r} bytes, but a chunk of {self.url} has {largest:,}. "
                "Give room for one chunk and more, or leave it out."
            )
        self.ids = self._column("ImageID").to_numpy(dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """See `PixelSource.read`. Chunks that are not in the cache are fetched."""
        width, height = self.size
        rows = rows_of(image_ids, self.ids, f"the shards {self.url}")
        images = np.empty((len(rows), height, width), dtype=np.uint8)
        chunks, places = np.divmod(rows, self._images_per_chunk)
        for chunk in np.unique(chunks).tolist():
            with self._open_chunk(chunk) as file:
                for row in np.flatnonzero(chunks == chunk).tolist():
                    _read_image(file, int(places[row]), images[row])
        return images

    def fill_cache(self, workers: int = 8, progress: Callable[[int], None] | None = None) -> None:
        """Fetches all chunks that are not in the cache, so that a run never waits for one.

        Args:
            workers: number of parallel downloads.
            progress: called with the number of images of each chunk that is in the cache.

        Raises:
            HilumError: the cache's limit is less than the shards, or a chunk cannot be fetched; fetched chunks stay.
        """
        total = sum(size for _, size in self._chunks)
        if self.max_cache_size is not None and self.max_cache_size < total:
            raise HilumError(
                f"max_cache_size is {self.max_cache_size:,} bytes, but {self.url} has {total:,}: they do not all "
                "fit. Give more room, or let the run fetch chunks as it needs them."
            )
        fetched = _in_parallel(lambda chunk: self._local(*chunk), self._chunks, workers)
        for number, _ in enumerate(fetched):
            if progress:
                progress(min(self._images_per_chunk, len(self) - number * self._images_per_chunk))

    def check(self, catalog: Catalog, settings: PixelSettings) -> None:
        """Raises HilumError unless the shards have the images of a run, at its size, as `Pack.check` does."""
        check_settings(self.url, self.meta, catalog.name, settings)
        ids = catalog.table.index.to_numpy(dtype=np.int64)
        rows = rows_of(ids, self.ids, f"the shards {self.url}, which were made from other images")
        check_paths(self.url, catalog, self._column("Image_Path").to_numpy(dtype=object)[rows])

    def _open_chunk(self, chunk: int) -> FileIO:
        name, size = self._chunks[chunk]
        for _ in range(10):
            path = self._local(name, size)
            with contextlib.suppress(FileNotFoundError):
                file = path.open("rb", buffering=0)
                if os.fstat(file.fileno()).st_size == size:
                    return file
                file.close()
                if isinstance(self._storage, Folder):
                    raise HilumError(f"{path}: it is cut short. Write the shards again with `hilum shards`.")
                path.unlink(missing_ok=True)  # fetched again
        raise HilumError(
            f"{self.cache_dir / name}: it is removed again before it is read. Give max_cache_size more room: "
            "at least a chunk for each process that reads."
        )

    def _local(self, name: str, size: int) -> Path:
        """Path of a file of the shards, once it is on this machine."""
        if isinstance(self._storage, Folder):
            path = self._storage.path / name
            if not path.is_file():
                raise self._incomplete(name)
            return path
        path = self.cache_dir / name
        try:
            os.utime(path)  # the most recently used, so the last to be removed
        except FileNotFoundError:
            self._fetch(name, size)
        except PermissionError:
            pass  # a cache made by another user can be read
        return path

    def _fetch(self, name: str, size: int) -> None:
        path = self.cache_dir / name
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            # One process fetches a chunk, the others wait for it. With 256 locks, two chunks rarely share one.
            with locked(self.cache_dir / f".lock-{name.partition('-')[2][:2]}"):
                if path.exists():
                    return
                self._make_room(size)
                with replacing(path) as partial:
                    self._storage.fetch(name, partial)
                    if sha256_of_file(partial) not in name:
                        raise HilumError(
                            f"{self.url}/{name}: its content does not have the SHA-256 of its name; it was damaged "
                            "there or on the way. Try again; if it stays so, delete it and write the shards again."
                        )
        except FileNotFoundError:
            raise self._incomplete(name) from None
        except OSError as error:
            raise HilumError(
                f"{path}: it cannot be kept: {error.strerror or error}. Make room, give another cache_dir, or "
                "limit the cache with max_cache_size."
            ) from None

    def _make_room(self, size: int) -> None:
        """Removes the remains of killed downloads and, beyond the limit, the least recently used chunks."""
        for leftover in self.cache_dir.glob(".*.partial.*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                    leftover.unlink()
        if self.max_cache_size is None:
            return
        kept = []
        for path in self.cache_dir.glob("chunk-*.bin"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                kept.append((status.st_mtime_ns, status.st_size, path))
        total = size + sum(kept_size for _, kept_size, _ in kept)
        for _, kept_size, path in sorted(kept):
            if total <= self.max_cache_size:
                return
            path.unlink(missing_ok=True)
            total -= kept_size

    def _column(self, name: str) -> pd.Series:
        path = self._local(self._ids_file, 0)
        try:
            return pq.read_table(path, columns=[name]).to_pandas()[name]
        except (OSError, ValueError) as error:
            raise HilumError(f"{path}: it cannot be read: {error}. Delete it and try again.") from None

    def _read_record(self) -> dict[str, Any]:
        where = f"{self.url}/{RECORD}"
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._storage.fetch(RECORD, Path(folder) / RECORD)
                record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
            # The names become paths here, so only names are allowed.
            names = [record["ids"], *(name for name, _ in record["chunks"])]
            known = record["format"] == FORMAT and {"images_per_chunk", "pack"} <= set(record)
        except (FileNotFoundError, NotADirectoryError):
            raise HilumError(
                f"{where}: it is missing, so the shards are missing or incomplete. Check the bucket and the "
                "name, or run `hilum shards` again: it continues where it stopped."
            ) from None
        except HilumError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HilumError(f"{where}: it cannot be read: {error}. Write the shards again.") from None
        if not known or not all(map(_NAME.fullmatch, names)):
            raise HilumError(
                f"{where}: this is not the record of shards of format {FORMAT}. Use the version of Hilum that "
                "wrote it, or write the shards again."
            )
        return record

    def _incomplete(self, name: str) -> HilumError:
        return HilumError(
            f"{self.url}/{name}: it is missing, though {RECORD} names it. Run `hilum shards` again: it sends what "
            "is missing."
        )


def _read_image(file: FileIO, place: int, image: np.ndarray) -> None:
    """Reads one image of a chunk in litdata's format.

    The number of items n, n + 1 offsets, all uint32, then the items, which end with their pixels at offset i + 1.
    """
    file.seek(4 * (place + 2))
    end = int.from_bytes(file.read(4), "little")
    file.seek(max(end - image.nbytes, 0))
    if file.readinto(image.reshape(-1).data) != image.nbytes:
        raise HilumError(f"{file.name}: it is damaged. Delete it and try again.")
