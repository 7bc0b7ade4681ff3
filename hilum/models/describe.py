"""A model's layers, their shapes and parameters, and its cost for one image."""

import importlib.util
import math
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hilum.errors import HilumError
from hilum.models import MODELS, Normalized, build_model, model_class
from hilum.models._shape_trace import calls_of, evaluation_mode, run_on_meta


@dataclass(frozen=True)
class Layer:
    """One call of one layer; shapes are without the batch.

    Attributes:
        name: in the model, such as `blocks.0.0`.
        kind: its class, such as Conv2d.
        parameters: number of its parameters; 0 if the layer was called before.
        formula: of that number, as text; "" if none is known.
        flattening: of the first fully connected layer: how a feature map becomes its input; else "".
    """

    name: str
    kind: str
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    parameters: int
    formula: str = ""
    flattening: str = ""


@dataclass(frozen=True)
class Summary:
    """A model in a line, for images of one size (width and height, pixels) and a number of outputs.

    `about` is its first line of documentation, `trainable` the number of parameters that training changes.
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
        """Of an image, uint8: channels, height, width."""
        return 1, self.image_size[1], self.image_size[0]

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"input_shape": list(self.input_shape), "output_shape": [self.outputs]}


@dataclass(frozen=True)
class Description:
    """A model in full, with its layers in the order in which an image passes them.

    Attributes:
        multiply_adds: of one image, forward: of convolutions and matrix products.
        activation_bytes: memory of training per image: the float32 tensors that are kept for the backward pass.
    """

    model: Summary
    multiply_adds: int
    activation_bytes: int
    layers: tuple[Layer, ...]

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        return self.model.as_record() | {
            "format": 2,
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
    """Builds a model without its pretrained weights and traces one image through it, computing nothing.

    Raises:
        HilumError: an unknown model, or a setting or a size that it cannot take.
    """
    summary, net = _summary(name, net_kwargs or {}, outputs, image_size)
    multiply_adds = _multiply_adds(net, image_size)
    net.train()
    # Three images less two: without the memory that does not grow with the batch.
    activation_bytes = _kept_bytes(net, image_size, 3) - _kept_bytes(net, image_size, 2)
    return Description(summary, multiply_adds, activation_bytes, _layers(net, image_size))


def list_models(
    *, outputs: int = 14, image_size: tuple[int, int] = (320, 320)
) -> tuple[list[Summary], list[str]]:
    """Every named model with its default settings; and the errors of those that cannot take the size."""
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
    return version("timm") if importlib.util.find_spec("timm") else None


def _layers(net: Normalized, image_size: tuple[int, int]) -> tuple[Layer, ...]:
    """The innermost modules, and those with parameters of their own, call by call."""
    found: list[Layer] = []
    counted: set[int] = set()
    features: tuple[int, ...] | None = None
    flattened = False
    for call in calls_of(net, image_size):
        own = list(call.module.parameters(recurse=False))
        if call.module in (net, net.net) or (not own and list(call.module.children())):
            continue
        own = [parameter for parameter in own if id(parameter) not in counted]
        counted |= {id(parameter) for parameter in own}
        flattening = ""
        if isinstance(call.module, nn.Linear) and features and not flattened:
            flattened, flattening = True, _flattening(features, call.module.in_features)
        if call.output_shape is not None and len(call.output_shape) == 4:
            features = call.output_shape[1:]
        found.append(
            Layer(
                name=call.name.removeprefix("net."),
                kind=type(call.module).__name__,
                input_shape=call.input_shape and call.input_shape[1:],
                output_shape=call.output_shape and call.output_shape[1:],
                parameters=sum(parameter.numel() for parameter in own),
                formula=_formula(call.module) if own else "",
                flattening=flattening,
            )
        )
    # Such as a class token, or the matrices of an attention: the module around them uses them.
    rest = [(name, p) for name, p in net.net.named_parameters() if id(p) not in counted]
    return (*found, *(Layer(name, "Parameter", None, None, p.numel(), _product(p.shape)) for name, p in rest))


def _flattening(features: tuple[int, ...], inputs: int) -> str:
    """How a feature map (C, h, w) becomes the input of a fully connected layer."""
    if math.prod(features) == inputs:
        return f"the last feature map flattened: {_product(features)} = {inputs:,} numbers"
    if features[0] == inputs:
        return f"the mean of each channel of the last feature map {_product(features)}: {inputs:,} numbers"
    return ""


def _formula(module: nn.Module) -> str:
    """The formula of a layer's number of parameters."""
    bias = " + 1" if getattr(module, "bias", None) is not None else ""
    if isinstance(module, nn.Conv2d):
        inputs = module.in_channels // module.groups
        return f"{module.out_channels:,} × ({inputs} × {_product(module.kernel_size)}{bias})"
    if isinstance(module, nn.Linear):
        inputs_text = f"({module.in_features:,}{bias})" if bias else f"{module.in_features:,}"
        return f"{module.out_features:,} × {inputs_text}"
    return " + ".join(_product(parameter.shape) for parameter in module.parameters(recurse=False))


def _product(numbers: tuple[int, ...]) -> str:
    return " × ".join(f"{number:,}" for number in numbers) or "1"


def _multiply_adds(net: Normalized, image_size: tuple[int, int]) -> int:
    # PyTorch's counter counts a multiplication and an addition as two.
    counter = FlopCounterMode(display=False)
    with evaluation_mode(net), counter, torch.no_grad():
        run_on_meta(net, image_size)
    return counter.get_total_flops() // 2


def _kept_bytes(net: Normalized, image_size: tuple[int, int], batch_size: int) -> int:
    """Bytes of the tensors that the backward pass of a batch needs, each storage once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # the reference keeps its address from being used again
        return tensor

    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with keeping, torch.random.fork_rng(devices=[]):
        run_on_meta(net, image_size, batch_size)
    return sum(storage.nbytes() for storage in kept.values())
