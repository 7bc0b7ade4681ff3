"""Runs: the same settings give the same digest, each setting has an effect, and each end is recorded."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from hilum.config import setting_fields
from hilum.data.loaders import Loaders
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.metrics.selection import BestEpoch, parse_rule
from hilum.metrics.thresholds import parse_policy
from hilum.models import Normalized, build_model
from hilum.run_folder import RunFolder, digest_of
from hilum.sources.catalog import Catalog
from hilum.training import _setup as setup
from hilum.training.checkpoints import load_state, load_weights
from hilum.training.run import StandardTraining

TARGETS = ("Edema", "Fracture", "Mine")

# Parts of a few images may lack positives of a target; that is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")


def digest(training: StandardTraining) -> str:
    return training.folder.record["digest"]


# ---- a finished run ---------------------------------------------------------------------------------


def test_a_run_leaves_every_file_of_the_layout_and_no_other(finished, files_below):
    training, _ = finished
    checkpoints = {
        f"checkpoints/{which}/{file}"
        for which in ("last", "best")
        for file in ("model.safetensors", "state.pt")
    }
    written = files_below(training.folder.path)
    figures = {name for name in written if name.startswith("figures/") and name.endswith(".png")}
    assert {"figures/roc.png", "figures/precision-recall.png", "figures/progression-recall.png"} <= figures
    assert written - figures == checkpoints | {
        "run.json",
        "split.parquet",
        "images.parquet",
        "predictions/epoch-0001.parquet",
        "predictions/epoch-0002.parquet",
        "scores.parquet",
        "combined.parquet",
        "report.html",
        "log.txt",
    }


def test_the_record_has_settings_versions_fingerprints_status_times_and_digest(finished, own_catalog):
    training, _ = finished
    record = json.loads((training.folder.path / "run.json").read_text())
    assert record["settings"] == training.config.as_record()
    assert set(record["settings"]) == set(setting_fields())
    assert (record["status"], record["seed"], record["epochs_done"]) == ("finished", 0, 2)
    assert record["targets"] == ["Edema", "Fracture", "Mine"]
    assert record["thresholds"] == {"Edema": 0.3, "Fracture": 0.5, "Mine": 0.5}
    assert record["catalog"]["fingerprint"] == own_catalog.fingerprint
    assert record["split"]["unit"] == "patient"
    assert sum(part["images"] for part in record["split"]["parts"].values()) == 48
    assert record["versions"]["torch"] == torch.__version__
    assert {"git_commit", "device", "started", "finished", "seconds", "best_epoch"} < set(record)
    assert record["started"] <= record["finished"]
    assert 0 < record["pixel_mean"] < 1
    assert record["digest"] == digest_of(training.folder.predictions(2))
    assert list(record["operating_points"]) == record["targets"]
    assert record["catalog"]["image_root"] == str(own_catalog.root)


def test_the_run_keeps_what_the_catalog_knows_of_its_images(finished, own_catalog):
    images = finished[0].folder.images().set_index("ImageID")
    split = finished[0].folder.split().set_index("ImageID")
    assert list(images.columns) == [
        *("PatientID", "part", "StudyID", "Age", "Sex_Male", "Sex_Unknown", "Orientation_PA"),
        *("Support Devices", "Image_Path"),
    ]
    pd.testing.assert_frame_equal(images[["PatientID", "part"]], split)
    for name in ("StudyID", "Age", "Image_Path"):
        np.testing.assert_array_equal(images[name], own_catalog.table.loc[images.index, name])


def test_the_tables_have_the_layouts_columns_and_one_row_each(finished):
    training, metrics = finished
    folder = training.folder
    split = pd.read_parquet(folder.path / "split.parquet")
    assert list(split.columns) == ["ImageID", "PatientID", "part"]
    assert sorted(split["ImageID"]) == list(range(1000, 1048))
    scores = folder.scores()
    assert list(scores.columns) == [
        *("epoch", "part", "target", "positives", "negatives", "predicted_positives", "true_positives"),
        *("recall", "precision", "f1", "roc_auc", "avg_precision", "threshold"),
    ]
    assert len(scores) == 2 * 2 * 3
    assert list(folder.combined().columns) == [
        *("epoch", "part", "loss", "accuracy", "hamming_loss", "recall", "precision", "f1")
    ]
    predictions = folder.predictions(2)
    parts = split.set_index("ImageID")["part"]
    for part in ("train", "val"):
        ids = predictions.loc[predictions["part"] == part, "ImageID"]
        assert sorted(ids) == sorted(parts.index[parts == part])
    np.testing.assert_array_equal(
        predictions.loc[predictions["part"] == "val", "prob_Edema"], metrics.df_val_probability["Edema"]
    )


def test_the_test_part_is_kept_out_of_training_and_scores(finished):
    folder = finished[0].folder
    split = pd.read_parquet(folder.path / "split.parquet")
    held_out = set(split.loc[split["part"] == "test", "ImageID"])
    assert held_out
    assert held_out.isdisjoint(folder.predictions(2)["ImageID"])


def test_the_last_checkpoint_gives_the_last_predictions(finished, own_catalog):
    training, metrics = finished
    config, record = training.config, training.folder.record
    stats = {"mean": record["pixel_mean"], "sd": record["pixel_sd"]}
    net = build_model(config.net_name, 3, config.net_kwargs, seed=5, **stats)
    load_weights(training.folder.path / "checkpoints" / "last", net)
    net.to(memory_format=torch.channels_last).eval()
    loader = Loaders(own_catalog, image_width=32, image_height=32, batch_size=16, num_workers=0).get_loader(
        metrics.df_val_probability.index
    )
    with torch.no_grad():
        expected = torch.cat([net(batch["img"]) for batch in loader]).sigmoid()
    np.testing.assert_allclose(metrics.df_val_probability, expected, atol=1e-6)
    assert load_state(training.folder.path / "checkpoints" / "last")["epoch"] == 2
    assert load_state(training.folder.path / "checkpoints" / "best")["epoch"] == record["best_epoch"]


def test_the_best_epoch_is_the_one_that_the_rule_chooses(finished, train):
    training, metrics = finished
    record = training.folder.record
    policies = dict.fromkeys(metrics.target_columns, parse_policy("fixed"))
    best = BestEpoch(parse_rule(training.config.best_rule), policies, metrics.target_thresholds)
    for epoch in metrics.epochs():
        best.take(epoch, metrics)
    assert record["best_epoch"] == best.epoch
    assert list(record["best_scores"]) == ["recall", "roc_auc", "precision"]
    assert record["best_scores"]["recall"] == best.scores["recall"]
    scores = training.folder.scores()
    shown = scores[(scores["part"] == "val") & (scores["epoch"] == best.epoch)]
    assert record["best_roc_auc"] == pytest.approx(shown["roc_auc"].mean())

    by_precision = train(num_epochs=4, best_rule="precision,f1", threshold_policy="fbeta:1").folder
    assert list(by_precision.record["best_scores"]) == ["precision", "f1"]


def test_the_metrics_of_a_folder_are_those_of_the_run(finished):
    training, metrics = finished
    loaded = StandardTraining.load_metrics(training.folder.path)
    pd.testing.assert_frame_equal(loaded.scores, metrics.scores)
    pd.testing.assert_frame_equal(loaded.combined, metrics.combined)
    pd.testing.assert_frame_equal(loaded.df_val_prediction, metrics.df_val_prediction)
    pd.testing.assert_frame_equal(training.folder.scores(), metrics.scores)


def test_the_parameters_of_a_run_are_printed(finished, capsys):
    StandardTraining.display_run_parameters(finished[0].folder.path)
    shown = capsys.readouterr().out
    assert "finished, 2 of 2 epochs" in shown
    for name in setting_fields():
        assert f"\n{name} " in shown
    assert "Edema: 0.3" in shown
    assert "Targets: Edema, Fracture, Mine" in shown


def test_reading_back_what_is_no_run_is_refused(tmp_path):
    for read in (StandardTraining.load_metrics, StandardTraining.display_run_parameters):
        with pytest.raises(HilumError, match="this is not a run folder"):
            read(tmp_path)


def test_the_log_has_the_printed_lines(finished):
    lines = (finished[0].folder.path / "log.txt").read_text().splitlines()
    assert any("epoch 1/2: loss" in line for line in lines)
    assert any("epoch 2/2: loss" in line for line in lines)
    assert "its digest is" in lines[-1]


# ---- the digest -------------------------------------------------------------------------------------


def test_two_runs_are_alike_with_0_and_2_workers_and_differ_for_another_seed(train):
    settings = {
        "net_kwargs": {"drop_out_percent": 0.3},
        "image_width": 32,
        "image_height": 32,
        "batch_size": 16,
        "num_epochs": 2,
        "aug_fraction": 1.0,
    }
    first = digest(train(**settings, seed=1))
    torch.rand(7)  # what was drawn before does not matter
    assert digest(train(**settings, seed=1, num_workers=2)) == first
    assert digest(train(**settings, seed=2)) != first


def test_the_digest_is_the_same_for_the_same_settings_again(train):
    assert digest(train(num_epochs=2)) == digest(train(num_epochs=2))


#: Settings that must change what is learned, and a value other than the fixture's.
CHANGES_THE_DIGEST = {
    "target_columns": ("Edema", "Mine"),
    "number_images": 30,
    "val_fraction": 0.5,
    "test_fraction": 0.2,
    "split_unit": "image",
    "observation_min_count": 12,
    "image_width": 24,
    "image_height": 24,
    "pixel_mean": 0.0,
    "pixel_sd": 0.5,
    "aug_fraction": 1.0,
    "affine_degrees": 40.0,
    "translate_fraction": 0.4,
    "shear_degrees": 40.0,
    "brightness_jitter": 0.9,
    "contrast_jitter": 0.9,
    "num_epochs": 2,
    "batch_size": 5,
    "learning_rate": 0.02,
    "l2_reg": 0.5,
    "loss_reduction": "sum",
    "use_positivity_weights": True,
    "seed": 1,
    "optimizer": "sgd",
    "loss": "focal",
    "accumulate_batches": 2,
    "clip_norm": 1e-3,
    "ema_decay": 0.9,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "precision": "bf16",
}
#: Settings that are tested by themselves below, or have nothing to do with what is learned.
TESTED_ELSEWHERE = {
    *("source", "root", "source_kwargs", "check_images", "official_split", "split_file", "balance_tolerance"),
    *("uncertain_policy", "blank_policy", "eval_uncertain_policy", "eval_blank_policy", "sampling"),
    *("strict_leaks", "pack", "hierarchy", "fit", "interpolation"),
    *("net_name", "net_kwargs", "target_thresholds", "device", "num_workers"),
    *("threshold_policy", "calibration", "loss_kwargs", "momentum", "plateau_patience", "init_from"),
    *(
        "layer_decay",
        "frozen_epochs",
        "best_rule",
        "early_stopping",
        "devices",
        "compile",
        "deterministic",
        "on_oom",
    ),
    *("loggers", "mlflow_uri"),
    *("save_path", "name", "epoch_args", "quiet"),
}


def test_every_setting_is_among_those_tested_here():
    assert set(CHANGES_THE_DIGEST) | TESTED_ELSEWHERE == set(setting_fields())


@pytest.fixture(scope="module")
def base_digest():
    """Filled by the first test that needs it: the digest of a run with the fixture's own settings."""
    return {}


