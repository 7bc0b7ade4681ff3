"""Metadata of a model: what its findings mean and where they are from. One JSON object, for a run and its bundle."""

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
from hilum.inference.quality_checks import measure_reference
from hilum.metrics.predictions import Predictions
from hilum.metrics.scores import scores_with_intervals
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray

#: Of the metadata; a stored file of another format is made again.
METADATA_FORMAT = 2

#: Stored in the run's folder, as measuring takes a while.
_FILE = "card.json"

#: At most this many training images are measured: two or more are then below the 0.5 % quantile.
_SAMPLE = 500


def model_metadata(folder: RunFolder) -> dict[str, Any]:
    """The metadata of a run's best epoch; read from the run's folder where they are stored.

    While the training images cannot be read, their reference is missing: they are tried again each time.

    Returns:
        `name`, `digest`, `epoch`; `targets`, `thresholds` (by target, as run.json has the operating points);
        `preprocessing` (`width`, `height`, `fit`, `interpolation`, `bit_depth`, `channels`, `pixel_mean`,
        `pixel_sd`, `views`: the training images by view, `reference`: see `hilum.inference.quality_checks`, or None,
        and `reference_lack`: why it is missing); `calibration` (as run.json has it, or None); `scores` (one object
        per target, on the validation part: see `hilum.metrics.scores`); `provenance`; `research_use`.

    Raises:
        HilumError: no epoch is finished yet.
    """
    version = {"format": METADATA_FORMAT, "digest": folder.record.get("digest"), "epoch": folder.best_epoch}
    stored = _stored(folder.path / _FILE)
    if stored and all(stored.get(name) == value for name, value in version.items()):
        if stored["preprocessing"]["reference"] is None:
            stored["preprocessing"] |= _reference(folder, stored["preprocessing"])
            if stored["preprocessing"]["reference"] is not None:
                _store(folder.path / _FILE, stored)
        return stored
    settings, thresholds = folder.settings, folder.operating_thresholds()
    points = {name: {"threshold": thresholds[name], "policy": "fixed"} for name in folder.targets}
    measured = folder.record.get("operating_points") or {}
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
    metadata = {
        **version,
        "name": folder.record["name"],
        "research_use": RESEARCH_USE,
        "targets": list(folder.targets),
        "thresholds": points | {name: measured[name] for name in points if measured.get(name)},
        "preprocessing": preprocessing | _reference(folder, preprocessing),
        "calibration": folder.record.get("calibration"),
        "scores": _scores(folder),
        "provenance": _provenance(folder),
    }
    if folder.record["status"] == "finished":
        _store(folder.path / _FILE, metadata)
    return metadata


def _stored(path: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def _store(path: Path, metadata: dict[str, Any]) -> None:
    with suppress(OSError):  # a read-only run is measured each time
        write_json(path, metadata)


def _views(folder: RunFolder) -> dict[str, int] | None:
    """The number of training images by view; None where the data set does not state it."""
    try:
        images = folder.images()
    except HilumError:
        return None
    known = images.loc[images["part"] == "train", "Orientation_PA"].dropna()
    return {"PA": int((known == 1).sum()), "AP": int((known == 0).sum())} if len(known) else None


def _scores(folder: RunFolder) -> list[dict[str, Any]]:
    table = scores_with_intervals(Predictions.from_run(folder), seed=folder.record["seed"])
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


def _reference(folder: RunFolder, preprocessing: dict[str, Any]) -> dict[str, Any]:
    """`reference`: how the training images look, or None; and `reference_lack`: why it is missing, or None."""
    root = folder.record["catalog"].get("image_root")
    try:
        images = folder.images()
    except HilumError:
        return {"reference": None, "reference_lack": "the run has no paths of its images"}
    if root is None:
        return {"reference": None, "reference_lack": "the run does not state where its images are"}
    train = images.loc[images["part"] == "train", "Image_Path"].sort_values()
    sample = train.iloc[np.unique(np.linspace(0, len(train) - 1, min(len(train), _SAMPLE)).astype(int))]
    try:
        reference = measure_reference((read_gray(path) for path in image_paths(sample, root)), preprocessing)
    except HilumError as error:
        return {"reference": None, "reference_lack": f"the training images cannot be read here ({error})"}
    return {"reference": reference, "reference_lack": None}


def image_paths(paths: pd.Series, root: str | dict[str, str]) -> list[str]:
    """The full paths of a run's images: its relative paths in its data set's folder, or folders by data set."""
    if isinstance(root, str):
        return [os.path.join(root, path) for path in paths]  # noqa: PTH118 - an address may not be a plain path
    parts = (path.partition("/") for path in paths)
    return [os.path.join(root.get(source, ""), path) for source, _, path in parts]  # noqa: PTH118
