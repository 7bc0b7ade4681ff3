"""Numbers and texts as the pages and the terminal show them, and the writing of an HTML page."""

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import HilumError
from hilum.files import replacing
from hilum.targets import plain_name

if TYPE_CHECKING:
    from jinja2 import Environment

#: What is shown for a number that does not exist.
UNDEFINED = "n/a"


def format_number(value: float | None, digits: int = 3) -> str:
    """A count with thousands separators, any other number with a fixed number of decimals.

    >>> format_number(12345), format_number(0.5), format_number(-0.25, 2), format_number(float("nan"))
    ('12,345', '0.500', '−0.25', 'n/a')
    """
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def format_probability(value: float) -> str:
    """A probability or threshold with three decimals; below 0.001 with its first digits.

    A network trained on few images of a rare finding predicts probabilities near 1e-6: 0.000 would hide whether they
    reach the threshold.

    >>> format_probability(0.2149), format_probability(0.000012), format_probability(0.0)
    ('0.215', '1.2e-05', '0.000')
    """
    return f"{value:.1e}" if 0 < value < 0.001 else format_number(float(value))


def format_percent(share: float, digits: int = 0) -> str:
    """A share of 0..1 in per cent.

    >>> format_percent(0.75), format_percent(0.0312, 1), format_percent(float("nan"))
    ('75%', '3.1%', 'n/a')
    """
    return UNDEFINED if math.isnan(share) else f"{share:.{digits}%}"


def format_difference(value: float) -> str:
    """A difference with its sign and three decimals.

    >>> format_difference(0.0123), format_difference(-0.5), format_difference(0.0001)
    ('+0.012', '−0.500', '0.000')
    """
    if math.isnan(value):
        return UNDEFINED
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def format_p_value(value: float) -> str:
    """A p-value with three decimals.

    >>> format_p_value(0.0004), format_p_value(0.25)
    ('<0.001', '0.250')
    """
    return "<0.001" if value < 0.001 else format_number(float(value))


def format_with_interval(row: Mapping[str, Any], name: str) -> str:
    """A score and its interval, from the columns `name`, `name_low` and `name_high`.

    >>> format_with_interval({"recall": 0.912, "recall_low": 0.85, "recall_high": 0.954}, "recall")
    '0.912 (0.85–0.95)'
    """
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    if math.isnan(value):
        return UNDEFINED
    return f"{value:.3f}" + ("" if math.isnan(low) else f" ({low:.2f}–{high:.2f})")


def format_setting(value: object) -> str:
    """The value of a setting: a dash for nothing, lists and tables without their brackets.

    >>> format_setting(None), format_setting(["a", "b"]), format_setting({"layers": 34}), format_setting(0.5)
    ('–', 'a, b', 'layers: 34', '0.5')
    """
    if isinstance(value, dict):
        value = [f"{key}: {item}" for key, item in value.items()]
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or None
    return "–" if value is None else str(value)


def data_uri(data: bytes, image_type: str = "png") -> str:
    """An image as the address that a page without other files refers to."""
    return f"data:image/{image_type};base64,{base64.b64encode(data).decode()}"


def page_environment() -> "Environment":
    """The Jinja environment of all pages: their templates, escaping on, and the functions above as filters."""
    # Imported here, because `hilum predict` reads a bundle without jinja2 and pandas.
    from jinja2 import Environment, PackageLoader

    from hilum.metrics.scores import SCORE_NAMES

    environment = Environment(
        loader=PackageLoader("hilum", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": format_number,
        "probability": format_probability,
        "percent": format_percent,
        "difference": format_difference,
        "p_value": format_p_value,
        "setting": format_setting,
        "plain": plain_name,
        "sentence_case": lambda text: text[:1].upper() + text[1:],
    }
    environment.globals["score_names"] = SCORE_NAMES
    return environment


def write_page(template: str, content: Mapping[str, Any], path: Path) -> Path:
    """Writes a page; names and values in `content` are escaped.

    Raises:
        HilumError: the file cannot be written.
    """
    html = page_environment().get_template(template).render(content)
    try:
        with replacing(path) as partial:
            partial.write_text(html, encoding="utf-8")
    except OSError as error:
        raise HilumError(f"{path}: it cannot be written: {error.strerror}. Give another path.") from None
    return path
