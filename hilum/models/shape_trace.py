"""What happens in a network while an image goes through it, found without computing anything.

PyTorch's meta tensors have shapes and no numbers, so a pass costs milliseconds whatever the network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from hilum.errors import HilumError
from hilum.models.normalization import Normalized
from hilum.models.weights import in_a_line


@dataclass(frozen=True)
class Call:
    """One call of one module.

    Attributes:
        name: of the module in the network, as in `named_modules`.
        module: itself.
        given: the shape of its first input, None if that is no tensor.
        made: the shape of its output, None if that is no tensor.
    """

    name: str
    module: nn.Module
    given: tuple[int, ...] | None
    made: tuple[int, ...] | None


def calls_of(net: nn.Module, image_size: tuple[int, int]) -> list[Call]:
    """The calls of all modules for one image, in the order in which they end: the network itself is last.

    The network, its training mode, buffers and the random generators stay as they were.

    Args:
        net: takes images (B, C, height, width): bytes if it is `Normalized`, else floats.
        image_size: width and height, pixels.

    Raises:
        HilumError: it cannot take images of that size.
    """
    calls: list[Call] = []

    def note(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            calls.append(Call(name, module, _shape(inputs[0] if inputs else None), _shape(output)))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in net.named_modules()]
    try:
        with evaluated(net), torch.no_grad():
            try:
                run_without_numbers(net, image_size)
            except HilumError:
                raise
            except Exception:  # of a network of one's own that looks at numbers; or the size is wrong
                calls.clear()
                _run_with_numbers(net, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def run_without_numbers(net: nn.Module, image_size: tuple[int, int], batch_size: int = 1) -> torch.Tensor:
    """Passes images through on the meta device; the output's shape is right, and nothing else of it."""
    state = {
        name: value.detach().to("meta").requires_grad_(value.requires_grad)
        for name, value in (*net.named_parameters(), *net.named_buffers())
    }
    return functional_call(net, state, (_images(net, image_size, batch_size).to("meta"),))


def _run_with_numbers(net: nn.Module, image_size: tuple[int, int]) -> None:
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
            f"{kind} cannot take images of {image_size[0]} x {image_size[1]} (width x height): {in_a_line(error)}."
        ) from None


def _images(net: nn.Module, image_size: tuple[int, int], batch_size: int) -> torch.Tensor:
    width, height = image_size
    if isinstance(net, Normalized):
        return torch.zeros((batch_size, 1, height, width), dtype=torch.uint8)
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    # Our own models take one channel, whatever their first convolution does.
    channels = 1 if first is None or hasattr(net, "parameter_stages") else first.in_channels
    return torch.zeros((batch_size, channels, height, width))


@contextmanager
def evaluated(net: nn.Module) -> Iterator[None]:
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
