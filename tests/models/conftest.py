"""A machine without a network, and a file of pretrained weights."""

import socket
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18


@pytest.fixture
def offline(monkeypatch, tmp_path) -> Path:
    """No name can be looked up, and the caches are empty; gives torch's cache."""

    def refuse(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture(scope="session")
def imagenet_resnet18(tmp_path_factory) -> Path:
    """A file of torchvision's ResNet-18 weights, to 1000 classes, with drawn values."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.rand(value.shape, generator=generator) * 0.1 if value.is_floating_point() else value
        for name, value in resnet18(weights=None).state_dict().items()
    }
    path = tmp_path_factory.mktemp("weights") / "resnet18-abc.pth"
    torch.save(weights, path)
    return path
