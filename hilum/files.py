"""Atomic writes of files and folders (to a temporary path, then renamed), lock files, hashes, the cache folder."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hilum.errors import HilumError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder; when the block ends, it replaces `path`.

    If the block raises, or the process is killed, the previous file stays unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: writers such as cv2.imwrite choose the format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, record: Any) -> None:
    """Writes a JSON file atomically, indented by 2."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@contextmanager
def locked(path: str | Path, busy: str | None = None) -> Iterator[None]:
    """Holds a lock file. The lock is released when the block or the process ends, for any reason.

    Args:
        path: the lock file; its folder must exist.
        busy: the error message if another process holds the lock; None waits for that process.

    Raises:
        HilumError: another process holds the lock.
        OSError: the file cannot be written.
    """
    from filelock import FileLock, Timeout  # not needed to read a bundle

    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if busy is None else 0)
    except Timeout:
        raise HilumError(busy) from None
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)
        lock.release()


@contextmanager
def replacing_folder(path: str | Path, keep_previous: Path | None = None) -> Iterator[Path]:
    """Like `replacing`, for a folder: `path` holds either all of the new content or all of the old.

    Between the two renames, the old content is at `.<name>.previous`, which `whole_folder` finds.
    With `keep_previous`, the old content is moved to that path and stays there.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    previous = keep_previous or path.with_name(f".{path.name}.previous")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(previous, ignore_errors=True)
            path.replace(previous)
        partial.replace(path)
        if keep_previous is None:
            shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def whole_folder(path: str | Path) -> Path:
    """The path of the content last written by `replacing_folder(path)`, even after a kill at any moment."""
    path = Path(path)
    previous = path.with_name(f".{path.name}.previous")
    return previous if not path.exists() and previous.exists() else path


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """The folder of Hilum's cached files: $HILUM_CACHE, or `hilum` in the user's cache folder."""
    import platformdirs  # not needed to read a bundle

    return Path(os.environ.get("HILUM_CACHE") or platformdirs.user_cache_dir("hilum"))
