"""Logits and labels that every loss is tried on."""

import pytest
import torch


@pytest.fixture
def logits() -> torch.Tensor:
    """float32 (9, 4), from about -12 to 12."""
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(0)) * 5


@pytest.fixture
def labels() -> torch.Tensor:
    """float32 (9, 4) of 0 and 1."""
    return (torch.rand(9, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
