"""A learning rate range test: the loss at learning rates that rise from far too small to far too large."""

import contextlib
import copy
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d
from torch import nn
from torch.optim import Optimizer

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.randomness import derived_seed
from hilum.training._oom import Batch
from hilum.training._setup import (
    prepare_criterion,
    prepare_data,
    prepare_net,
    prepare_optimizer,
    prepare_weights,
)
from hilum.training.distributed import choose_device, choose_precision


@dataclass(frozen=True)
class LearningRates:
    """Result of a range test.

    Attributes:
        table: a row per step: `learning_rate`, `loss` of its batch, `smoothed_loss`.
        steepest: learning rate of the fastest decrease of the smoothed loss.
        lowest_loss: learning rate of the lowest smoothed loss.
        diverged: whether the test ended early because the loss diverged.
    """

    table: pd.DataFrame
    steepest: float
    lowest_loss: float
    diverged: bool

    @property
    def suggestion(self) -> float:
        """The lower of the steepest descent and a tenth of the lowest loss."""
        return min(self.steepest, self.lowest_loss / 10)


@dataclass(frozen=True)
class RangeTest:
    """Trains a copy with a learning rate that rises from step to step (Smith 2017, arXiv 1506.01186).

    Attributes:
        net: gives raw logits for the batches' images; a copy of it learns.
        criterion: (outputs, labels) -> scalar loss; a copy of it is used.
        batches: dictionaries with `img` and `labels`, such as a training loader; repeated when they end.
        make_optimizer: (network, loss) -> optimizer of their parameters. Groups with different learning rates keep
            their ratios; the reported rate is that of the first group, the head's.
        device: where to train.
        precision: makes the context in which outputs and loss are computed, such as an autocast.
        seed: of the network's own random draws in training (dropout).
    """

    net: nn.Module
    criterion: nn.Module
    batches: Iterable[Batch]
    make_optimizer: Callable[[nn.Module, nn.Module], Optimizer]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Callable[[], AbstractContextManager] = contextlib.nullcontext
    seed: int = 0

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "RangeTest":
        """Network, loss, loader and optimizer as in the first step of a run with these settings.

        Raises:
            HilumError: settings or data that cannot be used.
        """
        config = RunConfig(**settings)
        device, data = choose_device(config.device), prepare_data(config)
        net = prepare_net(config, data)
        prepare_weights(config, net, data)
        # fp16 becomes 32: without a scaled loss the gradients of fp16 vanish.
        bf16 = choose_precision(config.precision, device) == "bf16"
        precision = partial(torch.autocast, device.type, torch.bfloat16, enabled=bf16)
        make_optimizer = partial(prepare_optimizer, config, device=device)
        criterion = prepare_criterion(config, data)
        return cls(net, criterion, data.train_loader, make_optimizer, device, precision, config.seed)

    def run(
        self,
        lowest: float = 1e-7,
        highest: float = 10.0,
        steps: int = 100,
        on_step: Callable[[], object] = lambda: None,
    ) -> LearningRates:
        """Runs the test. Network, loss, loader and the global random generators stay as they are, bit for bit.

        Args:
            lowest: the first learning rate.
            highest: the last, unless the loss diverges before.
            steps: number of learning rates, evenly on a logarithmic scale, one batch each.
            on_step: called after each step.

        Raises:
            HilumError: an empty or too short range, no batches, or a loss that never decreases.
        """
        if not 0 < lowest < highest < math.inf:
            raise HilumError(
                f"The learning rates must rise from above 0; these are from {lowest:g} to {highest:g}."
            )
        if steps < 10:
            raise HilumError(f"steps: {steps} is too few for a curve; use 10 or more.")
        rates = np.geomspace(lowest, highest, steps)
        with _restored_state(self.device, self.batches):
            torch.manual_seed(derived_seed(self.seed, "learning rate finder"))
            losses = self._losses(rates, on_step)
        return _result(rates[: len(losses)], np.array(losses), steps)

    def _losses(self, rates: np.ndarray, on_step: Callable[[], object]) -> list[float]:
        """The loss at each learning rate, until it diverges."""
        net = copy.deepcopy(self.net).to(self.device).train()
        criterion = copy.deepcopy(self.criterion).to(self.device)
        optimizer = self.make_optimizer(net, criterion)
        ratios = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]
        after_step = getattr(criterion, "after_step", lambda: None)
        summed = getattr(criterion, "reduction", "mean") == "sum"
        losses: list[float] = []
        average = lowest = math.nan
        for rate, batch in zip(rates, _repeated(self.batches), strict=False):
            images, labels = batch["img"].to(self.device), batch["labels"].to(self.device)
            optimizer.zero_grad()
            with self.precision():
                loss = criterion(net(images), labels)
            value = loss.item() / (len(images) if summed else 1)
            average = 0.7 * average + 0.3 * value if losses else value
            lowest = min(lowest, average) if losses else average
            # Diverged: three times the first loss above the lowest.
            if not math.isfinite(value) or average > lowest + 3 * abs((losses or [value])[0]):
                break
            losses.append(value)
            loss.backward()
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = rate * ratio
            optimizer.step()
            after_step()
            on_step()
        return losses


def _result(rates: np.ndarray, losses: np.ndarray, steps: int) -> LearningRates:
    if len(losses) < 5:
        raise HilumError(
            f"The loss is not finite, or increases at once, at a learning rate of {rates[-1] if len(rates) else 0:g}. "
            "Start lower, or look at the images and labels."
        )
    smoothed = gaussian_filter1d(losses, max(1.0, 0.03 * steps), mode="nearest")
    lowest = int(smoothed.argmin())
    if lowest == 0:
        raise HilumError(
            f"The loss never decreases between learning rates of {rates[0]:g} and {rates[-1]:g}. "
            "Start lower, take more steps, or look at the images and labels."
        )
    steepest = np.gradient(smoothed, np.log(rates))[:lowest].argmin()
    table = pd.DataFrame({"learning_rate": rates, "loss": losses, "smoothed_loss": smoothed})
    return LearningRates(table, float(rates[steepest]), float(rates[lowest]), diverged=len(losses) < steps)


def _repeated(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of epoch after epoch."""
    for epoch in itertools.count(1):
        sampler: Any = getattr(batches, "batch_sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        batch = None
        for batch in batches:
            yield batch
        if batch is None:
            raise HilumError("There is no batch to train on.")


@contextlib.contextmanager
def _restored_state(device: torch.device, batches: Iterable[Batch]) -> Iterator[None]:
    """Restores the global random generators, and a loader's epoch and own generator, at the end."""
    # A network or data set of your own may draw from NumPy's old global generator.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    sampler: Any = getattr(batches, "batch_sampler", None)
    generator = getattr(batches, "generator", None)
    epoch, state = getattr(sampler, "epoch", None), generator and generator.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            if generator is not None:
                generator.set_state(state)
