"""The images of a pack as shards at a URL, read by id through a local cache.

The shards are in the format of litdata (`litdata.StreamingDataset` reads them too, in order): chunks of
some hundred images each, and an index. A chunk is named by the SHA-256 of its content. So an upload that was
cut off goes on where it stopped, a download that was cut off cannot be taken for whole, and what lies
in a cache is right whatever has happened at the URL since.

litdata's own reading is made for passes in its own order: by single indices it asks for each image's bytes
anew and keeps nothing. Runs here draw their order themselves and must find every image again, so whole
chunks are fetched into the cache and images are read from there.
"""

import contextlib
import json
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs
import pyarrow.parquet as pq

from hilum.data.object_storage import Folder, require_litdata, storage_at
from hilum.data.pack import INDEX, Pack
from hilum.data.pixels import check_settings, rows_of
from hilum.errors import HilumError
from hilum.files import replacing, sha256_of_file
from hilum.sources.catalog import Catalog

#: Written last: where it is, the shards are whole. `LITDATA_INDEX` is for other readers of the format.
RECORD, LITDATA_INDEX = "shards.json", "index.json"
#: Goes up when shards could no longer be read by the code of before.
FORMAT = 1

_NAME = re.compile(r"(chunk-[0-9a-f]{64}\.bin|ids-[0-9a-f]{64}\.parquet)")
_READ_AT_ONCE = 64  # images
_STALE_SECONDS = 3600  # a download that has not grown for so long is of a killed process


