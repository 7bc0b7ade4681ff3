"""A run made again from its own record: the same settings must give the same predictions, bit for bit."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import nn

from hilum.errors import HilumError
from hilum.metrics.predictions import KEY_COLUMNS
from hilum.run_folder import RunFolder, digest_of
from hilum.sources import Catalog
from hilum.training.distributed import is_main_process
from hilum.training.resume import refuse_other_data
from hilum.training.run import StandardTraining


@dataclass(frozen=True)
class Verification:
    """What running again showed.

    Attributes:
        epochs: how many were compared.
        digest: of the last of them in the run, as 64 hexadecimal digits.
        difference: the first difference in words; None if there is none.
        environment: what differs between the machine, and the versions, of the run and those here, in words.
    """

    epochs: int
    digest: str
    difference: str | None
    environment: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every prediction is the same."""
        return self.difference is None


def verify(
    path: str | Path,
    *,
    epochs: int | None = None,
    net: nn.Module | None = None,
    catalog: Catalog | None = None,
) -> Verification:
    """Runs a run again in a temporary folder and compares every prediction of every epoch.

    Args:
        path: the run's folder; nothing in it is changed.
        epochs: only the first so many; None for all that the run has.
        net: the network as it was before training, for a run that was given one of your own.
        catalog: the images, for a run that was given them.

    Raises:
        HilumError: no epoch has ended, more epochs are asked for than the run has, or the data are other.
    """
    folder = RunFolder(path)
    there = folder.record.get("epochs_done", 0)
    if not there:
        raise HilumError(f"{folder.path}: no epoch has ended yet; there is nothing to verify.")
    if epochs is not None and not 1 <= epochs <= there:
        raise HilumError(f"--epochs {epochs}: the run has {there} ended epochs. Give 1 to {there}.")
    record = folder.record
    for what, given in (("own_net", net), ("own_catalog", catalog)):
        if record.get(what) and given is None:
            name = what.removeprefix("own_")
            raise HilumError(
                f"{folder.path}: the run was made with a {name} of your own: verify it from Python, with {name}=."
            )
    wanted = epochs or there
    settings = {name: value for name, value in folder.settings.items() if value is not None}
    with tempfile.TemporaryDirectory(prefix="hilum-verify-") as temporary:
        again = StandardTraining(
            net=net,
            catalog=catalog,
            **settings
            | {
                "save_path": Path(temporary),
                "name": "again",
                "quiet": True,
                "epoch_args": "none",
                "loggers": (),
                "mlflow_uri": None,
            },
        )
        again.batch_pieces = record.get("batch_pieces", 1)
        again.train(last_epoch=wanted, conclude=False)
        if not is_main_process():  # whose folder this is
            return Verification(wanted, digest_of(folder.predictions(wanted)), None, ())
        environment = refuse_other_data(record, again.folder.record)
        if "batch_pieces" in record:
            environment.append(
                f"out of memory, the run computed its batches in {record['batch_pieces']} pieces from somewhere in "
                f"epoch {record['batch_pieces_since']} on; here from the start, so that earlier steps may differ."
            )
        difference = None
        for epoch in range(1, wanted + 1):
            before, now = folder.predictions(epoch), again.folder.predictions(epoch)
            if digest_of(before) != digest_of(now):
                difference = f"epoch {epoch}: {_first_difference(before, now)}"
                break
        return Verification(wanted, digest_of(folder.predictions(wanted)), difference, tuple(environment))


def devices_of(path: str | Path) -> tuple[int, str]:
    """How many devices a run was trained on, and the device of its settings.

    Raises:
        HilumError: there is no run at `path`.
    """
    folder = RunFolder(path)
    return folder.record.get("device", {}).get("devices", 1), folder.settings["device"]


def _first_difference(before: pd.DataFrame, now: pd.DataFrame) -> str:
    """Where two epochs' predictions part, in words."""
    if list(before.columns) != list(now.columns):
        return f"the columns are {', '.join(before.columns)} and {', '.join(now.columns)}"
    if len(before) != len(now):
        return f"there are {len(before):,} and {len(now):,} predictions"
    keys = list(KEY_COLUMNS)
    differs = ~((before == now) | (before.isna() & now.isna()))
    row = int(differs.any(axis=1).to_numpy().argmax())
    first, second = before.iloc[row], now.iloc[row]
    if differs.iloc[row][keys].any():
        images = [
            f"ImageID {prediction['ImageID']} of {prediction['part']}" for prediction in (first, second)
        ]
        return f"row {row} is {images[0]} in the run, {images[1]} now"
    column = str(differs.columns[differs.iloc[row].to_numpy().argmax()])
    return (
        f"ImageID {first['ImageID']} of {first['part']}, {column}: {first[column]!r} in the run, {second[column]!r} "
        f"now; {int(differs.any(axis=1).sum()):,} of {len(before):,} predictions differ"
    )
