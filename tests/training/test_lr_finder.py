"""The range test finds a learning rate for the problem, and changes nothing, bit for bit."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from hilum.config import TrainingSettings
from hilum.data.loaders import Loaders
from hilum.errors import HilumError
from hilum.models import Normalized
from hilum.plots.curves import learning_rate_figure
from hilum.training.losses import AUCMarginLoss, MaskedBCEWithLogitsLoss
from hilum.training.lr_finder import LearningRates, RangeTest
from hilum.training.optim import make_optimizer


def adam(net, criterion):
    return make_optimizer(net, criterion, TrainingSettings(learning_rate=1.0))


def sgd(net, criterion):
    return make_optimizer(net, criterion, TrainingSettings(optimizer="sgd", learning_rate=1.0, momentum=0))


def find_rate(net, criterion, batches, *, make_optimizer, seed=0, **changes) -> LearningRates:
    return RangeTest(net, criterion, batches, make_optimizer, seed=seed).run(**changes)


@pytest.fixture
def loader(own_catalog):
    loaders = Loaders(own_catalog, batch_size=8, image_width=16, image_height=16, num_workers=0, seed=4)
    return loaders.get_train_val_loaders()[0]


class Noisy(nn.Module):
    """Draws from every global generator there is, and has a buffer that training changes."""

    def __init__(self, net):
        super().__init__()
        self.net, self.norm = net, nn.BatchNorm2d(1)

    def forward(self, images):
        random.random()
        np.random.rand()  # noqa: NPY002
        return nn.functional.dropout(self.net(self.norm(images.float() / 255)), 0.2, self.training)


@pytest.fixture
def noisy(tiny_net):
    return Noisy(tiny_net)


def global_states():
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("num_workers", [0, 1])
def test_model_loss_optimizer_loader_and_generators_are_unchanged(own_catalog, noisy, num_workers):
    loader = Loaders(
        own_catalog, batch_size=8, image_width=16, image_height=16, num_workers=num_workers, seed=4
    ).get_train_val_loaders()[0]
    loader.batch_sampler.set_epoch(7)
    criterion = AUCMarginLoss(np.array([0.4, 0.5, 0.6]), ("a", "b", "c"))
    optimizer = adam(noisy, criterion)
    criterion(noisy(next(iter(loader))["img"]), torch.ones(8, 3)).backward()
    optimizer.step()
    noisy.eval()
    kept = (noisy.state_dict(), criterion.state_dict(), optimizer.state_dict()["state"])
    before, groups = copy.deepcopy(kept), copy.deepcopy(optimizer.state_dict()["param_groups"])
    gradients = [parameter.grad.clone() for parameter in noisy.parameters()]
    generator, states = loader.generator.get_state().tolist(), global_states()
    expected = list(loader)
    loader.generator.set_state(torch.tensor(generator, dtype=torch.uint8))

    find_rate(noisy, criterion, loader, make_optimizer=adam, steps=20)

    assert global_states() == states
    assert loader.generator.get_state().tolist() == generator
    assert loader.batch_sampler.epoch == 7
    for batch, same in zip(loader, expected, strict=True):
        assert all(torch.equal(batch[key], same[key]) for key in ("id", "img"))
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    assert optimizer.state_dict()["param_groups"] == groups
    for parameter, gradient in zip(noisy.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert not noisy.training


def test_they_are_unchanged_after_an_error_too(loader, noisy):
    states, epoch = global_states(), loader.batch_sampler.epoch

    def broken(outputs, labels):
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        find_rate(noisy, _Criterion(broken), loader, make_optimizer=adam, steps=20)
    assert global_states() == states
    assert loader.batch_sampler.epoch == epoch


class _Criterion(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, outputs, labels):
        return self.function(outputs, labels)


def test_it_is_repeatable_whatever_was_drawn_before(loader, noisy):
    def find(seed):
        torch.rand(3)
        criterion = MaskedBCEWithLogitsLoss()
        return find_rate(noisy, criterion, loader, make_optimizer=adam, steps=20, seed=seed).table["loss"]

    assert find(1).tolist() == find(1).tolist()
    assert find(1).tolist() != find(2).tolist()


class Slope(nn.Module):
    """One weight, far from where it should be: gradient descent diverges from a rate of 2 / curvature on."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))

    def forward(self, images):
        return self.weight.expand(len(images), 1)


BATCHES = [{"img": torch.zeros(2, 1), "labels": torch.zeros(2, 1)}]


@pytest.mark.parametrize("curvature", [1.0, 100.0])
def test_it_finds_the_rate_of_a_problem_of_known_curvature(curvature):
    criterion = _Criterion(lambda outputs, labels: curvature * (outputs - labels).square().mean() / 2)
    found = find_rate(Slope(), criterion, BATCHES, make_optimizer=sgd, lowest=1e-6, highest=1e4, steps=200)
    # After a step at rate r the weight is (1 - r curvature) times what it was.
    assert found.diverged
    assert 0.02 / curvature < found.steepest < 1 / curvature
    assert found.steepest < found.lowest_loss < 4 / curvature
    assert found.suggestion == min(found.steepest, found.lowest_loss / 10)
    assert found.table["learning_rate"].is_monotonic_increasing
    assert found.table["learning_rate"].iloc[0] == pytest.approx(1e-6)


