"""Many files → their readings, in order, decoded by threads while the model runs."""

import glob
import os
import stat
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
    without any ending that begin as a DICOM does. They come in alphabetical order. A name with characters of a glob
    that exists as given is meant literally, also as the folder of a pattern. What is there but is no regular file, as a
    dangling link, is given back all the same: `predict` says that it cannot be read.

    Raises:
        HilumError: a path or a pattern that leads to nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        files = _files_of(path)
        if not files:
            if os.path.isdir(path):  # noqa: PTH112 - as in _files_of
                raise HilumError(f"{path}: the folder holds no PNG, JPEG or DICOM file.")
            raise HilumError(
                f"{path}: there is no such file or image. Give files, folders or patterns of {', '.join(SUFFIXES)}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _files_of(path: str) -> list[str]:
    # os.path keeps the user's own spelling, and says no where pathlib raises PermissionError.
    if os.path.isdir(path):  # noqa: PTH112
        return sorted(str(file) for file in Path(path).rglob("*") if _is_image(file))
    if os.path.lexists(path):
        return [path]
    found: set[str] = set()
    for match in glob.glob(_pattern_of(path), recursive=True):  # noqa: PTH207 - the pattern may be absolute
        if os.path.isdir(match):  # noqa: PTH112
            found.update(_files_of(match))
        elif _is_image(Path(match)):
            found.add(match)
    return sorted(found)


def _pattern_of(path: str) -> str:
    """The path as a pattern, in which the folders that exist as given stand for themselves."""
    folder = os.path.dirname(path)  # noqa: PTH120
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    return glob.escape(folder) + path[len(folder) :]


def _is_image(file: Path) -> bool:
    if os.path.isdir(file):  # noqa: PTH112
        return False
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    if not os.path.isfile(file):  # noqa: PTH113 - opening a pipe would wait for ever
        return False
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
    try:
        about = Path(path).stat()
    except FileNotFoundError:
        raise ImageError("missing", f"{path}: the file is missing, or a link to nowhere.") from None
    except OSError as error:
        raise ImageError("unreadable", f"{path}: the file cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(about.st_mode):
        raise ImageError("unreadable", f"{path}: this is no regular file.")
    size = about.st_size
    if size > limits.max_bytes:
        raise ImageError(
            "too-large", f"{path}: the file has {size:,} bytes; at most {limits.max_bytes:,} are read."
        )
    return reader.film(read_bytes(path), path, limits)
