"""Many files → their readings, in order, decoded by threads while the model runs."""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hilum.errors import HilumError, ImageError
from hilum.reading.film import Film, Limits
from hilum.reading.reader import Reader, Reading
from hilum.sources.content import read_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


@dataclass(frozen=True)
class Prediction:
    """What became of one file.

    Attributes:
        path: of the file.
        reading: None if the file could not be decoded.
        error: why not; None if it could.
    """

    path: str
    reading: Reading | None
    error: ImageError | None = None

    @property
    def was_read(self) -> bool:
        """Whether it has findings."""
        return self.reading is not None and not self.reading.film.refused


def find_files(paths: Sequence[str]) -> list[str]:
    """The files that are meant, each once: files as given, folders searched to any depth, globs expanded.

    In folders and from globs only files with the ending of an image or a DICOM are taken, and in folders also files
    without any ending that begin as a DICOM does. They come in alphabetical order.

    Raises:
        HilumError: a path or a pattern that leads to nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        files = _files_of(path)
        if not files:
            what = "the folder has" if Path(path).is_dir() else "there is"
            raise HilumError(
                f"{path}: {what} no such file or image. Give files, folders or patterns of {', '.join(SUFFIXES)}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _files_of(path: str) -> list[str]:
    if os.path.isfile(path):  # noqa: PTH113 - the user's own spelling is kept
        return [path]
    if Path(path).is_dir():
        return sorted(str(file) for file in Path(path).rglob("*") if file.is_file() and _is_image(file))
    return sorted(
        file
        for match in glob.glob(path, recursive=True)  # noqa: PTH207 - the pattern may be absolute
        for file in ([match] if Path(match).is_file() else _files_of(match))
        if _is_image(Path(file))
    )


def _is_image(file: Path) -> bool:
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def predict(
    reader: Reader,
    files: Iterable[str],
    *,
    batch_size: int = 16,
    workers: int | None = None,
    limits: Limits | None = None,
) -> Iterator[Prediction]:
    """Reads files, in their order; no more than a few batches are held in memory.

    Args:
        reader: the model.
        files: their paths.
        batch_size: films that the model is given at once.
        workers: threads that decode; one per core if left out.
        limits: what a file may ask for.
    """
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        waiting = iter(files)
        ahead: deque[tuple[str, Future[Film]]] = deque()

        def ask_for(count: int) -> None:
            for path in islice(waiting, count):
                ahead.append((path, pool.submit(_film, reader, path, limits)))

        ask_for(3 * batch_size)
        while ahead:
            batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
            films: dict[str, Film | ImageError] = {}
            for path, future in batch:
                try:
                    films[path] = future.result()
                except ImageError as error:
                    films[path] = error
            ask_for(len(batch))
            readings = iter(reader.read([film for film in films.values() if isinstance(film, Film)]))
            for path, film in films.items():
                if isinstance(film, Film):
                    yield Prediction(path, next(readings))
                else:
                    yield Prediction(path, None, film)


def _film(reader: Reader, path: str, limits: Limits | None) -> Film:
    limits = limits or Limits()
    size = Path(path).stat().st_size
    if size > limits.max_bytes:
        raise ImageError(
            "too-large", f"{path}: the file has {size:,} bytes; at most {limits.max_bytes:,} are read."
        )
    return reader.film(read_bytes(path), path, limits)
