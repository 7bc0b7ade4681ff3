"""Devices are dense and lie over everything."""

import pytest

from hilum.sources.phantom.devices import DEVICES


@pytest.mark.parametrize("device", DEVICES)
def test_devices_are_dense_and_only_add(paint, device):
    without, _ = paint(2, "AP")
    scene, _ = paint(2, "AP", (device,))
    added = scene.attenuation() - without.attenuation()
    assert added.min() > -1e-5
    assert added.max() > 0.4
