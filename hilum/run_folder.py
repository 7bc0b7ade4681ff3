"""The run folder: everything about a run, in common formats.

run.json                         settings, versions, fingerprints, status (running, finished, failed), times, digest
split.parquet                    ImageID, PatientID, part
images.parquet                   the same images with the catalog's other columns, without the targets
predictions/epoch-0001.parquet   part, ImageID, draw, label_<target>…, prob_<target>…
scores.parquet, combined.parquet one row per epoch, part (and target)
checkpoints/last, best           model.safetensors, state.pt; also previous (the one before last) during training
evaluations/<name>/              evaluation.json, predictions.parquet, images.parquet, scores.parquet
figures/*.png, report.html, log.txt
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.config import with_current_names
from hilum.errors import HilumError
from hilum.files import locked, replacing, write_json

#: Version of the layout above. Folders of a newer version raise an error.
FORMAT_VERSION = 2

_ALWAYS_THERE = ("status", "started", "settings", "targets")
_ALWAYS_IN_EVALUATION = ("name", "run", "epoch", "images", "patients", "remarks", "left_out", "evaluated")


class RunFolder:
    """One run on disk. Every file is written atomically.

    Args:
        path: a folder with a run.json.

    Raises:
        HilumError: if the folder is not a run, or a newer version wrote it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        file = self.path / "run.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise HilumError(f"{self.path}: this is not a run folder: run.json is missing.") from None
        except OSError as error:
            raise HilumError(f"{file}: it cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise HilumError(f"{file}: the file is damaged: {error}.") from None
        if not isinstance(record, dict) or "format" not in record:
            raise HilumError(f"{file}: this is not the record of a Hilum run.")
        if record["format"] > FORMAT_VERSION:
            raise HilumError(
                f"{file}: the run was written by a newer Hilum ({record.get('versions', {}).get('hilum')}). "
                "Update hilum to read it."
            )
        # Format 1 has the founding document's names of settings; the next `update` writes today's.
        if record["format"] < FORMAT_VERSION and isinstance(record.get("settings"), dict):
            record["settings"] = with_current_names(record["settings"])
        record["format"] = FORMAT_VERSION
        if missing := [name for name in _ALWAYS_THERE if name not in record]:
            raise HilumError(f"{file}: this record of a run is incomplete: it lacks {', '.join(missing)}.")
        self.record: dict[str, Any] = record

    @classmethod
    def create(
        cls, save_path: str | Path, name: str | None, default_name: str, record: dict[str, Any]
    ) -> "RunFolder":
        """Makes a new run folder in `save_path`, with `record` in its run.json.

        It is called `name` or, if that is None, `default_name` with the next free number.

        Raises:
            HilumError: if the name is taken, or the folder cannot be written.
        """
        save_path = Path(save_path)
        numbered = (f"{default_name}-{number:03d}" for number in count(1))
        try:
            save_path.mkdir(parents=True, exist_ok=True)
            path = _make_first([name] if name is not None else numbered, save_path)
        except OSError as error:
            raise HilumError(f"save_path {save_path}: it cannot be written: {error.strerror}.") from None
        start = {"format": FORMAT_VERSION, "name": path.name, "status": "running", "started": _now()}
        write_json(path / "run.json", start | record)
        return cls(path)

    def update(self, **changes: Any) -> None:
        """Adds or replaces these entries in run.json."""
        self.record = self.record | changes
        write_json(self.path / "run.json", self.record)

    def end(self, status: str, **changes: Any) -> None:
        """Records that the run is "finished" or has "failed", and when."""
        self.update(status=status, **changes, finished=_now())

    @property
    def settings(self) -> dict[str, Any]:
        """The run's RunConfig, as JSON values."""
        return self.record["settings"]

    @property
    def targets(self) -> list[str]:
        """The targets' names, in order."""
        return self.record["targets"]

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    def write_split(self, table: pd.DataFrame) -> None:
        """Columns ImageID, PatientID, part."""
        self._write_table("split.parquet", table)

    def write_images(self, table: pd.DataFrame) -> None:
        """Columns ImageID, PatientID, part, then the catalog's other columns."""
        self._write_table("images.parquet", table)

    def write_epoch(
        self, epoch: int, predictions: pd.DataFrame, scores: pd.DataFrame, combined: pd.DataFrame
    ) -> None:
        """An epoch's predictions, and the scores of all epochs so far."""
        self._write_table(f"predictions/epoch-{epoch:04d}.parquet", predictions)
        self._write_table("scores.parquet", scores)
        self._write_table("combined.parquet", combined)

    def epochs(self) -> list[int]:
        """The epochs that have predictions."""
        files = self.path.glob("predictions/epoch-*.parquet")
        return sorted(int(file.stem.removeprefix("epoch-")) for file in files)

    def split(self) -> pd.DataFrame:
        """Columns ImageID, PatientID, part."""
        return self._read_table("split.parquet")

    def images(self) -> pd.DataFrame:
        """Columns ImageID, PatientID, part, StudyID, Age, Sex_Male, … of every image of the split.

        Raises:
            HilumError: if the version that made the run did not save the table.
        """
        if not (self.path / "images.parquet").is_file():
            raise HilumError(
                f"{self.path}: images.parquet is missing: the run was made by an earlier version of Hilum, which "
                "did not save views, ages or studies. Train the run again to save them."
            )
        return self._read_table("images.parquet")

    @property
    def best_epoch(self) -> int:
        """The epoch whose checkpoint is kept as best.

        Raises:
            HilumError: if no epoch has ended yet.
        """
        best = self.record.get("best_epoch")
        if not best:
            raise HilumError(f"{self.path}: no epoch has ended yet ({self.record['status']}).")
        return best

    def operating_thresholds(self) -> dict[str, float]:
        """Threshold of the frozen operating point of each target.

        A run without operating points, because it has not ended or is of an older version, gives the thresholds
        of its settings.
        """
        points = self.record.get("operating_points") or {}
        return {
            target: points[target]["threshold"] if target in points else threshold
            for target, threshold in self.record["thresholds"].items()
        }

    def evaluations(self) -> list[str]:
        """The names of the evaluations on other images."""
        return sorted(file.parent.name for file in self.path.glob("evaluations/[!.]*/evaluation.json"))

    def predictions(self, epoch: int) -> pd.DataFrame:
        """Columns part, ImageID, draw, label_<target>…, prob_<target>…"""
        return self._read_table(f"predictions/epoch-{epoch:04d}.parquet")

    def scores(self) -> pd.DataFrame:
        """One row per epoch, part and target."""
        return self._read_table("scores.parquet")

    def combined(self) -> pd.DataFrame:
        """One row per epoch and part."""
        return self._read_table("combined.parquet")

    def log(self, line: str) -> None:
        """Appends a line to log.txt, with the time."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {line}\n")

    def print_and_log(self, line: str) -> None:
        """Prints a line and appends it to log.txt."""
        print(line, flush=True)
        self.log(line)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Prevents other processes from training the same run, until the block or the process ends.

        Raises:
            HilumError: if another process trains it.
        """
        busy = f"{self.path}: another process is training this run. Wait for it, or stop it."
        with locked(self.path / ".lock", busy):
            yield

    def remove(self) -> None:
        """Deletes the folder and its content."""
        shutil.rmtree(self.path)

    def _write_table(self, name: str, table: pd.DataFrame) -> None:
        with replacing(self.path / name) as partial:
            table.to_parquet(partial, index=False)

    def _read_table(self, name: str) -> pd.DataFrame:
        try:
            return pd.read_parquet(self.path / name)
        except FileNotFoundError:
            raise HilumError(
                f"{self.path / name}: the file is missing; the run is {self.record['status']}. A run has scores once "
                "its first epoch has ended."
            ) from None
        except (OSError, ValueError) as error:
            raise HilumError(f"{self.path / name}: the file is damaged: {error}.") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make_first(names: Iterable[str], save_path: Path) -> Path:
    """Makes the first of the folders that does not exist yet."""
    path = save_path
    for name in names:
        path = save_path / name
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise HilumError(f"{path}: the run folder is taken. Give the run another name, or remove the folder.")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of a run on other images."""

    folder: Path
    record: dict[str, Any]  # evaluation.json
    scores: pd.DataFrame  # by image, see `hilum.metrics.scores.scores_with_intervals`
    study_scores: pd.DataFrame | None  # the same by study; None if the data set has no studies
    #: See `hilum.metrics.calibration.calibration_table`; `calibrated` marks the rows after the run's own calibration.
    calibration: pd.DataFrame

    def as_json(self) -> str:
        """The record and the tables as one JSON object; undefined scores are null."""
        record = dict(self.record)
        for name in ("scores", "study_scores", "calibration"):
            table = getattr(self, name)
            record[name] = None if table is None else json.loads(table.to_json(orient="records"))
        return json.dumps(record, indent=2)


def read_evaluation(path: Path) -> Evaluation:
    """Reads the folder of an evaluation.

    Raises:
        HilumError: a file is missing or damaged.
    """
    try:
        by_study = path / "study_scores.parquet"
        record = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
        if missing := [name for name in _ALWAYS_IN_EVALUATION if name not in record]:
            raise ValueError(f"evaluation.json lacks {', '.join(missing)}")
        return Evaluation(
            folder=path,
            record=record,
            scores=pd.read_parquet(path / "scores.parquet"),
            study_scores=pd.read_parquet(by_study) if by_study.is_file() else None,
            calibration=pd.read_parquet(path / "calibration.parquet"),
        )
    except (OSError, ValueError) as error:
        raise HilumError(f"{path}: the evaluation cannot be read: {error}. Evaluate the run again.") from None


def digest_of(predictions: pd.DataFrame) -> str:
    """SHA-256 of an epoch's predictions: part, ids, draws, labels and float32 probabilities, bit for bit.

    It covers the values, not the bytes of the Parquet file, which depend on the library that writes it.
    """
    digest = hashlib.sha256()
    for name in predictions.columns:
        digest.update(f"\n{name}\n".encode())
        if name == "part":
            digest.update("\n".join(predictions[name].astype(str)).encode())
        else:
            dtype = "<i8" if name in {"ImageID", "draw"} else "<f4"
            digest.update(np.ascontiguousarray(predictions[name].to_numpy(dtype=dtype)).tobytes())
    return digest.hexdigest()


def find_runs(save_path: str | Path) -> tuple[list[RunFolder], list[str]]:
    """The runs in a folder, the oldest first, and the error messages of those that cannot be read.

    Raises:
        HilumError: if there is no such folder.
    """
    save_path = Path(save_path)
    if not save_path.is_dir():
        raise HilumError(f"{save_path}: there is no such folder. Give the save_path of your runs.")
    runs, problems = [], []
    for file in sorted(save_path.glob("*/run.json")):
        try:
            runs.append(RunFolder(file.parent))
        except HilumError as error:
            problems.append(str(error))
    return sorted(runs, key=lambda run: (run.record["started"], run.path.name)), problems
