"""Any network of timm (Wightman, "PyTorch Image Models") as a model, named `timm:NAME`."""

import re
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.models import check, check_choice
from hilum.models._shape_trace import calls_of
from hilum.models._weights import TIMEOUT, first_line, read_weights, short_timeout

#: Names of timm's files of weights on its hub, the newer form first.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmBackbone(nn.Module):
    """A network of timm with one output per target.

    Args:
        out_channels: the number of targets.
        backbone: its name in timm, such as "resnet18" or "convnext_tiny.fb_in1k".
        image_width: of the images, pixels; for networks that are made for one size.
        image_height: the same.
        in_channels: 1 or 3; 3 repeats the gray channel, 1 sums pretrained weights of the first convolution over three.
        pretrained: begin with timm's weights, cached or downloaded; pixels are normalized as in their training.
        weights: a file with these weights, .safetensors or .pth, instead of the download; implies `pretrained`.
        load_weights: False leaves the weights as drawn, for a network whose weights come from a checkpoint.
        timm_kwargs: other arguments of timm's `create_model` for this network, such as drop_rate.

    Raises:
        HilumError: timm is not installed; the network, a setting or a value is unknown; the images' size does not
            fit; weights are missing, damaged or of another network.
    """

    def __init__(
        self,
        out_channels: int,
        backbone: str,
        image_width: int = 320,
        image_height: int = 320,
        in_channels: int = 1,
        pretrained: bool = False,
        weights: str | Path | None = None,
        load_weights: bool = True,
        **timm_kwargs: Any,
    ):
        super().__init__()
        timm = import_timm()
        cfg = _pretrained_cfg(timm, backbone)
        self.in_channels = check_choice("in_channels", in_channels, (1, 3))
        check("pretrained", pretrained, isinstance(pretrained, bool), "true or false")
        self.normalization = None
        if pretrained or weights is not None:
            self.normalization = _normalization(cfg, in_channels)
        if cfg.get("fixed_input_size"):
            timm_kwargs.setdefault("img_size", (image_height, image_width))
        loaded = load_weights and self.normalization is not None
        try:
            file = (weights if weights is not None else _cached_file(cfg)) if loaded else None
            if loaded and file is None:
                _check_online(cfg)
            state = {"state_dict": read_weights(file)} if file is not None else {}
            with warnings.catch_warnings(), short_timeout():
                warnings.simplefilter("ignore")  # for timm's own developers
                self.net = timm.create_model(
                    backbone,
                    pretrained=loaded,
                    # Other formats (.npz) have their own loaders, which cannot read a file of tensors.
                    pretrained_cfg_overlay={**state, "custom_load": False} if state else None,
                    num_classes=out_channels,
                    in_chans=in_channels,
                    **timm_kwargs,
                )
        except Exception as error:
            raise HilumError(_explain(error, backbone, cfg, loaded, weights, timm_kwargs)) from None
        if state:
            own = self.net.pretrained_cfg
            self.net.pretrained_cfg = {key: value for key, value in own.items() if key != "state_dict"}
        self.backbone = f"timm:{backbone}"
        calls_of(self, (image_width, image_height))  # raises an error for a size that it cannot take

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1 or 3, height, width), to raw logits (B, targets)."""
        return self.net(images.expand(-1, self.in_channels, -1, -1))

    def parameter_stages(self) -> list[tuple[str, list[nn.Parameter]]]:
        """From input to head, see `hilum.models.layer_groups`."""
        return timm_stages(self.net)


def import_timm() -> ModuleType:
    """The timm package. Raises HilumError if it is not installed."""
    try:
        import timm
    except ImportError:
        raise HilumError("Models named timm:… need timm: pip install 'hilum[timm]'.") from None
    return timm


def timm_stages(net: Any) -> list[tuple[str, list[nn.Parameter]]]:
    """The parameters from input to head, grouped coarsely by `net.group_matcher`; `net.get_classifier()` is last."""
    from timm.models import group_parameters

    classifier = net.get_classifier()
    heads = classifier if isinstance(classifier, Sequence) else [classifier]
    head = {id(parameter) for module in heads for parameter in module.parameters()}
    named = dict(net.named_parameters())
    found = group_parameters(net, net.group_matcher(coarse=True)).values()
    groups = [kept for names in found if (kept := [name for name in names if id(named[name]) not in head])]
    prefixes = [_common_prefix(names) for names in groups]
    stages = []
    for names, prefix in zip(groups, prefixes, strict=True):
        if not prefix or prefixes.count(prefix) > 1:
            prefix = names[0].split(".")[:-1][:2] or names[:1]
        stages.append((".".join(prefix), [named[name] for name in names]))
    return [*stages, ("head", [parameter for parameter in named.values() if id(parameter) in head])]


def _common_prefix(names: list[str]) -> list[str]:
    """The parts that all parameters' names begin with, such as `blocks`, `0`."""
    columns = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def _pretrained_cfg(timm: ModuleType, backbone: str) -> dict[str, Any]:
    """Timm's record of a network's pretrained weights; empty if there are none."""
    architecture = backbone.split(".")[0]
    if not timm.is_model(backbone):
        raise HilumError(
            f"net_name: timm {timm.__version__} has no model {backbone!r}."
            f"{nearest(architecture, timm.list_models())} Its names are those of timm.list_models()."
        )
    try:
        cfg = timm.get_pretrained_cfg(backbone)
    except RuntimeError:
        known = timm.list_pretrained(f"{architecture}.*")
        raise HilumError(
            f"net_name: timm {timm.__version__} has no weights {backbone!r}.{nearest(backbone, known)} "
            f"It has {', '.join(known) or 'none of that model'}."
        ) from None
    return cfg.to_dict() if cfg else {}


