"""A finished model on images it was not made with: targets by name, thresholds as they were frozen."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from hilum.config import RunConfig
from hilum.data.folder_copy import open_hierarchy
from hilum.data.label_policies import evaluation_labels
from hilum.data.loaders import Loaders, without_left_out
from hilum.errors import HilumError, without_worker_traceback
from hilum.files import replacing_folder, write_json
from hilum.metrics.calibration import Calibration, calibration_table
from hilum.metrics.predictions import Predictions, sigmoid
from hilum.metrics.scores import scores_with_intervals
from hilum.run_folder import RunFolder
from hilum.sources import Catalog, open_catalog
from hilum.training.checkpoints import target_logits, trained_model
from hilum.training.distributed import choose_device, has_bf16_units
from hilum.training.run_writer import describe_environment

#: What may be asked for: a part of the run's own split, of the data set's own, or all images.
PARTS = ("test", "val", "train", "all")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; the same lies in its folder.

    Attributes:
        folder: where it was written.
        record: the content of `evaluation.json`.
        scores: `scores_with_intervals` by image, one row per target of the run that the data set has.
    """

    folder: Path
    record: dict[str, Any]
    scores: pd.DataFrame


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

    Nothing is chosen anew: pixels are prepared as the run prepared them, thresholds are those of its
    frozen operating points, and targets are matched by name. Of a data set of the run's own name, patients
    that the run trained on are left out, unless its training part itself is asked for.

    Args:
        run: a run folder with a best checkpoint.
        source: a data set, with `root` and `source_kwargs` as for training; None for the run's own.
        root: its folder; for the run's own data set only if it has moved.
        source_kwargs: the source's own filters.
        part: "test", "val", "train" or "all". Of the run's own images it means the run's split, and is
            "test" if left out; of others the data set's own split, and is "all" if left out.
        pack: prepared pixels of these images.
        catalog: images of your own, in place of `source`.
        net: the network, for a run that was trained with one of your own.
        device: auto, cpu, cuda or cuda:N.
        num_workers: processes that read images; None for half the cores.
        replicates: of the patient bootstrap.
        progress: called after each batch with its number of images.

    Raises:
        HilumError: no checkpoint, no such part, no target in common, a network that does not fit, or an
            image that cannot be read.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    config = settings_of(folder)
    epoch = folder.best_epoch
    images, own = _catalog(folder, config, source, root, source_kwargs, catalog)
    images, chosen, remarks = _part(folder, images, own, part)
    targets, left_out = _common_targets(folder, images)
    images = images.select_targets(targets)
    labels = _labels(images, config)
    if pack is None and own and config.pack is not None and catalog is None:
        pack = config.pack
    if pack is not None:
        kept = without_left_out(pack, images)
        if len(kept) < len(images):
            remarks.append(f"{len(images) - len(kept):,} images are left out; {pack} has not got them.")
        labels, images = labels.loc[kept.table.index], kept

    column = "Image_Path"
    if own and config.hierarchy is not None and pack is None:
        images, column = open_hierarchy(images, config.hierarchy), "Hierarchical_Path"

    chosen_device = choose_device(device)
    model = trained_model(folder, net).to(chosen_device)
    loader = Loaders(
        images,
        pixels=config.pixels,
        batch_size=config.batch_size,
        pack=pack,
        image_column=column,
        num_workers=num_workers,
    ).get_loader()
    probabilities = _probabilities(folder, model, loader, chosen_device, progress)[list(targets)]
    labels = labels.loc[probabilities.index]
    described = images.table.loc[probabilities.index]

    points = folder.operating_thresholds()
    predictions = Predictions(
        y_true=labels.to_numpy(),
        y_score=probabilities.to_numpy(),
        image_ids=probabilities.index.to_numpy(),
        patients=described["PatientID"].to_numpy(),
        targets=tuple(targets),
        thresholds=np.array([points[target] for target in targets]),
    )
    scores = scores_with_intervals(predictions, replicates=replicates, seed=config.seed)
    record = {
        "name": f"{_folder_name(images.name)}-{chosen}",
        "run": folder.record["name"],
        "epoch": epoch,
        "source": images.name,
        "fingerprint": images.fingerprint,
        "part": chosen,
        "images": len(probabilities),
        "patients": int(described["PatientID"].nunique()),
        "targets": list(targets),
        "left_out": left_out,
        "thresholds": {target: points[target] for target in targets},
        "remarks": remarks,
        "replicates": replicates,
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_environment(chosen_device),
    }
    by_study = None
    studies = described["PatientID"].astype(str) + "/" + described["StudyID"].astype(str)
    if described["StudyID"].notna().all() and not studies.is_unique:
        by_study = scores_with_intervals(
            predictions.aggregate(studies.to_numpy()), replicates=replicates, seed=config.seed
        )
    calibration = _calibration(folder, predictions)
    written = _write(folder, record, labels, probabilities, described, scores, by_study, calibration)
    return Evaluation(written, json.loads((written / "evaluation.json").read_text()), scores)


