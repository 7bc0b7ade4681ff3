"""Files at a URL: in a bucket of an object storage, or in a folder that several machines share.

Transport, credentials and endpoints are those of litdata and the cloud's own library (boto3 for `s3://`,
google-cloud-storage for `gs://`): environment variables such as AWS_ENDPOINT_URL, profiles, or
`storage_options`. Nothing of them is kept here.
"""

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hilum.errors import HilumError
from hilum.files import replacing

#: The object storages that are known, by scheme.
SCHEMES = ("s3", "gs")

#: A wrong endpoint must not look like a hang: litdata's own default is a thousand attempts.
_ATTEMPTS, _CONNECT_SECONDS = 4, 10

_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_CURE = (
    "Check the URL, the endpoint (AWS_ENDPOINT_URL or storage_options['endpoint_url']) and the credentials."
)


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
        """Copies a file there, whole or not at all."""
        try:
            with replacing(self.path / name) as partial:
                shutil.copyfile(file, partial)
        except OSError as error:
            raise HilumError(f"{self.path / name}: it cannot be written: {error.strerror}.") from None

    def fetch(self, name: str, file: Path) -> None:
        """Copies a file from there to `file`. Raises FileNotFoundError if it is not there."""
        shutil.copyfile(self.path / name, file)


class Bucket:
    """A prefix in a bucket of an object storage. Can be pickled; each process makes its own connection.

    Args:
        url: such as `s3://bucket/prefix`.
        storage_options: keyword arguments of the cloud's client, such as `endpoint_url`.
    """

    def __init__(self, url: str, storage_options: dict[str, Any] | None = None):
        self.url = url.rstrip("/")
        self.storage_options = dict(storage_options or {})
        self._provider: Any = None
        self._process: int | None = None

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_provider": None, "_process": None}

    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            return self._connection().exists(f"{self.url}/{name}")
        except Exception as error:
            raise self._problem("be reached", name, error) from None

    def send(self, file: Path, name: str) -> None:
        """Uploads a file; objects appear whole or not at all."""
        try:
            self._connection().upload_file(str(file), f"{self.url}/{name}")
        except Exception as error:
            raise self._problem("be written", name, error) from None

    def fetch(self, name: str, file: Path) -> None:
        """Downloads an object to `file`. Raises FileNotFoundError if it, or its bucket, is not there."""
        try:
            self._connection().download_file(f"{self.url}/{name}", str(file))
        except Exception as error:
            if _is_absent(error):
                raise FileNotFoundError(f"{self.url}/{name}") from None
            raise self._problem("be read", name, error) from None

    def _connection(self) -> Any:
        # Neither a connection nor its locks survive a fork, so a loader's worker makes its own.
        if self._provider is None or self._process != os.getpid():
            provider_of = require_litdata().streaming.fs_provider._get_fs_provider
            self._provider, self._process = provider_of(self.url, self._client_options()), os.getpid()
        return self._provider

    def _client_options(self) -> dict[str, Any]:
        if not self.url.startswith("s3://") or "config" in self.storage_options:
            return self.storage_options
        from botocore.config import Config

        retries = {"total_max_attempts": _ATTEMPTS, "mode": "standard"}
        return {"config": Config(retries=retries, connect_timeout=_CONNECT_SECONDS), **self.storage_options}

    def _problem(self, what: str, name: str, error: Exception) -> HilumError:
        if isinstance(error, HilumError):
            return error
        if isinstance(error, ModuleNotFoundError):
            return HilumError(
                f"{self.url}: gs:// needs another package: {error}. pip install google-cloud-storage"
            )
        reason = " ".join(str(error).split()) or type(error).__name__
        return HilumError(f"{self.url}/{name}: it cannot {what}: {reason.rstrip('.')}. {_CURE}")


def storage_at(url: str | Path, storage_options: dict[str, Any] | None = None) -> Folder | Bucket:
    """The folder or the bucket's prefix that `url` names; nothing is connected yet.

    Raises:
        HilumError: an unknown scheme, no bucket or no prefix in the URL, or litdata is not installed.
    """
    if "://" not in str(url):
        return Folder(Path(url))
    parts = urlsplit(str(url))
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise HilumError(
            f"{url}: {parts.scheme}:// is not known. Known are {known} and the path of a folder."
        )
    if not parts.netloc or not parts.path.strip("/"):
        raise HilumError(f"{url}: expected {parts.scheme}://bucket/name, with a name of your choice.")
    require_litdata()
    return Bucket(str(url), storage_options)


def require_litdata() -> Any:
    """The litdata package, with what is used of it imported.

    Raises:
        HilumError: it is not installed.
    """
    try:
        import litdata
        import litdata.streaming.fs_provider
        import litdata.streaming.writer
    except ModuleNotFoundError as error:
        raise HilumError(
            f"Shards need the package {error.name!r}, which is not installed: pip install hilum[shards]"
        ) from None
    return litdata


def _is_absent(error: Exception) -> bool:
    response = getattr(error, "response", None)
    code = (
        response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "code", None)
    )
    return str(code) in _ABSENT
