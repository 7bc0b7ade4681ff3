"""Tests of hilum.cli.inference: the commands, on a bundle that holds the smallest model there is."""

import csv
import json
import os
import sys

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, save

from hilum.cli import main
from hilum.files import sha256_of_file
from hilum.inference import RESEARCH_USE
from hilum.inference.predict import JSON_FORMAT
from hilum.inference.quality_checks import measure_reference


@pytest.fixture
def tiny_bundle(tmp_path):
    """A bundle of two findings whose logits are the image's mean gray level - 100 and its negative, times 0.1."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    nodes = [
        helper.make_node("Cast", ["images"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["gray"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "hundred"], ["above"]),
        helper.make_node("Mul", ["above", "signs"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("hundred", TensorProto.FLOAT, [1], [100.0]),
        helper.make_tensor("signs", TensorProto.FLOAT, [2], [0.1, -0.1]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    preprocessing = {"width": 16, "height": 16, "fit": "stretch", "interpolation": "auto"}
    preprocessing |= {"views": {"PA": 3, "AP": 2}, "reference": None, "reference_lack": "this is a test"}
    record = {
        "bundle_format": 1,
        "name": "tiny",
        "digest": "ab",
        "epoch": 1,
        "research_use": RESEARCH_USE,
        "targets": ["Edema", "Mass"],
        "thresholds": {"Edema": {"threshold": 0.5}, "Mass": {"threshold": 0.5}},
        "preprocessing": preprocessing,
        "calibration": None,
        "network": {"net_name": None},
        "files": {"model.onnx": sha256_of_file(folder / "model.onnx")},
    }
    (folder / "bundle.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder: a bright image, a dark one below it, a broken one, a text."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    draw = np.random.default_rng(1)
    for name, level in (("bright.png", 130), ("below/dark.PNG", 70)):
        cv2.imwrite(str(folder / name), draw.normal(level, 10, (32, 32)).clip(0, 255).astype(np.uint8))
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def hilum(monkeypatch, *arguments) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["hilum", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def test_a_folder_is_read_and_files_that_cannot_be_are_reported(tiny_bundle, images, monkeypatch, capsys):
    assert hilum(monkeypatch, "predict", tiny_bundle, images) == 0
    shown = capsys.readouterr().out
    assert "Research use only" in shown
    assert "this is a test" in shown
    assert "not read (unreadable)" in shown
    assert "notes.txt" not in shown
    assert "2 of 3 images read, 1 not; " in shown
    assert "images/s" in shown
    bright = shown[shown.index("bright.png") :]
    assert "Edema    0.9" in bright
    assert "1 below their thresholds" in bright
    assert shown.count("in log odds") == 1
    assert "suggested  threshold not measured" in bright


def test_csv_and_json_agree(tiny_bundle, images, monkeypatch, capsys, tmp_path):
    files = tmp_path / "a.csv", tmp_path / "a.json"
    arguments = "predict", tiny_bundle, f"{images}/**/*", "--csv", files[0], "--json", files[1]
    assert hilum(monkeypatch, *arguments) == 0
    rows = list(csv.DictReader(files[0].read_text().splitlines()))
    content = json.loads(files[1].read_text())
    results = content["images"]
    assert content["format"] == JSON_FORMAT
    assert [result["status"] for result in results] == ["read", "read", "unreadable"]
    assert len(rows) == 5
    assert list(rows[0])[-1] == "note"
    assert {row["note"] for row in rows} == {"research use only"}
    dark = [row for row in rows if row["image"].endswith("dark.PNG")]
    assert [(row["rank"], row["finding"], row["suggested"]) for row in dark] == [
        ("1", "Mass", "True"),
        ("2", "Edema", "False"),
    ]
    assert float(dark[0]["probability"]) == results[0]["findings"][0]["probability"]
    assert results[0]["findings"][0]["threshold_measured"] is False
    assert rows[-1]["reason"].endswith("neither a PNG nor a JPEG nor a DICOM.")
    capsys.readouterr()
    assert hilum(monkeypatch, "predict", tiny_bundle, images / "bright.png", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["model"]["research_use"] == RESEARCH_USE


def test_no_image_read_is_an_error(tiny_bundle, images, monkeypatch, capsys):
    assert hilum(monkeypatch, "predict", tiny_bundle, images / "broken.png") == 2
    assert "The image was not read: it is unreadable." in capsys.readouterr().err
    assert hilum(monkeypatch, "predict", tiny_bundle, images / "gone.png") == 2
    assert "gone.png: there is no such file or image" in capsys.readouterr().err
    (images / "worse.png").write_bytes(b"no image")
    assert hilum(monkeypatch, "predict", tiny_bundle, images / "broken.png", images / "worse.png") == 2
    assert "None of 2 images was read: 2 unreadable." in capsys.readouterr().err
    (images / "empty").mkdir()
    assert hilum(monkeypatch, "predict", tiny_bundle, images / "empty") == 2
    assert "the folder holds no PNG, JPEG or DICOM file." in capsys.readouterr().err


def test_a_negative_is_refused(tiny_bundle, images, monkeypatch, capsys):
    record = json.loads((tiny_bundle / "bundle.json").read_text())
    bent = np.outer(np.linspace(0.4, 1, 32) ** 2, np.linspace(0, 1, 32) ** 2)
    pictures = [(255 * bent).astype(np.uint8), (250 * bent).astype(np.uint8)]
    record["preprocessing"]["reference"] = measure_reference(pictures, record["preprocessing"])
    (tiny_bundle / "bundle.json").write_text(json.dumps(record))
    cv2.imwrite(str(images / "right.png"), pictures[0])
    cv2.imwrite(str(images / "wrong.png"), 255 - pictures[0])
    assert hilum(monkeypatch, "predict", tiny_bundle, images / "right.png", images / "wrong.png") == 0
    shown = capsys.readouterr().out
    assert "refused (inverted): The image is a negative" in shown
    assert "1 of 2 images read, 1 not" in shown


def test_exporting_a_folder_that_is_not_a_run(monkeypatch, capsys, tmp_path):
    assert hilum(monkeypatch, "export", tmp_path, "--out", tmp_path / "b") == 2
    assert "not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_an_output_that_cannot_be_written_is_an_error_before_reading(
    option, tiny_bundle, images, monkeypatch, capsys
):
    monkeypatch.setattr("hilum.inference.predict.predict", lambda *_, **__: pytest.fail("it was read"))
    for place, text in (
        (images, "this is a folder"),
        (images / "notes.txt" / "new" / "a.out", "notes.txt is not a folder"),
    ):
        assert hilum(monkeypatch, "predict", tiny_bundle, images, option, place) == 2
        assert text in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    assert hilum(monkeypatch, "predict", tiny_bundle, images, option, images / "new" / "a.out") == 2
    assert "no permission to write to" in capsys.readouterr().err
    assert not (images / "new").exists()


def test_a_path_that_is_not_a_regular_file_is_not_read(tiny_bundle, images, monkeypatch, capsys):
    (images / "dangling.png").symlink_to(images / "nowhere.png")
    os.mkfifo(images / "pipe.png")
    arguments = "predict", tiny_bundle, images / "*.png", "/dev/null"
    assert hilum(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert "dangling.png\n  not read (missing)" in shown
    assert "pipe.png\n  not read (unreadable)" in shown
    assert "/dev/null\n  not read (unreadable)" in shown
    assert "1 of 5 images read, 4 not" in shown
