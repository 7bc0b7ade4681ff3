"""Whether heatmaps point at what is there: the pointing game, on a phantom's masks.

A heatmap wins if its maximum lies inside the drawn finding (Zhang et al. 2018, "Top-down neural attention by
excitation backprop", arXiv 1608.00507). Their tolerance of 15 pixels, for photographs of some 500, is counted apart.
Only true positives play: where the model missed a finding, or there is none, there is nothing to point at.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hilum.data.resize import resize
from hilum.errors import HilumError
from hilum.files import write_json
from hilum.inference import DEFAULT_METHOD
from hilum.inference.metadata import located
from hilum.inference.overlay import heat_on_film
from hilum.inference.reader import open_run
from hilum.phantom.dataset import mask_path
from hilum.report.validation import best_validation
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray

#: The findings that show in one place, so that there is something to point at.
FINDINGS = ("Pleural_Effusion", "Cardiomegaly", "Consolidation", "Pneumothorax")

#: Zhang et al.'s tolerance, as a share of the image's width.
NEAR = 15 / 500

#: Where `write_pointing` leaves its result, below the run's folder.
RESULT = Path("heatmaps") / "pointing.json"


@dataclass(frozen=True)
class Pointing:
    """One finding's games.

    Attributes:
        target: the finding.
        games: true positives of the validation part that have a mask.
        hits: of these, where the maximum lies inside the finding.
        near: where it lies inside, or at most `NEAR` of the image's width away.
        share: hits / games; None without games.
        low: of its 95 % interval (Wilson), as `high`.
        high: see `low`.
        chance: mean share of the image that the finding covers: what a random point would hit.
    """

    target: str
    games: int
    hits: int
    near: int
    share: float | None
    low: float | None
    high: float | None
    chance: float | None


def has_masks(folder: RunFolder) -> bool:
    """Whether the run's images are a phantom with masks that is within reach."""
    root = folder.record["catalog"].get("image_root")
    return (
        folder.record["catalog"]["name"] == "phantom"
        and isinstance(root, str)
        and (Path(root) / "masks").is_dir()
    )


def pointing_game(
    folder: RunFolder,
    *,
    findings: Sequence[str] = FINDINGS,
    method: str = DEFAULT_METHOD,
    most: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Pointing]:
    """Plays it with the best epoch of a run, on its validation part, at its frozen thresholds.

    Args:
        folder: of a run on a phantom.
        findings: those that the run has no target of are left out.
        method: of the heatmaps, one of `hilum.inference.HEATMAP_METHODS`.
        most: games per finding at most; the first in the order of the images.
        progress: called after each game with 1.

    Raises:
        HilumError: the run's images have no masks, or no epoch has ended.
    """
    if not has_masks(folder):
        raise HilumError(
            f"{folder.path}: the pointing game needs a phantom with masks; the run's images are "
            f"{folder.record['catalog']['name']}, at {folder.record['catalog'].get('image_root')}."
        )
    root, settings = folder.record["catalog"]["image_root"], folder.settings
    validation = best_validation(folder)
    heatmaps = open_run(folder.path, device="cpu").explainer()
    played = []
    for target in findings:
        if target not in folder.targets:
            continue
        positive = (validation.labels[target] == 1) & validation.predicted[target]
        paths = validation.images.loc[positive, "Image_Path"]
        distances, areas = [], []
        for path, file in zip(paths, located(paths, root), strict=True):
            mask = cv2.imread(str(mask_path(root, path, target)), cv2.IMREAD_GRAYSCALE)
            if mask is None or not mask.any():
                continue
            if len(distances) == most:
                break
            prepared = resize(
                read_gray(file),
                settings["image_width"],
                settings["image_height"],
                settings["fit"],
                settings["interpolation"],
            )
            heat = heatmaps(prepared, folder.targets.index(target), method)
            distances.append(distance_to(mask, heat_on_film(heat, mask.shape, settings["fit"])))
            areas.append(float((mask > 0).mean()))
            if progress:
                progress(1)
        played.append(_summary(target, distances, areas))
    return played


def distance_to(mask: np.ndarray, heat: np.ndarray) -> float:
    """How far the maximum of a heatmap is from a mask of the same picture, whatever the size of each.

    Args:
        mask: uint8 (rows, columns), not 0 in the finding; some of it is.
        heat: float32 (height, width).

    Returns:
        Share of the mask's width; 0 inside, infinite for a heatmap without heat.
    """
    if not heat.max() > 0:
        return float("inf")
    row, column = np.unravel_index(np.argmax(heat), heat.shape)
    place = (
        int((row + 0.5) * mask.shape[0] / heat.shape[0]),
        int((column + 0.5) * mask.shape[1] / heat.shape[1]),
    )
    outside = (mask == 0).astype(np.uint8)
    return float(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[place]) / mask.shape[1]


def write_pointing(folder: RunFolder, **options: Any) -> dict[str, Any]:
    """Plays the game and leaves the result in the run's folder, where the report finds it.

    Args:
        folder: of a run on a phantom.
        options: of `pointing_game`.
    """
    played = pointing_game(folder, **options)
    result = {
        "method": options.get("method", DEFAULT_METHOD),
        "epoch": folder.best_epoch,
        "digest": folder.record.get("digest"),
        "findings": [asdict(pointing) for pointing in played],
    }
    write_json(folder.path / RESULT, result)
    return result


def _summary(target: str, distances: list[float], areas: list[float]) -> Pointing:
    games, won = len(distances), sum(distance == 0 for distance in distances)
    near = sum(distance <= NEAR for distance in distances)
    if not games:
        return Pointing(target, 0, 0, 0, None, None, None, None)
    share, z = won / games, 1.959964
    middle = (share + z**2 / (2 * games)) / (1 + z**2 / games)
    half = z * np.sqrt(share * (1 - share) / games + z**2 / (4 * games**2)) / (1 + z**2 / games)
    low, high = float(max(middle - half, 0)), float(min(middle + half, 1))
    return Pointing(target, games, won, near, share, low, high, float(np.mean(areas)))
