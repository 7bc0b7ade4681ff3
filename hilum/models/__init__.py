"""A name and its settings → a network that gives raw logits, one per target.

Each model is one class whose first argument is the number of outputs. What else it needs to know of a run it
asks for by the names of its arguments: `image_width` and `image_height`, and `load_weights`, which is False
when its weights come from a checkpoint. Its other arguments are its settings, `net_kwargs`. A model whose
pixels must be normalized in a way of its own has it as `normalization`, means and deviations.
"""

import inspect
from importlib import import_module
from typing import Any

import torch
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.models.normalization import Normalized
from hilum.randomness import derived_seed

#: The models that can be named, and the class of each; `timm:NAME` is any network of timm.
MODELS = {
    "custom_pneumonia": "hilum.models.custom_pneumonia:CustomPneumonia",
    "densenet": "hilum.models.densenet:DenseNet",
    "resnet_grayscale": "hilum.models.resnet:ResNetGrayScale",
    "resnet_pretrained": "hilum.models.resnet:ResNetPretrained",
}

#: Arguments that come from the run, not from `net_kwargs`.
_FROM_THE_RUN = ("out_channels", "backbone", "image_width", "image_height", "load_weights")

__all__ = ["MODELS", "Normalized", "build_model", "model_class"]


def model_class(name: str) -> type[nn.Module]:
    """The class of a named model.

    Raises:
        HilumError: there is no model of that name.
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
        mean: of the data set's pixels, 0..1; unused by a model with a normalization of its own.
        sd: the same, of the deviation.
        seed: of the initial weights; the global generator is left as it was.
        image_size: width and height, pixels, for models that are made for a size.
        pretrained: False reads no file of pretrained weights: for a model whose weights come from a checkpoint
            next, so that it is built the same where the file is not.

    Raises:
        HilumError: an unknown model, a setting it does not take, or a value it cannot use.
    """
    cls = model_class(name)
    parameters = inspect.signature(cls).parameters
    known = [key for key in parameters if key not in (*_FROM_THE_RUN, "timm_kwargs")]
    for key in net_kwargs:
        if key in _FROM_THE_RUN or (key not in known and "timm_kwargs" not in parameters):
            raise HilumError(
                f"net_kwargs: {name} has no setting {key!r}.{_where_it_is_set(key) or nearest(key, known)} "
                f"It takes {', '.join(known)}."
            )
    from_the_run = {
        "backbone": name.removeprefix("timm:"),
        "image_width": image_size[0],
        "image_height": image_size[1],
        "load_weights": pretrained,
    }
    from_the_run = {key: value for key, value in from_the_run.items() if key in parameters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        net = cls(out_channels, **from_the_run, **net_kwargs)
    own_mean, own_sd = getattr(net, "normalization", None) or (mean, sd)
    return Normalized(net, own_mean, own_sd)


def _where_it_is_set(key: str) -> str:
    if key in ("image_width", "image_height"):
        return f" {key} is a setting of the run."
    if key in ("out_channels", "nr_classes", "num_classes"):
        return " The number of outputs is the number of targets."
    return ""
