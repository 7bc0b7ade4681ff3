"""What a model is made of: its layers, their shapes and parameters, its cost for one image."""

import importlib.util
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hilum.errors import HilumError
from hilum.models import MODELS, Normalized, build_model, model_class
from hilum.models.shape_trace import Call, calls_of, run_without_numbers


@dataclass(frozen=True)
class Layer:
    """One call of one layer.

    Attributes:
        name: in the model, such as `blocks.0.0`.
        kind: its class, such as Conv2d.
        given: shape of its input, without the batch.
        made: shape of its output, without the batch.
        parameters: how many it has; 0 where it is called again.
        how: the sum that gives them, in words; empty where none is known.
        meeting: where convolution meets fully connected, how a feature map becomes a row of numbers.
    """

    name: str
    kind: str
    given: tuple[int, ...] | None
    made: tuple[int, ...] | None
    parameters: int
    how: str = ""
    meeting: str = ""


@dataclass(frozen=True)
class Summary:
    """A model in a line, for images of one size and so many outputs.

    Attributes:
        name: its net_name.
        net_kwargs: its settings, those that were given.
        about: one line.
        image_size: width and height, pixels.
        outputs: how many.
        parameters: all of them.
        trainable: those that training changes.
    """

    name: str
    net_kwargs: dict[str, Any]
    about: str
    image_size: tuple[int, int]
    outputs: int
    parameters: int
    trainable: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of an image, bytes: channels, height, width."""
        return 1, self.image_size[1], self.image_size[0]

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"input_shape": list(self.input_shape), "output_shape": [self.outputs]}


@dataclass(frozen=True)
class Description:
    """A model in full.

    Attributes:
        model: the line on it.
        multiply_adds: of one image, forward: of convolutions and matrix products.
        activation_bytes: what one image adds to the memory of training: the float32 tensors that are kept for the
            backward pass.
        layers: in the order in which an image goes through them.
    """

    model: Summary
    multiply_adds: int
    activation_bytes: int
    layers: tuple[Layer, ...]

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        return self.model.as_record() | {
            "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
            "layers": [asdict(layer) for layer in self.layers],
        }


def describe_model(
    name: str,
    net_kwargs: dict[str, Any] | None = None,
    *,
    outputs: int = 14,
    image_size: tuple[int, int] = (320, 320),
) -> Description:
    """Builds a model without its pretrained weights and follows one image through it, computing nothing.

    Raises:
        HilumError: an unknown model, a setting or a size that it cannot take.
    """
    summary, net = _summary(name, net_kwargs or {}, outputs, image_size)
    return Description(
        model=summary,
        multiply_adds=_multiply_adds(net, image_size),
        activation_bytes=_activation_bytes(net, image_size),
        layers=_layers(net, image_size),
    )


def list_models(
    *, outputs: int = 14, image_size: tuple[int, int] = (320, 320)
) -> tuple[list[Summary], list[str]]:
    """Every named model with its default settings; and why there is none, for those that cannot take the size."""
    found, problems = [], []
    for name in MODELS:
        try:
            found.append(_summary(name, {}, outputs, image_size)[0])
        except HilumError as error:
            problems.append(str(error))
    return found, problems


def _summary(
    name: str, net_kwargs: dict[str, Any], outputs: int, image_size: tuple[int, int]
) -> tuple[Summary, Normalized]:
    net = build_model(
        name, outputs, net_kwargs, mean=0.5, sd=0.25, seed=0, image_size=image_size, pretrained=False
    )
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in net.parameters()]
    summary = Summary(
        name=name,
        net_kwargs=net_kwargs,
        about=(model_class(name).__doc__ or "").strip().splitlines()[0],
        image_size=image_size,
        outputs=outputs,
        parameters=sum(count for count, _ in counts),
        trainable=sum(count for count, trains in counts if trains),
    )
    return summary, net


def timm_version() -> str | None:
    """The version of the timm package, None if it is not installed."""
    if importlib.util.find_spec("timm") is None:
        return None
    from importlib.metadata import version

    return version("timm")


def _layers(net: Normalized, image_size: tuple[int, int]) -> tuple[Layer, ...]:
    """The innermost modules, and those with parameters of their own, call by call."""
    found: list[Layer] = []
    counted: set[int] = set()
    features: tuple[int, ...] | None = None
    met = False
    for call in calls_of(net, image_size):
        if call.module in (net, net.net) or (
            any(True for _ in call.module.children())
            and not any(True for _ in call.module.parameters(recurse=False))
        ):
            continue
        own = [p for p in call.module.parameters(recurse=False) if id(p) not in counted]
        counted |= {id(parameter) for parameter in own}
        meeting = ""
        if isinstance(call.module, nn.Linear) and features and not met:
            met, meeting = True, _meeting(features, call.module.in_features)
        if call.made is not None and len(call.made) == 4:
            features = call.made[1:]
        found.append(
            Layer(
                name=call.name.removeprefix("net."),
                kind=type(call.module).__name__,
                given=call.given and call.given[1:],
                made=call.made and call.made[1:],
                parameters=sum(parameter.numel() for parameter in own),
                how=_how_many(call) if own else "",
                meeting=meeting,
            )
        )
    rest = [
        (name, parameter) for name, parameter in net.net.named_parameters() if id(parameter) not in counted
    ]
    # Such as a class token, or an attention's own matrices: used by the module around them.
    return (*found, *(Layer(name, "Parameter", None, None, p.numel(), _product(p.shape)) for name, p in rest))


def _meeting(features: tuple[int, ...], taken: int) -> str:
    """How a feature map (C, h, w) becomes the numbers that a fully connected layer takes."""
    if math.prod(features) == taken:
        return f"the last feature map laid out in a row: {_product(features)} = {taken:,} numbers"
    if features[0] == taken:
        return f"the mean of each channel of the last feature map {_product(features)}: {taken:,} numbers"
    return ""


def _how_many(call: Call) -> str:
    """The sum that gives a layer's parameters."""
    module = call.module
    bias = " + 1" if getattr(module, "bias", None) is not None else ""
    if isinstance(module, nn.Conv2d):
        given = module.in_channels // module.groups
        one = f"{given} × {_product(module.kernel_size)}{bias}"
        return f"{module.out_channels:,} × ({one})"
    if isinstance(module, nn.Linear):
        return f"{module.out_features:,} × {f'({module.in_features:,}{bias})' if bias else f'{module.in_features:,}'}"
    return " + ".join(_product(parameter.shape) for parameter in module.parameters(recurse=False))


def _product(numbers: tuple[int, ...]) -> str:
    return " × ".join(f"{number:,}" for number in numbers) or "1"


def _multiply_adds(net: Normalized, image_size: tuple[int, int]) -> int:
    # PyTorch's counter counts a multiplication and an addition as two.
    counter = FlopCounterMode(display=False)
    was = net.training
    try:
        with counter, torch.no_grad():
            run_without_numbers(net.eval(), image_size)
    finally:
        net.train(was)
    return counter.get_total_flops() // 2


def _activation_bytes(net: Normalized, image_size: tuple[int, int]) -> int:
    """What a third image adds to what two keep: what does not grow with the batch drops out."""
    was = net.training
    net.train()
    try:
        return _kept_bytes(net, image_size, 3) - _kept_bytes(net, image_size, 2)
    finally:
        net.train(was)


def _kept_bytes(net: Normalized, image_size: tuple[int, int], batch_size: int) -> int:
    """Bytes of the tensors that the backward pass of a batch needs, each memory once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # the reference keeps another from getting the same address
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.random.fork_rng(devices=[]),
    ):
        output = run_without_numbers(net, image_size, batch_size)
        del output
    return sum(storage.nbytes() for storage in kept.values())
