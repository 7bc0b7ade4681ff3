"""The optimizer of a run, its learning rate schedule, and the average of the weights."""

import math
import warnings
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from hilum.config import TrainingSettings
from hilum.errors import HilumError

_OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


def make_optimizer(
    net: nn.Module,
    criterion: nn.Module,
    settings: TrainingSettings,
    *,
    layer_decay: float = 1.0,
    stages: list[tuple[str, list[nn.Parameter]]] | None = None,
    fused: bool = False,
) -> Optimizer:
    """An optimizer of the parameters of a network, and of its loss if it has any.

    Args:
        net: all parameters are included, so that a frozen one can learn later.
        criterion: its parameters (of the AUC margin loss) are a group `criterion` without weight decay.
        settings: `optimizer`, `learning_rate` (of the head, and of everything if `layer_decay` is 1), `momentum` (of
            sgd) and `l2_reg`: weight decay, L2 for adam and sgd, decoupled for adamw (Loshchilov and Hutter 2019,
            arXiv 1711.05101).
        layer_decay: the k-th stage away from the head learns at `learning_rate * layer_decay**k`.
        stages: names and parameters from `hilum.models.layer_groups.stages`, image side first, each parameter once.
            Each is a group with its `name`. Needed for a `layer_decay` below 1.
        fused: one kernel for all parameters, for a GPU.

    Returns:
        The head's group, or the only one, is the first of its `param_groups`.

    Raises:
        HilumError: a `layer_decay` for a network whose stages are not known.
    """
    groups: Any = net.parameters()
    criterion_parameters = list(criterion.parameters())
    if layer_decay != 1:
        if not stages:
            raise HilumError(
                f"layer_decay: {layer_decay:g} needs the stages of the network, which are not known for "
                f"{type(net).__name__}. Leave layer_decay at 1, or choose a model that `hilum models` lists."
            )
        staged = sorted(id(parameter) for _, parameters in stages for parameter in parameters)
        once = staged == sorted(id(parameter) for parameter in net.parameters())
        assert once, "the stages must hold each parameter of the network once"
        groups = [
            {"params": parameters, "name": stage, "lr": settings.learning_rate * layer_decay**away}
            for away, (stage, parameters) in enumerate(reversed(stages))
        ]
    elif criterion_parameters:
        groups = [{"params": list(groups), "name": "net"}]
    if criterion_parameters:
        groups.append({"params": criterion_parameters, "name": "criterion", "weight_decay": 0.0})
    arguments: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.l2_reg}
    if settings.optimizer == "sgd":
        arguments["momentum"] = settings.momentum
    if fused:
        arguments["fused"] = True
    return _OPTIMIZERS[settings.optimizer](groups, **arguments)


class Schedule:
    """One of torch's schedulers, called after each step and each epoch; each scheduler uses what it needs.

    Args:
        optimizer: the learning rates of all its groups change by the same factor.
        scheduler: of that optimizer; None for constant learning rates.
        steps: number of steps of the scheduler; later steps change nothing.
    """

    def __init__(
        self, optimizer: Optimizer, scheduler: LRScheduler | ReduceLROnPlateau | None = None, steps: int = 0
    ):
        self.optimizer, self.scheduler, self.steps = optimizer, scheduler, steps

    @property
    def learning_rate(self) -> float:
        """Of the optimizer's first group, the head's, at its next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """To be called after each optimizer step."""
        if self.scheduler is None or isinstance(self.scheduler, ReduceLROnPlateau):
            return
        if self.scheduler.last_epoch < self.steps:
            with warnings.catch_warnings():
                # In 16-bit precision the first steps are skipped until the loss scale fits.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """To be called after each epoch with its validation loss; NaN is not an improvement."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        """Numbers, text and lists of them alone, so that `torch.load(weights_only=True)` reads it."""
        return self.scheduler.state_dict() if self.scheduler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a `state_dict()`, before or after the optimizer's own state is loaded."""
        if self.scheduler:
            self.scheduler.load_state_dict(state)
            for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
                group["lr"] = rate


def make_schedule(optimizer: Optimizer, settings: TrainingSettings, steps_per_epoch: int) -> Schedule:
    """The learning rate schedule of a run; the optimizer's learning rates are the peaks.

    - constant: the peak.
    - cosine: half a cosine from the peak to 0, reached at the end of the last step
      (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts).
    - one_cycle: from 1/25 of the peak up in the first 30 % of the steps, then down to 1/250,000, both along
      cosines (Smith and Topin 2018, arXiv 1708.07120; torch's OneCycleLR). The momentum is constant.
    - plateau: times 0.1 after more than `plateau_patience` epochs without a lower validation loss.

    Args:
        optimizer: before it is set up for a device or for several.
        settings: `schedule`, `num_epochs`, `plateau_patience` and `warmup_epochs`: length of a linear rise from nearly
            0, for constant and cosine.
        steps_per_epoch: optimizer steps, not batches, if several batches make one step.

    Raises:
        HilumError: a warm-up longer than the run, or one for a schedule without warm-up.
    """
    name, warmup_epochs = settings.schedule, settings.warmup_epochs
    if warmup_epochs and name in ("one_cycle", "plateau"):
        why = "has a rise of its own" if name == "one_cycle" else "has no warm-up"
        raise HilumError(
            f"warmup_epochs: the schedule {name} {why}. Leave warmup_epochs at 0, or choose constant or cosine."
        )
    if warmup_epochs >= settings.num_epochs:
        raise HilumError(
            f"warmup_epochs: {warmup_epochs:g} must be less than num_epochs ({settings.num_epochs}), or the learning "
            "rate never reaches its peak."
        )
    steps = settings.num_epochs * steps_per_epoch
    warmup = round(warmup_epochs * steps_per_epoch)
    if name == "plateau":
        # Any lower loss is an improvement: torch's relative threshold is wrong for losses below 0.
        exact: dict[str, Any] = {"threshold": 0, "threshold_mode": "abs", "eps": 0}
        patience = settings.plateau_patience
        return Schedule(optimizer, ReduceLROnPlateau(optimizer, factor=0.1, patience=patience, **exact))
    if name == "one_cycle":
        # In a resumed optimizer "lr" is a point of the cycle; this scheduler has noted the peak as "max_lr".
        peaks = [group.get("max_lr", group["lr"]) for group in optimizer.param_groups]
        scheduler = OneCycleLR(optimizer, peaks, total_steps=steps, cycle_momentum=False)
        return Schedule(optimizer, scheduler, steps - 1)  # one more step would rise again
    if name == "constant" and not warmup:
        return Schedule(optimizer)

    def factor(step: int) -> float:
        """On the peak learning rate, which is that of step `warmup`; steps are counted from 0."""
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if name == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    return Schedule(optimizer, LambdaLR(optimizer, factor), steps)


class AveragedWeights:
    """An exponential moving average of a network's weights and buffers.

    After step n the average is d * average + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)): the first
    weights, which are noise, lose their share soon. Averaging: Polyak & Juditsky 1992 (doi 10.1137/0330046); the rising
    decay: TensorFlow's ExponentialMovingAverage.

    Args:
        net: its weights are averaged, the current ones first.
        decay: above 0 and below 1; 0.999 averages over some thousand steps.

    Attributes:
        net: a copy of the network with the averaged weights.
        steps: number of averaged steps.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    def to(self, device: torch.device) -> "AveragedWeights":
        """Moves the average to a device."""
        self.net.to(device)
        return self

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Adds the weights of a step to the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():  # the counter of batch normalization
                mine.copy_(theirs)