@dataclass(frozen=True)
class ShardsReport:
    """What `write_shards` did: chunks sent, chunks that were there already, and the bytes of all."""

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

    Called again after it was cut off, it sends only the chunks that are not there. Memory and the
    temporary folder hold some chunks at a time, whatever the size of the pack.

    Args:
        pack: the images.
        out: `s3://bucket/name`, `gs://bucket/name`, or a folder.
        chunk_bytes: about the size of a chunk; at least one image.
        storage_options: of the cloud's client, such as `endpoint_url`; its environment variables hold too.
        workers: uploads at a time.
        progress: called with the number of images of each chunk that is there.

    Raises:
        HilumError: `out` cannot be written, its scheme is unknown, or litdata is not installed.
    """
    require_litdata()
    if type(chunk_bytes) is not int or chunk_bytes < 1 or type(workers) is not int or workers < 1:
        raise HilumError(
            f"chunk_bytes ({chunk_bytes!r}) and workers ({workers!r}) must be whole numbers, 1 or more."
        )
    if not len(pack.ids):
        raise HilumError("The pack has no image, so there is nothing to write.")
    storage = storage_at(out, storage_options)
    width, height = pack.size
    images_per_chunk = max(1, chunk_bytes // (width * height))
    with tempfile.TemporaryDirectory(prefix="hilum-shards-") as folder:
        sender = _Sender(storage, images_per_chunk, len(pack.ids), progress)
        sender.send_all(_chunk_files(pack, images_per_chunk, folder), workers)
        record = {
            "format": FORMAT,
            "images": len(pack.ids),
            "images_per_chunk": images_per_chunk,
            "chunks": sender.chunks,
            "ids": _send_ids(pack, storage, Path(folder)),
            "pack": pack.meta,
        }
        _send_litdata_index(storage, Path(folder), [name for name, _ in sender.chunks])
        _send_json(storage, Path(folder) / RECORD, record)
    return ShardsReport(
        url=str(storage),
        images=len(pack.ids),
        chunks=len(sender.chunks),
        sent=sender.sent,
        kept=len(sender.chunks) - sender.sent,
        bytes=sum(size for _, size in sender.chunks),
    )


class _Sender:
    """Sends chunks under the names of their content and remembers names and sizes, in order."""

    def __init__(self, storage, images_per_chunk: int, images: int, progress: Callable[[int], None] | None):
        self.storage, self.progress = storage, progress
        self.images_per_chunk, self.images_left = images_per_chunk, images
        self.chunks: list[tuple[str, int]] = []
        self.sent = 0

    def send_all(self, files: Iterator[Path], workers: int) -> None:
        waiting: deque[Future] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            for file in files:
                waiting.append(pool.submit(self._send, file))
                if len(waiting) > workers:
                    self._note(*waiting.popleft().result())
            while waiting:
                self._note(*waiting.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _send(self, file: Path) -> tuple[str, int, bool]:
        name, size = f"chunk-{sha256_of_file(file)}.bin", file.stat().st_size
        there = self.storage.has(name)
        if not there:
            self.storage.send(file, name)
        file.unlink()
        return name, size, not there

    def _note(self, name: str, size: int, sent: bool) -> None:
        self.chunks.append((name, size))
        self.sent += sent
        images = min(self.images_per_chunk, self.images_left)
        self.images_left -= images
        if self.progress:
            self.progress(images)


def _chunk_files(pack: Pack, images_per_chunk: int, folder: str) -> Iterator[Path]:
    """Each chunk as litdata writes it; at the end its index is in the folder too."""
    writer = require_litdata().streaming.writer.BinaryWriter(folder, chunk_size=images_per_chunk)
    for start in range(0, len(pack.ids), _READ_AT_ONCE):
        images = pack.read(pack.ids[start : start + _READ_AT_ONCE])
        for place, image in enumerate(images, start=start):
            finished = writer.add_item(place, image.tobytes())
            if finished:
                yield Path(finished)
    yield from map(Path, writer.done())
    writer.merge()


def _send_ids(pack: Pack, storage, folder: Path) -> str:
    table = pq.read_table(pack.path / INDEX, columns=["ImageID", "Image_Path"])
    file = folder / "ids.parquet"
    pq.write_table(table.sort_by("ImageID"), file)
    name = f"ids-{sha256_of_file(file)}.parquet"
    storage.send(file, name)
    return name


def _send_litdata_index(storage, folder: Path, names: list[str]) -> None:
    index = json.loads((folder / LITDATA_INDEX).read_text(encoding="utf-8"))
    for chunk, name in zip(index["chunks"], names, strict=True):
        chunk["filename"] = name
    _send_json(storage, folder / LITDATA_INDEX, index)


def _send_json(storage, file: Path, content: dict) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
    storage.send(file, file.name)


class Shards:
    """The images of shards, by their ids. A `PixelSource`; can be pickled, and forked.

    From a bucket, chunks are kept in the cache and found there by later runs; shards in a folder are
    read where they are.

    Args:
        url: `s3://bucket/name`, `gs://bucket/name`, or a folder.
        cache_dir: where chunks are kept; None for `shards` in $HILUM_CACHE or the user's cache folder.
        storage_options: of the cloud's client, such as `endpoint_url`; its environment variables hold too.
        max_cache_size: bytes. Beyond it the chunks used least recently are removed; processes that fetch at
            the same moment may exceed it by a chunk each. None keeps all.

    Attributes:
        url: as given.
        meta: the record of the pack that the shards were made of, see `Pack.meta`.
        size: (width, height) in pixels.
        ids: int64 (N,), ascending.

    Raises:
        HilumError: there are no shards, or half-written ones; the storage cannot be reached; an unknown
            scheme; litdata is not installed; `max_cache_size` is less than a chunk.
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
        self.cache_dir = Path(cache_dir) if cache_dir is not None else _default_cache()
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
        self.ids = self._read_index(["ImageID"])["ImageID"].to_numpy(dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """See `PixelSource.read`. Chunks that are not in the cache are fetched."""
        width, height = self.size
        rows = rows_of(image_ids, self.ids, f"the shards {self.url}")
        images = np.empty((len(rows), height, width), dtype=np.uint8)
        chunks, places = np.divmod(rows, self._images_per_chunk)
        for chunk in np.unique(chunks):
            wanted = np.flatnonzero(chunks == chunk)
            self._read_chunk(int(chunk), places[wanted], images, wanted)
        return images

    def fill_cache(self, workers: int = 8, progress: Callable[[int], None] | None = None) -> None:
        """Fetches all chunks that are not in the cache, several at a time, so that a run never waits for one.

        Args:
            workers: downloads at a time.
            progress: called with the number of images of each chunk that is there.

        Raises:
            HilumError: the cache is bounded to less than the shards, or a chunk cannot be fetched; what
                was fetched stays.
        """
        total = sum(size for _, size in self._chunks)
        if self.max_cache_size is not None and self.max_cache_size < total:
            raise HilumError(
                f"max_cache_size is {self.max_cache_size:,} bytes, but {self.url} has {total:,}: they do not all "
                "fit. Give more room, or let the run fetch chunks as it needs them."
            )
        pool = ThreadPoolExecutor(workers)
        try:
            places = pool.map(lambda chunk: self._local(*chunk), self._chunks)
            for number, _ in enumerate(places):
                if progress:
                    progress(min(self._images_per_chunk, len(self) - number * self._images_per_chunk))
        finally:
            pool.shutdown(cancel_futures=True)

    def check(self, catalog: Catalog, width: int, height: int, fit: str, interpolation: str) -> None:
        """Refuses the shards for a run that wants other images or another size, as `Pack.check` does.

        Raises:
            HilumError: what differs, with both values.
        """
        check_settings(self.url, self.meta, catalog.name, width, height, fit, interpolation)
        ids = catalog.table.index.to_numpy(dtype=np.int64)
        rows = rows_of(ids, self.ids, f"the shards {self.url}, which were made of other images")
        there = self._read_index(["Image_Path"])["Image_Path"].to_numpy(dtype=object)[rows]
        here = catalog.table["Image_Path"].to_numpy(dtype=object)
        differing = there != here
        if differing.any():
            first = int(differing.argmax())
            raise HilumError(
                f"{self.url} was made of other images: ImageID {ids[first]} is {there[first]} there, but "
                f"{here[first]} in the {catalog.name} catalog ({int(differing.sum()):,} differ). Use the "
                "source, root and filters that it was made with, or make other shards."
            )

    def _read_chunk(self, chunk: int, places: np.ndarray, images: np.ndarray, wanted: np.ndarray) -> None:
        name, size = self._chunks[chunk]
        for _ in range(10):
            path = self._local(name, size)
            with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    self._discard(path)
                    continue
                for place, row in zip(places.tolist(), wanted.tolist(), strict=True):
                    _read_image(file, place, images[row])
                return
        raise HilumError(
            f"{self.cache_dir / name}: it is removed again before it is read. Give max_cache_size more room: "
            "at least a chunk for each process that reads."
        )

    def _discard(self, path: Path) -> None:
        """A chunk of the wrong length: fetched again from a bucket, an error in a folder."""
        if isinstance(self._storage, Folder):
            raise HilumError(f"{path}: it is cut short. Write the shards again with `hilum shards`.")
        path.unlink(missing_ok=True)

    def _local(self, name: str, size: int) -> Path:
        """Where the file is, once it is there."""
        if isinstance(self._storage, Folder):
            path = self._storage.path / name
            if not path.is_file():
                raise self._incomplete(name)
            return path
        path = self.cache_dir / name
        try:
            os.utime(path)  # used just now: the last to be removed
        except FileNotFoundError:
            self._fetch(name, size)
        except PermissionError:
            pass  # a cache made by another user is read all the same
        return path

    def _fetch(self, name: str, size: int) -> None:
        from filelock import FileLock

        path = self.cache_dir / name
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            # One process fetches, the others wait for it. 256 locks are enough to be rarely in the way.
            with FileLock(self.cache_dir / f".lock-{name.partition('-')[2][:2]}"):
                if path.exists():
                    return
                self._make_room(size)
                with replacing(path) as partial:
                    self._storage.fetch(name, partial)
                    if sha256_of_file(partial) not in name:
                        raise HilumError(
                            f"{self.url}/{name}: its content is not what its name says; it was damaged there or "
                            "on the way. Try again; if it stays so, delete it and write the shards again."
                        )
        except FileNotFoundError:
            raise self._incomplete(name) from None
        except OSError as error:
            raise HilumError(
                f"{path}: it cannot be kept: {error.strerror or error}. Make room, give another cache_dir, or "
                "bound the cache with max_cache_size."
            ) from None

    def _make_room(self, size: int) -> None:
        """Removes what killed downloads left and, beyond the limit, the chunks used least recently."""
        for partial in self.cache_dir.glob(".*.partial.*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                    partial.unlink()
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

    def _read_index(self, columns: list[str]) -> pd.DataFrame:
        path = self._local(self._ids_file, 0)
        try:
            return pq.read_table(path, columns=columns).to_pandas()
        except (OSError, ValueError) as error:
            raise HilumError(f"{path}: it cannot be read: {error}. Delete it and try again.") from None

    def _read_record(self) -> dict[str, Any]:
        where = f"{self.url}/{RECORD}"
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._storage.fetch(RECORD, Path(folder) / RECORD)
                record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
            known = record["format"] == FORMAT and {"images_per_chunk", "chunks", "ids", "pack"} <= set(
                record
            )
        except (FileNotFoundError, NotADirectoryError):
            raise HilumError(
                f"{where}: it is not there, so there are no shards, or they are half-written. Check the bucket "
                "and the name, or run `hilum shards` again: it goes on where it stopped."
            ) from None
        except HilumError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HilumError(f"{where}: it cannot be read: {error}. Write the shards again.") from None
        # The names become paths here, so nothing else than a name may be among them.
        if not known or not all(
            map(_NAME.fullmatch, [record["ids"], *(name for name, _ in record["chunks"])])
        ):
            raise HilumError(
                f"{where}: it is no record of shards of format {FORMAT}. Use the version of Hilum that wrote "
                "it, or write the shards again."
            )
        return record

    def _incomplete(self, name: str) -> HilumError:
        return HilumError(
            f"{self.url}/{name}: it is not there, though {RECORD} names it. Run `hilum shards` again: it "
            "sends what is missing."
        )


def _read_image(file, place: int, image: np.ndarray) -> None:
    """Reads one image of a chunk in litdata's format.

    The format: the number of items n, then n + 1 offsets, all uint32, then the items; item i ends where
    offset i + 1 says. Here an item ends with its pixels.
    """
    file.seek(4 * (place + 2))
    end = int.from_bytes(file.read(4), "little")
    file.seek(max(end - image.nbytes, 0))
    if file.readinto(image.reshape(-1)) != image.nbytes:
        raise HilumError(f"{file.name}: it is damaged. Delete it and try again.")


def _default_cache() -> Path:
    return Path(os.environ.get("HILUM_CACHE") or platformdirs.user_cache_dir("hilum")) / "shards"
