"""The images of a run: its largest errors, small copies for pages, and an image's probabilities by epoch."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.metrics.predictions import Predictions
from hilum.report.format import data_uri
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray

#: The longer side of a small copy, in pixels.
THUMBNAIL_SIDE = 200


class RunImages:
    """The images of a run: `images.parquet`, and the image files where the data set is available.

    Attributes:
        table: the rows of `images.parquet`, indexed by ImageID; None for a run of an earlier version without it.
        root: the folder that image paths are relative to, by source for a merged data set; None if not recorded.
    """

    def __init__(self, folder: RunFolder) -> None:
        recorded = (folder.path / "images.parquet").is_file()
        self.table = folder.images().drop_duplicates("ImageID").set_index("ImageID") if recorded else None
        self.root: str | dict[str, str] | None = (folder.record.get("catalog") or {}).get("image_root")

    def path(self, image_id: int) -> str | None:
        """The path of an image relative to the data set's folder; None if the run does not record it."""
        return None if self.table is None else str(self.table.at[image_id, "Image_Path"])

    def pixels(self, image_id: int, side: int | None = THUMBNAIL_SIDE) -> np.ndarray | None:
        """The gray levels of an image whose longer side is at most `side` pixels; None keeps the size.

        Returns:
            uint8 (height, width); None if the image cannot be read here.
        """
        root, path = self.root, self.path(image_id)
        if root is None or path is None:
            return None
        if isinstance(root, dict):
            source, _, path = path.partition("/")
            root = root.get(source, "")
        try:
            return shrink(read_gray(Path(root) / path), side)
        except HilumError:
            return None

    def thumbnail(self, image_id: int) -> str | None:
        """A small copy of an image as a data URI; None if the image cannot be read here."""
        pixels = self.pixels(image_id)
        return None if pixels is None else jpeg_uri(pixels)


def shrink(pixels: np.ndarray, side: int | None) -> np.ndarray:
    """An image (height, width) whose longer side is at most `side` pixels; None keeps the size."""
    scale = 1 if side is None else side / max(pixels.shape)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def jpeg_uri(pixels: np.ndarray) -> str:
    """An image (height, width) uint8 as a JPEG in a data URI."""
    return data_uri(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes(), "jpeg")


@dataclass(frozen=True)
class WrongPrediction:
    """A false negative or a false positive.

    Attributes:
        image_id, patient_id: of the image.
        target: the finding.
        probability, threshold: what the model predicts, 0..1, and the operating point.
        path: of the image, relative to the data set's folder; None if the run does not record it.
        thumbnail: a data URI; None if the image cannot be read here.
    """

    image_id: int
    patient_id: object
    target: str
    probability: float
    threshold: float
    path: str | None
    thumbnail: str | None


def largest_errors(
    predictions: Predictions, images: RunImages, *, missed: bool, most: int = 18, with_thumbnails: bool = True
) -> list[WrongPrediction]:
    """The false negatives with the lowest probabilities, or the false positives with the highest.

    First the largest error of each target, then the second largest of each, and so on.

    Args:
        predictions: of one part of an epoch.
        images: of the same run.
        missed: the false negatives; else the false positives.
        most: number of errors in all.
        with_thumbnails: read the images.
    """
    ranked = []
    for column in range(len(predictions.targets)):
        y_true, y_score = predictions.y_true[:, column], predictions.y_score[:, column]
        predicted = predictions.predicted[:, column]
        wrong = np.flatnonzero((y_true == 1) & ~predicted if missed else (y_true == 0) & predicted)
        distance = y_score if missed else -y_score
        worst = wrong[np.argsort(distance[wrong], kind="stable")][:most]
        ranked += [(place, float(distance[row]), column, row) for place, row in enumerate(worst.tolist())]
    ids = predictions.image_ids.tolist()
    return [
        WrongPrediction(
            image_id=ids[row],
            patient_id=predictions.patients[row],
            target=predictions.targets[column],
            probability=float(predictions.y_score[row, column]),
            threshold=float(predictions.thresholds[column]),
            path=images.path(ids[row]),
            thumbnail=images.thumbnail(ids[row]) if with_thumbnails else None,
        )
        for _, _, column, row in sorted(ranked)[:most]
    ]


def image_history(folder: RunFolder, image_id: int, part: str = "val") -> pd.DataFrame:
    """The probabilities of an image in every kept epoch.

    Args:
        folder: of the run.
        image_id: of the image.
        part: the image's part; if oversampling repeats the image, the first repeat is read.

    Returns:
        float32, indexed by epoch, a column per target. Empty if the image is not in the part.

    Raises:
        HilumError: the predictions of an epoch are damaged.
    """
    of_image = [("part", "==", part), ("ImageID", "==", image_id)]
    columns, rows = [f"prob_{target}" for target in folder.targets], {}
    for epoch in folder.epochs():
        file = folder.path / "predictions" / f"epoch-{epoch:04d}.parquet"
        try:
            found = pd.read_parquet(file, columns=columns, filters=of_image)
        except (OSError, ValueError) as error:
            raise HilumError(f"{file}: the file is damaged: {error}.") from None
        if len(found):
            rows[epoch] = found.iloc[0].to_numpy(dtype="float32")
    history = pd.DataFrame.from_dict(rows, orient="index", columns=folder.targets, dtype="float32")
    return history.rename_axis("epoch")
