"""Predictions as text, CSV rows and JSON values."""

from typing import Any

from hilum.reading.constants import RESEARCH_NOTE
from hilum.reading.predict import Prediction
from hilum.reading.reader import Finding, Reader
from hilum.words import small_share

CSV_COLUMNS = (
    *("image", "status", "view", "flags", "rank", "finding", "suggested", "probability", "threshold"),
    *(
        "threshold_measured",
        "calibrated",
        "priority",
        "recall",
        "recall_low",
        "recall_high",
        "reason",
        "note",
    ),
)

#: Above the lines of a terminal.
ORDER_WORDS = "Findings are ordered by how far each is above its threshold, in log odds (+ above, - below)."


def text_of(prediction: Prediction, every: bool = False) -> str:
    """One file's lines for a terminal.

    Args:
        prediction: of the file.
        every: all findings; else those suggested, and how many others there are.
    """
    if prediction.reading is None:
        return f"{prediction.path}\n  not read ({prediction.error.code}): {prediction.error.problem}"
    film, findings = prediction.reading.film, prediction.reading.findings
    lines = [f"{prediction.path}" + (f"  ({film.view})" if film.view else "")]
    for flag in film.flags:
        lines.append(f"  {'refused' if flag.refused else 'note'} ({flag.code}): {flag.words}")
    if film.refused:
        return "\n".join(lines)
    shown = [finding for finding in findings if every or finding.suggested]
    width = max((len(finding.target) for finding in findings), default=0)
    lines += [f"  {_line(finding, width)}" for finding in shown]
    rest = len(findings) - len(shown)
    if rest:
        lines.append(f"  {'nothing suggested; ' if not shown else ''}{rest} below their thresholds")
    return "\n".join(lines)


def _line(finding: Finding, width: int) -> str:
    measured = "" if finding.threshold_measured else "  threshold not measured"
    words = (
        f"{finding.target:<{width}}  {small_share(finding.probability):>7}  "
        f"threshold {small_share(finding.threshold):>7}  "
        f"{finding.priority:+6.2f}  {'suggested' if finding.suggested else '-'}{measured}"
    )
    return words if finding.calibrated is None else f"{words}  calibrated {small_share(finding.calibrated)}"


def csv_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """One row per finding, the first in priority first; one row without a finding for a file without any."""
    about: dict[str, Any] = {"image": prediction.path, "status": status_of(prediction), "note": RESEARCH_NOTE}
    if prediction.reading is None:
        return [about | {"reason": prediction.error.problem}]
    film = prediction.reading.film
    about |= {"view": film.view or "", "flags": " ".join(flag.code for flag in film.flags)}
    if film.refused:
        return [about | {"reason": " ".join(flag.words for flag in film.flags if flag.refused)}]
    return [
        about | {"rank": rank} | finding_values(finding)
        for rank, finding in enumerate(prediction.reading.findings, 1)
    ]


def status_of(prediction: Prediction) -> str:
    """The word "read" or "refused", or the code of what was wrong with the file."""
    if prediction.reading is None:
        return prediction.error.code
    return "refused" if prediction.reading.film.refused else "read"


def finding_values(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values."""
    return {
        "finding": finding.target,
        "suggested": finding.suggested,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "threshold_measured": finding.threshold_measured,
        "calibrated": finding.calibrated,
        "priority": finding.priority,
        "recall": finding.recall,
        "recall_low": finding.recall_low,
        "recall_high": finding.recall_high,
    }


def json_values(prediction: Prediction) -> dict[str, Any]:
    """A file's prediction as JSON values."""
    values: dict[str, Any] = {"image": prediction.path, "status": status_of(prediction)}
    if prediction.reading is None:
        return values | {"reason": prediction.error.problem}
    film = prediction.reading.film
    return values | {
        "view": film.view,
        "flags": [{"code": flag.code, "words": flag.words, "refused": flag.refused} for flag in film.flags],
        "findings": [finding_values(finding) for finding in prediction.reading.findings],
    }


def model_values(reader: Reader) -> dict[str, Any]:
    """What the JSON says of the model."""
    return {name: reader.card.get(name) for name in ("name", "digest", "epoch", "targets", "research_use")}
