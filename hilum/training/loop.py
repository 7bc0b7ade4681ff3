"""The training loop."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hilum.errors import HilumError, without_worker_traceback
from hilum.metrics import Metrics
from hilum.randomness import derived_seed
from hilum.training.distributed import gathered, make_fabric, share_buffers
from hilum.training.oom import Batch, MemoryKeeper
from hilum.training.optim import AveragedWeights, Schedule

#: On a GPU the losses are looked at once in so many batches: a look waits for the device.
_CHECKED_AT_ONCE = 32


class LossesOfEpoch:
    """Keeps the batches' losses on the device until they are needed.

    Args:
        epoch: its number, for the message.
        sums: whether a loss is a sum over its batch, not a mean.
    """

    def __init__(self, epoch: int, sums: bool):
        self.epoch, self.sums = epoch, sums
        self._losses: list[torch.Tensor] = []
        self._ids: list[torch.Tensor] = []
        self._checked = 0

    def append(self, loss: torch.Tensor, ids: torch.Tensor) -> None:
        """Takes a batch's loss, a scalar, and the ImageIDs (B,) of its images.

        Raises:
            HilumError: a loss was NaN or infinite; the batch's ImageIDs are named.
        """
        self._losses.append(loss.detach())
        self._ids.append(ids)
        if loss.device.type == "cpu" or len(self._losses) - self._checked >= _CHECKED_AT_ONCE:
            self._check()

    def take(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """All losses with their ids, on the CPU; none is left here."""
        self._check()
        taken = [(loss.cpu(), ids.cpu()) for loss, ids in zip(self._losses, self._ids, strict=True)]
        self.replace([])
        return taken

    def replace(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Has these losses and ids instead of its own."""
        self._losses, self._ids = [loss for loss, _ in batches], [ids for _, ids in batches]
        self._checked = len(batches)

    def per_image(self) -> float:
        """The epoch's mean: over images of the batches' means, or the sum per image.

        Raises:
            HilumError: as `append`.
        """
        self._check()
        losses = torch.stack(self._losses).double().cpu()
        sizes = torch.tensor([len(ids) for ids in self._ids], dtype=torch.float64)
        return float((losses.sum() if self.sums else losses @ sizes) / sizes.sum())

    def _check(self) -> None:
        new = self._losses[self._checked :]
        if not new:
            return
        finite = torch.isfinite(torch.stack(new))
        if not finite.all():
            batch = self._checked + int((~finite).nonzero()[0])
            raise HilumError(
                f"Epoch {self.epoch}: the loss of batch {batch + 1} is {self._losses[batch].item()}; its ImageIDs are "
                f"{', '.join(map(str, self._ids[batch].tolist()))}. Lower the learning rate, or look at these images."
            )
        self._checked = len(self._losses)


#: A batch, what the network gave for it, and its loss.
Done = tuple[Batch, torch.Tensor, torch.Tensor]


