"""The loop is plain PyTorch, step for step; its errors name the images."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from hilum.data.loaders import Loaders, actual_labels
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.models import Normalized
from hilum.training.loop import Callback, EpochLoss, TrainingLoop
from hilum.training.losses.bce import MaskedBCEWithLogitsLoss


@pytest.fixture
def loaders(own_catalog):
    return Loaders(
        own_catalog, batch_size=8, image_width=16, image_height=16, num_workers=0, seed=4
    ).get_train_val_loaders()


def loop_of(net, loaders, **changes) -> TrainingLoop:
    train_loader, val_loader = loaders
    metrics = Metrics(train_loader.dataset.targets, actual_labels(train_loader), actual_labels(val_loader))
    optimizer = changes.pop("optimizer", None) or torch.optim.Adam(net.parameters(), lr=0.01)
    criterion = changes.pop("criterion", MaskedBCEWithLogitsLoss())
    return TrainingLoop("cpu", net, optimizer, criterion, metrics, **changes)


def test_two_epochs_leave_the_weights_of_a_plain_pytorch_loop_bit_for_bit(loaders, tiny_net):
    net = Normalized(tiny_net, 0.4, 0.2)
    plain = copy.deepcopy(net)
    loop_of(net, loaders).train(2, *loaders)

    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    for epoch in (1, 2):
        loaders[0].batch_sampler.set_epoch(epoch)
        for batch in loaders[0]:
            optimizer.zero_grad()
            known = ~batch["labels"].isnan()
            losses = nn.functional.binary_cross_entropy_with_logits(
                plain(batch["img"]), batch["labels"].nan_to_num(0), reduction="none"
            )
            (losses.where(known, 0).sum() / known.sum()).backward()
            optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


def test_the_metrics_get_every_image_once_an_epoch_with_the_nets_outputs(loaders, tiny_net):
    net = Normalized(tiny_net, 0.4, 0.2)
    metrics = loop_of(net, loaders).train(2, *loaders)
    for loader, history in zip(
        loaders, (metrics.train_probability_hx, metrics.val_probability_hx), strict=True
    ):
        assert list(history) == [1, 2]
        for table in history.values():
            assert table.index.tolist() == sorted(loader.dataset.ids.tolist())
    with torch.no_grad():
        expected = torch.cat([net(batch["img"]) for batch in loaders[1]]).sigmoid()
    np.testing.assert_allclose(metrics.df_val_probability, expected, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_an_epoch_is_per_image_whatever_the_sizes_of_its_batches(loaders, tiny_net, reduction):
    net = Normalized(tiny_net, 0.4, 0.2)
    metrics = loop_of(net, loaders, criterion=MaskedBCEWithLogitsLoss(reduction=reduction)).train(1, *loaders)
    criterion = MaskedBCEWithLogitsLoss(reduction=reduction)
    with torch.no_grad():
        losses = [
            (criterion(net(batch["img"]), batch["labels"]).item(), len(batch["id"])) for batch in loaders[1]
        ]
    assert len({size for _, size in losses}) > 1
    images = sum(size for _, size in losses)
    total = sum(loss * (1 if reduction == "sum" else size) for loss, size in losses)
    combined = metrics.combined.set_index("part")
    assert combined.at["val", "loss"] == pytest.approx(total / images, rel=1e-6)


class Recorder(nn.Module):
    """Records its mode, and whether gradients are on."""

    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, []

    def forward(self, images):
        self.calls.append((self.training, torch.is_grad_enabled()))
        return self.net(images.float() / 255)


def test_training_learns_in_training_mode_and_validation_in_neither(loaders, tiny_net):
    net = Recorder(tiny_net)
    loop_of(net, loaders).train(1, *loaders)
    train_batches = len(loaders[0])
    assert net.calls[:train_batches] == [(True, True)] * train_batches
    assert net.calls[train_batches:] == [(False, False)] * len(loaders[1])


class Moments(Callback):
    """Writes down the moments at which it is called; it may end the training."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def on_train_begin(self, loop):
        self.calls.append(("begin", type(loop)))

    def on_epoch_begin(self, epoch):
        self.calls.append(("epoch begin", epoch))

    def on_batch_end(self, part, images):
        self.calls.append((part, images))

    def on_epoch_end(self, epoch, metrics):
        self.calls.append(("epoch end", epoch, metrics.epochs()))
        return epoch == self.stop_after

    def on_train_end(self):
        self.calls.append(("end",))


def test_the_callbacks_come_in_order_with_their_numbers(loaders, tiny_net):
    moments = Moments()
    loop = loop_of(Normalized(tiny_net, 0.4, 0.2), loaders, callbacks=[Callback(), moments])
    loop.train(2, *loaders, on_epoch_end=lambda epoch: moments.calls.append(("function", epoch)))
    train, val = (
        [(part, len(batch["id"])) for batch in loader]
        for part, loader in zip(("train", "val"), loaders, strict=True)
    )
    first = [("epoch begin", 1), *train, *val, ("epoch end", 1, [1]), ("function", 1)]
    second = [("epoch begin", 2), *train, *val, ("epoch end", 2, [1, 2]), ("function", 2)]
    assert moments.calls == [("begin", TrainingLoop), *first, *second, ("end",)]


