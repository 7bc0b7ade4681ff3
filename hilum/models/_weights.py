"""Files of pretrained weights: finding, downloading, reading, and loading them into a network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import nn

from hilum.errors import HilumError

#: Longest wait for a server, in seconds.
TIMEOUT = 10.0


def _imagenet_weights(architecture: str) -> Any:
    from torchvision.models import get_model_weights  # takes seconds

    return get_model_weights(architecture).IMAGENET1K_V1


def imagenet_normalization(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, 0..1, in the training of torchvision's ImageNet weights."""
    preset = _imagenet_weights(architecture).transforms()
    return tuple(preset.mean), tuple(preset.std)


def imagenet_file(architecture: str) -> Path:
    """The file of torchvision's ImageNet weights (IMAGENET1K_V1), downloaded unless it is in its cache.

    Raises:
        HilumError: it cannot be downloaded.
    """
    weights = _imagenet_weights(architecture)
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
    if path.is_file():
        return path
    try:
        with short_timeout():
            weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # of urllib, of the socket, of the disk, or a wrong checksum
        raise HilumError(
            f"The ImageNet weights of {architecture} are not on this machine, and downloading them failed: "
            f"{first_line(error)}. Copy the file {path.name} (torchvision's {weights}) into {path.parent}, or "
            "give its path with net_kwargs {weights = 'PATH'}."
        ) from None
    return path


@contextmanager
def short_timeout() -> Iterator[None]:
    """Meanwhile a connection without an answer for `TIMEOUT` seconds is an error; by default it waits forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors in a .safetensors file, or in a file of torch.save that holds nothing but tensors.

    They may be under a key `state_dict` or `model`, as training scripts save them.

    Raises:
        HilumError: the file is missing, damaged, or holds something else.
    """
    if not isinstance(path, str | Path):
        raise HilumError(f"net_kwargs: weights must be the path of a file; it is {path!r}.")
    path = Path(path)
    if not path.is_file():
        raise HilumError(f"{path}: this file of weights does not exist. Check net_kwargs weights.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds, safetensors one outside its public names
        raise HilumError(
            f"{path}: this is not a file of weights, or it is damaged: {first_line(error)}. Copy it again; it must be "
            "a PyTorch state dict (.pth) or .safetensors."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(map(torch.is_tensor, content.values())):
        raise HilumError(f"{path}: this file is not a state dict, that is, named tensors and nothing else.")
    return content


def load_named(
    net: nn.Module,
    weights: dict[str, torch.Tensor],
    path: str | Path,
    architecture: str,
    leave_out: tuple[str, ...] = (),
) -> None:
    """Loads weights into a network by name; those whose names begin as in `leave_out` stay unchanged.

    Raises:
        HilumError: names or shapes differ: the file is of another network.
    """
    given = {name: value for name, value in weights.items() if not name.startswith(leave_out)}
    there, here = (
        {name: tuple(value.shape) for name, value in tensors.items() if not name.startswith(leave_out)}
        for tensors in (given, net.state_dict())
    )
    differing = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    # Files from before PyTorch 0.4.1 do not count the batches of batch normalization.
    differing = [name for name in differing if name in there or not name.endswith("num_batches_tracked")]
    if differing:
        name = differing[0]
        raise HilumError(
            f"{path}: these are not the weights of {architecture}: {len(differing)} tensors differ, for example "
            f"{name}: {there.get(name, 'absent')} in the file, {here.get(name, 'absent')} in the network."
        )
    net.load_state_dict(given, strict=False)


def first_line(error: Exception) -> str:
    """The first line of an error's message, without its full stop."""
    error = getattr(error, "reason", error)  # of the error that urllib wraps
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