def _folder_name(data_set: str) -> str:
    """The name as one folder: a catalog of one's own may be called anything."""
    return re.sub(r"[^\w+.-]", "_", data_set).lstrip(".")


def settings_of(folder: RunFolder) -> RunConfig:
    """The run's settings as this version knows them.

    Raises:
        HilumError: the run has a setting that this version does not know, or refuses.
    """
    try:
        return RunConfig(**{name: value for name, value in folder.settings.items() if value is not None})
    except HilumError as error:
        raise HilumError(f"{folder.path / 'run.json'}: its settings cannot be used here. {error}") from None


def _catalog(
    folder: RunFolder,
    config: RunConfig,
    source: str | None,
    root: str | Path | None,
    source_kwargs: dict[str, Any] | None,
    catalog: Catalog | None,
) -> tuple[Catalog, bool]:
    """The images, and whether they are those of the run."""
    if catalog is None:
        filters = source_kwargs
        if source is None:
            if folder.record.get("own_catalog"):
                raise HilumError(
                    f"The run {folder.record['name']} was given its images as a catalog of your own: evaluate it from "
                    "Python, with catalog=, or on another data set with --source."
                )
            source, filters = config.source, {**config.source_kwargs, **(source_kwargs or {})}
            root = root or config.root
        catalog = open_catalog(source, root, **(filters or {}))
    return catalog, catalog.fingerprint == folder.record["catalog"]["fingerprint"]


def _part(folder: RunFolder, catalog: Catalog, own: bool, part: str | None) -> tuple[Catalog, str, list[str]]:
    """The images of the part, its name, and what there is to say about them."""
    part = part or ("test" if own else "all")
    if part not in PARTS:
        raise HilumError(f"--split: {part!r} is no part. Use {', '.join(PARTS)}.")
    split = folder.split()
    if own:
        counts = split["part"].value_counts()
        if part != "all" and part not in counts:
            raise HilumError(
                f"--split {part}: these are the run's own images, and {folder.record['name']} has no such part; it has "
                f"{', '.join(f'{name} ({count:,} images)' for name, count in counts.items())}. "
                "Train with test_fraction, give --split val, or evaluate on another data set with --source."
            )
        ids = split["ImageID"] if part == "all" else split.loc[split["part"] == part, "ImageID"]
        remarks = (
            []
            if part == "test"
            else ["The run has trained on some of these images: the scores are too good."]
        )
        if part == "val":
            remarks = ["The thresholds were chosen on these images: their recall is a little too good."]
        return catalog.select_images(ids.to_numpy()), part, remarks
    remarks = []
    if part != "all":
        fixed = catalog.fixed_split
        if fixed is None or not (fixed == part).any():
            there = "none" if fixed is None else ", ".join(sorted(fixed.unique()))
            raise HilumError(
                f"--split {part}: {catalog.name} has no such part of its own (it has {there}). Use --split all."
            )
        catalog = catalog.select_images(fixed.index[fixed == part])
    used = split.loc[split["part"] != "test", "PatientID"]
    trained_on = _patient_names(folder.record["catalog"]["name"], used)
    known = _patient_names(catalog.name, catalog.table["PatientID"]).isin(trained_on)
    if known.any():
        if known.all():
            raise HilumError(
                f"All {len(catalog):,} images are of patients that the run has trained or chosen its thresholds on. "
                "Evaluate on other patients."
            )
        remarks.append(
            f"{known.sum():,} images are left out: their patients are in the run's train or val part."
        )
        catalog = catalog.select_images(catalog.table.index[~known])
    return catalog, part, remarks


