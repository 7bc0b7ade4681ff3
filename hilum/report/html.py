"""Pages: a template and its content become one HTML file, whole or not at all."""

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from hilum.errors import HilumError
from hilum.files import replacing
from hilum.report.tables import in_words, threshold_in_words


def write_html(template: str, content: dict[str, Any], path: Path) -> Path:
    """Writes a page; names and values in `content` are escaped.

    Raises:
        HilumError: the file cannot be written.
    """
    html = _environment().get_template(template).render(content)
    try:
        with replacing(path) as partial:
            partial.write_text(html, encoding="utf-8")
    except OSError as error:
        raise HilumError(f"{path}: it cannot be written: {error.strerror}.") from None
    return path


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("hilum", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["score"] = _score
    made.filters["share"] = threshold_in_words
    made.filters["percent"] = lambda value: "n/a" if math.isnan(value) else f"{100 * value:.0f} %"
    made.filters["signed"] = lambda value: "n/a" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")
    made.filters["words"] = in_words
    made.globals["nan"] = math.nan
    made.filters["plain"] = lambda name: str(name).replace("_", " ")
    return made


def _score(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else "n/a" if math.isnan(value) else f"{value:.3f}"