@pytest.mark.parametrize("setting", CHANGES_THE_DIGEST)
def test_a_setting_changes_what_is_learned(train, make_tiny_net, base_digest, setting):
    if not base_digest:
        base_digest["digest"] = digest(train())
    value = CHANGES_THE_DIGEST[setting]
    changes = {"net": make_tiny_net(2)} if setting == "target_columns" else {}
    assert digest(train(**{setting: value}, **changes)) != base_digest["digest"]


def test_early_stopping_ends_the_run_and_says_why(train, capsys):
    training = train(num_epochs=9, learning_rate=1e-12, early_stopping=2)
    record = training.folder.record
    assert (record["status"], record["epochs_done"], record["best_epoch"]) == ("finished", 3, 1)
    assert record["stopped_early"] == "after epoch 3: no epoch was better than 1 in the 2 after it"
    assert record["digest"] == digest_of(training.folder.predictions(3))
    assert "Stopped after epoch 3: no epoch was better than 1" in capsys.readouterr().out


def test_a_run_that_starts_from_another_records_its_weights(train, tmp_path, capsys):
    former = train(num_epochs=2, target_columns=("Edema", "Mine"), net=None, **SMALL_MODEL).folder
    again = train(net=None, init_from=former.path, learning_rate=1e-9, **SMALL_MODEL)
    record = again.folder.record["init_from"]
    assert (record["run"], record["taken"], record["as_drawn"]) == (
        former.path.name,
        ["Edema", "Mine"],
        ["Fracture"],
    )
    assert "with the outputs of Edema, Mine; those of Fracture are drawn" in capsys.readouterr().out
    begun, ended = again.folder.predictions(1), former.predictions(former.best_epoch)
    both = begun.merge(ended, on=["part", "ImageID", "draw"], suffixes=("", "_former")).query("part == 'val'")
    np.testing.assert_allclose(both["prob_Edema"], both["prob_Edema_former"], atol=1e-4)
    with pytest.raises(HilumError, match=r"weights are of custom_pneumonia|another|densenet"):
        train(net=None, init_from=former.path, net_name="densenet", net_kwargs={})


