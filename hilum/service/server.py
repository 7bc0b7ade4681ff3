"""uvicorn, its socket, start and stop."""

import errno
import logging
import os
import socket
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import HilumError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from hilum.inference.reader import Reader

#: The variable for the token: other users can see flags in a process list.
TOKEN_VARIABLE = "HILUM_TOKEN"

#: Time for open requests to finish when the service stops.
GRACE_SECONDS = 10


def serve(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str = "auto",
    echo: Callable[[str], None] = print,
) -> None:
    """Runs the service for a run, a bundle or a folder of runs until Ctrl-C.

    Args:
        path: the run, bundle or folder.
        host: name or address to bind to; other than loopback only with a token.
        port: 0 chooses a free one.
        token: clients must send it; HILUM_TOKEN if left out.
        device: of the model.
        echo: prints a line for the user.

    Raises:
        HilumError: an extra is missing, the path is none of these, the host cannot be bound, the port is taken,
            or other machines can reach the host and there is no token.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise HilumError(f"Serving needs {error.name}: pip install 'hilum[serve]'.") from None
    from hilum.service._middleware import is_loopback

    token = token if token is not None else os.environ.get(TOKEN_VARIABLE)
    _check_token(token, host, is_loopback(host))
    of_runs = _is_folder_of_runs(path)
    listening = _open_socket(host, port)
    try:
        app = _application(path, of_runs, device, token, is_loopback(host))
        _configure_libraries()
        address = _address(host, listening.getsockname()[1])
        echo(f"Hilum reads images with {path} at {address}")
        if of_runs:
            echo(f"The table of runs is at {address}runs")
        if token is not None:
            echo("The page asks for the token.")
        echo("Research use only: this is not a medical device. Ctrl-C stops it.")
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        config = uvicorn.Config(app, lifespan="on", timeout_graceful_shutdown=GRACE_SECONDS, **quiet)
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    echo("Stopped.")


def _application(path: Path, of_runs: bool, device: str, token: str | None, loopback: bool) -> "ASGIApp":
    from hilum.service.app import make_app

    open_warm = partial(_open_warm, device=device)
    return make_app(
        path if of_runs else open_warm(path), open_reader=open_warm, token=token, loopback_only=loopback
    )


def _open_warm(path: Path, device: str) -> "Reader":
    """A reader after its first, slow pass, which makes buffers and chooses kernels: no request waits for it."""
    from hilum.inference.image import PreparedImage
    from hilum.inference.reader import open_reader

    reader = open_reader(path, device)
    size = reader.metadata["preprocessing"]
    blank = np.zeros((size["height"], size["width"]), dtype=np.uint8)
    reader.read([PreparedImage("", blank, blank)])
    return reader


def _check_token(token: str | None, host: str, loopback: bool) -> None:
    """Raises HilumError for an empty token, or for a missing one where other machines can reach the host."""
    if token is not None and not token.strip():
        raise HilumError("The token is empty. Give one, or leave it out on 127.0.0.1.")
    if token is None and not loopback:
        raise HilumError(
            f"host {host}: other machines can reach it, so a token is needed: set {TOKEN_VARIABLE}, or give --token. "
            "Without a token, use 127.0.0.1."
        )


def _is_folder_of_runs(path: Path) -> bool:
    """True for a folder of runs, False for a run or a bundle; HilumError for anything else."""
    if not path.is_dir():
        raise HilumError(f"{path}: there is no such folder. Give a run, a bundle, or a folder of runs.")
    if any((path / name).is_file() for name in ("run.json", "bundle.json")):
        return False
    if not any(path.glob("*/run.json")):
        known = "a run (run.json), a bundle (bundle.json), or a folder of runs (*/run.json)"
        raise HilumError(f"{path}: this is not {known}.")
    return True


def _open_socket(host: str, port: int) -> socket.socket:
    """A listening socket, opened before the model so that a taken port is reported at once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError):
        raise HilumError(f"host {host}: there is no such name or address.") from None
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            problem = f"port {port}: another program uses it. Give another with --port; 0 chooses a free one."
        elif number == errno.EACCES:
            problem = f"port {port}: you may not use it; give one above 1023 with --port."
        else:
            problem = f"host {host}, port {port}: it cannot be used: {error}."
        raise HilumError(problem) from None
    return listening


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host
    return f"http://[{shown}]:{port}/" if ":" in shown and "[" not in shown else f"http://{shown}:{port}/"


def _configure_libraries() -> None:
    """Silences the decoders, which report damaged files on standard error; pydicom quotes their values.

    OpenCV gets one thread: several files are decoded at once, while the model uses all cores.
    """
    import cv2

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").disabled = True
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
