"""A range test: how the loss answers to learning rates from far too small to far too large."""

import contextlib
import copy
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.randomness import derived_seed
from hilum.training.distributed import choose_device, choose_precision
from hilum.training.setup import (
    prepare_criterion,
    prepare_data,
    prepare_net,
    prepare_optimizer,
    prepare_weights,
)

#: The loss has diverged when it is above its lowest by so many times what it was at first.
DIVERGED = 3.0

#: Width of the bell that smooths the losses, as a share of the steps.
SMOOTHING = 0.03


@dataclass(frozen=True)
class LearningRates:
    """What a range test found.

    Attributes:
        table: a row per step: `learning_rate`, `loss` of its batch, `smoothed_loss`.
        steepest: the learning rate at which the smoothed loss falls fastest.
        lowest_loss: the learning rate at which the smoothed loss is lowest.
        diverged: the test ended because the loss rose beyond all measure.
    """

    table: pd.DataFrame
    steepest: float
    lowest_loss: float
    diverged: bool

    @property
    def suggestion(self) -> float:
        """The more careful of two rules: the steepest descent, and a tenth of where the loss is lowest."""
        return min(self.steepest, self.lowest_loss / 10)


def find_learning_rate(
    net: nn.Module,
    criterion: nn.Module,
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    make_optimizer: Callable[[nn.Module, nn.Module], Optimizer],
    device: str | torch.device,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    precision: Callable[[], AbstractContextManager] = contextlib.nullcontext,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> LearningRates:
    """Trains a copy with a learning rate that grows from step to step (Smith 2017, arXiv 1506.01186).

    The network, the loss, the loader and the global random generators are afterwards what they were, in
    every bit.

    Args:
        net: gives raw logits for the batches' images; a copy of it learns.
        criterion: (outputs, labels) → scalar loss; a copy of it is used.
        batches: dictionaries with `img` and `labels`, such as a training loader; begun anew when they end.
        make_optimizer: (network, loss) → optimizer of their parameters. Groups with different learning
            rates keep their proportion; the first group's rate, the head's, is the one that is told.
        device: where to train.
        lowest: the first learning rate.
        highest: the last, unless the loss diverges before.
        steps: how many learning rates, evenly on a logarithmic scale, a batch each.
        precision: makes the context in which outputs and loss are computed, such as an autocast.
        seed: of what the network draws while training (dropout).
        on_step: called after each step.

    Raises:
        HilumError: the range is none or too short, there are no batches, or the loss falls nowhere.
    """
    if not 0 < lowest < highest < math.inf:
        raise HilumError(
            f"The learning rates must rise from above 0; these are from {lowest:g} to {highest:g}."
        )
    if steps < 10:
        raise HilumError(f"steps: {steps} is too few for a curve; use 10 or more.")
    rates = np.geomspace(lowest, highest, steps)
    with _global_generators_kept(torch.device(device)), _loader_kept(batches):
        torch.manual_seed(derived_seed(seed, "learning rate finder"))
        losses = _losses(
            net, criterion, batches, make_optimizer, torch.device(device), rates, precision, on_step
        )
    return _concluded(rates[: len(losses)], np.array(losses), steps)


def _losses(
    net: nn.Module,
    criterion: nn.Module,
    batches: Iterable[dict[str, torch.Tensor]],
    make_optimizer: Callable[[nn.Module, nn.Module], Optimizer],
    device: torch.device,
    rates: np.ndarray,
    precision: Callable[[], AbstractContextManager],
    on_step: Callable[[], object],
) -> list[float]:
    """The loss at each learning rate, up to where it diverges."""
    net, criterion = copy.deepcopy(net).to(device).train(), copy.deepcopy(criterion).to(device)
    optimizer = make_optimizer(net, criterion)
    proportions = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]
    after_step = getattr(criterion, "after_step", lambda: None)
    losses: list[float] = []
    lately = least = math.nan
    for rate, batch in zip(rates, _endlessly(batches), strict=False):
        images, labels = batch["img"].to(device), batch["labels"].to(device)
        optimizer.zero_grad()
        with precision():
            loss = criterion(net(images), labels)
        value = loss.item() / (len(images) if getattr(criterion, "reduction", "mean") == "sum" else 1)
        lately = value if not losses else 0.7 * lately + 0.3 * value
        least = lately if not losses else min(least, lately)
        if not math.isfinite(value) or lately > least + DIVERGED * abs((losses or [value])[0]):
            break
        losses.append(value)
        loss.backward()
        for group, proportion in zip(optimizer.param_groups, proportions, strict=True):
            group["lr"] = rate * proportion
        optimizer.step()
        after_step()
        on_step()
    return losses