SMALL_MODEL = {
    "net_name": "custom_pneumonia",
    "net_kwargs": {"channels": [4, 4], "hidden": 8},
}


def test_running_out_of_memory_halves_what_is_computed_at_once_and_is_recorded(two_stages, train, capsys):
    class Hungry(two_stages):
        def forward(self, images):
            if len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(images)

    training = train(net=Hungry(), on_oom="halve", num_epochs=2)
    assert training.folder.record["batch_pieces"] == 4
    assert "each batch is now computed in 2 pieces" in capsys.readouterr().out
    with pytest.raises(
        HilumError, match=r"Out of memory with 8 images at once \(CUDA out of memory\.\)\. Try batch"
    ):
        train(net=Hungry(), name="stopped")
    assert not (training.folder.path.parent / "stopped").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"best_rule": "recal"}, "best_rule: there is no score 'recal'"),
        ({"loss": "auc_margin", "use_positivity_weights": True}, "auc_margin"),
        ({"loss_kwargs": {"gama": 2}}, "has no setting 'gama'"),
        ({"precision": "16"}, "precision: 16 needs a GPU"),
        ({"devices": 2}, "Start your script with torchrun"),
        ({"init_from": "nowhere"}, "nowhere: this is not a run folder"),
    ],
)
def test_settings_of_the_training_that_cannot_work_are_refused_and_leave_nothing(
    train, tmp_path, changes, words
):
    with pytest.raises(HilumError, match=words):
        train(**changes)
    assert not list((tmp_path / "runs").glob("*"))


