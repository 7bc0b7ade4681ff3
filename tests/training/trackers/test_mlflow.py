import os
import socket

import pytest
from mlflow import MlflowClient

from hilum.errors import HilumError
from hilum.training.trackers import open_trackers
from hilum.training.trackers._payload import epoch_scalars
from hilum.training.trackers.mlflow import _metric_names


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """One store for all tests: MLflow takes seconds to make one."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/all.db"


def run_of(folder):
    record = folder.record["mlflow"]
    client = MlflowClient(tracking_uri=record["uri"])
    return client, client.get_run(record["run_id"])


def artefacts(client, run, path=None):
    return {file.path for file in client.list_artifacts(run.info.run_id, path)}


def test_a_run_can_be_read_back(end_epoch, copy_of_finished, caplog, capfd):
    folder, metrics = copy_of_finished("first")
    folder.update(settings=folder.settings | {"source_kwargs": {"long": "x" * 900}})
    trackers = open_trackers(["mlflow"], folder)
    for epoch in (1, 2):
        end_epoch(trackers, epoch, metrics, 0.001 / epoch)
    trackers.finish()
    assert caplog.text == ""
    assert "INFO" not in "".join(capfd.readouterr())

    save_path = folder.path.parent
    assert folder.record["mlflow"]["uri"] == f"sqlite:///{save_path}/mlflow.db"
    assert (save_path / "mlflow.db").is_file()
    client, run = run_of(folder)
    assert client.get_experiment(run.info.experiment_id).name == "own"
    assert run.info.artifact_uri.startswith((save_path / "mlflow-artefacts").as_uri())
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    for epoch in (1, 2):
        for name, value in epoch_scalars(metrics.scores, metrics.combined, epoch, 0.001 / epoch).items():
            history = client.get_metric_history(run.info.run_id, name)
            assert [metric.value for metric in history if metric.step == epoch] == [value], name
    assert set(run.data.params) == set(folder.settings)
    assert run.data.params["net_kwargs"] == '{"layers": 18}'
    assert run.data.params["source_kwargs"] == f'{{"long": "{"x" * 489}…'
    assert len(run.data.params["source_kwargs"]) == 500
    assert run.data.tags["digest"] == folder.record["digest"]
    assert run.data.tags["catalog_fingerprint"] == folder.record["catalog"]["fingerprint"]
    assert run.data.metrics["operating_point_threshold/Edema"] == 0.3
    assert {"settings.json", "run.json", "report.html", "figures", "mistakes"} == artefacts(client, run)
    assert "figures/roc.png" in artefacts(client, run, "figures")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_resumed_run_has_each_epoch_once(end_epoch, copy_of_finished, up_to, uri):
    folder, metrics = copy_of_finished("resumed")
    end_epoch(open_trackers(["mlflow"], folder, mlflow_uri=uri), 1, up_to(folder, 1), 0.1)
    before = folder.record["mlflow"]
    resumed = open_trackers(["mlflow"], type(folder)(folder.path), mlflow_uri=uri)
    end_epoch(resumed, 2, metrics, 0.1)
    resumed.finish()
    client, run = run_of(folder)
    assert folder.record["mlflow"] == before
    history = client.get_metric_history(run.info.run_id, "roc_auc/val/Edema")
    assert [metric.step for metric in history] == [1, 2]
    assert run.info.status == "FINISHED"


def test_a_store_that_has_lost_the_run_gets_it_again(end_epoch, copy_of_finished, uri):
    folder, metrics = copy_of_finished("lost")
    open_trackers(["mlflow"], folder, mlflow_uri=uri)
    client, run = run_of(folder)
    client.delete_run(run.info.run_id)
    end_epoch(open_trackers(["mlflow"], folder, mlflow_uri=uri), 2, metrics, None)
    assert folder.record["mlflow"]["run_id"] != run.info.run_id
    history = client.get_metric_history(folder.record["mlflow"]["run_id"], "loss/val")
    assert [metric.step for metric in history] == [1, 2]
    folder.update(mlflow={"uri": uri, "run_id": "0" * 32})
    open_trackers(["mlflow"], folder, mlflow_uri=uri)
    assert folder.record["mlflow"]["run_id"] != "0" * 32


@pytest.mark.parametrize(("reason", "status"), [("interrupted", "KILLED"), ("ValueError: x", "FAILED")])
def test_how_a_run_stopped(copy_of_finished, uri, reason, status):
    folder, _ = copy_of_finished(status)
    open_trackers(["mlflow"], folder, mlflow_uri=uri).fail(reason)
    client, run = run_of(folder)
    assert run.info.status == status
    assert run.data.tags["failure"] == reason
    open_trackers(["mlflow"], folder, mlflow_uri=uri)
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def test_a_server_that_is_not_there(copy_of_finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        folder, _ = copy_of_finished()
        with pytest.raises(HilumError, match=r"mlflow cannot be opened: .*Correct it, or leave mlflow out"):
            open_trackers(["mlflow"], folder, mlflow_uri=f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_a_store_that_is_none(copy_of_finished):
    folder, _ = copy_of_finished()
    with pytest.raises(HilumError, match="loggers: mlflow cannot be opened"):
        open_trackers(["mlflow"], folder, mlflow_uri="carrier-pigeon://roof")


def test_names_that_mlflow_does_not_take():
    names = {"roc_auc/val/Gas (free)": 0, "roc_auc/val/Gas [free]": 0, "f1/val/A/B": 0, "loss/val": 0}
    assert _metric_names(names) == [
        "roc_auc/val/Gas _free_",
        "roc_auc/val/Gas _free_-2",
        "f1/val/A_B",
        "loss/val",
    ]