def _concluded(rates: np.ndarray, losses: np.ndarray, steps: int) -> LearningRates:
    if len(losses) < 5:
        raise HilumError(
            f"The loss is not finite, or rises at once, at a learning rate of {rates[-1] if len(rates) else 0:g}. "
            "Begin lower, or look at the images and labels."
        )
    smoothed = gaussian_filter1d(losses, max(1.0, SMOOTHING * steps), mode="nearest")
    lowest = int(smoothed.argmin())
    if lowest == 0:
        raise HilumError(
            f"The loss falls nowhere between learning rates of {rates[0]:g} and {rates[-1]:g}. "
            "Begin lower, take more steps, or look at the images and labels."
        )
    slopes = np.gradient(smoothed, np.log(rates))
    table = pd.DataFrame({"learning_rate": rates, "loss": losses, "smoothed_loss": smoothed})
    return LearningRates(
        table, float(rates[slopes[:lowest].argmin()]), float(rates[lowest]), diverged=len(losses) < steps
    )


def _endlessly(batches: Iterable[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """Epoch after epoch."""
    for epoch in itertools.count(1):
        if hasattr(getattr(batches, "batch_sampler", None), "set_epoch"):
            batches.batch_sampler.set_epoch(epoch)
        some = False
        for batch in batches:
            some = True
            yield batch
        if not some:
            raise HilumError("There is no batch to train on.")


@contextlib.contextmanager
def _global_generators_kept(device: torch.device) -> Iterator[None]:
    # A network or data set of one's own may draw from NumPy's old global generator.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def _loader_kept(batches: Iterable[dict[str, torch.Tensor]]) -> Iterator[None]:
    """Leaves a loader's epoch and its own random generator as they were."""
    if not isinstance(batches, DataLoader):
        yield
        return
    sampler, generator = batches.batch_sampler, batches.generator
    epoch = getattr(sampler, "epoch", None)
    state = None if generator is None else generator.get_state()
    try:
        yield
    finally:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        if state is not None:
            generator.set_state(state)


class Prepared(NamedTuple):
    """What a run with some settings would train."""

    net: nn.Module
    criterion: nn.Module
    batches: DataLoader
    make_optimizer: Callable[[nn.Module, nn.Module], Optimizer]
    device: torch.device
    precision: Callable[[], AbstractContextManager]
    seed: int


def prepare(settings: dict[str, Any]) -> Prepared:
    """Network, loss, loader and optimizer as a run with these settings has them at its first step.

    Raises:
        HilumError: whatever is wrong with the settings or the data.
    """
    config = RunConfig(**settings)
    device = choose_device(config.device)
    data = prepare_data(config)
    net = prepare_net(config, data)
    if config.init_from is not None:
        prepare_weights(config, net, data)
    return Prepared(
        net,
        prepare_criterion(config, data),
        data.train_loader,
        partial(prepare_optimizer, config, device=device),
        device,
        _precision(config.precision, device),
        config.seed,
    )


def _precision(name: str, device: torch.device) -> Callable[[], AbstractContextManager]:
    """bf16 where the run would have it. Not fp16: without a scaled loss its gradients vanish; 32 stands for it."""
    if choose_precision(name, device) == "bf16":
        return partial(torch.autocast, device.type, torch.bfloat16)
    return contextlib.nullcontext
