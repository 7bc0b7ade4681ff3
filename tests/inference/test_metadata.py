"""Tests of hilum.inference._metadata: what is stored in the run's folder."""

import json
import shutil

from hilum.inference._metadata import METADATA_FORMAT, model_metadata
from hilum.run_folder import RunFolder


def test_a_missing_reference_is_added_once_the_images_can_be_read(run, tmp_path, monkeypatch):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "card.json").unlink(missing_ok=True)
    record = json.loads((copy / "run.json").read_text())
    root = record["catalog"]["image_root"]
    record["catalog"]["image_root"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(record))
    lacking = model_metadata(RunFolder(copy))
    assert lacking["preprocessing"]["reference"] is None
    assert model_metadata(RunFolder(copy)) == lacking

    record["catalog"]["image_root"] = root
    (copy / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr("hilum.inference._metadata._scores", None)  # the rest is read from the stored file
    whole = model_metadata(RunFolder(copy))
    assert whole["preprocessing"]["reference"]["images"] > 0
    assert whole["preprocessing"]["reference_lack"] is None
    assert json.loads((copy / "card.json").read_text()) == whole

    monkeypatch.setattr("hilum.inference._metadata._reference", None)  # the images are not measured again
    assert model_metadata(RunFolder(copy)) == whole


def test_a_model_metadata_an_older_format_is_made_again(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    old = model_metadata(RunFolder(copy)) | {"format": METADATA_FORMAT - 1, "name": "old"}
    (copy / "card.json").write_text(json.dumps(old))
    made = model_metadata(RunFolder(copy))
    assert (made["format"], made["name"]) == (METADATA_FORMAT, "tiny")
