"""What is true of each image, found by ImageID."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.metrics.ranking import refuse_bad_labels


class ActualLabels:
    """The labels of one part (train or val), looked up by ImageID.

    Attributes:
        part: its name, for messages.
        table: DataFrame indexed by rising, unique ImageID, target columns, float32: 1, 0 or NaN.
    """

    def __init__(self, part: str, actual: pd.DataFrame, targets: Sequence[str]) -> None:
        """Of an ImageID that occurs more than once (oversampling repeats images) the first row is kept.

        Raises:
            HilumError: a target column that is missing, an index that is not of integers, or a label
                other than 1, 0 or NaN.
        """
        for target in targets:
            if target not in actual.columns:
                hint = nearest(target, map(str, actual.columns))
                raise HilumError(f"{part}_actual has no column {target!r}.{hint}")
        if not pd.api.types.is_integer_dtype(actual.index.dtype):
            raise HilumError(
                f"{part}_actual is indexed by {actual.index.dtype}; expected integer ImageIDs. "
                'Use actual.set_index("ImageID") if they are in a column.'
            )
        once = actual.loc[~actual.index.duplicated(), list(targets)].astype(np.float32).sort_index()
        self.part = part
        self.table = once.rename_axis(index="ImageID")
        self._ids = once.index.to_numpy(dtype=np.int64)
        self._values = once.to_numpy()
        for column, target in enumerate(targets):
            refuse_bad_labels(self._values[:, column], f"{part}_actual, {target}", self._ids)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Labels of `ids` (N,) int64, repeats allowed: (N, T) float32, in their order.

        Raises:
            HilumError: an ImageID that the part does not have.
        """
        rows = np.searchsorted(self._ids, ids)
        unknown = ids[self._ids[np.minimum(rows, len(self._ids) - 1)] != ids] if len(self._ids) else ids
        if len(unknown):
            several = ", ".join(map(str, np.unique(unknown)[:3]))
            raise HilumError(
                f"{len(np.unique(unknown))} ImageIDs of this epoch are not in {self.part}_actual, e.g. {several}. "
                "Outputs and actual labels must be of the same part of the same split."
            )
        return self._values[rows]
