"""The training loop: epochs of training and validation, with callbacks at named moments."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hilum.errors import HilumError, without_worker_traceback
from hilum.metrics import Metrics
from hilum.randomness import derived_seed
from hilum.training._oom import Batch, OutOfMemoryRetry
from hilum.training.distributed import gathered, make_fabric, share_buffers
from hilum.training.optim import AveragedWeights, Schedule

#: A GPU computes ahead of the program and must be waited for to read a loss: once per this number of batches.
_LOSSES_PER_READ = 32


class Callback:
    """Actions at named moments of the training. A subclass overrides the moments that it needs.

    Callbacks are called in the order in which the loop has them. With several devices, each process calls its own.
    """

    def on_train_begin(self, loop: "TrainingLoop") -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before the training part of an epoch."""

    def on_batch_end(self, part: str, images: int) -> None:
        """After each batch of the part "train" or "val", with its number of images."""

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> bool | None:
        """After both parts of an epoch are scored; True makes it the last epoch."""

    def on_train_end(self) -> None:
        """After the last epoch; not called if an error ends the training."""


class BatchResult(NamedTuple):
    """What the network computes for a batch: outputs (B, outputs) and loss, a scalar, both without gradient."""

    batch: Batch
    outputs: torch.Tensor
    loss: torch.Tensor


class EpochLoss:
    """Mean loss of one part of an epoch. The batches' losses stay on their device until they are needed.

    A batch's loss is a sum over the batch if `summed`, else a mean.
    """

    def __init__(self, epoch: int, summed: bool):
        self.epoch, self.summed = epoch, summed
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []  # loss and ImageIDs (B,)
        self._checked = 0

    def append(self, result: BatchResult) -> None:
        """Adds a batch; `check` follows after some batches."""
        self._batches.append((result.loss, result.batch["id"]))
        if len(self._batches) - self._checked >= _LOSSES_PER_READ:
            self.check()

    def check(self, upcoming: Sequence[BatchResult] = ()) -> None:
        """Reads the losses that are not read yet, and those of batches that will be appended.

        Raises:
            HilumError: a loss is NaN or infinite. The message has the batch's ImageIDs.
        """
        batches = self._batches[self._checked :] + [(result.loss, result.batch["id"]) for result in upcoming]
        if batches:
            finite = torch.isfinite(torch.stack([loss for loss, _ in batches]))
            if not finite.all():
                place = int((~finite).nonzero()[0])
                loss, ids = batches[place]
                raise HilumError(
                    f"Epoch {self.epoch}: the loss of batch {self._checked + place + 1} is {loss.item()}; its ImageIDs "
                    f"are {', '.join(map(str, ids.tolist()))}. Lower the learning rate, or look at these images."
                )
        self._checked = len(self._batches)

    def gather(self) -> None:
        """Collects the batches of all devices, in the order of one device."""
        self.check()
        self._batches = gathered([(loss.cpu(), ids.cpu()) for loss, ids in self._batches])
        self._checked = len(self._batches)

    def mean(self) -> float:
        """Mean over the images: of their batch's mean, or of the sum."""
        self.check()
        losses = torch.stack([loss for loss, _ in self._batches]).double().cpu()
        sizes = torch.tensor([len(ids) for _, ids in self._batches], dtype=torch.float64)
        return float((losses.sum() if self.summed else losses @ sizes) / sizes.sum())