def test_a_callback_or_a_function_ends_the_training(loaders, tiny_net):
    moments = Moments(stop_after=2)
    loop = loop_of(Normalized(tiny_net, 0.4, 0.2), loaders, callbacks=[moments, Callback()])
    assert loop.train(5, *loaders).epochs() == [1, 2]
    assert moments.calls[-1] == ("end",)
    loop = loop_of(Normalized(tiny_net, 0.4, 0.2), loaders)
    assert loop.train(5, *loaders, on_epoch_end=lambda epoch: epoch == 3).epochs() == [1, 2, 3]


def test_both_parts_are_scored_when_the_epochs_end_is_called(loaders, tiny_net):
    loop = loop_of(Normalized(tiny_net, 0.4, 0.2), loaders)
    seen = []
    loop.train(1, *loaders, on_epoch_end=lambda epoch: seen.append(loop.metrics.combined["part"].tolist()))
    assert seen == [["train", "val"]]


class BreaksAt(nn.Module):
    """Gives infinite outputs in one batch; remembers the weights before that."""

    def __init__(self, net, batch):
        super().__init__()
        self.net, self.batch, self.seen, self.before = net, batch, 0, {}

    def forward(self, images):
        self.seen += 1
        if self.seen == self.batch:
            self.before = copy.deepcopy(self.net.state_dict())
        return self.net(images.float() / 255) * (torch.inf if self.seen == self.batch else 1)


@pytest.mark.parametrize("on_device", [False, True], ids=["read at once", "skipped on the device"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_names_its_images_and_leaves_the_weights(
    loaders, tiny_net, on_device, accumulate
):
    batches = len(loaders[0])
    net = BreaksAt(tiny_net, batches + len(loaders[1]) + 3)  # the third batch of the second epoch
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    loop = loop_of(net, loaders, optimizer=optimizer, accumulate_batches=accumulate)
    loop.skips_on_device = on_device  # as on a GPU, whose kernels skip the step as the CPU's do
    with pytest.raises(HilumError, match=r"^Epoch 2: the loss of batch 3 is (nan|inf)") as error:
        loop.train(2, *loaders)
    loaders[0].batch_sampler.set_epoch(2)
    ids = list(loaders[0])[2]["id"].tolist()
    assert f"ImageIDs are {', '.join(map(str, ids))}. Lower the learning rate" in str(error.value)
    if not on_device:  # else the training continues with these weights until the losses are read
        for name, value in tiny_net.state_dict().items():
            assert torch.equal(value, net.before[name]), name
    assert all(value.isfinite().all() for value in tiny_net.state_dict().values())


def test_a_skipped_step_leaves_weights_and_optimizer_as_they_are(loaders, tiny_net):
    net = BreaksAt(tiny_net, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    loop = loop_of(net, loaders, optimizer=optimizer)
    loop.skips_on_device = True
    states = []
    for batch in islice(loaders[0], 3):
        loop._train_step(EpochLoss(1, summed=False), [batch])
        states.append(copy.deepcopy((net.net.state_dict(), optimizer.state_dict()["state"])))
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert not torch.equal(states[2][0]["linear.weight"], states[1][0]["linear.weight"])


def test_an_optimizer_that_cannot_skip_reads_each_loss_before_its_step(loaders, tiny_net):
    net = BreaksAt(tiny_net, 2)
    loop = loop_of(net, loaders)
    assert not loop.skips_on_device
    with pytest.raises(HilumError, match="the loss of batch 2 is"):
        loop.train(1, *loaders)
    assert torch.equal(tiny_net.linear.weight, net.before["linear.weight"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_is_named_without_a_workers_traceback(small_catalog, make_tiny_net, num_workers):
    path = small_catalog.image_path(small_catalog.table.index[5])
    path.write_bytes(path.read_bytes()[:300])
    loaders = Loaders(
        small_catalog, batch_size=8, image_width=16, image_height=16, num_workers=num_workers
    ).get_train_val_loaders()
    loop = loop_of(Normalized(make_tiny_net(12), 0.4, 0.2), loaders)
    with pytest.raises(HilumError) as refusal:
        loop.train(1, *loaders)
    message = str(refusal.value)
    assert message.startswith(f"{path}: the image is truncated (300 bytes")
    assert message.endswith("Restore it from the data set.")
    assert "Traceback" not in message
    assert refusal.value.__suppress_context__


class Noisy(nn.Module):
    """Draws from the global generator, as dropout does."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return nn.functional.dropout(self.net(images.float() / 255), 0.5, self.training)


def test_what_dropout_draws_depends_on_seed_and_epoch_alone(loaders, make_tiny_net):
    def outputs(seed, disturb):
        torch.rand(disturb)
        loop = loop_of(Noisy(make_tiny_net()), loaders, seed=seed)
        return loop.train(2, *loaders).df_train_probability.to_numpy()

    np.testing.assert_array_equal(outputs(1, 3), outputs(1, 8))
    assert not np.array_equal(outputs(1, 3), outputs(2, 3))
