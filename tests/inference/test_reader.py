"""Tests of hilum.inference.reader, on a run and on its bundle."""

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.inference.reader import Finding, ImageResult, open_reader, order_findings, study_result
from hilum.metrics.calibration import Calibration


def finding(target: str, probability: float, threshold: float) -> Finding:
    """One whose threshold was not measured."""
    odds = [np.log(value / (1 - value)) for value in (probability, threshold)]
    return Finding(
        finding=target,
        suggested=probability >= threshold,
        probability=probability,
        threshold=threshold,
        threshold_measured=False,
        calibrated=None,
        priority=odds[0] - odds[1],
        recall=None,
        recall_low=None,
        recall_high=None,
    )


def test_a_run_gives_the_probabilities_of_its_training(run, reader, phantom):
    catalog = run.images()
    table = run.predictions(run.best_epoch)
    table = table[table["part"] == "val"].set_index("ImageID")
    rows = catalog[catalog["part"] == "val"].head(5)
    images = [reader.prepare((phantom / path).read_bytes(), path) for path in rows["Image_Path"]]
    expected = table.loc[rows["ImageID"], [f"prob_{target}" for target in reader.targets]].to_numpy()
    np.testing.assert_allclose(reader.probabilities(images), expected, atol=1e-5)


def test_findings_have_the_frozen_thresholds_and_the_calibration(run, reader, frontal):
    image = reader.prepare(frontal.read_bytes(), frontal.name)
    (result,) = reader.read([image])
    assert {found.finding for found in result.findings} == set(run.targets)
    probabilities = np.array([[f.probability for f in result.findings]])
    order = [run.targets.index(f.finding) for f in result.findings]
    every = np.full((1, len(run.targets)), 0.5)
    every[0, order] = probabilities[0]
    calibrated = Calibration.from_record(run.record["calibration"]).apply(every)[0, order]
    for found, value in zip(result.findings, calibrated, strict=True):
        point = run.record["operating_points"][found.finding]
        assert found.threshold == point["threshold"]
        assert (found.recall, found.recall_low) == (point["recall"], point["recall_low"])
        assert found.suggested == (np.float32(found.probability) >= np.float32(point["threshold"]))
        assert found.calibrated == pytest.approx(value, abs=1e-9)


def test_a_refused_image_has_no_findings_and_the_order_is_kept(reader, frontal, lateral):
    images = [reader.prepare(path.read_bytes(), path.name) for path in (lateral, frontal, lateral, frontal)]
    results = reader.read(images)
    assert [bool(result.findings) for result in results] == [False, True, False, True]
    assert results[0].seconds == 0 < results[1].seconds
    assert results[1].findings == results[3].findings
    assert reader.read([]) == []


def test_priority_is_the_ratio_of_odds_to_the_threshold_odds():
    rare, common = finding("Rare", 0.05, 0.01), finding("Common", 0.6, 0.5)
    near, none = finding("Near", 0.29, 0.3), finding("No_Finding", 0.99, 0.1)
    far = finding("Far", 0.01, 0.9)
    ordered = order_findings([none, far, common, near, rare])
    assert [found.finding for found in ordered] == ["Rare", "Common", "Near", "Far", "No_Finding"]


def test_a_study_has_the_mean_probability_of_the_images_read(
    reader, frontal, lateral, phantom, make_predictions
):
    frontals = sorted(phantom.rglob("*_frontal.jpg"))[:3]
    images = [reader.prepare(path.read_bytes(), path.name) for path in (*frontals, lateral)]
    study = study_result(reader.read(images))
    assert (study.images, study.refused) == (3, 1)
    given = reader.probabilities(images[:3])
    expected = make_predictions(np.zeros(given.shape), given).aggregate(np.zeros(3)).y_score
    for found in study.findings:
        assert found.probability == pytest.approx(expected[0, reader.targets.index(found.finding)], abs=1e-7)
    assert study_result([ImageResult("a.png", "refused")]).findings == ()


def test_a_heatmap_has_the_model_size(reader, bundle_reader, frontal):
    image = reader.prepare(frontal.read_bytes(), frontal.name)
    for method in ("integrated-gradients", "grad-cam"):
        heat = reader.heatmap(image, "Edema", method)
        assert (heat.shape, heat.dtype) == ((32, 32), np.float32)
        assert 0 <= heat.min() <= heat.max() <= 1
        np.testing.assert_allclose(bundle_reader.heatmap(image, "Edema", method), heat, atol=1e-3)
    with pytest.raises(HilumError, match=r"no target 'Edem'\. Did you mean 'Edema'"):
        reader.heatmap(image, "Edem")
    with pytest.raises(HilumError, match="Known: integrated-gradients, grad-cam"):
        reader.heatmap(image, "Edema", "lime")


def test_the_metadata_of_a_run(run, reader):
    metadata = reader.metadata
    assert "Research use only" in metadata["research_use"]
    assert metadata["targets"] == run.targets
    assert metadata["preprocessing"]["width"] == 32
    assert metadata["preprocessing"]["reference"]["images"] == (run.images()["part"] == "train").sum()
    assert (
        sum(metadata["preprocessing"]["views"].values()) == metadata["preprocessing"]["reference"]["images"]
    )
    assert metadata["provenance"]["data"]["fingerprint"] == run.record["catalog"]["fingerprint"]
    assert {"roc_auc", "roc_auc_low", "recall"} <= set(metadata["scores"][0])
    assert "/" not in str(metadata["provenance"]["data"])  # no path of this machine


def test_a_run_without_its_images_can_be_opened(run, tmp_path, frontal):
    import json
    import shutil

    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "card.json").unlink(missing_ok=True)
    record = json.loads((copy / "run.json").read_text())
    record["catalog"]["image_root"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(record))
    moved = open_reader(copy, "cpu")
    assert moved.metadata["preprocessing"]["reference"] is None
    assert "cannot be read here" in moved.metadata["preprocessing"]["reference_lack"]
    assert moved.read([moved.prepare(frontal.read_bytes(), "a.jpg")])[0].findings


def test_a_folder_that_is_neither_a_run_nor_a_bundle(tmp_path):
    with pytest.raises(HilumError, match="neither a run folder"):
        open_reader(tmp_path)
