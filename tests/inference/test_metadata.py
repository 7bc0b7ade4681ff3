"""Tests of hilum.inference.metadata: what is kept in the run's folder."""

import json
import shutil

from hilum.inference.metadata import CARD_FORMAT, card_of
from hilum.run_folder import RunFolder


def test_a_card_made_without_the_images_is_completed_once_they_answer(run, tmp_path, monkeypatch):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "card.json").unlink(missing_ok=True)
    record = json.loads((copy / "run.json").read_text())
    root = record["catalog"]["image_root"]
    record["catalog"]["image_root"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(record))
    lacking = card_of(RunFolder(copy))
    assert lacking["preprocessing"]["reference"] is None
    assert card_of(RunFolder(copy)) == lacking

    record["catalog"]["image_root"] = root
    (copy / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr("hilum.inference.metadata._scores", None)  # the rest is taken from the kept card
    whole = card_of(RunFolder(copy))
    assert whole["preprocessing"]["reference"]["images"] > 0
    assert whole["preprocessing"]["reference_lack"] is None
    assert json.loads((copy / "card.json").read_text()) == whole

    monkeypatch.setattr("hilum.inference.metadata._reference", None)  # nothing is measured again
    assert card_of(RunFolder(copy)) == whole


def test_a_card_of_an_older_format_is_made_again(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    old = card_of(RunFolder(copy)) | {"format": CARD_FORMAT - 1, "name": "old"}
    (copy / "card.json").write_text(json.dumps(old))
    made = card_of(RunFolder(copy))
    assert (made["format"], made["name"]) == (CARD_FORMAT, "tiny")
