"""Tests of hilum.inference.reader, on a run and on its bundle."""

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.inference.opener import open_reader
from hilum.inference.reader import Finding, Reading, order_findings, study_readings
from hilum.metrics.calibration import Calibration
from hilum.metrics.study_level import aggregate


def finding(target: str, probability: float, threshold: float) -> Finding:
    """One with its priority, as far as its order goes."""
    odds = [np.log(value / (1 - value)) for value in (probability, threshold)]
    return Finding(
        target, probability, threshold, None, None, None, probability >= threshold, None, odds[0] - odds[1]
    )


def test_a_run_reads_as_it_predicted_in_training(run, reader, phantom):
    images = run.images()
    table = run.predictions(run.best_epoch)
    table = table[table["part"] == "val"].set_index("ImageID")
    rows = images[images["part"] == "val"].head(5)
    films = [reader.film((phantom / path).read_bytes(), path) for path in rows["Image_Path"]]
    wanted = table.loc[rows["ImageID"], [f"prob_{target}" for target in reader.targets]].to_numpy()
    np.testing.assert_allclose(reader.probabilities(films), wanted, atol=1e-5)


def test_findings_carry_the_frozen_points_and_the_calibration(run, reader, frontal):
    film = reader.film(frontal.read_bytes(), frontal.name)
    (reading,) = reader.read([film])
    assert {found.target for found in reading.findings} == set(run.targets)
    probabilities = np.array([[f.probability for f in reading.findings]])
    order = [run.targets.index(f.target) for f in reading.findings]
    every = np.full((1, len(run.targets)), 0.5)
    every[0, order] = probabilities[0]
    calibrated = Calibration.from_record(run.record["calibration"]).apply(every)[0, order]
    for found, value in zip(reading.findings, calibrated, strict=True):
        point = run.record["operating_points"][found.target]
        assert found.threshold == point["threshold"]
        assert (found.recall, found.recall_low) == (point["recall"], point["recall_low"])
        assert found.suggested == (np.float32(found.probability) >= np.float32(point["threshold"]))
        assert found.calibrated == pytest.approx(value, abs=1e-9)


def test_a_refused_film_has_no_findings_and_the_others_keep_their_places(reader, frontal, lateral):
    films = [reader.film(path.read_bytes(), path.name) for path in (lateral, frontal, lateral, frontal)]
    readings = reader.read(films)
    assert [bool(reading.findings) for reading in readings] == [False, True, False, True]
    assert readings[0].seconds == 0 < readings[1].seconds
    assert readings[1].findings == readings[3].findings
    assert reader.read([]) == []


def test_priority_is_by_odds_over_the_thresholds_odds():
    rare, common = finding("Rare", 0.05, 0.01), finding("Common", 0.6, 0.5)
    near, none = finding("Near", 0.29, 0.3), finding("No_Finding", 0.99, 0.1)
    far = finding("Far", 0.01, 0.9)
    ordered = order_findings([none, far, common, near, rare])
    assert [found.target for found in ordered] == ["Rare", "Common", "Near", "Far", "No_Finding"]


def test_a_study_has_the_mean_probability_of_what_was_read(reader, frontal, lateral, phantom):
    frontals = sorted(phantom.rglob("*_frontal.jpg"))[:3]
    films = [reader.film(path.read_bytes(), path.name) for path in (*frontals, lateral)]
    study = study_readings(reader.read(films))
    assert (study.films, study.refused) == (3, 1)
    given = reader.probabilities(films[:3])
    _, wanted, _ = aggregate(np.zeros(given.shape), given, np.zeros(3))
    for found in study.findings:
        assert found.probability == pytest.approx(wanted[0, reader.targets.index(found.target)], abs=1e-7)
    assert study_readings([Reading(films[3], (), 0.0)]).findings == ()


def test_a_heatmap_has_the_models_size(reader, bundle_reader, frontal):
    film = reader.film(frontal.read_bytes(), frontal.name)
    for method in ("integrated-gradients", "grad-cam"):
        heat = reader.heatmap(film, "Edema", method)
        assert (heat.shape, heat.dtype) == ((32, 32), np.float32)
        assert 0 <= heat.min() <= heat.max() <= 1
        np.testing.assert_allclose(bundle_reader.heatmap(film, "Edema", method), heat, atol=1e-3)
    with pytest.raises(HilumError, match=r"no target 'Edem'\. Did you mean 'Edema'"):
        reader.heatmap(film, "Edem")
    with pytest.raises(HilumError, match="Known: integrated-gradients, grad-cam"):
        reader.heatmap(film, "Edema", "lime")


def test_the_card_says_what_must_be_known(run, reader):
    card = reader.card
    assert "Research use only" in card["research_use"]
    assert card["targets"] == run.targets
    assert card["preprocessing"]["width"] == 32
    assert card["preprocessing"]["reference"]["images"] == (run.images()["part"] == "train").sum()
    assert sum(card["preprocessing"]["views"].values()) == card["preprocessing"]["reference"]["images"]
    assert card["provenance"]["data"]["fingerprint"] == run.record["catalog"]["fingerprint"]
    assert {"roc_auc", "roc_auc_low", "recall"} <= set(card["scores"][0])
    assert "/" not in str(card["provenance"]["data"])  # no place on this machine


def test_a_run_whose_images_are_gone_is_read_all_the_same(run, tmp_path, frontal):
    import json
    import shutil

    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "card.json").unlink(missing_ok=True)
    record = json.loads((copy / "run.json").read_text())
    record["catalog"]["image_root"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(record))
    moved = open_reader(copy, "cpu")
    assert moved.card["preprocessing"]["reference"] is None
    assert "cannot be read here" in moved.card["preprocessing"]["reference_lack"]
    assert moved.read([moved.film(frontal.read_bytes(), "a.jpg")])[0].findings


def test_what_is_neither_a_run_nor_a_bundle(tmp_path):
    with pytest.raises(HilumError, match="neither a run folder"):
        open_reader(tmp_path)
