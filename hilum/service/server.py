"""uvicorn, its socket, and how it starts and stops."""

import errno
import logging
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import HilumError
from hilum.service.security import is_loopback

if TYPE_CHECKING:
    from hilum.inference.reader import Reader

#: The variable that a token may be given in: a process list shows flags to everybody.
TOKEN_VARIABLE = "HILUM_TOKEN"

#: What a request in work is given to end in, once the service is told to stop.
GRACE_SECONDS = 10


def serve(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> None:
    """Serves a run, a bundle or a folder of runs until it is told to stop.

    Args:
        path: what to read with.
        host: name or address to bind to; other than loopback only with a token.
        port: 0 takes a free one.
        token: what clients must send; that of HILUM_TOKEN if left out.
        device: of the model.
        say: is given what the user should see, line by line.

    Raises:
        HilumError: an extra is missing, the path is none of these, the host cannot be bound, the port is taken,
            or the host is reachable by others and there is no token.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise HilumError(f"Serving needs {error.name}: pip install 'hilum[serve]'.") from None
    token = token if token is not None else os.environ.get(TOKEN_VARIABLE)
    _refuse_open_door(host, token)
    of_runs = _is_folder_of_runs(path)
    listening = _bound(host, port)
    try:
        app = _application(path, of_runs, device, token, is_loopback(host))
        _settle_libraries()
        address = _address(host, listening.getsockname()[1])
        say(f"Hilum reads with {path} at {address}")
        if of_runs:
            say(f"The runs are at {address}runs")
        if token is not None:
            say("The page will ask for the token.")
        say("Research use only: this is not a medical device. Ctrl-C stops it.")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    say("Stopped.")


def _application(path: Path, of_runs: bool, device: str, token: str | None, loopback: bool):
    from hilum.service.app import make_app

    if of_runs:
        return make_app(
            runs=path, open_reader=lambda run: _warm(run, device), token=token, loopback_only=loopback
        )
    return make_app(_warm(path, device), token=token, loopback_only=loopback)


def _warm(path: Path, device: str) -> "Reader":
    """A reader that has read once: the first pass makes buffers and picks kernels, and nobody should wait for it."""
    from hilum.inference.image import PreparedImage
    from hilum.inference.reader import open_reader

    reader = open_reader(path, device)
    size = reader.metadata["preprocessing"]
    nothing = np.zeros((size["height"], size["width"]), dtype=np.uint8)
    reader.read([PreparedImage("", nothing, nothing)])
    return reader


def _refuse_open_door(host: str, token: str | None) -> None:
    if token is not None and not token.strip():
        raise HilumError("The token is empty. Give one, or leave it out on 127.0.0.1.")
    if token is None and not is_loopback(host):
        raise HilumError(
            f"host {host}: others can reach it, so a token is needed: set {TOKEN_VARIABLE}, or give --token. "
            "Without one the service is bound to 127.0.0.1 only."
        )


def _is_folder_of_runs(path: Path) -> bool:
    """Whether it is one; False for a run or a bundle.

    Raises:
        HilumError: it is none of these.
    """
    if not path.is_dir():
        raise HilumError(f"{path}: there is no such folder. Give a run, a bundle, or a folder of runs.")
    if any((path / name).is_file() for name in ("run.json", "bundle.json")):
        return False
    if not any(path.glob("*/run.json")):
        raise HilumError(
            f"{path}: this is no run (run.json), no bundle (bundle.json), and no folder of runs (*/run.json)."
        )
    return True


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket: a taken port is known before a model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError):
        raise HilumError(f"host {host}: there is no such name or address.") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise HilumError(
                f"port {port}: another program uses it. Give another with --port; 0 takes a free one."
            ) from None
        if number == errno.EACCES:
            raise HilumError(f"port {port}: you may not use it; give one above 1023 with --port.") from None
        raise HilumError(f"host {host}, port {port}: it cannot be used: {error}.") from None
    return listening


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host
    return f"http://[{shown}]:{port}/" if ":" in shown and "[" not in shown else f"http://{shown}:{port}/"


def _settle_libraries() -> None:
    """Decoders speak of damaged files on standard error, and pydicom quotes their values: they are silenced.

    OpenCV's own threads are taken from it: several files are decoded at once, beside a model that uses every core.
    """
    import cv2

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").disabled = True
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
