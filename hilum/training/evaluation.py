"""Evaluation of a trained model on other images: targets by name, thresholds as frozen in the run."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader

from hilum.config import RunConfig
from hilum.data.folder_copy import open_hierarchy
from hilum.data.label_policies import evaluation_labels
from hilum.data.loaders import Loaders, without_left_out
from hilum.errors import HilumError, without_worker_traceback
from hilum.files import replacing_folder, write_json
from hilum.metrics.calibration import Calibration, calibration_table
from hilum.metrics.predictions import Predictions, sigmoid
from hilum.metrics.scores import scores_with_intervals
from hilum.run_folder import Evaluation, RunFolder, read_evaluation
from hilum.sources import Catalog, open_catalog
from hilum.training.checkpoints import target_logits, trained_model
from hilum.training.distributed import choose_device, has_bf16_units
from hilum.training.run_writer import describe_environment

#: A part of the run's split, or of the data set's own split, or all images.
PARTS = ("test", "val", "train", "all")


@dataclass
class _Images:
    """The images of an evaluation of a run."""

    folder: RunFolder
    config: RunConfig
    catalog: Catalog
    own: bool  # whether they are the run's own data set
    part: str  # one of `PARTS`
    pack: str | None  # prepared pixels of these images
    remarks: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # target that the data set does not have -> reason


def evaluate(
    run: RunFolder | str | Path,
    *,
    source: str | None = None,
    root: str | Path | None = None,
    source_kwargs: dict[str, Any] | None = None,
    part: str | None = None,
    pack: str | None = None,
    catalog: Catalog | None = None,
    net: nn.Module | None = None,
    device: str = "auto",
    num_workers: int | None = None,
    replicates: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Scores the best checkpoint of a run on another data set, or on another part of its own.

    Nothing is fitted: pixels are prepared as in the run, thresholds are its frozen operating points, and
    targets are matched by name. Patients of the run's training part are left out if the data set has the same
    name, unless the training part itself is evaluated.

    Args:
        run: a run folder with a best checkpoint.
        source: a data set, with `root` and `source_kwargs` as for training; None for the run's own.
        root: its folder; needed for the run's own data set only if it has moved.
        source_kwargs: the source's own filters.
        part: "test", "val", "train" or "all": of the run's split for its own images (default "test"), else
            of the data set's own split (default "all").
        pack: prepared pixels of these images.
        catalog: images of your own, instead of `source`.
        net: the network, for a run that was trained with one of your own.
        device: auto, cpu, cuda or cuda:N.
        num_workers: processes that read images; None for half the cores.
        replicates: number of bootstrap samples of the patients.
        progress: called after each batch with its number of images.

    Raises:
        HilumError: no checkpoint, no such part, no target in common, a network that does not fit, or an image
            that cannot be read.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    epoch, config = folder.best_epoch, _settings_of(folder)
    images = _open_images(folder, config, source, root, source_kwargs, catalog, part, pack)
    labels = _labels(images)
    chosen_device = choose_device(device)
    model = trained_model(folder, net).to(chosen_device)
    probabilities = _probabilities(images, model, _loader(images, num_workers), chosen_device, progress)
    predictions = _predictions(images, labels, probabilities)
    record = _record(images, epoch, predictions, replicates) | describe_environment(chosen_device)
    return _write(folder, record, _tables(images, predictions, replicates))


def _settings_of(folder: RunFolder) -> RunConfig:
    try:
        return RunConfig(**{name: value for name, value in folder.settings.items() if value is not None})
    except HilumError as error:
        raise HilumError(f"{folder.path / 'run.json'}: its settings cannot be used here. {error}") from None


def _open_images(
    folder: RunFolder,
    config: RunConfig,
    source: str | None,
    root: str | Path | None,
    source_kwargs: dict[str, Any] | None,
    catalog: Catalog | None,
    part: str | None,
    pack: str | None,
) -> _Images:
    """The images of the part, with the targets of the run that they have."""
    given = catalog is not None
    if catalog is None:
        filters = source_kwargs or {}
        if source is None:
            if folder.record.get("own_catalog"):
                raise HilumError(
                    f"The run {folder.record['name']} was given its images as a catalog of your own: evaluate it from "
                    "Python, with catalog=, or on another data set with --source."
                )
            source, root, filters = config.source, root or config.root, {**config.source_kwargs, **filters}
        catalog = open_catalog(source, root, **filters)
    own = catalog.fingerprint == folder.record["catalog"]["fingerprint"]
    part = part or ("test" if own else "all")
    if part not in PARTS:
        raise HilumError(f"--split: {part!r} is not a part. Use {', '.join(PARTS)}.")
    pack = config.pack if pack is None and own and not given else pack
    images = _Images(folder, config, catalog, own, part, pack)
    select_part = _select_own_part if own else _select_other_part
    select_part(images)
    common = [target for target in folder.targets if target in catalog.targets]
    if not common:
        raise HilumError(
            f"{catalog.name} has none of the run's targets ({', '.join(folder.targets)}); "
            f"it has {', '.join(catalog.targets)}."
        )
    missing = [target for target in folder.targets if target not in common]
    images.left_out = dict.fromkeys(missing, f"{catalog.name} does not label it")
    images.catalog = images.catalog.select_targets(common)
    if images.pack is not None:
        in_pack = without_left_out(images.pack, images.catalog)
        if absent := len(images.catalog) - len(in_pack):
            images.remarks.append(f"{absent:,} images are left out: they are not in {images.pack}.")
        images.catalog = in_pack
    return images


def _select_own_part(images: _Images) -> None:
    """Selects a part of the run's split."""
    part, split = images.part, images.folder.split()
    counts = split["part"].value_counts()
    if part != "all" and part not in counts:
        raise HilumError(
            f"--split {part}: these are the run's own images, and {images.folder.record['name']} has no such part; "
            f"it has {', '.join(f'{name} ({count:,} images)' for name, count in counts.items())}. "
            "Train with test_fraction, give --split val, or evaluate on another data set with --source."
        )
    ids = split["ImageID"] if part == "all" else split.loc[split["part"] == part, "ImageID"]
    images.catalog = images.catalog.select_images(ids.to_numpy())
    if part == "val":
        images.remarks.append("The thresholds were chosen on these images: recall is a little too good.")
    elif part != "test":
        images.remarks.append("The run was trained on some of these images: the scores are too good.")


