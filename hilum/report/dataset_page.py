"""The page of a data set: what its labels are like, and what predicts them without an image."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader

from hilum import __version__
from hilum.config import LabelSettings, SplitSettings
from hilum.data.label_policies import Policy, training_labels
from hilum.data.leakage import find_leaks, refuse_leaks
from hilum.data.split import Split, make_split
from hilum.errors import HilumError
from hilum.files import replacing
from hilum.metrics.label_statistics import (
    by_feature,
    co_occurrence,
    code_counts,
    findings_per_image,
    label_counts,
    prevalence,
    target_vectors,
)
from hilum.metrics.metadata_leaks import FEWEST_PATIENTS, metadata_leaks, unrecorded_features
from hilum.randomness import generator
from hilum.sources.catalog import Catalog
from hilum.sources.images import read_gray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How many target vectors and pairs of targets the tables show, from the top and from the bottom.
MOST_VECTORS, MOST_PAIRS, MOST_SENTENCES = 15, 15, 5

#: A view, sex or age band with fewer images has a row in the table but no place in the figure: its
#: interval would set the scale.
FEWEST_IMAGES = 30

#: The longer side of an example image on the page, in pixels.
EXAMPLE_SIDE = 256


def write_eda(
    catalog: Catalog,
    out: Path,
    *,
    observation_min_count: int | None = None,
    uncertain_policy: Policy = "zeros",
    blank_policy: Policy = "zeros",
    split: Split | None = None,
    strict_leaks: bool = False,
    seed: int = 0,
    examples: int = 4,
    progress: Callable[[], None] | None = None,
) -> Path:
    """Writes `eda.html`, which needs nothing beside it, and its figures as PNG files in `figures/`.

    Args:
        catalog: what the page is about.
        out: the folder; made if it is not there.
        observation_min_count: if given, the target vectors' frequencies after oversampling are shown; of
            the training part if there is a split, else of all images.
        uncertain_policy: of the training labels, see `hilum.data.label_policies`.
        blank_policy: of the training labels.
        split: whose parts are described, and looked through for patients on both sides.
        strict_leaks: refuse a split with duplicate images or patients across its parts; without
            `split`, the one that a run with the default settings would draw.
        seed: of the split, the examples, the folds, the bootstrap and the oversampling.
        examples: radiographs shown per target.
        progress: called after each image that `strict_leaks` reads.

    Returns:
        The page's path.

    Raises:
        HilumError: a policy that the data set cannot take; with `strict_leaks`, a leak, or an image
            that cannot be read.
    """
    if strict_leaks:
        split = split or _default_split(catalog, seed)
        refuse_leaks(catalog, split, progress=progress)
    labels = catalog.labels()
    numbers = {
        "prevalence": prevalence(labels, catalog.targets),
        "findings": findings_per_image(labels),
        "pairs": co_occurrence(labels, catalog.table["PatientID"].to_numpy(), catalog.targets, seed=seed),
        "shares": by_feature(catalog),
        "leaks": metadata_leaks(catalog, seed=seed),
        "policy": _policy(catalog, uncertain_policy, blank_policy, seed),
    }
    trained = catalog if split is None else catalog.select_images(split.image_ids("train"))
    vectors = target_vectors(trained.labels(), observation_min_count=observation_min_count, seed=seed)
    try:
        figures = _write_figures(_figures(numbers, catalog.targets), out / "figures")
    except OSError as error:
        raise HilumError(f"{out}: it cannot be written: {error.strerror}. Give another folder.") from None
    content = {
        "catalog": catalog,
        "version": __version__,
        "about": _about(catalog),
        "figures": figures,
        "numbers": numbers,
        "pairs": _pairs(numbers["pairs"]),
        "vectors": _vectors(vectors, len(trained), observation_min_count),
        "sentences": _sentences(numbers["leaks"]),
        "missing_features": unrecorded_features(catalog),
        "policies": {"uncertain": uncertain_policy, "blank": blank_policy},
        "split": _split(catalog, split, strict_leaks),
        "groups": _groups(numbers["shares"]),
        "fewest": {"patients": FEWEST_PATIENTS, "images": FEWEST_IMAGES},
        "examples": _examples(catalog, examples, seed),
        "films": max(examples, 1),
    }
    template = _environment().get_template("eda.html.jinja")
    with replacing(out / "eda.html") as partial:
        partial.write_text(template.render(content), encoding="utf-8")
    return out / "eda.html"


def _default_split(catalog: Catalog, seed: int) -> Split:
    return make_split(catalog, SplitSettings(), seed)


def _about(catalog: Catalog) -> dict[str, Any]:
    """The numbers at the head of the page."""
    table, labels = catalog.table, catalog.labels()
    ages = table["Age"].dropna()
    patients = table["PatientID"].nunique()
    return {
        "patients": patients,
        "per_patient": len(table) / patients,
        "with_finding": float((labels == 1).any(axis=1).mean()),
        "findings": float((labels == 1).sum(axis=1).mean()),
        "pa": _share(table["Orientation_PA"]),
        "male": _share(table["Sex_Male"]),
        "devices": _share(table["Support Devices"]),
        "age": tuple(ages.quantile([0.25, 0.5, 0.75])) if len(ages) else None,
    }


def _share(column: pd.Series) -> float | None:
    return float(column.mean()) if column.notna().any() else None


def _policy(catalog: Catalog, uncertain: Policy, blank: Policy, seed: int) -> dict[str, pd.DataFrame] | None:
    """The labels' counts before and after the policy; None if the data set knows only yes and no."""
    settings = LabelSettings(uncertain_policy=uncertain, blank_policy=blank)
    labels = training_labels(catalog, settings, seed)
    if catalog.codes is None:
        return None
    return {"before": code_counts(catalog.codes), "after": label_counts(labels, catalog.targets)}