def test_thresholds_change_the_scores_and_not_what_is_learned(train):
    plain, changed = train(), train(target_thresholds=(0.1, 0.5, 1.0))
    assert digest(plain) == digest(changed)
    scores = changed.folder.scores()
    assert scores.groupby("target", sort=False)["threshold"].first().tolist() == [0.1, 0.5, 1.0]
    assert (scores.loc[scores["target"] == "Mine", "predicted_positives"] == 0).all()


def test_the_model_and_its_settings_are_those_asked_for(train, own_catalog, monkeypatch):
    asked = []

    def build(name, out_channels, net_kwargs, **others):
        asked.append((name, out_channels, net_kwargs, others["seed"]))
        return Normalized(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3)), 0.5, 0.2)

    monkeypatch.setattr(setup, "build_model", build)
    training = train(net_name="resnet_grayscale", net_kwargs={"layers": 34}, seed=3)
    assert asked == [("resnet_grayscale", 3, {"layers": 34}, 3)]
    assert training.folder.path.name == "own-resnet_grayscale-001"


def test_the_device_asked_for_is_the_one_used(train):
    with pytest.raises(HilumError, match="device: 'warp' is not a device"):
        train(device="warp")


def test_the_split_of_a_former_run_is_used_as_it_is(train):
    former = train(seed=8, number_images=30)
    training = train(split_file=former.folder.path / "split.parquet")
    assert training.folder.record["split"]["fingerprint"] == former.folder.record["split"]["fingerprint"]
    assert sum(part["images"] for part in training.folder.record["split"]["parts"].values()) == 30


def test_the_official_split_is_used_unless_the_setting_is_off(train, own_catalog):
    fixed = pd.Series(["test"] * 12 + ["train_val"] * 36, index=own_catalog.table.index, dtype=object)
    catalog = Catalog("own", own_catalog.table, own_catalog.targets, own_catalog.root, fixed_split=fixed)
    kept = train(catalog=catalog).folder.record["split"]["parts"]
    assert kept["test"]["images"] == 12
    ignored = train(catalog=catalog, official_split=False).folder.record["split"]["parts"]
    assert set(ignored) == {"train", "val"}


def test_features_out_of_balance_are_told_by_name_with_both_shares(train, capsys):
    training = train(balance_tolerance=0.0)
    imbalance = training.folder.record["split"]["imbalance"]
    assert {"Edema", "Sex_Male"} & {row["feature"] for row in imbalance}
    row = imbalance[0]
    said = f"warning: {row['feature']}: {row['train_share']:.1%} of the train images, {row['part_share']:.1%} of val."
    assert said in capsys.readouterr().out
    assert said in (training.folder.path / "log.txt").read_text()
    assert train(balance_tolerance=1.0).folder.record["split"]["imbalance"] == []