def _patient_names(data_set: str, patients: pd.Series) -> pd.Series:
    """PatientIDs as a merged data set has them, so that one is recognized in a merge and out of it."""
    patients = patients.astype(str)
    return patients if "+" in data_set else f"{data_set}/" + patients


def _common_targets(folder: RunFolder, catalog: Catalog) -> tuple[list[str], dict[str, str]]:
    """The run's targets that the data set labels, in the run's order; and why each other is left out."""
    common = [target for target in folder.targets if target in catalog.targets]
    if not common:
        raise HilumError(
            f"{catalog.name} has none of the run's targets ({', '.join(folder.targets)}); "
            f"it has {', '.join(catalog.targets)}."
        )
    return common, {
        target: f"{catalog.name} does not label it" for target in folder.targets if target not in common
    }


def _labels(catalog: Catalog, config: RunConfig) -> pd.DataFrame:
    """What is scored against: the run's own policies, where the data set has labels they are about."""
    labels = catalog.labels()
    if catalog.codes is not None:
        policies = {
            name: {target: value for target, value in policy.items() if target in catalog.targets}
            for name, policy in config.labels
            if isinstance(policy, dict)
        }
        labels = evaluation_labels(catalog, config.labels.model_copy(update=policies))
    return pd.DataFrame(labels, catalog.table.index, list(catalog.targets))


@torch.inference_mode()
def _probabilities(
    folder: RunFolder,
    model: nn.Module,
    loader: torch.utils.data.DataLoader,
    device: torch.device,
    progress: Callable[[int], None] | None,
) -> pd.DataFrame:
    """Probabilities of all the run's targets, float32, indexed by ImageID in rising order."""
    as_logits = target_logits(folder)
    ids, logits = [], []
    # As precisely as the run validated, unless this device would be slow at it.
    reduced = folder.record.get("precision", "32") != "32" and has_bf16_units(device)
    dtype = torch.float16 if folder.record.get("precision") == "16" else torch.bfloat16
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
    values = sigmoid(torch.cat(logits).numpy())
    return pd.DataFrame(values, index, folder.targets).sort_index()


def _calibration(folder: RunFolder, predictions: Predictions) -> pd.DataFrame:
    """Brier score and calibration error, also after the run's own calibration if it has one."""
    table = calibration_table(predictions).assign(calibrated=False)
    record = folder.record.get("calibration")
    if not record:
        return table
    calibrated = calibration_table(Calibration.from_record(record).apply_to(predictions))
    return pd.concat([table, calibrated.assign(calibrated=True)], ignore_index=True)


def _write(
    folder: RunFolder,
    record: dict[str, Any],
    labels: pd.DataFrame,
    probabilities: pd.DataFrame,
    described: pd.DataFrame,
    scores: pd.DataFrame,
    by_study: pd.DataFrame | None,
    calibration: pd.DataFrame,
) -> Path:
    """The evaluation's folder; one of the same images is replaced, one of others of the same name is kept."""
    place = folder.path / "evaluations" / record["name"]
    number = 1
    while (place / "evaluation.json").is_file():
        try:
            former = json.loads((place / "evaluation.json").read_text(encoding="utf-8"))
        except ValueError:
            break  # damaged: this one takes its place
        if former.get("fingerprint") == record["fingerprint"]:
            break
        number += 1
        place = place.with_name(f"{record['name']}-{number}")
    record["name"] = place.name
    targets = record["targets"]
    predictions = pd.concat(
        [labels.add_prefix("label_"), probabilities.add_prefix("prob_").astype(np.float32)], axis=1
    ).reset_index()
    about = described.drop(columns=["Hierarchical_Path", *targets]).reset_index()
    tables = {"predictions": predictions, "images": about, "scores": scores, "calibration": calibration}
    if by_study is not None:
        tables["study_scores"] = by_study
    with replacing_folder(place) as partial:
        for name, table in tables.items():
            table.to_parquet(partial / f"{name}.parquet", index=False)
        write_json(partial / "evaluation.json", record)
    return place
