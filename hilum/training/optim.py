"""The optimizer of a run, and how fast each part of the network learns."""

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

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
        stages: names and parameters as `hilum.models.layer_groups.stages` gives them, from the image to the head; all
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


SCHEDULES = ("constant", "cosine", "one_cycle", "plateau")

#: What the plateau schedule multiplies the learning rate with.
PLATEAU_FACTOR = 0.1


class Schedule:
    """One of torch's schedulers, told of each step and of each epoch; each uses what it needs.

    Args:
        optimizer: whose groups' learning rates change, all by the same factor.
        scheduler: of that optimizer; None leaves it alone.
        steps: how many steps the scheduler is to be told of; 0 for none.
    """

    def __init__(self, optimizer: Optimizer, scheduler: LRScheduler | None, steps: int):
        self.optimizer, self.scheduler, self.steps = optimizer, scheduler, steps

    @property
    def learning_rate(self) -> float:
        """Of the optimizer's first group, the head's, at its next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """To be called after each step of the optimizer."""
        if self.scheduler is None or isinstance(self.scheduler, ReduceLROnPlateau):
            return
        if self.scheduler.last_epoch < self.steps:
            with warnings.catch_warnings():
                # In 16-bit precision the first steps are left out until the loss is scaled to fit.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """To be called after each epoch with its validation loss; NaN counts as no better."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        """Numbers, words and lists of them alone, so that `torch.load(weights_only=True)` reads it."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict()`, before or after the optimizer's own state is loaded."""
        if self.scheduler is None:
            return
        self.scheduler.load_state_dict(state)
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


def make_schedule(
    optimizer: Optimizer,
    name: Literal["constant", "cosine", "one_cycle", "plateau"],
    *,
    num_epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    plateau_patience: int,
) -> Schedule:
    """The schedule of a run; what the optimizer has as learning rates is their highest.

    - constant: as it is.
    - cosine: half a cosine from the highest to 0, which it reaches with the end of the last step
      (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts).
    - one_cycle: up from 1/25 in the first 30 % of the steps, then down to 1/250,000, both along cosines
      (Smith and Topin 2018, arXiv 1708.07120; torch's OneCycleLR). The momentum stays as it is set.
    - plateau: times 0.1 when the validation loss has not been lower for more than `plateau_patience` epochs.

    Args:
        optimizer: before it is set up for a device or for several.
        name: one of `SCHEDULES`.
        num_epochs: of the run.
        steps_per_epoch: steps of the optimizer, not batches, if several batches make one step.
        warmup_epochs: length of a straight rise from nearly 0, for constant and cosine.
        plateau_patience: epochs without a lower validation loss that are borne.

    Raises:
        HilumError: an unknown schedule, a warm-up longer than the run, or one for a schedule that has none.
    """
    if name not in SCHEDULES:
        raise HilumError(
            f"schedule: there is no schedule {name!r}.{nearest(name, SCHEDULES)} Known: {', '.join(SCHEDULES)}."
        )
    if warmup_epochs and name in ("one_cycle", "plateau"):
        why = "rises by itself" if name == "one_cycle" else "has none"
        raise HilumError(
            f"warmup_epochs: the schedule {name} {why}. Leave warmup_epochs at 0, or choose constant or cosine."
        )
    if warmup_epochs >= num_epochs:
        raise HilumError(
            f"warmup_epochs: {warmup_epochs:g} must be less than num_epochs ({num_epochs}), or the learning rate "
            "never gets to where it is set."
        )
    steps = num_epochs * steps_per_epoch
    warmup = round(warmup_epochs * steps_per_epoch)
    if name == "plateau":
        # Less is less: torch's own default asks for a ten-thousandth part, which a loss below 0 turns round.
        scheduler = ReduceLROnPlateau(
            optimizer,
            factor=PLATEAU_FACTOR,
            patience=plateau_patience,
            threshold=0,
            threshold_mode="abs",
            eps=0,
        )
        return Schedule(optimizer, scheduler, 0)
    if name == "one_cycle":
        # A taken-up optimizer's "lr" is where its cycle was; "max_lr" is what this scheduler noted beside it.
        highest = [group.get("max_lr", group["lr"]) for group in optimizer.param_groups]
        # It is at its lowest for the last step; told of one more, it would rise again.
        return Schedule(
            optimizer, OneCycleLR(optimizer, highest, total_steps=steps, cycle_momentum=False), steps - 1
        )
    if name == "cosine":
        return Schedule(optimizer, LambdaLR(optimizer, _cosine(warmup, steps)), steps)
    if warmup:
        return Schedule(
            optimizer, LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup + 1))), steps
        )
    return Schedule(optimizer, None, 0)


def _cosine(warmup: int, steps: int) -> Callable[[int], float]:
    """Step, counted from 0, to the factor on the highest learning rate, which is that of step `warmup`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    return factor


class AveragedWeights:
    """An exponential moving average of a network's weights and buffers.

    After step n the average is d * average + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)): the
    first weights, which are noise, are soon forgotten. Averaging goes back to Polyak & Juditsky 1992
    (doi 10.1137/0330046); the rising decay is that of TensorFlow's ExponentialMovingAverage.

    Args:
        net: whose weights; the average begins with them.
        decay: above 0 and below 1; 0.999 averages over some thousand steps.

    Attributes:
        net: a copy of the network with the averaged weights.
        steps: how many have been averaged.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    def to(self, device: torch.device) -> "AveragedWeights":
        """Moves the average to a device."""
        self.net.to(device)
        return self

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Takes a step's weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        own, new = self.net.state_dict().values(), net.state_dict().values()
        pairs = [(mine, theirs) for mine, theirs in zip(own, new, strict=True)]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():  # the counter of batch normalization
                mine.copy_(theirs)