class TrainingLoop:
    """Trains a network for a number of epochs and gives the outputs of every batch to a Metrics object.

    Args:
        device: "cpu", "cuda", "cuda:1" or a torch.device; or a Fabric, for another precision or several
            devices (see `hilum.training.distributed.make_fabric`).
        net: gives raw logits of shape (B, targets) for the loader's images.
        optimizer: of the network's parameters.
        criterion: (outputs, labels) -> scalar loss, mean or sum over the batch by its `reduction`. Optional
            methods: `target_logits(outputs)` gives one logit per target; `weight(labels)` gives the number of
            terms that a mean is over, if these are not the images; `after_step()` is called after each step.
        metrics: collects ids and logits; its targets are the columns of the labels.
        seed: of the network's own random draws in training (dropout).
        schedule: of the learning rate; None keeps it constant.
        accumulate_batches: gradient accumulation: batches per optimizer step.
        clip_norm: gradient clipping: largest L2 norm; None for no clipping.
        average: of the weights, validated instead of `net`; None for no average.
        oom: what to do if a batch does not fit into memory; None raises an error.
        frozen: modules that do not learn in the first `frozen_epochs` epochs.
        frozen_epochs: number of these epochs.
        callbacks: called at the moments that `Callback` names.
    """

    def __init__(
        self,
        device: str | torch.device | Fabric,
        net: nn.Module,
        optimizer: Optimizer,
        criterion: nn.Module,
        metrics: Metrics,
        *,
        seed: int = 0,
        schedule: Schedule | None = None,
        accumulate_batches: int = 1,
        clip_norm: float | None = None,
        average: AveragedWeights | None = None,
        oom: OutOfMemoryRetry | None = None,
        frozen: Sequence[nn.Module] = (),
        frozen_epochs: int = 0,
        callbacks: Sequence[Callback] = (),
    ):
        self.fabric = device if isinstance(device, Fabric) else make_fabric(torch.device(device))
        self.net, self.optimizer = self.fabric.setup(net, optimizer)
        learns = any(parameter.requires_grad for parameter in criterion.parameters())
        place = self.fabric.setup_module if learns else self.fabric.to_device
        self.criterion: Any = place(criterion)
        # Devices validate different numbers of batches: their losses must not wait for each other.
        self.validation_criterion: Any = self.criterion.module if learns else self.criterion
        self.target_logits = getattr(criterion, "target_logits", lambda outputs: outputs)
        self.weight = getattr(criterion, "weight", lambda labels: torch.ones_like(labels[:, 0]).sum())
        self.summed = getattr(criterion, "reduction", "mean") == "sum"
        self.after_step = getattr(criterion, "after_step", lambda: None)
        self.metrics, self.seed, self.schedule = metrics, seed, schedule
        self.accumulate_batches, self.clip_norm = accumulate_batches, clip_norm
        self.average = None if average is None else average.to(self.fabric.device)
        self.oom = oom or OutOfMemoryRetry()
        self.frozen, self.frozen_epochs = frozen, frozen_epochs
        self.callbacks = list(callbacks)
        # Torch's fused optimizers can skip a step without the program's waiting for the GPU.
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        self.skips_on_device = fused and self.fabric.device.type == "cuda"

    def train(
        self,
        num_epochs: int,
        train_loader: DataLoader,
        val_loader: DataLoader,
        *,
        on_epoch_end: Callable[[int], object] | None = None,
        first_epoch: int = 1,
    ) -> Metrics:
        """Trains and validates, epoch by epoch, counted from 1.

        Args:
            num_epochs: number of the last epoch.
            train_loader: dictionaries of `id`, `img` and `labels`.
            val_loader: the same, for the validation images.
            on_epoch_end: called with the epoch's number once both parts are scored; a true result makes this
                epoch the last.
            first_epoch: number of the first epoch, for a run that is resumed.

        Raises:
            HilumError: an image cannot be read, a loss is not finite, or a batch does not fit into memory.
        """
        for callback in self.callbacks:
            callback.on_train_begin(self)
        for epoch in range(first_epoch, num_epochs + 1):
            for callback in self.callbacks:
                callback.on_epoch_begin(epoch)
            self.train_epoch(epoch, train_loader)
            val_loss = self.validate_epoch(epoch, val_loader)
            if self.schedule:
                self.schedule.after_epoch(val_loss)
            stops = [callback.on_epoch_end(epoch, self.metrics) for callback in self.callbacks]
            if any(stops) or (on_epoch_end and on_epoch_end(epoch)):
                break
        for callback in self.callbacks:
            callback.on_train_end()
        return self.metrics

    def train_epoch(self, epoch: int, loader: DataLoader) -> float:
        """Trains on all training images once; returns the mean loss per image."""
        # Dropout draws from the global generator: with this seed its draws depend on seed and epoch alone.
        torch.manual_seed(derived_seed(self.seed, "dropout", epoch, self.fabric.global_rank))
        self._set_training_mode(epoch)
        epoch_loss = EpochLoss(epoch, self.summed)
        step = partial(self._train_step, epoch_loss)
        batches = self._batches(loader, epoch)
        while batches_of_step := list(islice(batches, self.accumulate_batches)):
            for result in self.oom.run(step, self.net, batches_of_step):
                self._record("train", result, epoch_loss)
        return self._close_epoch("train", epoch_loss)

    def _train_step(self, epoch_loss: EpochLoss, batches: list[Batch]) -> list[BatchResult]:
        """One optimizer step on the accumulated gradients of some batches, or of pieces of a batch."""
        weights = [self.weight(batch["labels"]) for batch in batches]
        total = self._sum_over_devices(torch.stack(weights).sum()).clamp(min=1)
        results: list[BatchResult] = []
        self.optimizer.zero_grad()
        for batch, weight in zip(batches, weights, strict=True):
            last = len(results) + 1 == len(batches)
            with self.fabric.no_backward_sync(self.net, enabled=not last):
                outputs = self.net(batch["img"])
                loss = self.criterion(outputs, batch["labels"])
                # Devices average their gradients: times their number, the sum of their shares is the mean.
                share = self.fabric.world_size * (1 if self.summed else weight / total)
                self.fabric.backward(loss * share)
            results.append(BatchResult(batch, outputs.detach(), loss.detach()))
        if self.clip_norm:
            self.fabric.clip_gradients(
                self.net, self.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False
            )
        self._step_if_finite(epoch_loss, results)
        self.after_step()
        if self.schedule:
            self.schedule.after_step()
        if self.average:
            self.average.update(self.net.module)
        return results

    def _step_if_finite(self, epoch_loss: EpochLoss, results: list[BatchResult]) -> None:
        """Steps the optimizer; a loss that is not finite leaves the weights as they are.

        Raises:
            HilumError: a loss is not finite. On a GPU the step is skipped there, so that the program need not
                wait for the loss, and the error follows when `epoch_loss` reads it.
        """
        if self.skips_on_device:
            infinite = ~torch.isfinite(torch.stack([result.loss for result in results])).all()
            self.optimizer.optimizer.found_inf = self._sum_over_devices(infinite.float()).clamp(max=1)
        else:
            epoch_loss.check(results)
        self.optimizer.step()

    @torch.no_grad()
    def validate_epoch(self, epoch: int, loader: DataLoader) -> float:
        """Computes all validation images once, without training; returns the mean loss per image."""
        several_devices = self.fabric.world_size > 1
        if several_devices:
            # Each device validates its own batches, without exchange, so their buffers must be equal.
            share_buffers(self.kept_net)
        net = (self.kept_net if several_devices or self.average else self.net).eval()
        epoch_loss = EpochLoss(epoch, self.summed)
        for batch in self._batches(loader, epoch):
            for result in self.oom.run(partial(self._validation_step, net), net, [batch]):
                self._record("val", result, epoch_loss)
        return self._close_epoch("val", epoch_loss)

    def _validation_step(self, net: nn.Module, batches: list[Batch]) -> list[BatchResult]:
        results = []
        for batch in batches:
            with self.fabric.autocast():
                outputs = net(batch["img"])
            outputs = outputs.float()
            results.append(BatchResult(batch, outputs, self.validation_criterion(outputs, batch["labels"])))
        return results

    def _record(self, part: str, result: BatchResult, epoch_loss: EpochLoss) -> None:
        ids = result.batch["id"]
        self.metrics.append_epoch_batch_data(ids, self.target_logits(result.outputs), part == "val")
        epoch_loss.append(result)
        for callback in self.callbacks:
            callback.on_batch_end(part, len(ids))

    def _close_epoch(self, part: str, epoch_loss: EpochLoss) -> float:
        """Scores a part on all images of all devices; returns the mean loss per image."""
        is_validation = part == "val"
        if self.fabric.world_size > 1:
            for ids, outputs in gathered(self.metrics.take_pending(is_validation)):
                self.metrics.append_epoch_batch_data(ids, outputs, is_validation)
            epoch_loss.gather()
        loss = epoch_loss.mean()
        self.metrics.close_epoch(epoch_loss.epoch, is_validation, loss)
        return loss

    def _batches(self, loader: DataLoader, epoch: int) -> Iterator[Batch]:
        """The loader's batches of this epoch, on the device."""
        sampler: Any = loader.batch_sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        try:
            for batch in loader:
                yield self.fabric.to_device(batch)
        except HilumError as error:
            raise without_worker_traceback(error) from None

    def _set_training_mode(self, epoch: int) -> None:
        self.net.train()
        learns = epoch > self.frozen_epochs
        for module in self.frozen:
            # Frozen modules keep their running statistics too, which belong to their weights.
            module.train(learns)
            module.requires_grad_(learns)

    def _sum_over_devices(self, value: torch.Tensor) -> torch.Tensor:
        if self.fabric.world_size > 1:
            value = cast("torch.Tensor", self.fabric.all_reduce(value, reduce_op="sum"))
        return value

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step, of the parameters nearest to the logits."""
        return self.schedule.learning_rate if self.schedule else self.optimizer.param_groups[0]["lr"]

    @property
    def kept_net(self) -> nn.Module:
        """The network that is validated and saved: with the averaged weights if there is an average."""
        return self.average.net if self.average else self.net.module

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, except the weights of `kept_net`.

        Random draws depend on seed and epoch alone, so it has no generator's state.
        """
        state = {
            "optimizer": self.optimizer.state_dict(),
            "criterion": self.criterion.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        if self.schedule:
            state["schedule"] = self.schedule.state_dict()
        if self.average:
            state |= {"weights": self.net.module.state_dict(), "averaged_steps": self.average.steps}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a `state_dict()`; the weights of `kept_net` must be loaded before."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.criterion.load_state_dict(state["criterion"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.net.module.load_state_dict(state["weights"])
            self.average.steps = state["averaged_steps"]
