"""A heatmap, made at the model's size, laid back over the radiograph that it is of."""

import cv2
import numpy as np

#: The longer side of what is sent: a heatmap has no finer detail than a few dozen cells.
LONGEST = 512


def over_the_film(heatmap: np.ndarray, rows: int, columns: int, fit: str) -> np.ndarray:
    """Undoes the fit of `hilum.data.resize.resize`.

    Args:
        heatmap: float (height, width), 0..1, of the prepared image.
        rows: of the film.
        columns: of the film.
        fit: stretch, letterbox or crop.

    Returns:
        float32 with the film's proportions, its longer side at most `LONGEST`; 0 where the film lies outside of
        what the model saw.
    """
    height, width = heatmap.shape
    scale = min(1.0, LONGEST / max(rows, columns))
    shown_rows, shown_columns = max(1, round(rows * scale)), max(1, round(columns * scale))
    shown = np.zeros((shown_rows, shown_columns), dtype=np.float32)
    # Where the model's square lies in the shown film, in the film's own proportions.
    if fit == "stretch":
        box_height, box_width = float(shown_rows), float(shown_columns)
    else:
        ratios = (shown_columns / width, shown_rows / height)
        stretch = max(ratios) if fit == "letterbox" else min(ratios)
        box_height, box_width = height * stretch, width * stretch
    top, left = (shown_rows - box_height) / 2, (shown_columns - box_width) / 2
    to_shown = np.array([[box_width / width, 0, left], [0, box_height / height, top]], dtype=np.float64)
    # Pixel centres, not corners, are what lies on whole numbers for OpenCV.
    to_shown[:, 2] += 0.5 * (to_shown[:, :2].sum(axis=1) - 1)
    inside = cv2.warpAffine(
        heatmap.astype(np.float32),
        to_shown,
        (shown_columns, shown_rows),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    rows_in = slice(max(0, round(top)), min(shown_rows, round(top + box_height)))
    columns_in = slice(max(0, round(left)), min(shown_columns, round(left + box_width)))
    shown[rows_in, columns_in] = inside[rows_in, columns_in]
    return shown
