import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hilum.training.trackers import open_trackers
from hilum.training.trackers._payload import epoch_scalars


def read(folder) -> EventAccumulator:
    return EventAccumulator(str(folder.path / "tensorboard"), {"scalars": 0, "images": 0}).Reload()


def hparams_of(events: EventAccumulator, name: str) -> HParamsPluginData:
    return HParamsPluginData.FromString(events.SummaryMetadata(f"_hparams_/{name}").plugin_data.content)


def test_a_run_can_be_read_back(end_epoch, copy_of_finished):
    folder, metrics = copy_of_finished()
    trackers = open_trackers(["tensorboard"], folder)
    for epoch in (1, 2):
        end_epoch(trackers, epoch, metrics, 0.001 / epoch)
    trackers.finish()
    events = read(folder)
    for epoch in (1, 2):
        for tag, value in epoch_scalars(metrics.scores, metrics.combined, epoch, 0.001 / epoch).items():
            found = [event.value for event in events.Scalars(tag) if event.step == epoch]
            assert found == [pytest.approx(value, abs=1e-6)], tag
    assert len(events.Scalars("roc_auc/val/Edema")) == 2
    [threshold] = events.Scalars("operating_point_threshold/Edema")
    assert threshold.value == pytest.approx(0.3)
    assert threshold.step == folder.best_epoch
    images = events.Tags()["images"]
    assert {"figures/roc", "figures/precision-recall", "figures/progression-roc-auc"} <= set(images)
    assert any(tag.startswith("mistakes/") for tag in images)
    [text] = events.Tensors("run/text_summary")
    assert folder.record["digest"] in text.tensor_proto.string_val[0].decode()


def test_settings_are_hyperparameters_of_the_same_run(end_epoch, copy_of_finished):
    folder, metrics = copy_of_finished()
    trackers = open_trackers(["tensorboard"], folder)
    end_epoch(trackers, 1, metrics, None)
    trackers.finish()
    [file] = (folder.path / "tensorboard").rglob("*")  # one file, no folder: TensorBoard shows one run
    assert file.name.startswith("events.out.tfevents.")
    events = read(folder)
    settings = hparams_of(events, "session_start_info").session_start_info.hparams
    assert set(settings) == set(folder.settings)
    assert settings["learning_rate"].number_value == 0.001
    assert settings["net_kwargs"].string_value == '{"layers": 18}'
    assert settings["root"].string_value == "none"
    [metric] = hparams_of(events, "experiment").experiment.metric_infos
    assert metric.name.tag in events.Tags()["scalars"]
    assert hparams_of(events, "session_end_info").session_end_info.status == 1  # STATUS_SUCCESS


def test_a_resumed_run_has_each_epoch_once(end_epoch, copy_of_finished, up_to):
    folder, metrics = copy_of_finished()
    stopped = open_trackers(["tensorboard"], folder)
    end_epoch(stopped, 1, up_to(folder, 1), 0.1)
    # The process is killed while it writes the second epoch.
    scalars = epoch_scalars(metrics.scores, metrics.combined, 2, None)
    scalars.popitem()
    stopped._trackers["tensorboard"].epoch(2, dict.fromkeys(scalars, 0.123))

    resumed = open_trackers(["tensorboard"], folder)
    end_epoch(resumed, 2, metrics, 0.1)
    resumed.finish()
    events = read(folder)
    for tag, value in scalars.items():
        found = {event.step: event.value for event in events.Scalars(tag)}
        assert [event.step for event in events.Scalars(tag)] == [1, 2], tag
        assert found[2] == pytest.approx(value, abs=1e-6)
    assert not list((folder.path / "tensorboard").glob("*/"))
    assert hparams_of(events, "session_start_info").session_start_info.hparams["seed"].number_value == 0


def test_an_epoch_that_a_kill_left_out_comes_later(end_epoch, copy_of_finished):
    folder, metrics = copy_of_finished()
    open_trackers(["tensorboard"], folder)
    resumed = open_trackers(["tensorboard"], folder)
    end_epoch(resumed, 2, metrics, 0.5)
    events = read(folder)
    assert [event.step for event in events.Scalars("loss/val")] == [1, 2]
    assert [event.step for event in events.Scalars("learning_rate")] == [2]


def test_a_failure_is_a_text(copy_of_finished):
    folder, _ = copy_of_finished()
    trackers = open_trackers(["tensorboard"], folder)
    trackers.fail("OutOfMemoryError: 3 GiB")
    [text] = read(folder).Tensors("run/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "stopped: OutOfMemoryError: 3 GiB"
