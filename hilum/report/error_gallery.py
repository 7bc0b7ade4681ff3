"""The images that a model is most wrong about: what it is surest is not there, and is."""

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.report.validation import Validation
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray

#: The longer side of a thumbnail, in pixels.
THUMBNAIL_SIDE = 200


@dataclass(frozen=True)
class HardImage:
    """One mistake.

    Attributes:
        image_id: whose.
        patient_id: whose patient.
        target: the finding.
        probability: what the model gave it, 0..1.
        threshold: what it would have had to reach, or stay below.
        path: of the image, relative to the data set's folder; None if the run does not say.
        thumbnail: a data URI; None if the image cannot be read here.
    """

    image_id: int
    patient_id: object
    target: str
    probability: float
    threshold: float
    path: str | None
    thumbnail: str | None


def hardest_images(
    validation: Validation,
    image_root: str | dict[str, str] | None,
    *,
    missed: bool,
    most: int = 18,
    with_thumbnails: bool = True,
) -> list[HardImage]:
    """The false negatives with the lowest probabilities, or the false positives with the highest.

    Each finding has its turn: first the worst mistake of each, then the second worst of each.

    Args:
        validation: what the model gave.
        image_root: the folder that image paths are relative to; by source for a merged data set.
        missed: the false negatives; else the false positives.
        most: how many in all.
        with_thumbnails: read the images.
    """
    rows = []
    for column, target in enumerate(validation.targets):
        labels = validation.labels[target].to_numpy()
        given = validation.probabilities[target].to_numpy()
        called = validation.predicted[target].to_numpy()
        wrong = np.flatnonzero((labels == 1) & ~called if missed else (labels == 0) & called)
        worst = wrong[np.argsort(given[wrong] if missed else -given[wrong], kind="stable")][:most]
        rows += [(turn, given[row], row, column) for turn, row in enumerate(worst.tolist())]
    rows.sort(key=lambda entry: (entry[0], entry[1] if missed else -entry[1], entry[3]))
    return [
        _hard_image(validation, image_root, row, column, with_thumbnails) for _, _, row, column in rows[:most]
    ]


def _hard_image(
    validation: Validation,
    image_root: str | dict[str, str] | None,
    row: int,
    column: int,
    with_thumbnails: bool,
) -> HardImage:
    image_id = int(validation.labels.index[row])
    path = None if validation.images is None else str(validation.images.at[image_id, "Image_Path"])
    return HardImage(
        image_id=image_id,
        patient_id=validation.patients[row],
        target=validation.targets[column],
        probability=float(validation.probabilities.iloc[row, column]),
        threshold=float(validation.thresholds[column]),
        path=path,
        thumbnail=thumbnail(image_root, path) if with_thumbnails else None,
    )


def thumbnail(image_root: str | dict[str, str] | None, path: str | None) -> str | None:
    """A small copy of a radiograph as a data URI; None where it cannot be read."""
    pixels = radiograph(image_root, path)
    if pixels is None:
        return None
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def radiograph(
    image_root: str | dict[str, str] | None, path: str | None, side: int | None = THUMBNAIL_SIDE
) -> np.ndarray | None:
    """The gray levels of an image of a run.

    Args:
        image_root: the folder that its path is relative to; by source for a merged data set.
        path: of the image, as images.parquet has it.
        side: the longer side at most, in pixels; None keeps the image's own.

    Returns:
        uint8 (height, width); None where the image cannot be read.
    """
    if path is None or image_root is None:
        return None
    if isinstance(image_root, dict):
        source, _, path = path.partition("/")
        image_root = image_root.get(source, "")
    try:
        pixels = read_gray(Path(image_root) / path)
    except HilumError:
        return None
    scale = 1 if side is None else side / max(pixels.shape)
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return pixels


def missing_thumbnails(images: list[HardImage]) -> int:
    """How many of them could not be read."""
    return sum(image.thumbnail is None for image in images)


def image_history(folder: RunFolder, image_id: int, part: str = "val") -> pd.DataFrame:
    """The probabilities of an image in every epoch that is kept.

    Args:
        folder: of the run.
        image_id: of the image.
        part: that it is in; of an image that was drawn repeatedly, the first draw counts.

    Returns:
        float32, indexed by epoch, a column per target. Empty if the image is not in the part.

    Raises:
        HilumError: the predictions of an epoch are damaged.
    """
    wanted = [("part", "==", part), ("ImageID", "==", image_id)]
    rows = {}
    for epoch in folder.epochs():
        file = folder.path / "predictions" / f"epoch-{epoch:04d}.parquet"
        columns = [f"prob_{target}" for target in folder.targets]
        try:
            found = pd.read_parquet(file, columns=columns, filters=wanted)
        except (OSError, ValueError) as error:
            raise HilumError(f"{file}: the file is damaged: {error}.") from None
        if len(found):
            rows[epoch] = found.iloc[0].to_numpy(dtype="float32")
    history = pd.DataFrame.from_dict(rows, orient="index", columns=folder.targets, dtype="float32")
    return history.rename_axis("epoch")
