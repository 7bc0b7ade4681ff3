"""The commands about models: a list, and one model layer by layer."""

import json

import pytest
from click.testing import CliRunner

from hilum.cli.models import models
from hilum.errors import HilumError


def told(*arguments: str) -> str:
    result = CliRunner().invoke(models, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_parameters_shapes_and_a_line_on_each_model():
    output = told("--size", "64x48", "--targets", "5")
    row = next(line for line in output.splitlines() if line.startswith("resnet_grayscale"))
    assert row.split() == ["resnet_grayscale", "11,172,805", "11,172,805", "1", "x", "48", "x", "64", "5"]
    assert "densenet: Dense blocks with transitions between them" in output
    assert "timm:NAME: Any network of timm;" in output


def test_a_timm_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "it is not installed: pip install 'hilum[timm]'" in told("--size", "64")


def test_the_list_for_machines():
    found = json.loads(told("--size", "64", "--json"))
    names = [model["name"] for model in found["models"]]
    assert names == ["custom_pneumonia", "densenet", "resnet_grayscale", "resnet_pretrained"]
    assert found["models"][0]["input_shape"] == [1, 64, 64]
    assert found["models"][0]["output_shape"] == [14]
    assert "layers" not in found["models"][0]
    assert "timm" in found


def test_a_model_is_shown_layer_by_layer_up_to_where_convolution_meets_fully_connected():
    lines = told("describe", "custom_pneumonia", "--size", "320").splitlines()
    told_of = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert " ".join(told_of["blocks.4.2"]) == "MaxPool2d 128 x 10 x 10"
    assert " ".join(told_of["hidden"]) == "Linear 128 1,638,528 128 × (12,800 + 1)"
    assert any("Here convolution meets fully connected" in line and "12,800" in line for line in lines)
    assert any(line.startswith("1,885,070 parameters, all of them trainable") for line in lines)
    assert max(map(len, lines)) <= 160


def test_settings_are_given_as_in_training():
    output = told(
        "describe", "resnet_pretrained", "--size", "64", "--targets", "5", "--net-kwargs", "{layers = 34}"
    )
    assert "with layers = 34" in output
    found = json.loads(
        told("describe", "densenet", "--size", "64", "--net-kwargs", "{block_config = [2, 2]}", "--json")
    )
    assert found["outputs"] == 14
    assert found["layers"][0]["made"] == [64, 32, 32]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "resnet"], "there is no model 'resnet'"),
        (["describe", "densenet", "--net-kwargs", "{growth = 3}"], "Did you mean 'growth_rate'"),
        (["describe", "custom_pneumonia", "--size", "16"], "32 x 32 or larger"),
        (["describe", "densenet", "--size", "wide"], "--size 'wide': give pixels, 320, or width and height"),
        (
            ["describe", "densenet", "--size", "1"],
            "Setting image_width: 1 must be greater than or equal to 16",
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    result = CliRunner().invoke(models, arguments)
    assert isinstance(result.exception, HilumError)
    assert words in str(result.exception)


def test_a_flag_that_would_do_nothing_is_refused():
    result = CliRunner().invoke(models, ["--size", "64", "describe", "densenet"])
    assert result.exit_code == 2
    assert "--size belongs behind describe" in result.output
