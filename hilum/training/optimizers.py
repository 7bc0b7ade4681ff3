"""The optimizer of a run, and how fast each part of the network learns."""

from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from hilum.errors import HilumError, nearest

#: The optimizers that can be named.
OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


def make_optimizer(
    net: nn.Module,
    criterion: nn.Module,
    *,
    name: Literal["adam", "adamw", "sgd"],
    learning_rate: float,
    l2_reg: float,
    momentum: float,
    layer_decay: float = 1.0,
    stages: list[tuple[str, list[nn.Parameter]]] | None = None,
    fused: bool = False,
) -> Optimizer:
    """An optimizer of a network's parameters, and of the loss's if it has any.

    Args:
        net: all of its parameters are in, so that one that is frozen now can learn later.
        criterion: its parameters (those of the AUC margin loss) are a group of their own, `criterion`,
            without weight decay.
        name: a key of `OPTIMIZERS`.
        learning_rate: of the head, and of all else if `layer_decay` is 1.
        l2_reg: weight decay: L2 for adam and sgd, decoupled for adamw (Loshchilov and Hutter 2019,
            arXiv 1711.05101).
        momentum: of sgd.
        layer_decay: the k-th stage away from the head learns at `learning_rate * layer_decay**k`.
        stages: names and parameters as `hilum.models.parts.stages` gives them, from the image to the head; all
            of the network's parameters, once each. Each becomes a group with its `name`. Needed for a
            `layer_decay` below 1.
        fused: one kernel for all parameters, for those on a GPU.

    Returns:
        The head's group, or the only one, is the first of its `param_groups`.

    Raises:
        HilumError: an unknown optimizer, or a `layer_decay` for a network whose stages are not known.
    """
    if name not in OPTIMIZERS:
        raise HilumError(
            f"optimizer: there is no optimizer {name!r}.{nearest(name, OPTIMIZERS)} Known: {', '.join(OPTIMIZERS)}."
        )
    groups: Any = net.parameters()
    criterion_parameters = list(criterion.parameters())
    if layer_decay != 1:
        groups = _groups_by_stage(net, stages, learning_rate, layer_decay)
    elif criterion_parameters:
        groups = [{"params": list(groups), "name": "net"}]
    if criterion_parameters:
        groups.append({"params": criterion_parameters, "name": "criterion", "weight_decay": 0.0})
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": l2_reg}
    if name == "sgd":
        settings["momentum"] = momentum
    if fused:
        settings["fused"] = True
    return OPTIMIZERS[name](groups, **settings)


def _groups_by_stage(
    net: nn.Module,
    stages: list[tuple[str, list[nn.Parameter]]] | None,
    learning_rate: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    if not stages:
        raise HilumError(
            f"layer_decay: {layer_decay:g} needs to know the stages of the network, and those of "
            f"{type(net).__name__} are not known. Leave layer_decay at 1, or choose a model that `hilum models` lists."
        )
    staged = [id(parameter) for _, parameters in stages for parameter in parameters]
    assert sorted(staged) == sorted(id(parameter) for parameter in net.parameters()), (
        "the stages must hold each parameter of the network once"
    )
    return [
        {"params": parameters, "name": stage, "lr": learning_rate * layer_decay**away}
        for away, (stage, parameters) in enumerate(reversed(stages))
    ]


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Group -> its learning rate now; the only group of a plain optimizer is `net`."""
    return {group.get("name", "net"): float(group["lr"]) for group in optimizer.param_groups}
