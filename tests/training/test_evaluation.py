"""A model on other images: targets by name, frozen thresholds, and no patient of its training."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from hilum.cli import cli
from hilum.data.loaders import Loaders
from hilum.errors import HilumError
from hilum.metrics import itemized_scores
from hilum.models import build_model
from hilum.phantom import write_phantom
from hilum.report.run_page import write_report
from hilum.report.terminal import show_evaluation
from hilum.run_folder import RunFolder, read_evaluation
from hilum.sources.catalog import Catalog
from hilum.training.checkpoints import load_weights
from hilum.training.evaluation import evaluate
from hilum.training.run import StandardTraining

pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")

QUICK = {"num_workers": 0, "device": "cpu", "replicates": 100}


@pytest.fixture
def run(finished, tmp_path) -> RunFolder:
    """A copy of the finished run, to leave evaluations in."""
    shutil.copytree(finished[0].folder.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def elsewhere(catalog: Catalog, **changes) -> Catalog:
    """The same images as another data set of other patients."""
    table = catalog.table.copy()
    table["PatientID"] = table["PatientID"] + 5000
    return replace(catalog, **({"name": "elsewhere", "table": table} | changes))


def predictions_of(found) -> pd.DataFrame:
    return pd.read_parquet(found.folder / "predictions.parquet").set_index("ImageID")


def test_the_test_part_is_scored_by_the_best_checkpoint_at_the_frozen_thresholds(run, own_catalog):
    found = evaluate(run, catalog=own_catalog, **QUICK)
    split = run.split()
    test_ids = sorted(split.loc[split["part"] == "test", "ImageID"])
    predictions = predictions_of(found)
    assert predictions.index.tolist() == test_ids

    stats = {"mean": run.record["pixel_mean"], "sd": run.record["pixel_sd"]}
    net = build_model("resnet_grayscale", 3, {"layers": 18}, seed=9, **stats)
    load_weights(run.path / "checkpoints" / "best", net)
    net.to(memory_format=torch.channels_last).eval()
    loader = Loaders(own_catalog, batch_size=16, image_width=32, image_height=32, num_workers=0).get_loader(
        np.array(test_ids)
    )
    with torch.no_grad():
        expected = torch.cat([torch.sigmoid(net(batch["img"])) for batch in loader]).numpy()
    given = predictions[[f"prob_{target}" for target in run.targets]].to_numpy()
    np.testing.assert_allclose(given, expected, atol=1e-6)

    thresholds = [run.record["operating_points"][target]["threshold"] for target in run.targets]
    labels = own_catalog.table.loc[test_ids, list(run.targets)].to_numpy()
    itemized = itemized_scores(labels, given, run.targets, thresholds)
    pd.testing.assert_frame_equal(found.scores[itemized.columns], itemized)
    assert found.record["part"] == "test"
    assert found.record["remarks"] == []


def test_the_validation_part_gives_the_best_epochs_predictions_and_a_remark(run, own_catalog):
    found = evaluate(run, catalog=own_catalog, part="val", **QUICK)
    ledger = run.predictions(run.best_epoch)
    ledger = ledger[ledger["part"] == "val"].set_index("ImageID").sort_index()
    predictions = predictions_of(found)
    for target in run.targets:
        np.testing.assert_allclose(predictions[f"prob_{target}"], ledger[f"prob_{target}"], atol=1e-6)
        np.testing.assert_array_equal(predictions[f"label_{target}"], ledger[f"label_{target}"])
        point = run.record["operating_points"][target]
        row = found.scores.set_index("target").loc[target]
        assert row["recall"] == pytest.approx(point["recall"])
        assert row["recall_low"] == pytest.approx(point["recall_low"], abs=0.05)
    assert "thresholds were chosen on these images" in found.record["remarks"][0]


def test_targets_are_matched_by_name_and_missing_ones_are_recorded(run, own_catalog):
    other = elsewhere(own_catalog)
    columns = [name for name in other.table.columns if name not in own_catalog.targets]
    table = other.table[[*columns, "Mine", "Edema"]].assign(Hernia=0.0)
    other = replace(other, table=table, targets=("Hernia", "Mine", "Edema"))
    found = evaluate(run, catalog=other, **QUICK)
    assert found.scores["target"].tolist() == ["Edema", "Mine"]
    assert found.record["left_out"] == {"Fracture": "elsewhere does not label it"}
    same = predictions_of(evaluate(run, catalog=elsewhere(own_catalog), **QUICK))
    np.testing.assert_allclose(predictions_of(found)["prob_Mine"], same["prob_Mine"], atol=1e-6)
    np.testing.assert_array_equal(predictions_of(found)["label_Mine"], own_catalog.table["Mine"].astype("f4"))


def test_patients_that_the_run_was_trained_on_are_left_out_of_its_own_data_set(run, own_catalog):
    changed = own_catalog.table.assign(Age=1.0)  # another version of the same data set
    found = evaluate(run, catalog=replace(own_catalog, table=changed), **QUICK)
    split = run.split()
    kept = set(split.loc[split["part"] == "test", "ImageID"])
    assert set(predictions_of(found).index) == kept
    assert f"{48 - len(kept)} images are left out" in found.record["remarks"][0]
    only_known = replace(own_catalog, table=changed.drop(index=list(kept)))
    with pytest.raises(HilumError, match="images are of patients that the run was trained on"):
        evaluate(run, catalog=only_known, **QUICK)


def test_the_same_images_again_replace_their_folder_and_others_get_their_own(run, own_catalog):
    first = evaluate(run, catalog=elsewhere(own_catalog), **QUICK)
    assert evaluate(run, catalog=elsewhere(own_catalog), **QUICK).folder == first.folder
    fewer = elsewhere(own_catalog).select_images(own_catalog.table.index[:20])
    second = evaluate(run, catalog=fewer, **QUICK)
    assert run.evaluations() == ["elsewhere-all", "elsewhere-all-2"]
    assert (second.record["name"], second.record["images"]) == ("elsewhere-all-2", 20)
    assert [
        read_evaluation(run.path / "evaluations" / name).record["images"] for name in run.evaluations()
    ] == [48, 20]


def test_studies_and_calibration_are_kept_too(run, own_catalog):
    fits = {target: {"slope": 2.0, "intercept": -1.0} for target in run.targets}
    run.update(calibration={"method": "platt", "targets": fits, "notes": {}})
    table = elsewhere(own_catalog).table.assign(StudyID=1)  # two images each
    found = evaluate(run, catalog=elsewhere(own_catalog, table=table), **QUICK)
    by_study = pd.read_parquet(found.folder / "study_scores.parquet")
    assert (by_study["positives"] + by_study["negatives"]).max() == 24
    calibration = pd.read_parquet(found.folder / "calibration.parquet")
    assert calibration["calibrated"].tolist() == [False] * 3 + [True] * 3
    assert (calibration["brier"][:3].to_numpy() != calibration["brier"][3:].to_numpy()).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"part": "tset"}, r"'tset' is not a part\. Use test, val, train, all"),
        ({"net": torch.nn.Linear(1, 1)}, r"was trained with resnet_grayscale: leave net= out"),
        ({"device": "cuda:99"}, r"there is no cuda:99 here"),
    ],
)
def test_an_impossible_argument_is_an_error_and_writes_nothing(run, own_catalog, changes, words):
    with pytest.raises(HilumError, match=words):
        evaluate(run, catalog=own_catalog, **(QUICK | changes))
    assert not (run.path / "evaluations").exists()


def test_a_missing_part_or_target_is_an_error(run, own_catalog):
    with pytest.raises(HilumError, match=r"elsewhere has no such part of its own \(it has none\)"):
        evaluate(run, catalog=elsewhere(own_catalog), part="test", **QUICK)
    table = own_catalog.table.rename(columns={"Edema": "A", "Fracture": "B", "Mine": "C"})
    other = Catalog("elsewhere", table, ("A", "B", "C"), own_catalog.root)
    with pytest.raises(HilumError, match=r"has none of the run's targets \(Edema, Fracture, Mine\)"):
        evaluate(run, catalog=other, **QUICK)
    split = run.split()
    run.write_split(split[split["part"] != "test"])
    with pytest.raises(HilumError, match=r"has no such part; it has train \(\d+ images\), val"):
        evaluate(run, catalog=own_catalog, **QUICK)


def test_a_run_without_checkpoint_or_epoch_is_an_error(run, own_catalog):
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(HilumError, match="the checkpoint is missing"):
        evaluate(run, catalog=own_catalog, **QUICK)
    run.update(best_epoch=None)
    with pytest.raises(HilumError, match="no epoch has ended yet"):
        evaluate(run, catalog=own_catalog, **QUICK)


def test_a_run_with_an_own_net_needs_it_for_an_evaluation(train, own_catalog, make_tiny_net):
    training = train()
    with pytest.raises(HilumError, match=r"with a network of your own, .*TinyNet: evaluate it from Python"):
        evaluate(training.folder, catalog=elsewhere(own_catalog), **QUICK)
    found = evaluate(training.folder, catalog=elsewhere(own_catalog), net=make_tiny_net(), **QUICK)
    assert found.record["images"] == 48


def test_a_run_with_an_uncertain_class_reports_one_probability(train, own_catalog, make_tiny_net):
    codes = own_catalog.table[list(own_catalog.targets)].copy()
    codes.iloc[:6, 0] = -1.0
    coded = replace(own_catalog, codes=codes)
    net = make_tiny_net(5)
    folder = train(catalog=coded, net=net, uncertain_policy={"Edema": "multiclass"}).folder
    assert folder.record["multiclass_targets"] == ["Edema"]
    found = evaluate(folder, catalog=coded, net=make_tiny_net(5), part="val", **QUICK)
    ledger = folder.predictions(1)
    ledger = ledger[ledger["part"] == "val"].set_index("ImageID").sort_index()
    np.testing.assert_allclose(predictions_of(found)["prob_Edema"], ledger["prob_Edema"], atol=1e-6)


def test_an_evaluation_is_printed_and_is_json(run, own_catalog, capsys):
    found = evaluate(run, catalog=elsewhere(own_catalog), **QUICK)
    show_evaluation(found.folder)
    printed = capsys.readouterr().out
    assert "elsewhere-all: 48 images of 24 patients; thresholds as frozen in the run" in printed
    row = found.scores.set_index("target").loc["Edema"]
    assert f"{row['recall']:.3f} ({row['recall_low']:.2f}–{row['recall_high']:.2f})" in printed
    record = json.loads(read_evaluation(found.folder).as_json())
    assert record["scores"][0]["roc_auc"] == pytest.approx(row["roc_auc"])
    assert record["study_scores"] is None


def test_a_damaged_evaluation_is_an_error(run, own_catalog):
    found = evaluate(run, catalog=elsewhere(own_catalog), **QUICK)
    (found.folder / "scores.parquet").write_bytes(b"no table")
    with pytest.raises(HilumError, match="the evaluation cannot be read"):
        read_evaluation(found.folder)


def test_the_command_scores_a_source_by_name(tmp_path, without_pictures):
    write_phantom(tmp_path / "data", images=60, size=32, seed=0)
    training = StandardTraining(
        root=tmp_path / "data",
        save_path=tmp_path / "runs",
        name="phantom",
        image_width=16,
        image_height=16,
        num_epochs=1,
        test_fraction=0.3,
        num_workers=0,
        device="cpu",
        quiet=True,
    )
    training.train()
    result = CliRunner().invoke(
        cli, ["evaluate", str(training.folder.path), "--num-workers", "0", "--replicates", "100", "--json"]
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["name"] == "phantom-test"
    assert record["images"] == training.folder.record["split"]["parts"]["test"]["images"]


def test_a_run_with_an_own_catalog_needs_it_or_a_source(train):
    with pytest.raises(
        HilumError, match="given its images as a catalog of your own: evaluate it from Python"
    ):
        evaluate(train().folder, **QUICK)


def test_patients_are_recognized_in_a_merged_data_set(run, own_catalog):
    merged = own_catalog.table.copy()
    merged["PatientID"] = "own/" + merged["PatientID"].astype(str)
    found = evaluate(run, catalog=replace(own_catalog, name="own+nih", table=merged), **QUICK)
    kept = run.split().query("part == 'test'")["ImageID"]
    assert set(predictions_of(found).index) == set(kept)
    assert "images are left out" in found.record["remarks"][0]


def test_a_data_sets_name_stays_inside_the_runs_folder(run, own_catalog):
    found = evaluate(run, catalog=elsewhere(own_catalog, name="../../x/y"), **QUICK)
    assert found.folder.parent == run.path / "evaluations"
    assert run.evaluations() == [found.folder.name]


def test_a_damaged_record_is_replaced_and_an_incomplete_one_is_an_error(run, own_catalog):
    found = evaluate(run, catalog=elsewhere(own_catalog), **QUICK)
    (found.folder / "evaluation.json").write_text("{cut")
    assert evaluate(run, catalog=elsewhere(own_catalog), **QUICK).folder == found.folder
    (found.folder / "evaluation.json").write_text("{}")
    with pytest.raises(HilumError, match=r"evaluation\.json lacks name, run"):
        read_evaluation(found.folder)


def test_the_page_shows_the_evaluations_and_escapes_their_names(run, own_catalog):
    harm = "<script>alert(1)</script>"
    evaluate(run, catalog=elsewhere(own_catalog, name=harm), **QUICK)
    html = write_report(run).read_text(encoding="utf-8")
    assert harm not in html
    assert "Evaluations on other images" in html
    assert "48 images of 24 patients" in html


def test_real_radiographs_are_scored(nih_sample, tmp_path, without_pictures):
    training = StandardTraining(
        source="nih",
        root=nih_sample,
        number_images=80,
        test_fraction=0.3,
        image_width=32,
        image_height=32,
        num_epochs=1,
        num_workers=0,
        device="cpu",
        quiet=True,
        save_path=tmp_path / "runs",
    )
    training.train()
    found = evaluate(training.folder, **QUICK)
    assert found.record["name"] == "nih-test"
    assert found.record["images"] == training.folder.record["split"]["parts"]["test"]["images"]
