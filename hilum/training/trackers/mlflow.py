"""Runs in MLflow: `mlflow ui --backend-store-uri sqlite:///<save_path>/mlflow.db` shows them."""

import json
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from hilum.run_folder import RunFolder
from hilum.training.trackers.payload import Conclusion, flat_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Characters of a parameter that every MLflow server accepts; all settings are in settings.json too.
PARAMETER_LENGTH = 500

#: Largest numbers of parameters and of metrics in one request.
PARAMETERS_AT_ONCE, METRICS_AT_ONCE = 100, 1000

#: The last metric of an epoch: an epoch that has it is complete.
LAST_METRIC = "loss/train"


@contextmanager  # also a decorator
def _quiet() -> Iterator[None]:
    """Without messages about a new SQLite file, and without deprecation warnings about MLflow's own code."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class MLflowTracker:
    """Stores a run in an MLflow store; run.json has the store and the id of the run there.

    Args:
        folder: of the run.
        uri: of the store; None for an SQLite file next to the run folder, with its artefacts next to it.
    """

    _client: "MlflowClient"

    def __init__(self, folder: RunFolder, uri: str | None):
        self._folder = folder
        self._uri = uri or f"sqlite:///{(folder.path.parent / 'mlflow.db').resolve().as_posix()}"
        is_file = self._uri.startswith("sqlite:///")
        self._database = Path(self._uri.removeprefix("sqlite:///")) if is_file else None
        self._run_id = ""

    def open(self) -> set[int]:
        """Creates a run with the settings, or continues the one that run.json names."""
        with _quiet(), self._locked():
            self._client = _client(self._uri)
            known = self._known_run()
            if known is None:
                self._run_id = self._create()
                return set()
            self._run_id = known
            self._client.update_run(known, status="RUNNING")
            return {metric.step for metric in self._client.get_metric_history(known, LAST_METRIC)}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one run of a sweep at a time may create the SQLite file or the experiment."""
        if self._database is None:
            yield
            return
        self._database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._database.with_name(f".{self._database.name}.lock")):
            yield

    def _known_run(self) -> str | None:
        """The run that an earlier process created, if the store still has it."""
        from mlflow.exceptions import MlflowException

        known = self._folder.record.get("mlflow") or {}
        if known.get("uri") != self._uri:
            return None
        try:
            run = self._client.get_run(known["run_id"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return known["run_id"] if run.info.lifecycle_stage == "active" else None

    def _create(self) -> str:
        from mlflow.entities import Param

        record = self._folder.record
        experiment = self._experiment(record.get("catalog", {}).get("name") or "hilum")
        tags = {
            "mlflow.source.name": "hilum",
            "folder": str(self._folder.path.resolve()),
            "targets": ", ".join(record["targets"]),
            "mlflow.source.git.commit": record.get("git_commit") or "",
        }
        tags |= {name: json.dumps(record[name]) for name in ("versions", "device") if name in record}
        tags |= {
            f"{name}_fingerprint": record[name]["fingerprint"]
            for name in ("catalog", "split")
            if name in record
        }
        run = self._client.create_run(experiment, run_name=self._folder.path.name, tags=tags)
        run_id: str = run.info.run_id
        self._folder.update(mlflow={"uri": self._uri, "run_id": run_id})
        parameters = [Param(name, _shortened(str(value))) for name, value in flat_settings(record).items()]
        for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
            self._client.log_batch(run_id, params=parameters[first : first + PARAMETERS_AT_ONCE])
        self._client.log_dict(run_id, record["settings"], "settings.json")
        return run_id

    def _experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created if necessary."""
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        # For SQLite, MLflow's default is a folder in the working directory.
        artefacts = None
        if self._database is not None:
            artefacts = (self._database.resolve().parent / "mlflow-artefacts").as_uri()
        return self._client.create_experiment(name, artifact_location=artefacts)

    @_quiet()
    def epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Stores an epoch's numbers."""
        self._log_metrics(scalars, epoch)

    def _log_metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, values[name], now, step)
            for name, key in zip(values, _metric_names(values), strict=True)
        ]
        for first in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + METRICS_AT_ONCE])

    @_quiet()
    def finish(self, end: Conclusion) -> None:
        """Stores operating points, digest, figures, mistakes, report and run.json; the run is FINISHED."""
        from mlflow.entities import RunTag

        self._log_metrics(end.points, end.best_epoch)
        tags = [RunTag(name, value) for name, value in end.summary.items()]
        self._client.log_batch(self._run_id, tags=tags)
        for path in end.files:
            self._client.log_artifact(self._run_id, str(path))
        for path in end.figures:
            self._client.log_artifact(self._run_id, str(path), "figures")
        with tempfile.TemporaryDirectory(prefix="hilum-mistakes-") as folder:
            for name, jpeg in end.mistakes.items():
                (Path(folder) / f"{_plain(name)}.jpg").write_bytes(jpeg)
            if end.mistakes:
                self._client.log_artifacts(self._run_id, folder, "mistakes")
        self._client.set_terminated(self._run_id, "FINISHED")

    @_quiet()
    def fail(self, reason: str) -> None:
        """Stores the reason as a tag; the run is KILLED if it was interrupted, else FAILED."""
        self._client.set_tag(self._run_id, "failure", _shortened(reason))
        self._client.set_terminated(self._run_id, "KILLED" if reason == "interrupted" else "FAILED")


def _client(uri: str) -> "MlflowClient":
    # No telemetry, and no minutes of waiting for a server that is gone, unless the user has set these variables.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _shortened(text: str) -> str:
    return text if len(text) <= PARAMETER_LENGTH else text[: PARAMETER_LENGTH - 1] + "…"


def _plain(name: str) -> str:
    """The name with underscores for characters that MLflow does not accept."""
    return re.sub(r"[^\w.\- ]", "_", name)


def _metric_names(names: Mapping[str, float]) -> list[str]:
    """MLflow's distinct name for each: `roc_auc/val/Gas (free)` -> `roc_auc/val/Gas _free_`."""
    given: list[str] = []
    for name in names:
        plain = "/".join(_plain(part) for part in name.split("/", 2))
        number, unique = 2, plain
        while unique in given:
            unique, number = f"{plain}-{number}", number + 1
        given.append(unique)
    return given