def _groups(shares: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows of each view, sex and age band, in the targets' order."""
    return [
        (level if feature == "Age" else f"{feature} {level}", rows.to_dict("records"))
        for (feature, level), rows in shares.groupby(["feature", "level"], sort=False)
    ]


def _pairs(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """The pairs with the strongest association, positive or negative."""
    strongest = pairs.dropna(subset="phi").sort_values("phi", key=lambda phi: -phi.abs(), kind="stable")
    return strongest.head(MOST_PAIRS).to_dict("records")


def _vectors(vectors: pd.DataFrame, images: int, min_count: int | None) -> dict[str, Any]:
    """The most and the least frequent target vectors."""
    rows = vectors.reset_index()
    top = rows.head(MOST_VECTORS)
    bottom = rows.iloc[max(len(top), len(rows) - MOST_VECTORS) :]
    return {
        "count": len(rows),
        "once": int((rows["frequency"] == 1).sum()),
        "images": images,
        "min_count": min_count,
        "images_after": int(rows["frequency_after"].sum()) if min_count is not None else None,
        "top": top.to_dict("records"),
        "bottom": bottom.to_dict("records"),
    }


def _sentences(leaks: pd.DataFrame) -> dict[str, Any]:
    """What the leaks' table says, in words: the strongest whose interval is above chance."""
    defined = leaks.dropna(subset="auc")
    above = defined[defined["low"] > 0.5].sort_values("auc", ascending=False, kind="stable")
    return {
        "defined": len(defined),
        "above": len(above),
        "strongest": above.head(MOST_SENTENCES).to_dict("records"),
    }


def _split(catalog: Catalog, split: Split | None, strict: bool) -> dict[str, Any] | None:
    if split is None:
        return None
    leaks = find_leaks(catalog, split, images=False)
    return {"unit": split.unit, "parts": split.counts(), "patients": len(leaks), "pixels_compared": strict}


def _examples(catalog: Catalog, count: int, seed: int) -> dict[str, Any]:
    """Radiographs drawn at random among the positive ones of each target, or why there are none."""
    if catalog.root is None:
        return {"reason": f"The images are not at hand: the catalog was read from {catalog.origin} alone."}
    targets, problems = [], []
    for position, target in enumerate(catalog.targets):
        ids = catalog.table.index[catalog.table[target] == 1].to_numpy()
        drawn = generator(seed, "eda examples", position).permutation(ids)[:count]
        images = []
        for image_id in sorted(drawn.tolist()):
            try:
                images.append({"id": image_id, "src": _thumbnail(catalog.image_path(image_id))})
            except HilumError as error:
                problems.append(str(error))
        targets.append({"target": target, "positives": len(ids), "images": images})
    if problems and not any(row["images"] for row in targets):
        return {"reason": f"The images are not at hand. {problems[0]}"}
    return {"targets": targets, "problems": list(dict.fromkeys(problems))}


def _thumbnail(path: Path) -> str:
    """A small JPEG as a data URI."""
    pixels = read_gray(path)
    scale = min(1.0, EXAMPLE_SIDE / max(pixels.shape))
    size = [max(1, round(side * scale)) for side in pixels.shape[::-1]]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _figures(numbers: Mapping[str, Any], targets: tuple[str, ...]) -> dict[str, "Figure"]:
    """The figures that have something to show, by the name of their file."""
    from hilum.plots import dataset as draw

    figures = {
        "prevalence": draw.prevalence_figure(numbers["prevalence"]),
        "findings-per-image": draw.findings_figure(numbers["findings"]),
    }
    if len(targets) > 1:
        figures["co-occurrence"] = draw.co_occurrence_figure(numbers["pairs"], numbers["prevalence"])
    drawn = numbers["shares"][numbers["shares"]["images"] >= FEWEST_IMAGES]
    if len(drawn):
        figures["view-age-sex"] = draw.feature_figure(drawn, targets)
    if numbers["policy"]:
        figures["label-policy"] = draw.policy_figure(**numbers["policy"])
    if len(numbers["leaks"]):
        figures["intrinsic-leaks"] = draw.leaks_figure(numbers["leaks"], targets)
    return figures


def _write_figures(figures: Mapping[str, "Figure"], folder: Path) -> dict[str, dict[str, Any]]:
    """Writes each as a PNG file; gives them as data URIs too, with their width on the page in pixels."""
    shown = {}
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=150)
        data = base64.b64encode(path.read_bytes()).decode()
        shown[name] = {"src": f"data:image/png;base64,{data}", "width": round(100 * figure.get_figwidth())}
    return shown


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hilum", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": lambda number: f"{int(number):,}",
        "percent": lambda share, digits=1: "n/a" if np.isnan(share) else f"{share:.{digits}%}",
        "number": lambda value, digits=2: (
            "n/a" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")
        ),
        "plain": lambda name: name.replace("_", " "),
        "policy": lambda policy: (
            policy
            if isinstance(policy, str)
            else ", ".join(f"{name}: {value}" for name, value in policy.items())
        ),
    }
    return environment