def test_a_split_by_image_is_warned_of(train, capsys):
    train(split_unit="image")
    assert "warning: the split is by image: a patient may be in several parts" in capsys.readouterr().out


def test_images_are_checked_before_anything_else_when_asked(small_catalog, tmp_path, make_tiny_net):
    path = small_catalog.image_path(small_catalog.table.index[-1])
    path.write_bytes(b"")
    training = StandardTraining(
        catalog=small_catalog, net=make_tiny_net(12), check_images=True, save_path=tmp_path / "runs"
    )
    with pytest.raises(HilumError, match=r"1 image\(s\) cannot be used:\n.*the file is empty"):
        training.train()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("epoch_args", "shown", "hidden"),
    [
        ("none", [], ["all targets together", "each target"]),
        (
            "combined",
            ["Validation, epoch 1: all targets together", "Training, epoch 1: all targets"],
            ["each target"],
        ),
        ("standard", ["Validation, epoch 1: each target"], ["Training, epoch 1"]),
        ("full", ["Training, epoch 1: each target", "Validation, epoch 1: each target"], []),
        (
            {"metric_data_source": "train", "show_combined_metrics": False},
            ["Training, epoch 1: each"],
            ["Validation"],
        ),
    ],
)
def test_what_an_epoch_shows_is_chosen(train, capsys, epoch_args, shown, hidden):
    train(epoch_args=epoch_args, quiet=False)
    printed = capsys.readouterr().out
    assert "epoch 1/1: loss" in printed
    assert all(words in printed for words in shown)
    assert not any(words in printed for words in hidden)


def test_quiet_shows_a_line_per_epoch_and_no_tables(train, capsys):
    train(epoch_args="full", quiet=True, num_epochs=2)
    printed = capsys.readouterr().out
    assert printed.count("epoch 1/2: loss") == printed.count("epoch 2/2: loss") == 1
    assert "each target" not in printed


def test_an_epoch_argument_that_does_not_exist_is_refused_before_training(train, tmp_path):
    with pytest.raises(
        HilumError, match=r"epoch_args: there is no 'show_combined'. Did you mean 'show_combined_m"
    ):
        train(epoch_args={"show_combined": True})
    assert list((tmp_path / "runs").iterdir()) == []


# ---- own parts, real data ---------------------------------------------------------------------------


def test_an_own_net_and_an_own_catalog_are_accepted_and_named(train):
    training = train()
    assert training.folder.path.name == "own-TinyNet-001"
    assert training.folder.record["own_net"].endswith("TinyNet")
    assert training.folder.record["catalog"]["name"] == "own"


def test_an_own_net_with_too_few_outputs_is_refused_and_leaves_no_folder(train, make_tiny_net, tmp_path):
    with pytest.raises(HilumError, match=r"outputs of shape \(8, 2\); the run needs \(8, 3\)"):
        train(net=make_tiny_net(2))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_source_is_opened_by_its_name_with_its_root_and_filters(chexpert_tree, tmp_path, without_pictures):
    training = StandardTraining(
        source="chexpert",
        root=chexpert_tree,
        target_columns="competition",
        image_width=32,
        image_height=32,
        batch_size=16,
        num_epochs=1,
        num_workers=0,
        quiet=True,
        save_path=tmp_path / "runs",
    )
    metrics = training.train()
    assert isinstance(metrics, Metrics)
    assert training.folder.targets == [
        *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural_Effusion")
    ]
    assert (training.folder.record["pixel_mean"], training.folder.record["pixel_sd"]) == (
        0.5064167,
        0.16673872,
    )


def test_a_run_on_real_radiographs_finishes(nih_sample, tmp_path):
    training = StandardTraining(
        source="nih",
        root=nih_sample,
        number_images=120,
        image_width=32,
        image_height=32,
        num_epochs=1,
        num_workers=0,
        quiet=True,
        save_path=tmp_path,
        name="nih",
    )
    training.train()
    record = RunFolder(tmp_path / "nih").record
    assert record["status"] == "finished"
    assert sum(part["images"] for part in record["split"]["parts"].values()) == 120
    assert record["pixel_mean"] == pytest.approx(0.55, abs=0.05)
    assert (tmp_path / "nih" / "report.html").is_file()


# ---- runs that do not finish ------------------------------------------------------------------------


