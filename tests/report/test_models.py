"""A model's table fits on a terminal of 80 columns and keeps its columns over its parts."""

import io

from rich.console import Console

from hilum.models.describe import Description, Layer, Summary
from hilum.report.models import show_model, show_models


def summary(**changes) -> Summary:
    values = {
        "name": "custom_pneumonia",
        "net_kwargs": {},
        "about": "Blocks [of convolution].",
        "image_size": (320, 256),
        "outputs": 14,
        "parameters": 1_885_070,
        "trainable": 1_885_070,
    }
    return Summary(**(values | changes))


def shown(show, *arguments) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    show(*arguments, console)
    return console.file.getvalue().splitlines()


def test_the_parts_before_and_after_the_meeting_have_the_same_columns():
    layers = (
        Layer("blocks.0.0", "Conv2d", (1, 256, 320), (16, 256, 320), 160, "16 × (1 × 3 × 3 + 1)"),
        Layer(
            "hidden", "Linear", (12_800,), (128,), 1_638_528, "128 × (12,800 + 1)", "a row of 12,800 numbers"
        ),
    )
    lines = shown(show_model, Description(summary(), 1_000, 2_500_000, layers))
    headings = [line for line in lines if line.startswith("layer")]
    assert len(headings) == 2
    assert headings[0].index("parameters") == headings[1].index("parameters")
    assert any("Here convolution meets fully connected: a row of 12,800 numbers." in line for line in lines)
    assert any("image" in line and "1 x 256 x 320" in line for line in lines)
    assert "all of them trainable" in " ".join(lines)
    assert "2.5 MB" in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_frozen_parameters_are_told_and_settings_shown():
    model = summary(net_kwargs={"hidden": 10}, trainable=70)
    words = " ".join(shown(show_model, Description(model, 1, 1, ())))
    assert "with hidden = 10" in words
    assert "1,885,070 parameters, 70 of them trainable" in words


def test_the_list_says_whether_timm_is_there_and_what_was_left_out():
    lines = shown(show_models, [summary()], ["densenet cannot take images of 16 x 16."], None)
    assert lines[1].split()[0] == "custom_pneumonia"
    assert "custom_pneumonia: Blocks [of convolution]." in lines
    assert "densenet cannot take images of 16 x 16." in lines
    assert any("it is not installed: pip install 'hilum[timm]'" in line for line in lines)
    assert any("timm 1.0 is installed" in line for line in shown(show_models, [summary()], [], "1.0"))
