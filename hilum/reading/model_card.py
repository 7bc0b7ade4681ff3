"""The model card of a bundle, in Markdown (Mitchell et al. 2019, arXiv 1810.03993)."""

from collections.abc import Sequence
from typing import Any


def model_card(record: dict[str, Any], warnings: Sequence[str] = ()) -> str:
    """The text of a bundle's README.md.

    Args:
        record: of the bundle, without its files.
        warnings: what the audit concluded.
    """
    about, pixels = record["provenance"], record["preprocessing"]
    parts = about["split"]["parts"]
    sections = [
        f"# {record['name']}",
        f"**{record['research_use']}**",
        f"{about['net_name']} for {len(record['targets'])} findings in frontal chest radiographs, epoch "
        f"{about['epoch']} of the run `{about['run']}` (digest `{(record['digest'] or 'none')[:16]}`).",
        "## Intended use\n\nResearch on chest radiograph models: comparing, explaining and testing them. Not for "
        "clinical use: not for diagnosis, triage, treatment or any decision about a patient. It has not been "
        "tested for that, and what it does not suggest may be there all the same.",
        "## Input\n\n"
        f"- gray, 8 bits, {pixels['width']} x {pixels['height']} pixels (fit: {pixels['fit']}, interpolation: "
        f"{pixels['interpolation']}); normalization is part of the model (mean {pixels['pixel_mean']:.4f}, "
        f"deviation {pixels['pixel_sd']:.4f})\n"
        f"- views it was trained on: {_views(pixels['views'])}",
        "## Data\n\n"
        f"{about['data']['name']}, {about['data']['images']:,} images (fingerprint "
        f"`{about['data']['fingerprint'][:16]}`), split by {about['split']['unit']}:\n\n"
        + "\n".join(
            f"- {part}: {count['images']:,} images of {count['patients']:,} patients"
            for part, count in parts.items()
        ),
        "## Scores\n\nOn the validation part, at the frozen thresholds, which were chosen on the same images; 95 % "
        "intervals over patients.\n\n" + _scores(record),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(record)),
    ]
    if warnings:
        sections.append(
            "## Audit\n\nWhat the model may lean on:\n\n" + "\n".join(f"- {words}" for words in warnings)
        )
    agreement = record["agreement"]
    sections.append(
        "## Export\n\nPyTorch and ONNX Runtime differ by at most "
        f"{agreement['largest_probability_difference']:.1e} in a probability over {agreement['images']} images "
        f"({'of the run' if agreement['images_of'] == 'the run' else 'drawn noise'}). "
        f"Versions: {', '.join(f'{name} {value}' for name, value in (about['versions'] or {}).items() if value)}; "
        f"commit {about['git_commit'] or 'unknown'}."
    )
    return "\n\n".join(sections) + "\n"


def _views(views: dict[str, int] | None) -> str:
    if views is None:
        return "not recorded"
    return ", ".join(f"{name} {count:,}" for name, count in views.items())


def _scores(record: dict[str, Any]) -> str:
    rows = [
        "| finding | positives | threshold | recall | precision | specificity | ROC AUC |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for score in record["scores"]:
        cells = [
            score["target"].replace("_", " "),
            f"{score['positives']:,} of {score['positives'] + score['negatives']:,}",
            f"{record['thresholds'][score['target']]['threshold']:.3f}",
            *(_interval(score, name) for name in ("recall", "precision", "specificity", "roc_auc")),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _interval(score: dict[str, Any], name: str) -> str:
    value, low, high = (score.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "n/a"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"


def _limits(record: dict[str, Any]) -> list[str]:
    limits = [
        "Scores are of patients of the same data set; elsewhere they are likely to be lower.",
        "It knows the findings listed and no other. A film without a suggestion is not a normal film.",
    ]
    if not record["calibration"]:
        limits.append("Its probabilities are not calibrated: compare them with thresholds only.")
    if record["preprocessing"]["reference"] is None:
        limits.append(
            "Images unlike the training's cannot be told by their gray levels: "
            f"{record['preprocessing']['reference_lack']}."
        )
    for target, point in record["thresholds"].items():
        limits += [f"{target.replace('_', ' ')}: {note}." for note in point.get("notes", [])]
    return limits