def _select_other_part(images: _Images) -> None:
    """Selects a part of the data set's own split, without patients that the run was trained on."""
    part, catalog, split = images.part, images.catalog, images.folder.split()
    if part != "all":
        fixed = catalog.fixed_split
        if fixed is None or not (fixed == part).any():
            parts = "none" if fixed is None else ", ".join(sorted(fixed.unique()))
            raise HilumError(
                f"--split {part}: {catalog.name} has no such part of its own (it has {parts}). Use --split all."
            )
        catalog = catalog.select_images(fixed.index[fixed == part])
    used = split.loc[split["part"] != "test", "PatientID"]
    trained_on = _patient_names(images.folder.record["catalog"]["name"], used)
    known = _patient_names(catalog.name, catalog.table["PatientID"]).isin(trained_on)
    if known.all():
        raise HilumError(
            f"All {len(catalog):,} images are of patients that the run was trained on or chose its thresholds on. "
            "Evaluate on other patients."
        )
    if known.any():
        images.remarks.append(
            f"{known.sum():,} images are left out: their patients are in the run's train or val part."
        )
        catalog = catalog.select_images(catalog.table.index[~known])
    images.catalog = catalog


def _patient_names(data_set: str, patients: pd.Series) -> pd.Series:
    """PatientIDs as in a merged data set, so that a patient has the same name in a merge and outside."""
    patients = patients.astype(str)
    return patients if "+" in data_set else f"{data_set}/" + patients


def _labels(images: _Images) -> pd.DataFrame:
    """The labels to score against, by the run's policies if the data set has uncertain or blank labels."""
    catalog, settings = images.catalog, images.config.labels
    labels = catalog.labels()
    if catalog.codes is not None:
        policies = {
            name: {target: value for target, value in policy.items() if target in catalog.targets}
            for name, policy in settings
            if isinstance(policy, dict)
        }
        labels = evaluation_labels(catalog, settings.model_copy(update=policies))
    return pd.DataFrame(labels, catalog.table.index, list(catalog.targets))


def _loader(images: _Images, num_workers: int | None) -> DataLoader:
    config, column = images.config, "Image_Path"
    if images.own and config.hierarchy is not None and images.pack is None:
        images.catalog = open_hierarchy(images.catalog, config.hierarchy)
        column = "Hierarchical_Path"
    return Loaders(
        images.catalog,
        pixels=config.pixels,
        batch_size=config.batch_size,
        pack=images.pack,
        image_column=column,
        num_workers=num_workers,
    ).get_loader()


