"""Where in an image a network saw a finding."""

import cv2
import numpy as np
import torch
from torch import nn

from hilum.errors import HilumError, nearest

#: Grad-CAM: Selvaraju et al. 2017, arXiv 1610.02391.
METHODS = ("grad-cam",)


class Heatmaps:
    """Makes heatmaps of one model.

    Args:
        model: uint8 images (B, 1, height, width) to logits (B, targets), in evaluation mode.

    Raises:
        HilumError: Captum is not installed.
    """

    def __init__(self, model: nn.Module):
        try:
            from captum.attr import LayerGradCam
        except ImportError:
            raise HilumError("Heatmaps need Captum: pip install 'hilum[heatmaps]'.") from None
        self.model = model
        self._cam = LayerGradCam(model, _last_spatial_layer(model))

    def __call__(self, prepared: np.ndarray, target: int, method: str = "grad-cam") -> np.ndarray:
        """One image's heatmap.

        Args:
            prepared: uint8 (height, width), at the model's size.
            target: its place.
            method: one of `METHODS`.

        Returns:
            float32 (height, width), 0 to 1; all 0 if nothing speaks for the finding.

        Raises:
            HilumError: another method.
        """
        if method not in METHODS:
            raise HilumError(f"method is {method!r}.{nearest(method, METHODS)} Known: {', '.join(METHODS)}.")
        device = next(self.model.parameters()).device
        images = torch.from_numpy(prepared)[None, None].to(device)
        heat = self._cam.attribute(images, target=target, relu_attributions=True)[0, 0]
        height, width = prepared.shape
        heat = cv2.resize(heat.detach().cpu().numpy(), (width, height), interpolation=cv2.INTER_CUBIC)
        top = heat.max()
        return np.clip(heat / top, 0, 1).astype(np.float32) if top > 0 else np.zeros_like(heat)


def _last_spatial_layer(model: nn.Module) -> nn.Module:
    return model.model.net.resnet.layer4
