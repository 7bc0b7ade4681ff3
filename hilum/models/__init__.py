"""A name and its settings → a network that gives raw logits, one per target.

Each model is one class whose first argument is the number of outputs. It may have arguments that come from the
run: `image_width` and `image_height`, and `load_weights`, which is False if its weights come from a checkpoint.
Its other arguments are its settings, `net_kwargs`. A model whose pixels need their own normalization has an
attribute `normalization`: means and deviations.
"""

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.randomness import derived_seed

#: The class of each named model; `timm:NAME` is any network of timm.
MODELS = {
    "custom_pneumonia": "hilum.models.custom_pneumonia:CustomPneumonia",
    "densenet": "hilum.models.densenet:DenseNet",
    "resnet_grayscale": "hilum.models.resnet:ResNetGrayScale",
    "resnet_pretrained": "hilum.models.resnet:ResNetPretrained",
}

#: Arguments that come from the run, not from `net_kwargs`.
_FROM_THE_RUN = ("out_channels", "backbone", "image_width", "image_height", "load_weights")

_HINTS = {
    **{key: f" {key} is a setting of the run." for key in ("image_width", "image_height")},
    **dict.fromkeys(
        ("out_channels", "nr_classes", "num_classes"), " The number of outputs is the number of targets."
    ),
}

__all__ = ["MODELS", "Normalized", "build_model", "model_class"]


class Normalized(nn.Module):
    """Scales 8-bit pixels to 0..1, subtracts the mean, divides by the deviation, applies a network.

    It is part of the model, so it runs on the model's device and is saved with the weights.

    Args:
        net: takes float32 (B, C, height, width): C is 1, or 3 if there are three means and deviations.
        mean: of the pixels, 0..1; or one for each channel of the images that pretrained weights are for: the
            gray channel is repeated for each.
        sd: of the pixels, 0..1; as many as means.
    """

    mean: torch.Tensor
    sd: torch.Tensor

    def __init__(self, net: nn.Module, mean: float | Sequence[float], sd: float | Sequence[float]):
        super().__init__()
        self.net = net
        for name, value in (("mean", mean), ("sd", sd)):
            values = torch.tensor(value)
            self.register_buffer(name, values if values.ndim == 0 else values.view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (B, 1, height, width) to raw logits (B, targets)."""
        # Means of shape (3, 1, 1) spread the one gray channel over three.
        return self.net((images.float() / 255 - self.mean) / self.sd)


def model_class(name: str) -> type[nn.Module]:
    """The class of a named model.

    Raises:
        HilumError: the name is unknown.
    """
    if name.startswith("timm:"):
        return import_module("hilum.models.timm_backbone").TimmBackbone
    if name not in MODELS:
        raise HilumError(
            f"net_name: there is no model {name!r}.{nearest(name, MODELS)} Known: {', '.join(MODELS)}, timm:NAME."
        )
    module, _, attribute = MODELS[name].partition(":")
    return getattr(import_module(module), attribute)


def build_model(
    name: str,
    out_channels: int,
    net_kwargs: dict[str, Any],
    *,
    mean: float,
    sd: float,
    seed: int,
    image_size: tuple[int, int] = (320, 320),
    pretrained: bool = True,
) -> Normalized:
    """A model with weights drawn from the seed, behind the normalization of its pixels.

    Args:
        name: a key of `MODELS`, or `timm:NAME`.
        out_channels: the number of outputs.
        net_kwargs: the model's own settings.
        mean: of the data set's pixels, 0..1; unused by a model with its own normalization.
        sd: standard deviation of the pixels, 0..1; as above.
        seed: of the initial weights; the global generator does not change.
        image_size: width and height, pixels, for models that are made for a size.
        pretrained: False reads no file of pretrained weights, for a model whose weights come from a checkpoint.

    Raises:
        HilumError: an unknown model, a setting that it does not have, or a value that it cannot use.
    """
    cls = model_class(name)
    parameters = inspect.signature(cls).parameters
    known = [key for key in parameters if key not in (*_FROM_THE_RUN, "timm_kwargs")]
    for key in net_kwargs:
        if key in _FROM_THE_RUN or (key not in known and "timm_kwargs" not in parameters):
            hint = _HINTS.get(key) or nearest(key, known)
            raise HilumError(f"net_kwargs: {name} has no setting {key!r}.{hint} It takes {', '.join(known)}.")
    from_the_run = {"backbone": name.removeprefix("timm:"), "load_weights": pretrained}
    from_the_run |= dict(zip(("image_width", "image_height"), image_size, strict=True))
    from_the_run = {key: value for key, value in from_the_run.items() if key in parameters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        net = cls(out_channels, **from_the_run, **net_kwargs)
    own_mean, own_sd = getattr(net, "normalization", None) or (mean, sd)
    return Normalized(net, own_mean, own_sd)


def check(name: str, value: Any, valid: bool, expected: str) -> Any:
    """The value of a setting, if it is valid; else raises HilumError."""
    if not valid:
        raise HilumError(f"net_kwargs: {name} must be {expected}; it is {value!r}.")
    return value


def check_whole_number(name: str, value: Any) -> int:
    """The value of a setting, if it is a whole number, 1 or more; else raises HilumError."""
    return check(name, value, _is_whole_number(value), "a whole number, 1 or more")


def check_whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    """The values of a setting, if they are a list of whole numbers, 1 or more; else raises HilumError."""
    valid = isinstance(value, list | tuple) and bool(value) and all(map(_is_whole_number, value))
    return tuple(check(name, value, valid, "a list of whole numbers, 1 or more, such as [16, 32]"))


def check_fraction(name: str, value: Any) -> float:
    """The value of a setting, if it is a number from 0 up to, not including, 1; else raises HilumError."""
    return check(name, value, is_number(value) and 0 <= value < 1, "0 or more and below 1")


def check_choice(name: str, value: Any, allowed: tuple) -> Any:
    """The value of a setting, if it is an allowed one; else raises HilumError."""
    valid = not isinstance(value, bool) and value in list(allowed)
    return check(name, value, valid, f"one of {', '.join(map(str, allowed))}")


def is_number(value: Any) -> bool:
    """Whether a value is an int or a float, not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole_number(value: Any) -> bool:
    return is_number(value) and isinstance(value, int) and value >= 1
