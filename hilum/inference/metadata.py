"""What a reader of a model's findings must know of it: one JSON object, the same for a run and its bundle."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.files import write_json
from hilum.inference import RESEARCH_USE
from hilum.inference.intensity import measure_reference
from hilum.metrics.intervals import scores_with_intervals
from hilum.report.validation import best_validation
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray

#: Of the card; a reader refuses one that is newer than it.
CARD_FORMAT = 2

#: Kept in the run's folder, as it takes a while to measure.
_KEPT = "card.json"

#: So many training images are measured: the 0.5 % quantiles then rest on two or more.
_SAMPLE = 500


def card_of(folder: RunFolder) -> dict[str, Any]:
    """The card of a run's best epoch; read from the run's folder where one of the same epoch is kept.

    While the training images could not be read, a kept card lacks their reference: it is tried anew each time.

    Returns:
        `name`, `digest`, `epoch`; `targets`, `thresholds` (by target, as run.json has the operating points);
        `preprocessing` (`width`, `height`, `fit`, `interpolation`, `bit_depth`, `pixel_mean`, `pixel_sd`, `views`:
        the training images by view, `reference`: see `hilum.inference.intensity`, or None, and
        `reference_lack`: why); `calibration` (as run.json has it, or None); `scores` (one object per target, on
        the validation part: see `hilum.metrics.intervals`); `provenance`; `research_use`.

    Raises:
        HilumError: no epoch has ended yet.
    """
    known = {"format": CARD_FORMAT, "digest": folder.record.get("digest"), "epoch": folder.best_epoch}
    kept = _kept_card(folder.path / _KEPT)
    root = folder.record["catalog"].get("image_root")
    if kept and all(kept.get(name) == value for name, value in known.items()):
        return _with_reference(folder, root, kept)
    settings = folder.settings
    preprocessing: dict[str, Any] = {
        "width": settings["image_width"],
        "height": settings["image_height"],
        "fit": settings["fit"],
        "interpolation": settings["interpolation"],
        "bit_depth": 8,
        "channels": 1,
        "pixel_mean": folder.record["pixel_mean"],
        "pixel_sd": folder.record["pixel_sd"],
        "views": _views(folder),
    }
    reference, lack = _reference(folder, root, preprocessing)
    card = {
        **known,
        "name": folder.record["name"],
        "research_use": RESEARCH_USE,
        "targets": list(folder.targets),
        "thresholds": _thresholds(folder),
        "preprocessing": preprocessing | {"reference": reference, "reference_lack": lack},
        "calibration": folder.record.get("calibration"),
        "scores": _scores(folder),
        "provenance": _provenance(folder),
    }
    if folder.record["status"] == "finished":
        _keep_card(folder.path / _KEPT, card)
    return card


def _kept_card(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _with_reference(
    folder: RunFolder, root: str | dict[str, str] | None, card: dict[str, Any]
) -> dict[str, Any]:
    """A kept card, with the reference that it lacks if the training images can be read now."""
    preprocessing = card["preprocessing"]
    if preprocessing["reference"] is not None:
        return card
    reference, lack = _reference(folder, root, preprocessing)
    card = card | {"preprocessing": preprocessing | {"reference": reference, "reference_lack": lack}}
    if reference is not None:
        _keep_card(folder.path / _KEPT, card)
    return card


def _keep_card(path: Path, card: dict[str, Any]) -> None:
    with suppress(OSError):  # a run that may only be read is measured each time
        write_json(path, card)


def _thresholds(folder: RunFolder) -> dict[str, dict[str, Any]]:
    points = folder.record.get("operating_points") or {}
    plain = folder.operating_thresholds()
    return {
        target: points.get(target) or {"threshold": plain[target], "policy": "fixed"}
        for target in folder.targets
    }


def _views(folder: RunFolder) -> dict[str, int] | None:
    """The training images by view; None where the data set does not say."""
    try:
        images = folder.images()
    except HilumError:
        return None
    known = images.loc[images["part"] == "train", "Orientation_PA"].dropna()
    if not len(known):
        return None
    return {"PA": int((known == 1).sum()), "AP": int((known == 0).sum())}


def _scores(folder: RunFolder) -> list[dict[str, Any]]:
    validation = best_validation(folder)
    table = scores_with_intervals(
        validation.labels.to_numpy(),
        validation.probabilities.to_numpy(),
        validation.patients,
        validation.targets,
        validation.thresholds,
        seed=folder.record["seed"],
    )
    return json.loads(table.to_json(orient="records"))


def _provenance(folder: RunFolder) -> dict[str, Any]:
    record = folder.record
    catalog = {name: record["catalog"].get(name) for name in ("name", "fingerprint", "images")}
    return {
        "run": record["name"],
        "started": record["started"],
        "finished": record.get("finished"),
        "net_name": record["settings"]["net_name"] if record.get("own_net") is None else record["own_net"],
        "net_kwargs": record["settings"]["net_kwargs"],
        "epoch": record.get("best_epoch"),
        "digest": record.get("digest"),
        "seed": record["seed"],
        "data": catalog,
        "split": {name: record["split"].get(name) for name in ("fingerprint", "unit", "parts")},
        "versions": record.get("versions"),
        "git_commit": record.get("git_commit"),
    }


def _reference(
    folder: RunFolder, root: str | dict[str, str] | None, preprocessing: dict[str, Any]
) -> tuple[dict[str, Any] | None, str | None]:
    """How the training images look, and why that is not known."""
    try:
        images = folder.images()
    except HilumError:
        return None, "the run kept no paths of its images"
    if root is None:
        return None, "the run does not say where its images are"
    train = images.loc[images["part"] == "train", "Image_Path"].sort_values()
    chosen = train.iloc[np.unique(np.linspace(0, len(train) - 1, min(len(train), _SAMPLE)).astype(int))]
    try:
        return measure_reference((read_gray(path) for path in located(chosen, root)), preprocessing), None
    except HilumError as error:
        return None, f"the training images cannot be read here ({error})"


def located(paths: pd.Series, root: str | dict[str, str]) -> list[str]:
    """Where the images of a run lie: its paths below its data set's folder, or folders."""
    if isinstance(root, str):
        return [os.path.join(root, path) for path in paths]  # noqa: PTH118 - an address may be no plain path
    parted = (path.partition("/") for path in paths)
    return [os.path.join(root.get(source, ""), path) for source, _, path in parted]  # noqa: PTH118