@torch.inference_mode()
def _probabilities(
    images: _Images,
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    progress: Callable[[int], None] | None,
) -> pd.DataFrame:
    """Probabilities of all the run's targets, float32, sorted by ImageID, which is the index."""
    folder = images.folder
    as_logits = target_logits(folder)
    ids, logits = [], []
    # The precision of the run's validation, unless this device is slow at it.
    precision = folder.record.get("precision", "32")
    reduced = precision != "32" and has_bf16_units(device)
    dtype = torch.float16 if precision == "16" else torch.bfloat16
    try:
        for batch in loader:
            ids.append(batch["id"])
            with torch.autocast(device.type, dtype, enabled=reduced):
                outputs = model(batch["img"].to(device))
            logits.append(as_logits(outputs.float()).cpu())
            if progress:
                progress(len(batch["id"]))
    except HilumError as error:
        raise without_worker_traceback(error) from None
    index = pd.Index(torch.cat(ids).numpy(), name="ImageID")
    return pd.DataFrame(sigmoid(torch.cat(logits).numpy()), index, folder.targets).sort_index()


def _predictions(images: _Images, labels: pd.DataFrame, probabilities: pd.DataFrame) -> Predictions:
    targets, ids = images.catalog.targets, probabilities.index
    thresholds = images.folder.operating_thresholds()
    return Predictions(
        y_true=labels.loc[ids].to_numpy(),
        y_score=probabilities[list(targets)].to_numpy(),
        image_ids=ids.to_numpy(),
        patients=images.catalog.table.loc[ids, "PatientID"].to_numpy(),
        targets=targets,
        thresholds=np.array([thresholds[target] for target in targets]),
    )


def _record(images: _Images, epoch: int, predictions: Predictions, replicates: int) -> dict[str, Any]:
    """`evaluation.json` without the environment."""
    folder_name = re.sub(r"[^\w+.-]", "_", images.catalog.name).lstrip(
        "."
    )  # a catalog of your own has any name
    return {
        "name": f"{folder_name}-{images.part}",
        "run": images.folder.record["name"],
        "epoch": epoch,
        "source": images.catalog.name,
        "fingerprint": images.catalog.fingerprint,
        "part": images.part,
        "images": len(predictions),
        "patients": predictions.patient_count,
        "targets": list(predictions.targets),
        "left_out": images.left_out,
        "thresholds": dict(zip(predictions.targets, predictions.thresholds.tolist(), strict=True)),
        "remarks": images.remarks,
        "replicates": replicates,
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _tables(images: _Images, predictions: Predictions, replicates: int) -> dict[str, pd.DataFrame]:
    """The tables of the evaluation's folder, by file name."""
    sampling = {"replicates": replicates, "seed": images.config.seed}
    features = images.catalog.table.loc[predictions.image_ids]
    labels = predictions.as_table(predictions.y_true).add_prefix("label_")
    probabilities = predictions.as_table(predictions.y_score).add_prefix("prob_")
    # Brier score and calibration error, also after the run's own calibration if it has one.
    calibration = calibration_table(predictions).assign(calibrated=False)
    if record := images.folder.record.get("calibration"):
        after = calibration_table(Calibration.from_record(record).apply_to(predictions))
        calibration = pd.concat([calibration, after.assign(calibrated=True)], ignore_index=True)
    tables = {
        "predictions": pd.concat([labels, probabilities], axis=1).reset_index(),
        "images": features.drop(columns=["Hierarchical_Path", *predictions.targets]).reset_index(),
        "scores": scores_with_intervals(predictions, **sampling),
        "calibration": calibration,
    }
    studies = features["PatientID"].astype(str) + "/" + features["StudyID"].astype(str)
    if features["StudyID"].notna().all() and not studies.is_unique:
        by_study = predictions.aggregate(studies.to_numpy())
        tables["study_scores"] = scores_with_intervals(by_study, **sampling)
    return tables


def _write(folder: RunFolder, record: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Evaluation:
    """Writes the evaluation's folder. It replaces one of the same images; one of other images is kept."""
    path = folder.path / "evaluations" / record["name"]
    number = 1
    while (path / "evaluation.json").is_file():
        try:
            existing = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
        except ValueError:
            break  # a damaged one is replaced
        if existing.get("fingerprint") == record["fingerprint"]:
            break
        number += 1
        path = path.with_name(f"{record['name']}-{number}")
    record["name"] = path.name
    with replacing_folder(path) as new:
        for name, table in tables.items():
            table.to_parquet(new / f"{name}.parquet", index=False)
        write_json(new / "evaluation.json", record)
    return read_evaluation(path)
