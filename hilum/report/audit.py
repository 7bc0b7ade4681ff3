"""The audit of a run: its validation scores by view, sex, age, devices and whatever else is recorded."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape

from hilum.data.split import AGE_BANDS
from hilum.errors import HilumError, nearest
from hilum.metrics.metadata_leaks import ALL_TOGETHER, metadata_leaks
from hilum.metrics.predictions import labels_of_part, targets_of_ledger
from hilum.metrics.subgroups import auc_within_groups, in_words, scores_by_group
from hilum.report.terminal import new_table, one_score, score_and_interval, standard_console
from hilum.report.validation import Validation, best_validation
from hilum.run_folder import RunFolder
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog

NOT_RECORDED = "not recorded"

#: Columns that are no property of an image, or are read together with another.
_NO_PROPERTY = ("PatientID", "StudyID", "part", "Image_Path", "Sex_Unknown")

#: A text column with more values is an identifier or a remark; a number with more is cut into quarters.
_MOST_GROUPS = 8


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found.

    Attributes:
        run: its name.
        epoch: the best.
        images: of the validation part.
        patients: of the validation part.
        groups: `column`, then the columns of `hilum.metrics.subgroups.scores_by_group`.
        within: see `hilum.metrics.subgroups.auc_within_groups`.
        metadata: `target`, `auc`, `low`, `high`: what view, devices, age and sex predict together without any
            image, over the run's training and validation images (see `hilum.metrics.metadata_leaks`).
        conclusions: sentences, the possible shortcuts with the largest loss first; never empty.
        skipped: column -> why it was left out.
    """

    run: str
    epoch: int
    images: int
    patients: int
    groups: pd.DataFrame
    within: pd.DataFrame
    metadata: pd.DataFrame
    conclusions: tuple[str, ...]
    skipped: dict[str, str]

    def as_json(self) -> str:
        """The same as one JSON object; what is undefined is null."""
        tables = {"groups": self.groups, "within": self.within, "metadata": self.metadata}
        return json.dumps(
            {
                "run": self.run,
                "epoch": self.epoch,
                "images": self.images,
                "patients": self.patients,
                "conclusions": list(self.conclusions),
                "skipped": self.skipped,
                **{name: json.loads(table.to_json(orient="records")) for name, table in tables.items()},
            },
            indent=2,
        )


def audit_run(
    folder: RunFolder, *, columns: Sequence[str] | None = None, replicates: int = 200, seed: int = 0
) -> Audit:
    """Audits the validation part of a run's best epoch, at its frozen operating points.

    Args:
        folder: of the run.
        columns: of images.parquet; or view, sex, age and devices. All that can be grouped if left out.
        replicates: of the patient bootstrap.
        seed: of its draws.

    Raises:
        HilumError: no finished epoch, a run of an earlier version that kept nothing about its images, or a
            column that is not there or cannot be grouped.
    """
    validation = best_validation(folder)
    if validation.images is None:
        folder.images()  # says why it is not there
    groups, skipped = groups_of(validation.images, columns)
    labels, probabilities = validation.labels.to_numpy(), validation.probabilities.to_numpy()
    shared = {"replicates": replicates, "seed": seed}
    by_group = [
        scores_by_group(
            labels,
            probabilities,
            validation.patients,
            of_image,
            validation.targets,
            validation.thresholds,
            **shared,
        ).assign(column=column)
        for column, of_image in groups.items()
    ]
    within = auc_within_groups(
        labels, probabilities, validation.patients, groups, validation.targets, **shared
    )
    return Audit(
        run=folder.record["name"],
        epoch=validation.epoch,
        images=len(labels),
        patients=len(np.unique(validation.patients)),
        groups=_column_first(pd.concat(by_group, ignore_index=True)) if by_group else pd.DataFrame(),
        within=within,
        metadata=_metadata_only(folder, validation, seed),
        conclusions=_conclusions(within, groups),
        skipped=skipped,
    )


def groups_of(
    images: pd.DataFrame, columns: Sequence[str] | None = None
) -> tuple[dict[str, pd.Series], dict[str, str]]:
    """The group of each image by each column, and why other columns have none.

    Args:
        images: rows of images.parquet.
        columns: only these; None for all.

    Raises:
        HilumError: a column asked for is not there, or cannot be grouped.
    """
    found: dict[str, pd.Series] = {}
    skipped: dict[str, str] = {}
    made = {
        "view": _of_codes(images["Orientation_PA"], {1: "PA", 0: "AP"}),
        "sex": _of_codes(images["Sex_Male"].where(images["Sex_Unknown"] != 1), {1: "male", 0: "female"}),
        "age": _age_bands(images["Age"]),
        "Support Devices": _of_codes(images["Support Devices"], {1: "with", 0: "without"}),
    }
    read = {"Orientation_PA", "Sex_Male", "Age", "Support Devices", *_NO_PROPERTY}
    others = {name: images[name] for name in images.columns if name not in read}
    for name, values in (made | {name: _of_values(values) for name, values in others.items()}).items():
        if values is None:
            skipped[name] = "has a value of its own for nearly every image"
        elif values.nunique() < 2:
            skipped[name] = f"is {values.iloc[0]} for all images"
        else:
            found[name] = values
    if columns is None:
        return found, skipped
    aliases = {"devices": "Support Devices", "Orientation_PA": "view", "Sex_Male": "sex", "Age": "age"}
    wanted = [aliases.get(name, name) for name in columns]
    for name in wanted:
        if name in skipped:
            raise HilumError(f"--columns: {name} cannot be audited: it {skipped[name]}.")
        if name not in found:
            known = [*found, *skipped]
            raise HilumError(
                f"--columns: there is no column {name!r}.{nearest(name, known)} There are {', '.join(known)}."
            )
    return {name: found[name] for name in wanted}, {}


