"""Verification of a run: training it again from its own record must give the same predictions, bit for bit."""

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
from hilum.training.run import StandardTraining
from hilum.training.run_writer import check_same_data


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes:
        epochs: number of compared epochs.
        digest: of the last of them in the run, 64 hexadecimal digits.
        difference: the first difference, as text; None if all predictions are the same.
        environment: differences in versions and device between the run and this machine, as text.
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
    """Trains a run again in a temporary folder and compares every prediction of every epoch.

    Args:
        path: the run's folder; nothing in it changes.
        epochs: number of epochs, from the first; None for all that the run has.
        net: the network before training, if the run has one of your own.
        catalog: the images, if the run has a catalog of your own.

    Raises:
        HilumError: no epoch has ended, the run has fewer epochs, or the data differ.
    """
    folder = RunFolder(path)
    record = folder.record
    done = record.get("epochs_done", 0)
    if not done:
        raise HilumError(f"{folder.path}: no epoch has ended yet; there is nothing to verify.")
    if epochs is not None and not 1 <= epochs <= done:
        raise HilumError(f"--epochs {epochs}: the run has {done} finished epochs. Give 1 to {done}.")
    for name, given in (("net", net), ("catalog", catalog)):
        if record.get(f"own_{name}") and given is None:
            raise HilumError(
                f"{folder.path}: the run was made with a {name} of your own: verify it from Python, with {name}=."
            )
    epochs = epochs or done
    digest = digest_of(folder.predictions(epochs))
    settings = {name: value for name, value in folder.settings.items() if value is not None}
    settings |= {"quiet": True, "epoch_args": "none", "loggers": (), "mlflow_uri": None}
    with tempfile.TemporaryDirectory(prefix="hilum-verify-") as temporary:
        settings |= {"save_path": Path(temporary), "name": "again"}
        again = StandardTraining(net=net, catalog=catalog, **settings)
        again.batch_pieces = record.get("batch_pieces", 1)
        again.train(last_epoch=epochs, conclude=False)
        if not is_main_process():  # the main process has the folder
            return Verification(epochs, digest, None, ())
        environment = check_same_data(record, again.folder.record)
        if "batch_pieces" in record:
            environment.append(
                f"out of memory, the run computed its batches in {record['batch_pieces']} pieces from some batch of "
                f"epoch {record['batch_pieces_since']}; here from the start, so earlier steps may differ."
            )
        difference = None
        for epoch in range(1, epochs + 1):
            before, now = folder.predictions(epoch), again.folder.predictions(epoch)
            if digest_of(before) != digest_of(now):
                difference = f"epoch {epoch}: {_first_difference(before, now)}"
                break
    return Verification(epochs, digest, difference, tuple(environment))


def devices_of(path: str | Path) -> tuple[int, str]:
    """Number of devices that a run was trained on, and the device of its settings."""
    folder = RunFolder(path)
    return folder.record.get("device", {}).get("devices", 1), folder.settings["device"]


def _first_difference(before: pd.DataFrame, now: pd.DataFrame) -> str:
    if list(before.columns) != list(now.columns):
        return f"the columns are {', '.join(before.columns)} and {', '.join(now.columns)}"
    if len(before) != len(now):
        return f"there are {len(before):,} and {len(now):,} predictions"
    differs = ~((before == now) | (before.isna() & now.isna()))
    rows = differs.any(axis=1).to_numpy()
    row = int(rows.argmax())
    first, second = before.iloc[row], now.iloc[row]
    if differs.iloc[row][list(KEY_COLUMNS)].any():
        images = [f"ImageID {image['ImageID']} of {image['part']}" for image in (first, second)]
        return f"row {row} is {images[0]} in the run, {images[1]} now"
    column = str(differs.columns[differs.iloc[row].to_numpy().argmax()])
    return (
        f"ImageID {first['ImageID']} of {first['part']}, {column}: {first[column]!r} in the run, {second[column]!r} "
        f"now; {int(rows.sum()):,} of {len(before):,} predictions differ"
    )
