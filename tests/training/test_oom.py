"""Out of memory: the error states what would fit, or smaller pieces give the same result."""

import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.training._oom import OutOfMemoryRetry, pieces_of


def batch(size: int) -> dict[str, torch.Tensor]:
    return {
        "id": torch.arange(size),
        "img": torch.randn(size, 3, 2, 2, generator=torch.Generator().manual_seed(1)),
    }


class FitsOnly:
    """A step that is out of memory above this number of images; it draws, and moves the batch statistics."""

    def __init__(self, most: int, net: nn.Module, error: type[RuntimeError] = torch.OutOfMemoryError):
        self.most, self.net, self.error, self.drawn = most, net, error, None

    def __call__(self, pieces):
        drawn = torch.rand(3)
        for piece in pieces:
            self.net(piece["img"])
            if len(piece["id"]) > self.most:
                raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        self.drawn = drawn
        return [piece["id"].tolist() for piece in pieces]


@pytest.fixture
def net() -> nn.Module:
    return nn.BatchNorm2d(3)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_the_error_states_what_would_fit(net, error):
    with pytest.raises(
        HilumError, match=r"Out of memory with 64 images at once .*Try batch_size 32; or on_oom"
    ):
        OutOfMemoryRetry().run(FitsOnly(10, net, error), net, [batch(64)])


def test_the_advice_is_for_the_batch_that_all_devices_share(net):
    with pytest.raises(HilumError, match=r"Out of memory with 16 images at once .*Try batch_size 32\.$"):
        OutOfMemoryRetry(devices=4).run(FitsOnly(10, net), net, [batch(16)])


def test_halving_goes_on_until_it_fits_and_stays(net):
    halved = []
    memory = OutOfMemoryRetry(halve=True, on_halved=halved.append)
    assert memory.run(FitsOnly(2, net), net, [batch(8)]) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert halved == [2, 4]
    assert memory.run(FitsOnly(2, net), net, [batch(5)]) == [[0], [1], [2], [3, 4]]
    assert halved == [2, 4]


def test_the_tries_that_failed_leave_no_trace(net):
    torch.manual_seed(3)
    tried = FitsOnly(2, net)
    OutOfMemoryRetry(halve=True).run(tried, net, [batch(8)])
    statistics = {name: value.clone() for name, value in net.state_dict().items()}

    torch.manual_seed(3)
    other = nn.BatchNorm2d(3)
    straight = FitsOnly(2, other)
    OutOfMemoryRetry(halve=True, pieces=4).run(straight, other, [batch(8)])
    assert torch.equal(tried.drawn, straight.drawn)
    for name, value in other.state_dict().items():
        assert torch.equal(value, statistics[name]), name


def test_a_single_image_that_does_not_fit_is_an_error(net):
    with pytest.raises(HilumError, match="Out of memory with a single image at once"):
        OutOfMemoryRetry(halve=True).run(FitsOnly(0, net), net, [batch(4)])


def test_another_error_is_not_taken_for_it(net):
    def step(pieces):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        OutOfMemoryRetry(halve=True).run(step, net, [batch(4)])


@pytest.mark.parametrize(("size", "pieces", "sizes"), [(8, 1, [8]), (7, 2, [3, 4]), (3, 4, [1, 1, 1])])
def test_pieces_are_of_nearly_equal_size_and_none_is_empty(size, pieces, sizes):
    cut = pieces_of(batch(size), pieces)
    assert [len(piece["id"]) for piece in cut] == sizes
    assert torch.cat([piece["id"] for piece in cut]).tolist() == list(range(size))
