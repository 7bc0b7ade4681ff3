"""Runs in MLflow: `mlflow ui --backend-store-uri sqlite:///<save_path>/mlflow.db` shows them."""

import json
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from hilum.run_folder import RunFolder
from hilum.training.trackers._payload import LAST_SCALAR, Conclusion, flat_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param


@contextmanager  # also a decorator
def _quiet() -> Iterator[None]:
    """Without messages about a new SQLite file, and without deprecation warnings about MLflow's own code."""
    levels = {logger: logger.level for logger in map(logging.getLogger, ("alembic", "mlflow.store"))}
    try:
        for logger in levels:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


class MLflowTracker:
    """Stores a run in an MLflow store; run.json has the store and the id of the run there.

    Args:
        folder: of the run.
        uri: of the store; None for an SQLite file next to the run folder, with its artefacts next to it.
    """

    _client: "MlflowClient"
    _run_id: str

    def __init__(self, folder: RunFolder, uri: str | None):
        self._folder = folder
        self._uri = uri or f"sqlite:///{(folder.path.parent / 'mlflow.db').resolve().as_posix()}"
        is_file = self._uri.startswith("sqlite:///")
        self._database = Path(self._uri.removeprefix("sqlite:///")) if is_file else None

    @_quiet()
    def open(self) -> set[int]:
        """Creates a run with the settings, or continues the one that run.json names."""
        # No telemetry, and no minutes of waiting for a server that is gone, unless the user has set these variables.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        with ExitStack() as stack:
            if self._database is not None:
                # Only one run of a sweep at a time may create the SQLite file or the experiment.
                self._database.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self._database.with_name(f".{self._database.name}.lock")))
            self._client = MlflowClient(tracking_uri=self._uri)
            if not self._has_run():
                self._create()
                return set()
            self._run_id = self._folder.record["mlflow"]["run_id"]
            self._client.update_run(self._run_id, status="RUNNING")
            return {metric.step for metric in self._client.get_metric_history(self._run_id, LAST_SCALAR)}

    def _has_run(self) -> bool:
        """Whether the store still has the run that an earlier process created."""
        from mlflow.exceptions import MlflowException

        known = self._folder.record.get("mlflow") or {}
        if known.get("uri") != self._uri:
            return False
        try:
            return self._client.get_run(known["run_id"]).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _create(self) -> None:
        from mlflow.entities import Param

        record = self._folder.record
        tags = {
            "mlflow.source.name": "hilum",
            "folder": str(self._folder.path.resolve()),
            "targets": ", ".join(record["targets"]),
            "mlflow.source.git.commit": record.get("git_commit") or "",
        }
        tags |= {name: json.dumps(record[name]) for name in ("versions", "device") if name in record}
        data = [name for name in ("catalog", "split") if name in record]
        tags |= {f"{name}_fingerprint": record[name]["fingerprint"] for name in data}
        experiment = self._experiment(record.get("catalog", {}).get("name") or "hilum")
        run = self._client.create_run(experiment, run_name=self._folder.path.name, tags=tags)
        self._run_id = run.info.run_id
        self._folder.update(mlflow={"uri": self._uri, "run_id": self._run_id})
        parameters = flat_settings(record).items()
        self._log(params=[Param(name, _shortened(str(value))) for name, value in parameters])
        self._client.log_dict(self._run_id, record["settings"], "settings.json")

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

    def _log(self, params: Sequence["Param"] = (), metrics: Sequence["Metric"] = ()) -> None:
        """Stores parameters or metrics, not more in one request than MLflow accepts."""
        for first in range(0, len(params), 100):
            self._client.log_batch(self._run_id, params=params[first : first + 100])
        for first in range(0, len(metrics), 1000):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + 1000])

    @_quiet()
    def epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Stores an epoch's numbers."""
        from mlflow.entities import Metric

        now, names = int(time.time() * 1000), _metric_names(scalars)
        self._log(metrics=[Metric(*named, now, epoch) for named in zip(names, scalars.values(), strict=True)])

    @_quiet()
    def finish(self, end: Conclusion) -> None:
        """Stores operating points, digest, figures, mistakes, report and run.json; the run is FINISHED."""
        from mlflow.entities import RunTag

        self.epoch(end.best_epoch, end.points)
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


def _shortened(text: str) -> str:
    """At most the 500 characters that every MLflow server accepts; all settings are in settings.json too."""
    return text if len(text) <= 500 else f"{text[:499]}…"


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