def _of_codes(values: pd.Series, words: dict[int, str]) -> pd.Series:
    return values.map(words).fillna(NOT_RECORDED).astype(str)


def _age_bands(ages: pd.Series) -> pd.Series:
    edges = [*AGE_BANDS, np.inf]
    words = [f"{low}–{high - 1:g}" for low, high in itertools.pairwise(AGE_BANDS)]
    bands = pd.cut(ages.astype(float), edges, right=False, labels=[*words, f"{AGE_BANDS[-1]}+"])
    return bands.astype(object).where(bands.notna(), NOT_RECORDED).astype(str)


def _of_values(values: pd.Series) -> pd.Series | None:
    """Each value a group; many numbers in quarters; None for text with many values."""
    if values.nunique() <= _MOST_GROUPS:
        return values.astype(object).where(values.notna(), NOT_RECORDED).astype(str)
    if not pd.api.types.is_numeric_dtype(values.dtype) or values.nunique() == len(values):
        return None
    quarters = pd.qcut(values.astype(float), 4, duplicates="drop")
    words = quarters.map(lambda quarter: f"{quarter.left:g} to {quarter.right:g}").astype(object)
    return words.where(quarters.notna(), NOT_RECORDED).astype(str)


def _column_first(table: pd.DataFrame) -> pd.DataFrame:
    return table[["column", *(name for name in table.columns if name != "column")]]


def _metadata_only(folder: RunFolder, validation: Validation, seed: int) -> pd.DataFrame:
    """What the metadata predict together, for the images of both parts."""
    ledger = folder.predictions(validation.epoch)
    targets = targets_of_ledger(ledger)
    parts = [labels_of_part([ledger], part, targets) for part in ("train", "val")]
    labels = pd.concat([part for part in parts if len(part)])
    table = folder.images().set_index("ImageID").loc[labels.index].assign(Hierarchical_Path="")
    features = table[list(FEATURE_COLUMNS)]
    catalog = Catalog(
        folder.record["catalog"]["name"], features.join(labels.astype(np.float64)), targets, root=None
    )
    found = metadata_leaks(catalog, seed=seed)
    together = found[found["feature"] == ALL_TOGETHER]
    if together.empty:  # only one feature varies
        together = found
    return together[["target", "auc", "low", "high"]].reset_index(drop=True)


def _conclusions(within: pd.DataFrame, groups: dict[str, pd.Series]) -> tuple[str, ...]:
    if within.empty:
        return ("Nothing is recorded of these images that could be compared.",)
    named = within[within["possible_shortcut"]].sort_values("loss", ascending=False)
    if len(named):
        return tuple(in_words(row) for _, row in named.iterrows())
    untold = within["p"].isna()
    told = f"No sign of a shortcut by {', '.join(groups)}: no finding loses AUC among images that are alike in them."
    if untold.all():
        told = "Too few images to tell: no finding has enough positives beside negatives that are alike."
    elif untold.any():
        told += (
            f" {int(untold.sum())} of {len(within)} pairs of finding and column have too few images to tell."
        )
    return (told,)


def show_audit(audit: Audit, console: Console | None = None) -> None:
    """Prints the conclusions, the AUC within groups, and the scores of each group."""
    console = console or standard_console()
    console.print(
        f"[bold]{escape(audit.run)}[/], validation, epoch {audit.epoch}: {audit.images:,} images of "
        f"{audit.patients:,} patients",
        highlight=False,
    )
    for sentence in audit.conclusions:
        console.print(escape(sentence), highlight=False, soft_wrap=True)
    for column, reason in audit.skipped.items():
        console.print(f"{escape(column)} is left out: it {escape(reason)}.", highlight=False, soft_wrap=True)
    if audit.within.empty:
        return
    console.print("\n[bold]ROC AUC over all images, and among images that are alike[/]")
    without_image = audit.metadata.set_index("target")
    for column, rows in audit.within.groupby("column", sort=False):
        table = new_table(
            "target", "all images", f"alike in {column}", "lost", f"{column}\nalone", "all metadata\nalone"
        )
        for row in rows.to_dict("records"):
            lost = {"lost": row["loss"], "lost_low": row["loss_low"], "lost_high": row["loss_high"]}
            alone = without_image["auc"].get(row["target"], float("nan"))
            table.add_row(
                escape(row["target"]),
                one_score(row["pooled_auc"]),
                one_score(row["within_auc"]),
                f"n/a: {row['lack']}" if row["lack"] else score_and_interval(lost, "lost"),
                one_score(row["column_auc"]),
                one_score(alone),
                style="bold" if row["possible_shortcut"] else "",
            )
        console.print(table)
        console.print()
    console.print(
        "[bold]By group, at the frozen operating points[/]  (few: fewer than 10 positives or patients)"
    )
    for column, rows in audit.groups.groupby("column", sort=False):
        table = new_table(
            "target",
            escape(str(column)),
            "positives",
            "recall",
            "ROC AUC",
            "precision",
            "specificity",
            "",
            text=2,
        )
        for row in rows.sort_values("target", kind="stable").to_dict("records"):
            table.add_row(
                escape(row["target"]),
                escape(row["group"]),
                f"{row['positives']:,} of {row['positives'] + row['negatives']:,}",
                *(
                    score_and_interval(row, name)
                    for name in ("recall", "roc_auc", "precision", "specificity")
                ),
                "few" if row["few"] else "",
                style="dim" if row["few"] else "",
            )
        console.print(table)
        console.print()
