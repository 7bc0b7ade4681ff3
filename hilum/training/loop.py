"""The training loop."""

from collections.abc import Callable, Iterator

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.randomness import derived_seed


class TrainingLoop:
    """Trains a network for a number of epochs and hands every batch's outputs to a Metrics object.

    Args:
        device: where to train: "cpu", "cuda", "cuda:1" or a torch.device.
        net: gives raw logits of shape (B, targets) for the loader's images.
        optimizer: of the network's parameters.
        criterion: (outputs, labels) → scalar loss, mean or sum over the batch by its `reduction`. If the
            outputs are not one logit per target, its `target_logits(outputs)` makes them so.
        metrics: collects ids and logits; its targets are the labels' columns.
        seed: of what the network draws while training (dropout).
        on_batch: called after each batch with the part ("train" or "val") and the number of images.
    """

    def __init__(
        self,
        device: str | torch.device,
        net: nn.Module,
        optimizer: Optimizer,
        criterion: nn.Module,
        metrics: Metrics,
        *,
        seed: int = 0,
        on_batch: Callable[[str, int], None] | None = None,
    ):
        device = torch.device(device)
        self.fabric = Fabric(
            accelerator=device.type, devices=[device.index or 0] if device.type == "cuda" else 1
        )
        self.net, self.optimizer = self.fabric.setup(net, optimizer)
        self.criterion = self.fabric.to_device(criterion)
        # A loss with more outputs than targets says which logit stands for a target.
        self.target_logits = getattr(criterion, "target_logits", lambda outputs: outputs)
        self.metrics = metrics
        self.seed = seed
        self.on_batch = on_batch or (lambda part, images: None)

    def train(
        self,
        num_epochs: int,
        train_loader: DataLoader,
        val_loader: DataLoader,
        *,
        on_epoch_end: Callable[[int], None] | None = None,
        first_epoch: int = 1,
    ) -> Metrics:
        """Trains and validates, epoch by epoch, counted from 1.

        Args:
            num_epochs: passes over the training images.
            train_loader: dictionaries of `id`, `img` and `labels`.
            val_loader: the same, for the images that validate.
            on_epoch_end: called with the epoch's number once both parts are scored.
            first_epoch: where to begin, after those that a run taken up again has behind it.

        Raises:
            HilumError: an image cannot be read, or the loss is no longer finite.
        """
        for epoch in range(first_epoch, num_epochs + 1):
            self.train_epoch(epoch, train_loader)
            self.validate_epoch(epoch, val_loader)
            if on_epoch_end:
                on_epoch_end(epoch)
        return self.metrics

    def train_epoch(self, epoch: int, loader: DataLoader) -> None:
        """One pass over the training images, with a step of the optimizer after each batch."""
        # Dropout draws from the global generator; this makes its draws a function of seed and epoch.
        torch.manual_seed(derived_seed(self.seed, "dropout", epoch))
        losses = _LossSum(self.criterion)
        self.net.train()
        for batch in self._batches(loader, epoch):
            ids, images, labels = batch["id"], batch["img"], batch["labels"]
            self.optimizer.zero_grad()
            outputs = self.net(images)
            loss = self.criterion(outputs, labels)
            self.fabric.backward(loss)
            self.optimizer.step()
            self.metrics.append_epoch_batch_data(ids, self.target_logits(outputs))
            losses.append(loss, ids)
            self.on_batch("train", len(ids))
        self.metrics.close_epoch(epoch, loss=losses.per_image(epoch))

    @torch.no_grad()
    def validate_epoch(self, epoch: int, loader: DataLoader) -> None:
        """One pass over the validation images, without learning from them."""
        losses = _LossSum(self.criterion)
        self.net.eval()
        for batch in self._batches(loader, epoch):
            ids, images, labels = batch["id"], batch["img"], batch["labels"]
            outputs = self.net(images)
            self.metrics.append_epoch_batch_data(ids, self.target_logits(outputs), is_validation=True)
            losses.append(self.criterion(outputs, labels), ids)
            self.on_batch("val", len(ids))
        self.metrics.close_epoch(epoch, is_validation=True, loss=losses.per_image(epoch))

    def _batches(self, loader: DataLoader, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        """The loader's batches of this epoch, on the device."""
        if hasattr(loader.batch_sampler, "set_epoch"):
            loader.batch_sampler.set_epoch(epoch)
        try:
            for batch in loader:
                yield self.fabric.to_device(batch)
        except HilumError as error:
            # A loader's worker wraps the message in its own traceback; the user needs the message.
            raise HilumError(str(error).rpartition("hilum.errors.HilumError: ")[2].strip()) from None


class _LossSum:
    """The losses of an epoch, left on the device until its end: reading one would wait for the device."""

    def __init__(self, criterion: nn.Module):
        self.sums = getattr(criterion, "reduction", "mean") == "sum"
        self.losses: list[torch.Tensor] = []
        self.ids: list[torch.Tensor] = []

    def append(self, loss: torch.Tensor, ids: torch.Tensor) -> None:
        self.losses.append(loss.detach())
        self.ids.append(ids)

    def per_image(self, epoch: int) -> float:
        """The epoch's mean: over images of the batches' means, or the sum per image.

        Raises:
            HilumError: a batch's loss is NaN or infinite; its ids are named.
        """
        losses = torch.stack(self.losses).double().cpu()
        finite = torch.isfinite(losses)
        if not finite.all():
            batch = int((~finite).nonzero()[0])
            raise HilumError(
                f"Epoch {epoch}: the loss of batch {batch + 1} is {losses[batch].item()}; its ImageIDs are "
                f"{', '.join(map(str, self.ids[batch].tolist()))}. Lower the learning rate, or look at these images."
            )
        sizes = torch.tensor([len(ids) for ids in self.ids], dtype=torch.float64)
        return float((losses.sum() if self.sums else losses @ sizes) / sizes.sum())
