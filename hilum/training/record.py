"""What run.json says of a run from its start."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from hilum.config import RunConfig
from hilum.metrics import Metrics
from hilum.models.transfer import Transfer
from hilum.training.preparation import PreparedData


def record_of(
    config: RunConfig,
    data: PreparedData,
    metrics: Metrics,
    imbalance: pd.DataFrame,
    *,
    own_net: nn.Module | None,
    own_catalog: bool,
    environment: dict[str, Any],
    transfer: Transfer | None,
) -> dict[str, Any]:
    """Settings, targets, what the data are and where, and what it is made with.

    Args:
        config: of the run.
        data: its images.
        metrics: for the thresholds of its settings.
        imbalance: see `hilum.data.split.check_balance`.
        own_net: the network that was given in place of a named one.
        own_catalog: whether the images were given.
        environment: see `hilum.training.environment.describe_environment`.
        transfer: what was taken from a former run.
    """
    targets, split = data.catalog.targets, data.split
    record = {
        "settings": config.as_record(),
        "own_net": None if own_net is None else f"{type(own_net).__module__}.{type(own_net).__qualname__}",
        "own_catalog": own_catalog,
        "seed": config.seed,
        "targets": list(targets),
        "multiclass_targets": [target for target, many in zip(targets, data.classed, strict=True) if many],
        "thresholds": dict(zip(targets, metrics.target_thresholds.tolist(), strict=True)),
        "pixel_mean": data.pixel_mean,
        "pixel_sd": data.pixel_sd,
        "catalog": {
            "name": data.catalog.name,
            "fingerprint": data.fingerprint,
            "images": len(data.catalog),
            "origin": None if data.catalog.origin is None else str(data.catalog.origin),
            "image_root": _as_text(data.image_root),
        },
        "split": {
            "fingerprint": split.fingerprint,
            "unit": split.unit,
            "parts": split.counts(),
            "train_images_after_oversampling": len(data.train_loader.dataset),
            "imbalance": imbalance.to_dict("records"),
        },
        **environment,
    }
    if transfer is not None:
        record["init_from"] = transfer.as_record()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        record["launch"] = os.environ["TORCHELASTIC_RUN_ID"]
    return record


def _as_text(root: Path | dict[str, Path] | None) -> str | dict[str, str] | None:
    if isinstance(root, dict):
        return {source: str(folder) for source, folder in root.items()}
    return None if root is None else str(root)
