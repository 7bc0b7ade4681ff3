"""Atomic writes of files and folders (a temporary path, then a rename), lock files, hashes, local and cloud folders."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hilum.errors import HilumError

#: Limits of the S3 client, so that a wrong endpoint is an error after seconds.
_ATTEMPTS, _CONNECT_SECONDS = 4, 10


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
    """Holds a lock file, in a folder that exists, until the block or the process ends, for any reason.

    Raises:
        HilumError: another process holds the lock; the message is `busy`. If that is None, waits for that process.
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


def holds_complete(folder: Path, kind: str, parameters: dict[str, Any]) -> bool:
    """Whether a folder holds the complete pack or phantom (`kind`) of these parameters; not if it is absent or empty.

    `<kind>.started.json` in the folder, and `<kind>.json` of a complete one, hold the parameters.

    Raises:
        HilumError: the folder holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise HilumError(f"{kind}: {folder} is a file. Choose a folder.")
    for name in (f"{kind}.json", f"{kind}.started.json"):
        if (folder / name).is_file():
            _check_parameters(folder / name, kind, parameters)
            return name == f"{kind}.json"
    # A kill may leave a partial file of the very first write.
    if folder.exists() and any(not entry.name.startswith(f".{kind}.") for entry in folder.iterdir()):
        raise HilumError(
            f"{kind}: {folder} is not empty and is not a {kind} (it has no {kind}.json). Nothing was changed. "
            "Choose another folder."
        )
    return False


def _check_parameters(record: Path, kind: str, parameters: dict[str, Any]) -> None:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        known = {key: found[key] for key in parameters}
    except (OSError, ValueError, KeyError, TypeError):
        raise HilumError(
            f"{kind}: {record} cannot be read. Delete {record.parent} or choose another."
        ) from None
    differing = [
        f"{key} {known[key]!r}, not {value!r}" for key, value in parameters.items() if known[key] != value
    ]
    if differing:
        raise HilumError(
            f"{kind}: {record.parent} holds another {kind}, with {'; '.join(differing)}. "
            "Choose another folder, or delete this one."
        )


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """The folder of Hilum's cached files: $HILUM_CACHE, or `hilum` in the user's cache folder."""
    import platformdirs  # not needed to read a bundle

    return Path(os.environ.get("HILUM_CACHE") or platformdirs.user_cache_dir("hilum"))


class Folder:
    """A local folder, or one on a shared file system."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).is_file()

    def send(self, file: Path, name: str) -> None:
        """Copies a file into the folder atomically."""
        try:
            with replacing(self.path / name) as partial:
                shutil.copyfile(file, partial)
        except OSError as error:
            raise HilumError(f"{self.path / name}: it cannot be written: {error.strerror}.") from None

    def fetch(self, name: str, file: Path) -> None:
        """Copies a file of the folder to `file`. Raises FileNotFoundError if it is missing."""
        shutil.copyfile(self.path / name, file)


def _s3_client(options: dict[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    retries = {"total_max_attempts": _ATTEMPTS, "mode": "standard"}
    config = Config(retries=retries, connect_timeout=_CONNECT_SECONDS)
    # A separate session, because the default session keeps the credentials of the first client.
    return boto3.Session().client("s3", **{"config": config, **options})


def _connected(scheme: str, bucket: str, options: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """Connects to a bucket; gives its calls, each of which takes a key and, if it copies, a file."""
    if scheme == "gs":
        from google.cloud import storage

        blob = storage.Client(**options).bucket(bucket).blob
        return {
            "find": lambda key: blob(key).reload(),
            "upload": lambda key, file: blob(key).upload_from_filename(str(file)),
            "download": lambda key, file: blob(key).download_to_filename(str(file)),
        }
    client = _s3_client(options)
    return {
        "find": lambda key: client.head_object(Bucket=bucket, Key=key),
        "upload": lambda key, file: client.upload_file(str(file), bucket, key),
        "download": lambda key, file: client.download_file(bucket, key, str(file)),
    }


class Bucket:
    """A prefix in a bucket of an object storage. It can be pickled; each process makes its own connection.

    Credentials and endpoint come from the cloud's library (boto3 or google-cloud-storage): environment variables
    such as AWS_ENDPOINT_URL, profiles, or `storage_options`.

    Args:
        url: such as `s3://bucket/prefix`.
        storage_options: keyword arguments of the cloud's client, such as `endpoint_url`.
    """

    def __init__(self, url: str, storage_options: dict[str, Any] | None = None):
        self.url, self.storage_options = url.rstrip("/"), dict(storage_options or {})
        self._connection: tuple[int, dict[str, Callable[..., Any]]] | None = None

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None}

    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            self._call("find", name)
        except FileNotFoundError:
            return False
        return True

    def send(self, file: Path, name: str) -> None:
        """Uploads a file; the storage shows only complete objects."""
        self._call("upload", name, file)

    def fetch(self, name: str, file: Path) -> None:
        """Downloads an object to `file`. Raises FileNotFoundError if it, or its bucket, is missing."""
        self._call("download", name, file)

    def _call(self, method: str, name: str, *file: Path) -> None:
        parts = urlsplit(self.url)
        try:
            # A connection and its locks do not survive a fork, so each worker of a loader makes its own.
            if self._connection is None or self._connection[0] != os.getpid():
                self._connection = os.getpid(), _connected(parts.scheme, parts.netloc, self.storage_options)
            self._connection[1][method](f"{parts.path.strip('/')}/{name}", *file)
        except ImportError as error:
            package = "google-cloud-storage" if parts.scheme == "gs" else "hilum[shards]"
            needed = f"{parts.scheme}:// needs another package: {error}. pip install {package}"
            raise HilumError(f"{self.url}: {needed}") from None
        except Exception as error:  # the cloud's library raises several types
            response = getattr(error, "response", None)  # boto3 has the code in a dictionary
            code = response["Error"]["Code"] if isinstance(response, dict) else getattr(error, "code", None)
            if method != "upload" and str(code) in ("404", "NoSuchKey", "NoSuchBucket", "NotFound"):
                raise FileNotFoundError(f"{self.url}/{name}") from None
            reason = " ".join(str(error).split()) or type(error).__name__
            action = {"find": "reached", "upload": "written", "download": "read"}[method]
            raise HilumError(
                f"{self.url}/{name}: it cannot be {action}: {reason.rstrip('.')}. Check the URL, the endpoint "
                "(AWS_ENDPOINT_URL or storage_options['endpoint_url']) and the credentials."
            ) from None


def storage_at(url: str | Path, storage_options: dict[str, Any] | None = None) -> Folder | Bucket:
    """The folder or the prefix of a bucket at `url`, without connecting to it.

    Raises:
        HilumError: if the scheme is unknown, or the URL has no bucket or prefix.
    """
    if "://" not in str(url):
        return Folder(Path(url))
    parts = urlsplit(str(url))
    if parts.scheme not in ("s3", "gs"):
        raise HilumError(
            f"{url}: unknown storage {parts.scheme}://. Known: s3://, gs:// and a folder's path."
        )
    if not parts.netloc or not parts.path.strip("/"):
        raise HilumError(f"{url}: expected {parts.scheme}://bucket/name, with a name of your choice.")
    return Bucket(str(url), storage_options)