class TrainingLoop:
    """Trains a network for a number of epochs and hands every batch's outputs to a Metrics object.

    Args:
        device: where to train: "cpu", "cuda", "cuda:1" or a torch.device; or a Fabric, for another
            precision or several devices (see `hilum.training.distributed.make_fabric`).
        net: gives raw logits of shape (B, targets) for the loader's images.
        optimizer: of the network's parameters.
        criterion: (outputs, labels) → scalar loss, mean or sum over the batch by its `reduction`. If the
            outputs are not one logit per target, its `target_logits(outputs)` makes them so; if its mean
            is not over images, its `weight(labels)` says over how many terms; its `after_step()`, if it
            has one, is called after each step.
        metrics: collects ids and logits; its targets are the labels' columns.
        seed: of what the network draws while training (dropout).
        schedule: of the learning rate; None leaves it as it is.
        accumulate_batches: so many batches make one step of the optimizer.
        clip_norm: largest L2 norm of a step's gradient; None does not clip.
        average: of the weights; validates in place of `net`. None for none.
        memory: what to do when a batch does not fit into the device's memory; None raises.
        frozen: modules whose parameters do not learn in the first `frozen_epochs` epochs.
        frozen_epochs: how many these are.
        on_batch: called after each batch with the part ("train" or "val") and the number of images.
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
        memory: MemoryKeeper | None = None,
        frozen: Sequence[nn.Module] = (),
        frozen_epochs: int = 0,
        on_batch: Callable[[str, int], None] | None = None,
    ):
        self.fabric = device if isinstance(device, Fabric) else make_fabric(torch.device(device))
        self.net, self.optimizer = self.fabric.setup(net, optimizer)
        learns = any(parameter.requires_grad for parameter in criterion.parameters())
        self.criterion = self.fabric.setup_module(criterion) if learns else self.fabric.to_device(criterion)
        # Without the exchange between devices, which validate different numbers of batches.
        self.judged_by = self.criterion.module if learns else self.criterion
        # A loss with more outputs than targets says which logit stands for a target.
        self.target_logits = getattr(criterion, "target_logits", lambda outputs: outputs)
        # How many terms a batch's mean loss is over: known labels, or else images.
        self.weight = getattr(criterion, "weight", lambda labels: torch.ones_like(labels[:, 0]).sum())
        self.sums = getattr(criterion, "reduction", "mean") == "sum"
        self.after_step = getattr(criterion, "after_step", lambda: None)
        self.metrics = metrics
        self.seed = seed
        self.schedule = schedule
        self.accumulate_batches = accumulate_batches
        self.clip_norm = clip_norm
        self.average = None if average is None else average.to(self.fabric.device)
        self.memory = memory or MemoryKeeper()
        self.frozen, self.frozen_epochs = frozen, frozen_epochs
        self.on_batch = on_batch or (lambda part, images: None)

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
            num_epochs: passes over the training images.
            train_loader: dictionaries of `id`, `img` and `labels`.
            val_loader: the same, for the images that validate.
            on_epoch_end: called with the epoch's number once both parts are scored; if it gives true,
                this epoch is the last.
            first_epoch: where to begin, after those that a run taken up again has behind it.

        Raises:
            HilumError: an image cannot be read, the loss is no longer finite, or a batch does not fit
                into memory.
        """
        for epoch in range(first_epoch, num_epochs + 1):
            self.train_epoch(epoch, train_loader)
            val_loss = self.validate_epoch(epoch, val_loader)
            if self.schedule:
                self.schedule.after_epoch(val_loss)
            if on_epoch_end and on_epoch_end(epoch):
                break
        return self.metrics

    @property
    def learning_rate(self) -> float:
        """Of the next step, of the parameters nearest to the logits."""
        return self.schedule.learning_rate if self.schedule else self.optimizer.param_groups[0]["lr"]

    @property
    def kept_net(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights if there is one, else itself."""
        return self.average.net if self.average else self.net.module

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on beside the weights of `kept_net`.

        What is drawn depends on seed and epoch alone, so no generator's state is among it.
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
        """Goes on where `state` was taken; the weights of `kept_net` must have been loaded."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.criterion.load_state_dict(state["criterion"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.net.module.load_state_dict(state["weights"])
            self.average.steps = state["averaged_steps"]

    def train_epoch(self, epoch: int, loader: DataLoader) -> float:
        """One pass over the training images; its mean loss per image."""
        # Dropout draws from the global generator; this makes its draws a function of seed and epoch.
        torch.manual_seed(derived_seed(self.seed, "dropout", epoch, self.fabric.global_rank))
        self._set_training_mode(epoch)
        losses = LossesOfEpoch(epoch, self.sums)
        arriving = self._batches(loader, epoch)
        while batches := list(islice(arriving, self.accumulate_batches)):
            for batch, outputs, loss in self.memory.fitting(self.net, batches, self._step):
                self.metrics.append_epoch_batch_data(batch["id"], self.target_logits(outputs))
                losses.append(loss, batch["id"])
                self.on_batch("train", len(batch["id"]))
        return self._close(epoch, losses)

    def _step(self, pieces: list[Batch]) -> list[Done]:
        """Learns from some batches, or pieces of one, in one step: each with its outputs and its loss."""
        weights = [self.weight(piece["labels"]) for piece in pieces]
        total = self._over_devices(sum(weights)).clamp(min=1)
        done = []
        self.optimizer.zero_grad()
        for piece, weight in zip(pieces, weights, strict=True):
            with self.fabric.no_backward_sync(self.net, enabled=len(done) + 1 < len(pieces)):
                outputs = self.net(piece["img"])
                loss = self.criterion(outputs, piece["labels"])
                # Devices average their gradients, so that a share of the mean is taken times their number.
                share = self.fabric.world_size * (1 if self.sums else weight / total)
                self.fabric.backward(loss * share)
            done.append((piece, outputs.detach(), loss.detach()))
        if self.clip_norm:
            self.fabric.clip_gradients(
                self.net, self.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.after_step()
        if self.schedule:
            self.schedule.after_step()
        if self.average:
            self.average.update(self.net.module)
        return done

    @torch.no_grad()
    def validate_epoch(self, epoch: int, loader: DataLoader) -> float:
        """One pass over the validation images, without learning from them; its mean loss per image."""
        net = self._validated_net().eval()
        losses = LossesOfEpoch(epoch, self.sums)
        for whole in self._batches(loader, epoch):
            for batch, outputs, loss in self.memory.fitting(
                net, [whole], lambda pieces: self._judge(net, pieces)
            ):
                self.metrics.append_epoch_batch_data(
                    batch["id"], self.target_logits(outputs), is_validation=True
                )
                losses.append(loss, batch["id"])
                self.on_batch("val", len(batch["id"]))
        return self._close(epoch, losses, is_validation=True)

    def _judge(self, net: nn.Module, pieces: list[Batch]) -> list[Done]:
        """Each batch with its outputs and its loss."""
        done = []
        for piece in pieces:
            with self.fabric.autocast():
                outputs = net(piece["img"])
            outputs = outputs.float()
            done.append((piece, outputs, self.judged_by(outputs, piece["labels"])))
        return done

    def _set_training_mode(self, epoch: int) -> None:
        self.net.train()
        still = epoch <= self.frozen_epochs
        for module in self.frozen:
            # Its running statistics stay as they are, too: they belong to its weights.
            module.train(not still)
            module.requires_grad_(not still)

    def _validated_net(self) -> nn.Module:
        """The network that validation judges: what is kept as the epoch's model."""
        several = self.fabric.world_size > 1
        net = self.kept_net if several or self.average else self.net
        if several:
            # Each device validates batches of its own, without a word to the others until the end.
            share_buffers(net)
        return net

    def _batches(self, loader: DataLoader, epoch: int) -> Iterator[Batch]:
        """The loader's batches of this epoch, on the device."""
        if hasattr(loader.batch_sampler, "set_epoch"):
            loader.batch_sampler.set_epoch(epoch)
        try:
            for batch in loader:
                yield self.fabric.to_device(batch)
        except HilumError as error:
            raise without_worker_traceback(error) from None

    def _over_devices(self, value: torch.Tensor) -> torch.Tensor:
        return self.fabric.all_reduce(value, reduce_op="sum") if self.fabric.world_size > 1 else value

    def _close(self, epoch: int, losses: LossesOfEpoch, is_validation: bool = False) -> float:
        """Scores the epoch, on all images of all devices; its mean loss per image."""
        if self.fabric.world_size > 1:
            for ids, outputs in gathered(self.metrics.take_pending(is_validation)):
                self.metrics.append_epoch_batch_data(ids, outputs, is_validation)
            losses.replace(gathered(losses.take()))
        loss = losses.per_image()
        self.metrics.close_epoch(epoch, is_validation, loss)
        return loss
