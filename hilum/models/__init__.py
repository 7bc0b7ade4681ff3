"""A name and its settings → a network that gives raw logits, one per target.

Each model is one class whose first argument is the number of outputs.
"""

import inspect
from importlib import import_module
from typing import Any

import torch
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.models.normalized import Normalized
from hilum.randomness import derived_seed

#: The models that can be named, and the class of each.
MODELS = {
    "resnet_grayscale": "hilum.models.resnet:ResNetGrayScale",
}

__all__ = ["MODELS", "Normalized", "build_model", "model_class"]


def model_class(name: str) -> type[nn.Module]:
    """The class of a named model.

    Raises:
        HilumError: there is no model of that name.
    """
    if name not in MODELS:
        raise HilumError(
            f"net_name: there is no model {name!r}.{nearest(name, MODELS)} Known: {', '.join(MODELS)}."
        )
    module, _, attribute = MODELS[name].partition(":")
    return getattr(import_module(module), attribute)


def build_model(
    name: str, out_channels: int, net_kwargs: dict[str, Any], *, mean: float, sd: float, seed: int
) -> Normalized:
    """A model with weights drawn from the seed, behind the normalization of its pixels.

    Args:
        name: a key of `MODELS`.
        out_channels: the number of targets.
        net_kwargs: the model's own settings.
        mean: of the pixels, 0..1.
        sd: of the pixels, 0..1.
        seed: of the initial weights; the global generator is left as it was.

    Raises:
        HilumError: an unknown model, a setting it does not take, or a value it cannot use.
    """
    cls = model_class(name)
    known = [key for key in inspect.signature(cls).parameters if key != "out_channels"]
    for key in net_kwargs:
        if key not in known:
            raise HilumError(
                f"net_kwargs: {name} has no setting {key!r}.{nearest(key, known)} It takes {', '.join(known)}."
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        return Normalized(cls(out_channels, **net_kwargs), mean, sd)
