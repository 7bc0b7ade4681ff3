"""Numbers and settings are formatted the same on all pages and in the terminal."""

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.report.format import (
    format_difference,
    format_number,
    format_p_value,
    format_percent,
    format_probability,
    format_setting,
    format_with_interval,
    page_environment,
    write_page,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ({}, "–"),
        ([], "–"),
        ({"layers": 34}, "layers: 34"),
        (["a", "b"], "a, b"),
        (0.5, "0.5"),
        (0, "0"),
    ],
)
def test_settings_are_shown_as_text(value, text):
    assert format_setting(value) == text


def test_a_threshold_near_zero_differs_from_zero():
    assert [format_probability(value) for value in (0.5, 0.0, 3.2e-6, NAN)] == [
        *("0.500", "0.000", "3.2e-06", "n/a")
    ]


def test_counts_have_separators_and_undefined_numbers_are_na():
    assert [format_number(value) for value in (12345, np.int64(1000), 0.5, -0.25, NAN, None)] == [
        *("12,345", "1,000", "0.500", "−0.250", "n/a", "n/a")
    ]
    assert [formatted(NAN) for formatted in (format_percent, format_difference, format_p_value)] == [
        "n/a"
    ] * 3


def test_an_interval_is_shown_if_there_is_one():
    row = {"recall": 0.5, "recall_low": NAN, "recall_high": NAN, "f1": NAN, "f1_low": NAN, "f1_high": NAN}
    assert format_with_interval(row, "recall") == "0.500"
    assert (
        format_with_interval(row | {"recall_low": 0.25, "recall_high": 0.75}, "recall") == "0.500 (0.25–0.75)"
    )
    assert format_with_interval(row, "f1") == "n/a"


def test_pages_escape_their_values_and_name_the_path_that_cannot_be_written(tmp_path):
    assert page_environment().from_string("{{ name | plain }}").render(name="<b>_x") == "&lt;b&gt; x"
    (tmp_path / "file").write_text("")
    with pytest.raises(HilumError, match=r"file/page\.html: it cannot be written"):
        write_page("base.html.jinja", {}, tmp_path / "file" / "page.html")
