"""The page of a data set: its labels, how they depend on each other, and what predicts them without an image."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum import __version__
from hilum.config import DEFAULTS, LabelSettings
from hilum.data.label_policies import Policy, training_labels
from hilum.data.split import Split, check_leaks, find_leaks, make_split
from hilum.errors import HilumError
from hilum.files import replacing
from hilum.metrics.label_statistics import (
    FEWEST_PATIENTS,
    by_feature,
    co_occurrence,
    code_counts,
    findings_per_image,
    label_counts,
    metadata_leaks,
    prevalence,
    target_vectors,
    unrecorded_features,
)
from hilum.randomness import generator
from hilum.report.error_gallery import jpeg_uri, shrink
from hilum.report.format import data_uri, write_page
from hilum.sources.catalog import Catalog
from hilum.sources.images import read_gray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How many target vectors, pairs of targets and metadata leaks the tables show.
MOST_VECTORS, MOST_PAIRS, MOST_LEAKS = 15, 15, 5

#: A view, sex or age band with fewer images is in the table but not in the figure: its interval would set the scale.
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
    """Writes `eda.html`, one file that needs no others, and its figures as PNG files in `figures/`.

    Args:
        catalog: the data set.
        out: the folder; created if missing.
        observation_min_count: shows the target vectors' frequencies after oversampling, of the training part if there
            is a split, else of all images.
        uncertain_policy: of the training labels, see `hilum.data.label_policies`.
        blank_policy: of the training labels.
        split: whose parts are described and checked for patients in two parts.
        strict_leaks: raise if the split, or the default settings' split if left out, has duplicate images or patients
            across its parts.
        seed: of the split, the examples, the folds, the bootstrap and the oversampling.
        examples: radiographs shown per target.
        progress: called after each image that `strict_leaks` reads.

    Returns:
        The page's path.

    Raises:
        HilumError: a policy that the data set does not support; with `strict_leaks`, a leak, or an image that
            cannot be read.
    """
    if strict_leaks:
        split = split or make_split(catalog, DEFAULTS.split, seed)
        check_leaks(catalog, split, progress=progress)
    statistics = _statistics(catalog, uncertain_policy, blank_policy, seed)
    content = {
        "catalog": catalog,
        "version": __version__,
        "about": _about(catalog),
        "figures": _write_figures(_figures(statistics, catalog.targets), out),
        "statistics": statistics,
        "vectors": _vectors(catalog, split, observation_min_count, seed),
        "missing_features": unrecorded_features(catalog),
        "policies": {"uncertain": uncertain_policy, "blank": blank_policy},
        "split": split,
        "patients_in_two_parts": len(find_leaks(catalog, split, images=False)) if split else 0,
        "pixels_compared": strict_leaks,
        "fewest": {"patients": FEWEST_PATIENTS, "images": FEWEST_IMAGES},
        "examples": _examples(catalog, examples, seed),
        "examples_per_row": max(examples, 1),
        **_tables(statistics),
    }
    return write_page("dataset_page.html.jinja", content, out / "eda.html")


def _statistics(catalog: Catalog, uncertain: Policy, blank: Policy, seed: int) -> dict[str, Any]:
    """The tables behind the figures."""
    labels = catalog.labels()
    settings = LabelSettings.model_validate({"uncertain_policy": uncertain, "blank_policy": blank})
    training = training_labels(catalog, settings, seed)  # raises if a policy is not supported
    return {
        "prevalence": prevalence(labels, catalog.targets),
        "findings": findings_per_image(labels),
        "pairs": co_occurrence(labels, catalog.table["PatientID"].to_numpy(), catalog.targets, seed=seed),
        "features": by_feature(catalog),
        "leaks": metadata_leaks(catalog, seed=seed),
        # None if the data set has only positive and negative labels.
        "policy": None
        if catalog.codes is None
        else {"before": code_counts(catalog.codes), "after": label_counts(training, catalog.targets)},
    }


def _about(catalog: Catalog) -> dict[str, Any]:
    """The numbers at the top of the page."""
    table, labels = catalog.table, catalog.labels()
    ages = table["Age"].dropna()
    patients = table["PatientID"].nunique()
    shares = {"pa": "Orientation_PA", "male": "Sex_Male", "devices": "Support Devices"}
    return {
        "patients": patients,
        "per_patient": len(table) / patients,
        "with_finding": float((labels == 1).any(axis=1).mean()),
        "findings": float((labels == 1).sum(axis=1).mean()),
        "age": tuple(ages.quantile([0.25, 0.5, 0.75])) if len(ages) else None,
    } | {
        name: float(table[column].mean()) if table[column].notna().any() else None
        for name, column in shares.items()
    }


def _tables(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """The strongest pairs, positive or negative; the strongest leaks above chance; and the rows of each feature."""
    pairs = statistics["pairs"].dropna(subset="phi")
    leaks = statistics["leaks"].dropna(subset="auc")
    above = leaks[leaks["low"] > 0.5].sort_values("auc", ascending=False, kind="stable")
    strongest = pairs.sort_values("phi", key=lambda phi: -phi.abs(), kind="stable").head(MOST_PAIRS)
    counts = {"defined": len(leaks), "above": len(above)}
    features = statistics["features"].groupby(["feature", "level"], sort=False)
    return {
        "pairs": strongest.to_dict("records"),
        "leaks": counts | {"strongest": above.head(MOST_LEAKS).to_dict("records")},
        "groups": [
            (level if feature == "Age" else f"{feature} {level}", rows.to_dict("records"))
            for (feature, level), rows in features
        ],
    }


def _vectors(catalog: Catalog, split: Split | None, min_count: int | None, seed: int) -> dict[str, Any]:
    """The most and the least frequent target vectors; of the training part if there is a split."""
    trained = catalog if split is None else catalog.select_images(split.image_ids("train"))
    rows = target_vectors(trained.labels(), observation_min_count=min_count, seed=seed).reset_index()
    return {
        "count": len(rows),
        "once": int((rows["frequency"] == 1).sum()),
        "images": len(trained),
        "min_count": min_count,
        "images_after": int(rows["frequency_after"].sum()) if min_count is not None else None,
        "top": rows.head(MOST_VECTORS).to_dict("records"),
        "bottom": rows[MOST_VECTORS:].tail(MOST_VECTORS).to_dict("records"),
    }


def _examples(catalog: Catalog, count: int, seed: int) -> dict[str, Any]:
    """Radiographs drawn at random among the positive images of each target, or the reason for having none."""
    if catalog.root is None:
        return {"reason": f"The images are not available: the catalog was read from {catalog.origin} alone."}
    targets, problems = [], []
    for position, target in enumerate(catalog.targets):
        ids = catalog.table.index[catalog.table[target] == 1].to_numpy()
        drawn = generator(seed, "eda examples", position).permutation(ids)[:count]
        images = []
        for image_id in sorted(drawn.tolist()):
            try:
                pixels = shrink(read_gray(catalog.image_path(image_id)), EXAMPLE_SIDE)
            except HilumError as error:
                problems.append(str(error))
            else:
                images.append({"id": image_id, "src": jpeg_uri(pixels)})
        targets.append({"target": target, "positives": len(ids), "images": images})
    if problems and not any(row["images"] for row in targets):
        return {"reason": f"The images are not available. {problems[0]}"}
    return {"targets": targets, "problems": list(dict.fromkeys(problems))}


def _figures(statistics: Mapping[str, Any], targets: tuple[str, ...]) -> dict[str, "Figure"]:
    """The figures that have something to show, by the name of their file."""
    from hilum.plots import dataset as draw

    figures = {
        "prevalence": draw.prevalence_figure(statistics["prevalence"]),
        "findings-per-image": draw.findings_figure(statistics["findings"]),
    }
    if len(targets) > 1:
        figures["co-occurrence"] = draw.co_occurrence_figure(statistics["pairs"], statistics["prevalence"])
    features = statistics["features"]
    drawn = features[features["images"] >= FEWEST_IMAGES]
    if len(drawn):
        figures["view-age-sex"] = draw.feature_figure(drawn, targets)
    if statistics["policy"]:
        figures["label-policy"] = draw.policy_figure(**statistics["policy"])
    if len(statistics["leaks"]):
        figures["intrinsic-leaks"] = draw.leaks_figure(statistics["leaks"], targets)
    return figures


def _write_figures(figures: Mapping[str, "Figure"], out: Path) -> dict[str, dict[str, Any]]:
    """Writes each as a PNG file to `out`/figures; returns data URIs and widths on the page in pixels."""
    shown = {}
    for name, figure in figures.items():
        path = out / "figures" / f"{name}.png"
        try:
            with replacing(path) as partial:
                figure.savefig(partial, format="png", dpi=150)
        except OSError as error:
            raise HilumError(f"{out}: it cannot be written: {error.strerror}. Give another folder.") from None
        shown[name] = {"src": data_uri(path.read_bytes()), "width": round(100 * figure.get_figwidth())}
    return shown
