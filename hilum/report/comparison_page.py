"""The page of a comparison: one HTML file that needs nothing beside it."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum import __version__
from hilum.metrics.comparison import COMPARED_SCORES
from hilum.metrics.figures import target_colours
from hilum.report.comparison_figures import differences_figure
from hilum.report.comparison_tree import FLIP_KINDS, Comparison, Flip, SideComparison
from hilum.report.hardest import thumbnail
from hilum.report.html import write_html
from hilum.run_folder import RunFolder

SCORE_WORDS = {
    "recall": "recall",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "specificity": "specificity",
    "predicted_positive_rate": "predicted positive",
    "recall_at_matched_precision": "recall at matched precision",
    "avg_precision": "average precision",
}

#: What became of an image, seen from B.
KIND_WORDS = {
    "new_false_negative": "missed by {other} only",
    "new_false_positive": "false alarm of {other} only",
    "mended_false_negative": "missed by {reference} only",
    "mended_false_positive": "false alarm of {reference} only",
}

#: How many flipped images of a kind the page shows.
MOST_SHOWN = 12


@dataclass(frozen=True)
class ShownFlip:
    """A flipped image with its finding and, where it can be read, a small copy."""

    target: str
    flip: Flip
    thumbnail: str | None


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Writes the page.

    Args:
        comparison: of `hilum.report.comparison.compare_runs`.
        path: the HTML file.

    Raises:
        HilumError: the file cannot be written.
    """
    content = {
        "comparison": comparison,
        "sides": [_side(side) for side in comparison.comparisons],
        "scores": {name: SCORE_WORDS[name] for name in COMPARED_SCORES},
        "version": __version__,
    }
    return write_html("comparison.html.jinja", content, Path(path))


def _side(side: SideComparison) -> dict[str, Any]:
    claim = side.widest_claim
    names = {"reference": side.reference.letter, "other": side.other.letter}
    return {
        "it": side,
        "claim": claim,
        "figure": _figure(side),
        "colours": target_colours(side.targets),
        "kinds": {kind: KIND_WORDS[kind].format(**names) for kind in FLIP_KINDS},
        "flips": _shown_flips(side),
    }


def _figure(side: SideComparison) -> str:
    buffer = io.BytesIO()
    figure = differences_figure(side.widest_claim, side.reference.letter, side.other.letter)
    figure.savefig(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _shown_flips(side: SideComparison) -> dict[str, list[ShownFlip]]:
    """Kind -> the images shown: each finding has its turn, the largest change first."""
    folder = RunFolder(next(run.path for run in side.reference.runs if run.name == side.flips.reference_run))
    root = folder.record["catalog"].get("image_root")
    paths = {}
    if (folder.path / "images.parquet").is_file():
        paths = folder.images().set_index("ImageID")["Image_Path"].to_dict()
    shown = {}
    for kind in FLIP_KINDS:
        turns = []
        for target, flips in side.flips.images.items():
            of_kind = [flip for flip in flips if flip.kind == kind][:MOST_SHOWN]
            turns += [(turn, target, flip) for turn, flip in enumerate(of_kind)]
        turns.sort(key=lambda entry: entry[0])
        shown[kind] = [
            ShownFlip(target, flip, thumbnail(root, paths.get(flip.image_id)))
            for _, target, flip in turns[:MOST_SHOWN]
        ]
    return shown
