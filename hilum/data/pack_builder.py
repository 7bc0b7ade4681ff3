"""Makes a pack: in parallel, in bounded memory, and so that a killed build continues where it stopped."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hilum import __version__
from hilum.data.pixels import (
    CORRUPT,
    FORMAT,
    INDEX,
    PIXELS,
    PROGRESS,
    RECORD,
    STARTED,
    Pack,
    images_fingerprint,
)
from hilum.data.resize import Fit, Interpolation, check_fit, resize
from hilum.errors import HilumError, first_lines
from hilum.files import holds_complete, replacing, sha256_of_file, write_json
from hilum.machine import cores, worker_pool
from hilum.sources.catalog import Catalog
from hilum.sources.images import parse_address, read_gray

_PARTIAL = "pixels.partial.npy"
#: Size of a chunk, which a worker holds in memory: at most these bytes of pixels and these images.
_CHUNK_BYTES, _CHUNK_IMAGES = 16 * 2**20, 1024
#: With fewer images, starting workers takes longer than decoding.
_FEWEST_FOR_WORKERS = 400

_INDEX_SCHEMA = pa.schema(
    [("ImageID", pa.int64()), ("row", pa.int64()), ("Image_Path", pa.string()), ("sha256", pa.string())]
)
_CHUNK_SCHEMA = _INDEX_SCHEMA.append(pa.field("reason", pa.string()))


class _Chunk(NamedTuple):
    """Images of consecutive rows, with everything that a worker needs to read and write them."""

    number: int
    first_row: int
    ids: list[int]
    image_paths: list[str]
    files: list[str]
    folder: Path
    parameters: dict[str, Any]


def build_pack(
    catalog: Catalog,
    out: str | Path,
    *,
    width: int,
    height: int,
    fit: Fit = "stretch",
    interpolation: Interpolation = "auto",
    column: str = "Image_Path",
    on_corrupt: Literal["stop", "skip"] = "stop",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pack:
    """Decodes and resizes every image of a catalog once; returns the pack, which may have existed already.

    The folder gets `pixels.npy`, uint8 (images, height, width) in the order of the ImageIDs; `index.parquet` with
    `ImageID`, `row`, `Image_Path` and the `sha256` of the source file (for a row of an `.npy` stack, of its pixels);
    `corrupt.csv` with unreadable images and the reasons; and last `pack.json`. After a kill the same call continues
    with the missing chunks. Each worker holds about 16 MiB of pixels.

    Args:
        catalog: the images.
        out: a folder that is absent, empty, or holds this pack, complete or incomplete.
        width: pixels.
        height: pixels.
        fit: see `resize`.
        interpolation: see `resize`.
        column: the path of the files, see `RawImages`.
        on_corrupt: `"stop"` raises an error once all images have been read, `"skip"` leaves unreadable images out.
        workers: processes, by default one per core; above one, a script must call this under
            `if __name__ == "__main__":`, as for every use of multiprocessing.
        progress: called with the numbers of finished and of all images.

    Raises:
        HilumError: a parameter is out of range, the folder holds something else, an image is unreadable, a full disk.
    """
    out = Path(out)
    _check_arguments(width, height, fit, interpolation, on_corrupt, workers)
    ids = np.sort(catalog.table.index.to_numpy(dtype=np.int64))
    parameters = _parameters(catalog, width, height, fit, interpolation)
    with _explaining_write_errors(out, len(ids) * width * height):
        if holds_complete(out, "pack", parameters):
            pack = _open_complete(out, on_corrupt)
            pack.check_content(catalog)
            return pack
        _start(out, parameters, len(ids))
        done = 0
        workers = workers or (cores() if len(ids) >= _FEWEST_FOR_WORKERS else 1)
        for count in _write_chunks(_chunks(catalog, ids, parameters, out, column), workers):
            done += count
            if progress is not None:
                progress(done, len(ids))
        unreadable = _write_index(out)
        _check_readable(out, unreadable, len(ids), on_corrupt)
        _finish(out, catalog, parameters, len(ids), len(unreadable))
    return Pack(out)


def _check_arguments(
    width: int, height: int, fit: str, interpolation: str, on_corrupt: str, workers: int | None
) -> None:
    check_fit(fit, interpolation)
    for name, value in (("width", width), ("height", height), ("workers", 1 if workers is None else workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise HilumError(f"pack: {name} is {value!r}. Give a whole number of 1 or more.")
    if on_corrupt not in ("stop", "skip"):
        raise HilumError(f"pack: on_corrupt is {on_corrupt!r}. It may be stop or skip.")


def _parameters(catalog: Catalog, width: int, height: int, fit: str, interpolation: str) -> dict[str, Any]:
    """A pack with other values is another pack."""
    ids = catalog.table.index.to_numpy(dtype=np.int64)
    return {
        "format": FORMAT,
        "catalog": catalog.name,
        "images_fingerprint": images_fingerprint(ids, catalog.table["Image_Path"]),
        "width": width,
        "height": height,
        "fit": fit,
        "interpolation": interpolation,
        "chunk": max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // (width * height))),
    }


def _open_complete(out: Path, on_corrupt: str) -> Pack:
    _remove_progress(out)  # a kill may have come between the record and this
    pack = Pack(out)
    if on_corrupt == "stop" and pack.meta["left_out"]:
        raise HilumError(
            f"pack: {out} is complete, but left out {pack.meta['left_out']:,} unreadable image(s); see "
            f"{out / CORRUPT}. Use on_corrupt skip, or restore them and pack into another folder."
        )
    return pack


def _start(out: Path, parameters: dict[str, Any], images: int) -> None:
    """Makes the folder and the file of pixels, unless an earlier build has."""
    out.mkdir(parents=True, exist_ok=True)
    shape = (images, parameters["height"], parameters["width"])
    if not (out / STARTED).is_file():
        if np.prod(shape) > shutil.disk_usage(out).free:
            raise OSError(ENOSPC, os.strerror(ENOSPC), str(out))
        write_json(out / STARTED, parameters)
    if not _pixels_file(out).is_file():
        shutil.rmtree(out / PROGRESS, ignore_errors=True)
        with replacing(out / _PARTIAL) as partial:
            np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    (out / PROGRESS).mkdir(exist_ok=True)


def _pixels_file(out: Path) -> Path:
    """It has its own name once it has every chunk: a kill may come between the renaming and the record."""
    return out / PIXELS if (out / PIXELS).is_file() else out / _PARTIAL


def _chunks(
    catalog: Catalog, ids: np.ndarray, parameters: dict[str, Any], out: Path, column: str
) -> Iterator[tuple[int, _Chunk | None]]:
    """For each chunk its number of images, and its work unless an earlier build has done it."""
    step = parameters["chunk"]
    for number, start in enumerate(range(0, len(ids), step)):
        some = ids[start : start + step].tolist()
        if _is_done(_record_of(out, number)):
            yield len(some), None
            continue
        paths = catalog.table["Image_Path"].loc[some].tolist()
        files = [str(catalog.image_path(image_id, column)) for image_id in some]
        yield len(some), _Chunk(number, start, some, paths, files, out, parameters)


def _record_of(out: Path, number: int) -> Path:
    return out / PROGRESS / f"{number:07d}.parquet"


def _is_done(record: Path) -> bool:
    """Whether the chunk is written; one with unreadable images is read again, they may be restored."""
    try:
        reasons = pq.read_table(record, columns=["reason"])["reason"]
    except (OSError, ValueError):
        return False
    return reasons.null_count == len(reasons)


def _write_chunks(chunks: Iterator[tuple[int, _Chunk | None]], workers: int) -> Iterator[int]:
    """Does the work of the chunks; gives the number of images of each as it is done."""
    if workers == 1:
        for count, chunk in chunks:
            if chunk is not None:
                _write_chunk(chunk)
            yield count
        return
    pool = worker_pool(workers)
    waiting: dict[Future, int] = {}
    try:
        for count, chunk in chunks:
            if chunk is None:
                yield count
                continue
            waiting[pool.submit(_write_chunk, chunk)] = count
            if len(waiting) >= 2 * workers:  # not all at once: their paths alone would fill the memory
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)
    except BrokenProcessPool:
        raise HilumError(
            "pack: a worker process ended at once. In a script, call build_pack under "
            "`if __name__ == '__main__':`, or pass workers=1; if memory ran out, pass fewer workers. "
            "What is done is kept: the same call continues from there."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(waiting: dict[Future, int]) -> Iterator[int]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        future.result()
        yield waiting.pop(future)


def _write_chunk(chunk: _Chunk) -> None:
    """Decodes the images, writes their pixels, and only then the record that they are written."""
    pixels = np.zeros((len(chunk.ids), chunk.parameters["height"], chunk.parameters["width"]), dtype=np.uint8)
    files = zip(pixels, chunk.files, strict=True)
    results = [_read_into(image, file, chunk.parameters) for image, file in files]
    # Written, not assigned through a memory map: on a full disk that ends in a signal, not an error.
    path = _pixels_file(chunk.folder)
    header = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as file:
        file.seek(header + chunk.first_row * pixels[0].nbytes)
        file.write(pixels.data)
        file.flush()
        os.fsync(file.fileno())
    rows = range(chunk.first_row, chunk.first_row + len(chunk.ids))
    columns = [chunk.ids, rows, chunk.image_paths, *zip(*results, strict=True)]
    record = pa.table(dict(zip(_CHUNK_SCHEMA.names, columns, strict=True)), schema=_CHUNK_SCHEMA)
    with replacing(_record_of(chunk.folder, chunk.number)) as partial:
        pq.write_table(record, partial)


def _read_into(image: np.ndarray, file: str, parameters: dict[str, Any]) -> tuple[str | None, str | None]:
    """Fills `image`; gives the SHA-256 of its file (or of its row in a stack), or why it cannot be read."""
    try:
        pixels = read_gray(file)
        height, width = image.shape
        image[:] = resize(pixels, width, height, parameters["fit"], parameters["interpolation"])
        address = parse_address(file)
        if address.row is None:
            return sha256_of_file(address.file), None
        row = np.ascontiguousarray(pixels).data  # not the whole stack each time
        return hashlib.sha256(row).hexdigest(), None
    except HilumError as error:
        return None, str(error)


def _write_index(out: Path) -> pd.DataFrame:
    """Joins the records of the chunks, one at a time; returns the unreadable images."""
    unreadable = [_CHUNK_SCHEMA.empty_table()]
    with replacing(out / INDEX) as partial, pq.ParquetWriter(partial, _INDEX_SCHEMA) as writer:
        for path in sorted((out / PROGRESS).glob("*.parquet")):
            record = pq.read_table(path)
            readable = pc.is_null(record["reason"])
            writer.write_table(record.filter(readable).select(_INDEX_SCHEMA.names))
            unreadable.append(record.filter(pc.invert(readable)))
    table = pa.concat_tables(unreadable).select(["ImageID", "Image_Path", "reason"]).to_pandas()
    with replacing(out / CORRUPT) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    return table


def _check_readable(out: Path, unreadable: pd.DataFrame, images: int, on_corrupt: str) -> None:
    if not len(unreadable) or (on_corrupt == "skip" and len(unreadable) < images):
        return
    raise HilumError(
        f"{len(unreadable):,} of {images:,} image(s) cannot be packed; all are in {out / CORRUPT}:\n  "
        + first_lines(unreadable["reason"].tolist())
        + "\nRestore them and pack again (what is done is kept), or leave them out with on_corrupt skip."
    )


def _finish(out: Path, catalog: Catalog, parameters: dict[str, Any], images: int, left_out: int) -> None:
    if (out / _PARTIAL).is_file():
        (out / _PARTIAL).replace(out / PIXELS)
    counts = {"images": images - left_out, "left_out": left_out, "hilum": __version__}
    write_json(out / RECORD, parameters | {"catalog_fingerprint": catalog.fingerprint} | counts)
    _remove_progress(out)


def _remove_progress(out: Path) -> None:
    shutil.rmtree(out / PROGRESS, ignore_errors=True)
    (out / STARTED).unlink(missing_ok=True)


@contextmanager
def _explaining_write_errors(out: Path, pixels: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            path = error.filename or out
            raise HilumError(f"pack: {path}: it cannot be written: {error.strerror}.") from None
        raise HilumError(
            f"pack: the disk of {out} is full; the pack needs {pixels / 1e9:.2f} GB. Make room and run the same "
            "command again: what is done is kept, and it continues from there."
        ) from None
