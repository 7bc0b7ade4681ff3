"""Where in an image a network saw a finding.

Two methods, chosen among by the pointing game on a phantom's masks (docs/reading.md has the figures):

"integrated-gradients", the default (Sundararajan et al. 2017, arXiv 1703.01365): what each pixel adds to the logit
on the way from a baseline to the image, at the image's own resolution. A pixel that is as in the baseline can never
count, so baselines are chosen for what findings look like. Most are whiter than what they hide (fluid, tissue):
their baselines are a black film, and the image with all that is whiter than the average chest brought down to it. For
radiolucent ones (air) it is the other way round: white, and what is darker brought up. Both maps are smoothed, for
and against together; hot is what speaks for the finding in both (their geometric mean).

"grad-cam" (Selvaraju et al. 2017, arXiv 1610.02391), at the deepest layer with at least 7 x 7 cells: at 64 pixels
the last layer of a ResNet has 2 x 2, which cannot point at anything. Cell j of a layer of stride s lies over pixel
j s, where its convolutions are centred; stretching the map over the image would move all of it by half a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS
from hilum.inference.intensity import average_film
from hilum.targets import RADIOLUCENT, canonical_target

#: Points on the way from each baseline (Captum's default of 50 takes six times as long).
_STEPS = 8

#: Deviation of the smoothing, as a share of the image's width.
_SMOOTHING = 0.07

#: Fewest cells a side of the layer for Grad-CAM: what the last layer of a ResNet has at 224 pixels.
_CELLS = 7

#: Side of the square that the occlusion check hides, as a share of the image's.
_HIDDEN = 0.25


@dataclass(frozen=True)
class OcclusionCheck:
    """What hiding the hottest place of a heatmap does.

    Attributes:
        probability: of the finding in the whole image.
        hidden: of the finding when a square of a quarter of the width around the hottest place is gray.
        lowers: whether it is lower then.
        stronger_than: share of such squares all over the image that lower it less, 0 to 1.
    """

    probability: float
    hidden: float
    lowers: bool
    stronger_than: float


class Heatmaps:
    """Makes heatmaps of one model.

    Args:
        model: uint8 images (B, 1, height, width) to logits (B, targets), in evaluation mode.
        targets: their names: which are radiolucent is known of those in `hilum.targets.RADIOLUCENT`.
        reference: of the training images, see `hilum.inference.intensity`; None leaves out the average chest.

    Raises:
        HilumError: Captum is not installed.
    """

    def __init__(self, model: nn.Module, targets: Sequence[str], reference: dict[str, Any] | None = None):
        try:
            from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
        except ImportError:
            raise HilumError("Heatmaps need Captum: pip install 'hilum[heatmaps]'.") from None
        self.model = model
        self._lucent = [canonical_target(name) in RADIOLUCENT for name in targets]
        self._mean_image = None if reference is None else reference["mean_image"]
        self._device = next(model.parameters()).device
        self._gradients, self._occlusion = IntegratedGradients(model), Occlusion(model)
        self._grad_cam = LayerGradCam
        self._layer: nn.Module | None = None

    def __call__(self, prepared: np.ndarray, target: int, method: str = DEFAULT_METHOD) -> np.ndarray:
        """One image's heatmap.

        Args:
            prepared: uint8 (height, width), at the model's size.
            target: its place.
            method: one of `HEATMAP_METHODS`.

        Returns:
            float32 (height, width), 0 to 1; all 0 if nothing speaks for the finding.

        Raises:
            HilumError: another method, or a network without a layer that Grad-CAM could use.
        """
        if method not in HEATMAP_METHODS:
            raise HilumError(
                f"method is {method!r}.{nearest(method, HEATMAP_METHODS)} Known: {', '.join(HEATMAP_METHODS)}."
            )
        images = torch.from_numpy(prepared.astype(np.float32))[None, None].to(self._device)
        heat = (
            self._cam(images, target) if method == "grad-cam" else self._integrated(prepared, images, target)
        )
        top = heat.max()
        return (
            np.clip(heat / top, 0, 1).astype(np.float32) if top > 0 else np.zeros_like(prepared, np.float32)
        )

    def occlusion_check(self, prepared: np.ndarray, target: int, heat: np.ndarray) -> OcclusionCheck:
        """Whether the model needs what its heatmap shows.

        Args:
            prepared: uint8 (height, width), at the model's size.
            target: its place.
            heat: float32 (height, width), of the same image.
        """
        height, width = prepared.shape
        side = max(1, round(height * _HIDDEN)), max(1, round(width * _HIDDEN))
        gray = float(prepared.mean())
        images = torch.from_numpy(prepared.astype(np.float32))[None, None].to(self._device)
        row, column = np.unravel_index(np.argmax(heat), heat.shape)
        top = int(np.clip(row - side[0] // 2, 0, height - side[0]))
        left = int(np.clip(column - side[1] // 2, 0, width - side[1]))
        hidden = images.clone()
        hidden[..., top : top + side[0], left : left + side[1]] = gray
        with torch.inference_mode():
            logits = self.model(torch.cat([images, hidden]))[:, target]
            # Captum gives each pixel the mean drop of the squares that it lies in.
            drops = self._occlusion.attribute(
                images,
                sliding_window_shapes=(1, *side),
                strides=(1, max(1, side[0] // 2), max(1, side[1] // 2)),
                baselines=gray,
                target=target,
                perturbations_per_eval=8,
            )
        whole, without = (float(value) for value in logits.sigmoid())
        drop = float(logits[0] - logits[1])
        return OcclusionCheck(whole, without, without < whole, float((drops < drop).float().mean()))

    def _integrated(self, prepared: np.ndarray, images: torch.Tensor, target: int) -> np.ndarray:
        maps = []
        for baseline in self._baselines(prepared, self._lucent[target]):
            start = torch.from_numpy(baseline)[None, None].to(self._device)
            found = self._gradients.attribute(images, start, target=target, n_steps=_STEPS)
            adds = found[0, 0].detach().cpu().numpy().astype(np.float32)
            maps.append(np.clip(cv2.GaussianBlur(adds, (0, 0), _SMOOTHING * prepared.shape[1]), 0, None))
        return np.prod(maps, axis=0) ** (1 / len(maps))

    def _baselines(self, prepared: np.ndarray, lucent: bool) -> list[np.ndarray]:
        """float32 (height, width) each: the film without what could be the finding."""
        pixels = prepared.astype(np.float32)
        baselines = [np.full_like(pixels, 255 if lucent else 0)]
        if self._mean_image is not None:
            average = average_film(prepared, self._mean_image)
            baselines.append(np.maximum(pixels, average) if lucent else np.minimum(pixels, average))
        return baselines

    def _cam(self, images: torch.Tensor, target: int) -> np.ndarray:
        if self._layer is None:
            self._layer = fine_layer(self.model, images)
        heat = self._grad_cam(self.model, self._layer).attribute(
            images, target=target, relu_attributions=True
        )
        return over_image(heat[0, 0].detach().cpu().numpy(), images.shape[-2:])


def over_image(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of cells at the image's size, cell j of stride s over pixel j s.

    Args:
        cells: float32 (rows, columns).
        size: (height, width) of the image.

    Returns:
        float32 (height, width).
    """
    places = [
        np.arange(pixels, dtype=np.float32) * count / pixels
        for pixels, count in zip(size, cells.shape, strict=True)
    ]
    columns, rows = np.meshgrid(places[1], places[0])
    return cv2.remap(
        cells.astype(np.float32), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def fine_layer(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """The last module, as the image goes through, whose output has at least 7 x 7 cells; else the last spatial one.

    Args:
        model: of any architecture.
        images: (1, 1, height, width).

    Raises:
        HilumError: no module gives feature maps.
    """
    seen: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[-2:]) > 1:
            seen.append((module, min(output.shape[-2:])))

    hooks = [module.register_forward_hook(note) for module in model.modules() if module is not model]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise HilumError("Grad-CAM needs a layer of feature maps; the network has none.")
    fine = [module for module, cells in seen if cells >= _CELLS]
    return fine[-1] if fine else seen[-1][0]