def _cached_file(cfg: dict[str, Any]) -> Path | None:
    """The file of weights in the hub's cache, None if it is missing."""
    from huggingface_hub import try_to_load_from_cache

    if not cfg.get("hf_hub_id"):
        return None
    names = [cfg["hf_hub_filename"]] if cfg.get("hf_hub_filename") else _HUB_FILES
    found = (try_to_load_from_cache(cfg["hf_hub_id"], name) for name in names)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _check_online(cfg: dict[str, Any]) -> None:
    """Sends one request to the hub, because its own download tries for a minute; OSError if no answer comes."""
    from huggingface_hub import hf_hub_url

    if not cfg.get("hf_hub_id"):
        return
    url = hf_hub_url(cfg["hf_hub_id"], cfg.get("hf_hub_filename") or _HUB_FILES[0])
    try:
        urlopen(Request(url, method="HEAD"), timeout=TIMEOUT).close()
    except HTTPError:  # any answer will do: the download handles it
        return


def _normalization(cfg: dict[str, Any], in_channels: int) -> tuple[Any, Any]:
    """Three means and three standard deviations; for one channel their averages."""
    mean, sd = cfg.get("mean", (0.5,) * 3), cfg.get("std", (0.5,) * 3)
    if in_channels == 1:
        return sum(mean) / len(mean), sum(sd) / len(sd)
    return tuple(mean), tuple(sd)


def _explain(
    error: Exception,
    backbone: str,
    cfg: dict[str, Any],
    loaded: bool,
    weights: str | Path | None,
    timm_kwargs: dict[str, Any],
) -> str:
    """The message for an error of timm while it made a network."""
    if isinstance(error, HilumError):
        return str(error)
    if found := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
        if found[1] == "img_size" and "img_size" in timm_kwargs:
            return f"net_kwargs: timm:{backbone} has no setting 'img_size': it takes images of any size."
        known = ["in_channels", "pretrained", "weights", "drop_rate", "drop_path_rate", "global_pool"]
        return (
            f"net_kwargs: timm:{backbone} has no setting {found[1]!r}.{nearest(found[1], known)} It takes "
            "in_channels, pretrained, weights, and what timm's own model takes (drop_rate, for one)."
        )
    if loaded and weights is not None:
        return f"{weights}: these are not the weights of timm:{backbone}: {first_line(error)}."
    if loaded:
        name = cfg.get("hf_hub_filename") or _HUB_FILES[0]
        source = cfg.get("hf_hub_id") or cfg.get("url")
        if not source:
            return f"net_kwargs: timm has no pretrained weights of {backbone}. Leave pretrained out."
        return (
            f"The pretrained weights of timm:{backbone} are not on this machine, and downloading them failed: "
            f"{first_line(error)}. Copy the file {name} of {source} and give its path with net_kwargs "
            "{weights = 'PATH'}."
        )
    return f"net_kwargs: timm:{backbone} cannot be made with {timm_kwargs}: {first_line(error)}."