def test_a_taken_name_is_refused_and_the_old_folder_is_left_as_it_was(train, tmp_path, files_below):
    folder = train(name="mine").folder.path
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    with pytest.raises(HilumError, match=r"mine: the run folder is taken. Give the run another name"):
        train(name="mine", seed=5)
    assert {name: (folder / name).read_bytes() for name in files_below(folder)} == before
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine"]


def test_runs_without_a_name_are_numbered(train):
    assert [train().folder.path.name for _ in range(2)] == ["own-TinyNet-001", "own-TinyNet-002"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_truncated_image_in_the_first_epoch_is_named_and_leaves_no_folder(
    train, small_catalog, make_tiny_net, tmp_path, num_workers
):
    path = small_catalog.image_path(small_catalog.table.index[0])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HilumError, match=f"{path.name}: the image is truncated"):
        train(catalog=small_catalog, net=make_tiny_net(12), num_workers=num_workers)
    assert list((tmp_path / "runs").iterdir()) == []


class FailsLater(nn.Module):
    """A tiny net that gives NaN, or raises, once it has been called so often."""

    def __init__(self, net, calls, error=None):
        super().__init__()
        self.net, self.calls, self.error, self.seen = net, calls, error, 0

    def forward(self, images):
        self.seen += 1
        if self.seen <= self.calls:
            return self.net(images)
        if self.error:
            raise self.error
        return self.net(images) * torch.nan


#: More batches than an epoch of the `train` fixture has, and fewer than two epochs have.
INTO_THE_SECOND = 8


@pytest.mark.parametrize(
    ("error", "raised", "reason"),
    [
        (None, HilumError, "HilumError: Epoch 2: the loss of batch"),
        (KeyboardInterrupt(), KeyboardInterrupt, "interrupted"),
        (RuntimeError("out of [memory]"), RuntimeError, "RuntimeError: out of [memory]"),
    ],
)
def test_a_failure_in_the_second_epoch_is_recorded_and_the_first_epochs_files_are_whole(
    train, tiny_net, tmp_path, files_below, capsys, error, raised, reason
):
    with pytest.raises(raised):
        train(net=FailsLater(tiny_net, INTO_THE_SECOND, error), num_epochs=3, name="broken")
    folder = RunFolder(tmp_path / "runs" / "broken")
    assert folder.record["status"] == "failed"
    assert folder.record["failure"].startswith(reason)
    assert folder.record["epochs_done"] == 1
    assert "digest" not in folder.record
    assert files_below(folder.path) == {
        "run.json",
        "log.txt",
        "split.parquet",
        "images.parquet",
        "predictions/epoch-0001.parquet",
        "scores.parquet",
        "combined.parquet",
        *(
            f"checkpoints/{which}/{file}"
            for which in ("last", "best")
            for file in ("model.safetensors", "state.pt")
        ),
    }
    assert StandardTraining.load_metrics(folder.path).epochs() == [1]
    assert load_state(folder.path / "checkpoints" / "last")["epoch"] == 1
    assert (folder.path / "log.txt").read_text().splitlines()[-1].endswith(folder.record["failure"])
    capsys.readouterr()
    StandardTraining.display_run_parameters(folder.path)
    assert reason in capsys.readouterr().out.replace("\n", " ")


def test_an_interruption_before_the_first_epoch_has_ended_is_recorded(train, tiny_net, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(net=FailsLater(tiny_net, 2, KeyboardInterrupt()), name="stopped")
    record = RunFolder(tmp_path / "runs" / "stopped").record
    assert (record["status"], record["failure"]) == ("failed", "interrupted")


def test_wrong_settings_are_an_error_before_anything_is_read():
    with pytest.raises(HilumError, match="2 settings cannot be used"):
        StandardTraining(num_epoch=3, batch_size=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"target_columns": "Edemma"},
            "target_columns: the data set has no target 'Edemma'. Did you mean 'Edema'",
        ),
        ({"target_thresholds": {"Hernia": 0.2}}, "target_thresholds: there is no target 'Hernia'"),
        ({"number_images": 49}, "number_images asks for 49 images, but the catalog has 48"),
        ({"val_fraction": 0.001}, "val part empty with val_fraction=0.001"),
        ({"net_name": "resnet"}, "net_name: there is no model 'resnet'"),
        ({"net_kwargs": {"layers": 20}}, "layers must be one of 18"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_an_error_and_leave_no_folder(train, tmp_path, changes, words):
    with pytest.raises(HilumError, match=words):
        train(**changes)
    assert not (tmp_path / "runs").exists()
