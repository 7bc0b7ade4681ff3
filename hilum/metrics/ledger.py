"""The predictions of an epoch as one plain table, as `predictions/epoch-0001.parquet` holds it."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.metrics.pending_epoch import draw_numbers

PARTS = ("train", "val")
KEY_COLUMNS = ("part", "ImageID", "draw")


def ledger_columns(targets: Sequence[str]) -> list[str]:
    """Names of the columns, in order."""
    return [
        *KEY_COLUMNS,
        *(f"label_{target}" for target in targets),
        *(f"prob_{target}" for target in targets),
    ]


def ledger_of_part(part: str, labels: np.ndarray, probabilities: pd.DataFrame) -> pd.DataFrame:
    """The rows of one part.

    Args:
        part: "train" or "val".
        labels: (N, T) float32, 1, 0 or NaN.
        probabilities: (N, T) float32, indexed by ImageID, sorted; repeats in the order of their draws.

    Returns:
        `part` (str), `ImageID` and `draw` (int64), `label_<target>` and `prob_<target>` (float32).
    """
    targets = list(probabilities.columns)
    ids = probabilities.index.to_numpy()
    values = np.concatenate([labels, probabilities.to_numpy()], axis=1)
    table = pd.DataFrame(values, columns=ledger_columns(targets)[len(KEY_COLUMNS) :])
    table.insert(0, "part", part)
    table.insert(1, "ImageID", ids)
    table.insert(2, "draw", draw_numbers(ids))
    return table


def targets_of_ledger(table: pd.DataFrame) -> tuple[str, ...]:
    """The targets that a table of predictions is about.

    Raises:
        HilumError: columns other than those of `ledger_columns`.
    """
    targets = tuple(name.removeprefix("label_") for name in table.columns if name.startswith("label_"))
    expected = ledger_columns(targets)
    if not targets or list(table.columns) != expected:
        surplus = sorted(set(table.columns).symmetric_difference(expected)) or ["their order"]
        raise HilumError(
            "This is no table of predictions: expected the columns part, ImageID, draw, label_<target>…, "
            f"prob_<target>…; wrong here: {', '.join(surplus)}."
        )
    return targets


def labels_of_part(tables: Iterable[pd.DataFrame], part: str, targets: Sequence[str]) -> pd.DataFrame:
    """What the tables of all epochs say is true of a part's images: ImageID once, target columns."""
    columns = [f"label_{target}" for target in targets]
    rows = [table.loc[table["part"] == part, ["ImageID", *columns]] for table in tables]
    actual = pd.concat(rows).drop_duplicates("ImageID").set_index("ImageID").sort_index()
    return actual.set_axis(list(targets), axis=1)


def probabilities_of_part(table: pd.DataFrame, part: str, targets: Sequence[str]) -> pd.DataFrame:
    """The probabilities of one part, float32, indexed by ImageID and sorted by ImageID and draw."""
    rows = table.loc[table["part"] == part].sort_values(["ImageID", "draw"], kind="stable")
    values = rows[[f"prob_{target}" for target in targets]].to_numpy(dtype=np.float32)
    return pd.DataFrame(
        values, columns=list(targets), index=pd.Index(rows["ImageID"].to_numpy(np.int64), name="ImageID")
    )


def losses_of_table(combined: pd.DataFrame | None) -> Mapping[tuple[int, str], float]:
    """The loss of each epoch and part of a table of combined scores."""
    if combined is None:
        return {}
    return {
        (int(epoch), part): float(loss)
        for epoch, part, loss in combined[["epoch", "part", "loss"]].itertuples(index=False)
    }