def test_a_whole_range_without_divergence(loader, noisy):
    found = find_rate(noisy, MaskedBCEWithLogitsLoss(), loader, make_optimizer=adam, highest=0.05, steps=40)
    assert not found.diverged
    assert len(found.table) == 40
    assert found.table["learning_rate"].iloc[-1] == pytest.approx(0.05)


def test_stages_keep_their_ratios_and_the_heads_rate_is_reported(loader, tiny_net):
    seen = []

    def staged(net, criterion):
        optimizer = torch.optim.SGD(
            [{"params": [net.linear.bias], "lr": 0.1}, {"params": [net.linear.weight], "lr": 0.02}]
        )
        seen.append(optimizer)
        optimizer.register_step_pre_hook(lambda *_: seen.append([g["lr"] for g in optimizer.param_groups]))
        return optimizer

    net = tiny_net
    batches = [{"img": batch["img"].float(), "labels": batch["labels"]} for batch in loader]
    found = find_rate(net, MaskedBCEWithLogitsLoss(), batches, make_optimizer=staged, steps=20, highest=0.01)
    rates = torch.tensor(seen[1:])
    torch.testing.assert_close(rates[:, 1], rates[:, 0] / 5)
    assert found.table["learning_rate"].tolist() == pytest.approx(rates[: len(found.table), 0].tolist())


def test_a_summed_loss_is_reported_per_image(loader, tiny_net):
    def first_loss(reduction):
        return find_rate(
            Normalized(tiny_net, 0.4, 0.2),
            MaskedBCEWithLogitsLoss(reduction=reduction),
            loader,
            make_optimizer=adam,
            steps=20,
        ).table["loss"][0]

    assert first_loss("sum") == pytest.approx(3 * first_loss("mean"), rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lowest": 0.1, "highest": 0.01}, "must rise from above 0; these are from 0.1 to 0.01"),
        ({"lowest": 0}, "must rise from above 0"),
        ({"steps": 3}, "steps: 3 is too few for a curve"),
        ({"batches": []}, "There is no batch to train on"),
    ],
)
def test_an_impossible_range_is_an_error(tiny_net, changes, message):
    settings = {"batches": BATCHES, "make_optimizer": adam} | changes
    with pytest.raises(HilumError, match=message):
        find_rate(tiny_net, MaskedBCEWithLogitsLoss(), settings.pop("batches"), **settings)


def test_a_loss_that_never_decreases_is_an_error():
    criterion = _Criterion(lambda outputs, labels: outputs.mean() * 0 + 1)
    with pytest.raises(HilumError, match="The loss never decreases between learning rates of 1e-07 and 10"):
        find_rate(Slope(), criterion, BATCHES, make_optimizer=sgd)


def test_a_loss_that_is_not_finite_is_an_error():
    criterion = _Criterion(lambda outputs, labels: outputs.mean() * float("nan"))
    with pytest.raises(HilumError, match="The loss is not finite, or increases at once"):
        find_rate(Slope(), criterion, BATCHES, make_optimizer=sgd)


@pytest.fixture
def found() -> LearningRates:
    criterion = _Criterion(lambda outputs, labels: (outputs - labels).square().mean())
    return find_rate(Slope(), criterion, BATCHES, make_optimizer=sgd, lowest=1e-5, highest=1e3)


def test_the_figure_has_a_logarithmic_axis_and_marks_the_rates(found, tmp_path):
    figure = learning_rate_figure(found)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_title(loc="left") == f"Suggested learning rate: {found.suggestion:.1e}"
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert f"steepest descent, {found.steepest:.1e}" in words
    assert f"lowest loss, {found.lowest_loss:.1e}" in words
    assert any(list(line.get_xdata()) == [found.suggestion] * 2 for line in axes.lines)
    figure.savefig(tmp_path / "rates.png")


def test_settings_give_the_first_step_of_a_run(nih_tree):
    test = RangeTest.from_settings(
        {
            "source": "nih",
            "root": nih_tree,
            "image_width": 32,
            "image_height": 32,
            "batch_size": 4,
            "num_workers": 0,
            "device": "cpu",
            "optimizer": "sgd",
            "momentum": 0.5,
            "learning_rate": 0.3,
        }
    )
    optimizer = test.make_optimizer(test.net, test.criterion)
    assert type(optimizer) is torch.optim.SGD
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.3, 0.5)
    batch = next(iter(test.batches))
    with test.precision():
        assert test.net(batch["img"]).shape == batch["labels"].shape
    assert test.device.type == "cpu"
