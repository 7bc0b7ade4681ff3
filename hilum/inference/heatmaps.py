"""Heatmaps: where in an image a network saw a finding, and the pointing game, which measures them.

The methods were chosen by the pointing game on a phantom's masks (docs/reading.md has the results):

"integrated-gradients", the default (Sundararajan et al. 2017, arXiv 1703.01365): what each pixel adds to the logit
between a baseline and the image, at the image's own resolution. A pixel that equals the baseline cannot count, so the
baselines depend on the finding. Most findings are whiter than what they hide (fluid, tissue): their baselines are a
black image, and the image with everything whiter than the average chest reduced to it. For radiolucent ones (air) they
are a white image, and the image with everything darker raised to it. Both maps are smoothed; the heatmap is high where
both are positive (their geometric mean).

"grad-cam" (Selvaraju et al. 2017, arXiv 1610.02391), at the deepest layer with at least 7 x 7 cells: at 64 pixels
the last layer of a ResNet has 2 x 2, too few to locate anything. Cell j of a layer of stride s is over pixel j s,
where its convolutions are centred; stretching the map over the image would move it by half a cell.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import binomtest
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.files import write_json
from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS
from hilum.inference._metadata import image_paths
from hilum.inference.overlay import fit_to_image
from hilum.inference.quality_checks import average_chest, resize_to_model
from hilum.inference.reader import OcclusionCheck, open_run
from hilum.metrics.predictions import Predictions
from hilum.phantom.dataset import mask_path
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray
from hilum.targets import RADIOLUCENT, canonical_target

#: Steps between each baseline and the image (Captum's default of 50 takes six times as long).
_STEPS = 8

#: Standard deviation of the smoothing, as a share of the image's width.
_SMOOTHING = 0.07

#: Fewest cells per side of the layer for Grad-CAM: the last layer of a ResNet has them at 224 pixels.
_CELLS = 7

#: Side of the square that the occlusion check hides, as a share of the image's.
_HIDDEN = 0.25

#: The pointing game's findings: those that are in one place.
FINDINGS = ("Pleural_Effusion", "Cardiomegaly", "Consolidation", "Pneumothorax")

#: Zhang et al.'s tolerance, 15 pixels of about 500, as a share of the image's width.
TOLERANCE = 15 / 500

#: The result of `write_pointing_game`, in the run's folder.
RESULT = Path("heatmaps") / "pointing.json"


class Heatmaps:
    """Makes heatmaps of one model.

    Args:
        model: uint8 images (B, 1, height, width) to logits (B, targets), in evaluation mode.
        targets: their names; those of `hilum.targets.RADIOLUCENT` are radiolucent.
        reference: of the training images, see `hilum.inference.quality_checks`; None leaves out the average chest.

    Raises:
        HilumError: Captum is not installed.
    """

    def __init__(self, model: nn.Module, targets: Sequence[str], reference: dict[str, Any] | None = None):
        try:
            from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
        except ImportError:
            raise HilumError("Heatmaps need Captum: pip install 'hilum[heatmaps]'.") from None
        self.model = model
        self._radiolucent = [canonical_target(name) in RADIOLUCENT for name in targets]
        self._mean_image = None if reference is None else reference["mean_image"]
        self._device = next(model.parameters()).device
        self._gradients, self._occlusion = IntegratedGradients(model), Occlusion(model)
        self._grad_cam = LayerGradCam
        self._layer: nn.Module | None = None

    def __call__(self, pixels: np.ndarray, target: int, method: str = DEFAULT_METHOD) -> np.ndarray:
        """The heatmap of one image.

        Args:
            pixels: uint8 (height, width), at the model's size.
            target: its index.
            method: one of `HEATMAP_METHODS`.

        Returns:
            float32 (height, width), 0 to 1; all 0 if nothing is evidence for the finding.

        Raises:
            HilumError: another method, or a network without a layer that Grad-CAM could use.
        """
        if method not in HEATMAP_METHODS:
            problem = f"method is {method!r}.{nearest(method, HEATMAP_METHODS)}"
            raise HilumError(f"{problem} Known: {', '.join(HEATMAP_METHODS)}.")
        heatmap = (self._cam if method == "grad-cam" else self._integrate)(pixels, target)
        top = heatmap.max()
        if not top > 0:
            return np.zeros_like(pixels, np.float32)
        return np.clip(heatmap / top, 0, 1).astype(np.float32)

    def occlusion_check(self, pixels: np.ndarray, target: int, heatmap: np.ndarray) -> OcclusionCheck:
        """Whether the model needs what a heatmap shows; pixels and target are those of the heatmap."""
        height, width = pixels.shape
        rows, columns = max(1, round(height * _HIDDEN)), max(1, round(width * _HIDDEN))
        gray = float(pixels.mean())
        images = self._tensor(pixels)
        row, column = np.unravel_index(np.argmax(heatmap), heatmap.shape)
        top = int(np.clip(row - rows // 2, 0, height - rows))
        left = int(np.clip(column - columns // 2, 0, width - columns))
        hidden = images.clone()
        hidden[..., top : top + rows, left : left + columns] = gray
        with torch.inference_mode():
            logits = self.model(torch.cat([images, hidden]))[:, target]
            # Captum gives each pixel the mean drop of the squares that cover it.
            drops = self._occlusion.attribute(
                images,
                sliding_window_shapes=(1, rows, columns),
                strides=(1, max(1, rows // 2), max(1, columns // 2)),
                baselines=gray,
                target=target,
                perturbations_per_eval=8,
            )
        whole, without = (float(value) for value in logits.sigmoid())
        drop = float(logits[0] - logits[1])
        return OcclusionCheck(whole, without, without < whole, float((drops < drop).float().mean()))

    def _tensor(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels.astype(np.float32))[None, None].to(self._device)

    def _integrate(self, pixels: np.ndarray, target: int) -> np.ndarray:
        images, maps = self._tensor(pixels), []
        for baseline in self._baselines(pixels, self._radiolucent[target]):
            start = self._tensor(baseline)
            found = self._gradients.attribute(images, start, target=target, n_steps=_STEPS)
            added = found[0, 0].detach().cpu().numpy().astype(np.float32)
            maps.append(np.clip(cv2.GaussianBlur(added, (0, 0), _SMOOTHING * pixels.shape[1]), 0, None))
        return np.prod(maps, axis=0) ** (1 / len(maps))

    def _baselines(self, pixels: np.ndarray, radiolucent: bool) -> list[np.ndarray]:
        """float32 (height, width) each: the image without what could be the finding."""
        image = pixels.astype(np.float32)
        baselines = [np.full_like(image, 255 if radiolucent else 0)]
        if self._mean_image is not None:
            average = average_chest(pixels, self._mean_image)
            baselines.append(np.maximum(image, average) if radiolucent else np.minimum(image, average))
        return baselines

    def _cam(self, pixels: np.ndarray, target: int) -> np.ndarray:
        images = self._tensor(pixels)
        if self._layer is None:
            self._layer = fine_layer(self.model, images)
        grad_cam = self._grad_cam(self.model, self._layer)
        cells = grad_cam.attribute(images, target=target, relu_attributions=True)
        return over_image(cells[0, 0].detach().cpu().numpy(), pixels.shape)


def over_image(cells: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A map of cells, float32 (rows, columns), at an image's size (height, width): cell j over pixel j s."""
    pairs = zip(size, cells.shape, strict=True)
    rows, columns = (np.arange(pixels, dtype=np.float32) * count / pixels for pixels, count in pairs)
    x, y = np.meshgrid(columns, rows)
    return cv2.remap(cells.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def fine_layer(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """The last module in the forward pass whose output has at least 7 x 7 cells; else the last spatial one.

    Raises:
        HilumError: no module returns feature maps.
    """
    seen: list[tuple[nn.Module, int]] = []

    def record(module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[-2:]) > 1:
            seen.append((module, min(output.shape[-2:])))

    hooks = [module.register_forward_hook(record) for module in model.modules() if module is not model]
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


@dataclass(frozen=True)
class PointingGame:
    """The pointing game of one finding: how often the heatmap's maximum is inside the drawn finding.

    Zhang et al. 2018, "Top-down neural attention by excitation backprop", arXiv 1608.00507, who count a maximum within
    15 pixels as a hit; here it is counted separately. Only true positives count.

    Attributes:
        target: the finding.
        games: true positives of the validation part with a mask.
        hits: those whose maximum is inside the finding.
        near: those whose maximum is inside, or at most `TOLERANCE` of the image's width away.
        share, low, high: hits / games and its 95 % interval (Wilson); None without games.
        chance: mean share of the image that the finding covers: the hit rate of a random point.
    """

    target: str
    games: int
    hits: int
    near: int
    share: float | None
    low: float | None
    high: float | None
    chance: float | None


def pointing_game(
    folder: RunFolder, method: str = DEFAULT_METHOD, most: int | None = None
) -> list[PointingGame]:
    """The pointing game with a run's best epoch, on its validation part, at its frozen thresholds.

    Args:
        folder: of a run on a phantom.
        method: of the heatmaps, one of `hilum.inference.HEATMAP_METHODS`.
        most: true positives per finding, the first in the order of the images; None for all.

    Returns:
        One per finding of `FINDINGS` that is a target of the run.

    Raises:
        HilumError: the run's images have no masks, or no epoch is finished.
    """
    name, root = (folder.record["catalog"].get(key) for key in ("name", "image_root"))
    if name != "phantom" or not isinstance(root, str) or not (Path(root) / "masks").is_dir():
        raise HilumError(
            f"{folder.path}: the pointing game needs a phantom with masks; the run's images are {name}, at {root}."
        )
    predictions, catalog = Predictions.from_run(folder), folder.images().set_index("ImageID")
    reader = open_run(folder.path, device="cpu")
    heatmaps, preprocessing = reader.explainer(), reader.metadata["preprocessing"]
    games = []
    for target in (name for name in FINDINGS if name in folder.targets):
        column = folder.targets.index(target)
        true_positives = (predictions.y_true[:, column] == 1) & predictions.predicted[:, column]
        paths = catalog.loc[predictions.image_ids[true_positives], "Image_Path"]
        distances: list[float] = []
        areas: list[float] = []
        for path, file in zip(paths, image_paths(paths, root), strict=True):
            mask = cv2.imread(str(mask_path(root, path, target)), cv2.IMREAD_GRAYSCALE)
            if mask is None or not mask.any():
                continue
            if len(distances) == most:
                break
            pixels = resize_to_model(read_gray(file), preprocessing)
            heatmap = heatmaps(pixels, column, method)
            distances.append(distance_to(mask, fit_to_image(heatmap, mask.shape, preprocessing["fit"])))
            areas.append(float((mask > 0).mean()))
        games.append(_summarize(target, distances, areas))
    return games


def distance_to(mask: np.ndarray, heatmap: np.ndarray) -> float:
    """The distance of a heatmap's maximum from a mask of the same image, as a share of the mask's width.

    The mask, uint8 (rows, columns), is not 0 in the finding, which is not empty. The heatmap, float32 (height, width),
    may have another size. The distance is 0 inside the finding, and infinite for a heatmap of zeros.
    """
    if not heatmap.max() > 0:
        return float("inf")
    row, column = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    place = (
        int((row + 0.5) * mask.shape[0] / heatmap.shape[0]),
        int((column + 0.5) * mask.shape[1] / heatmap.shape[1]),
    )
    outside = (mask == 0).astype(np.uint8)
    return float(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[place]) / mask.shape[1]


def write_pointing_game(folder: RunFolder, **options: Any) -> dict[str, Any]:
    """Runs `pointing_game` with these options and writes the result to the run's folder, for the report."""
    games = pointing_game(folder, **options)
    result = {
        "method": options.get("method", DEFAULT_METHOD),
        "epoch": folder.best_epoch,
        "digest": folder.record.get("digest"),
        "findings": [asdict(game) for game in games],
    }
    write_json(folder.path / RESULT, result)
    return result


def _summarize(target: str, distances: list[float], areas: list[float]) -> PointingGame:
    if not distances:
        return PointingGame(target, 0, 0, 0, None, None, None, None)
    count, hits = len(distances), sum(distance == 0 for distance in distances)
    near = sum(distance <= TOLERANCE for distance in distances)
    interval = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    low, high = float(interval.low), float(interval.high)
    return PointingGame(target, count, hits, near, hits / count, low, high, float(np.mean(areas)))
