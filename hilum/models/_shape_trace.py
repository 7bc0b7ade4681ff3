"""The calls of a network's modules for an image, with their shapes, found without computing anything.

PyTorch's meta tensors have shapes and no numbers, so a pass takes milliseconds for any network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from hilum.errors import HilumError
from hilum.models import Normalized
from hilum.models._weights import first_line


@dataclass(frozen=True)
class Call:
    """One call of one module, with its name as in `named_modules`.

    The shapes are those of its first input and of its output, None for what is not a tensor.
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None


def calls_of(net: nn.Module, image_size: tuple[int, int]) -> list[Call]:
    """The calls of all modules for one image, in the order in which they end: the network's own is last.

    The network, its training mode, its buffers and the random generators do not change.

    Args:
        net: takes images (B, C, height, width): bytes if it is `Normalized`, else floats.
        image_size: width and height, pixels.

    Raises:
        HilumError: it cannot take images of that size.
    """
    calls: list[Call] = []

    def record(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            calls.append(Call(name, module, _shape(inputs[0] if inputs else None), _shape(output)))

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in net.named_modules()]
    try:
        with evaluation_mode(net), torch.no_grad():
            try:
                run_on_meta(net, image_size)
            except HilumError:
                raise
            except Exception:  # the network depends on pixel values, or the size is wrong
                calls.clear()
                _run_on_device(net, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def run_on_meta(net: nn.Module, image_size: tuple[int, int], batch_size: int = 1) -> torch.Tensor:
    """Passes images through on the meta device; only the output's shape has a meaning."""
    state = {
        name: value.detach().to("meta").requires_grad_(value.requires_grad)
        for name, value in (*net.named_parameters(), *net.named_buffers())
    }
    return functional_call(net, state, (_images(net, image_size, batch_size).to("meta"),))


def _run_on_device(net: nn.Module, image_size: tuple[int, int]) -> None:
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            net(_images(net, image_size, 1).to(device))
    except HilumError:
        raise
    except Exception as error:
        inner = net.net if isinstance(net, Normalized) else net
        kind = getattr(inner, "backbone", type(inner).__name__)
        raise HilumError(
            f"{kind} cannot take images of {image_size[0]} x {image_size[1]} (width x height): {first_line(error)}."
        ) from None


def _images(net: nn.Module, image_size: tuple[int, int], batch_size: int) -> torch.Tensor:
    width, height = image_size
    if isinstance(net, Normalized):
        return torch.zeros((batch_size, 1, height, width), dtype=torch.uint8)
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    # Hilum's own models take one channel, also with a first convolution on three.
    channels = 1 if first is None or hasattr(net, "parameter_stages") else first.in_channels
    return torch.zeros((batch_size, channels, height, width))


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards each module in the mode it was in."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None
