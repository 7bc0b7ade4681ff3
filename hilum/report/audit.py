"""The audit of a run: its validation scores by view, sex, age, devices and any other recorded column."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum.data.split import AGE_BANDS
from hilum.errors import HilumError, nearest
from hilum.metrics.label_statistics import ALL_TOGETHER, metadata_leaks
from hilum.metrics.predictions import PARTS, Predictions, labels_of_part
from hilum.metrics.scores import SCORE_NAMES
from hilum.metrics.subgroups import auc_within_groups, describe_shortcut, scores_by_group
from hilum.report.format import format_number, format_with_interval
from hilum.report.terminal import new_table, standard_console
from hilum.run_folder import RunFolder
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog

NOT_RECORDED = "not recorded"

#: Other names of the columns that are grouped.
COLUMN_ALIASES = {"devices": "Support Devices", "Orientation_PA": "view", "Sex_Male": "sex", "Age": "age"}

#: Columns that are not a property of an image, or are grouped under another name.
_NOT_AUDITED = ("part", *FEATURE_COLUMNS)

#: A text column with more values is an identifier or a remark; a column of more numbers is divided into quarters.
_MOST_GROUPS = 8


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit.

    Attributes:
        run: its name.
        epoch: the best epoch.
        images, patients: number of validation images, and of their patients.
        groups: `column`, then the columns of `hilum.metrics.subgroups.scores_by_group`.
        within: see `hilum.metrics.subgroups.auc_within_groups`.
        metadata: `target`, `auc`, `low`, `high`: how well view, devices, age and sex together predict a target
            without any image, over the run's training and validation images (see `hilum.metrics.label_statistics`).
        conclusions: sentences, the possible shortcuts with the largest loss first; never empty.
        skipped: column to the reason why it is left out.
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

    @property
    def metadata_auc(self) -> dict[str, float]:
        """Target to the ROC AUC of all metadata together."""
        return self.metadata.set_index("target")["auc"].to_dict()

    def groups_of_column(self, column: str) -> pd.DataFrame:
        """The scores of a column's groups, sorted by target."""
        return self.groups[self.groups["column"] == column].sort_values("target", kind="stable")

    def as_json(self) -> str:
        """The audit as one JSON object; undefined scores are null."""
        record = {
            name: json.loads(value.to_json(orient="records")) if isinstance(value, pd.DataFrame) else value
            for name, value in vars(self).items()
        }
        return json.dumps(record, indent=2)


def audit_run(
    folder: RunFolder,
    *,
    columns: Sequence[str] | None = None,
    replicates: int = 200,
    seed: int = 0,
    table: pd.DataFrame | None = None,
) -> Audit:
    """Audits the validation part of a run's best epoch, at its frozen operating points.

    Args:
        folder: of the run.
        columns: of images.parquet, or view, sex, age and devices; all that can be grouped if left out.
        replicates: bootstrap samples of the patients.
        seed: of these samples.
        table: the predictions of the best epoch, if they have been read already.

    Raises:
        HilumError: no epoch has ended, a run of an earlier version without images.parquet, or a column that does
            not exist or cannot be grouped.
    """
    epoch = folder.best_epoch
    table = folder.predictions(epoch) if table is None else table
    predictions = Predictions.from_run(folder, epoch, table=table)
    images = folder.images().set_index("ImageID")
    groups, skipped = groups_of(images.loc[predictions.image_ids], columns)
    by_group = {
        column: scores_by_group(predictions, group, replicates=replicates, seed=seed)
        for column, group in groups.items()
    }
    within = auc_within_groups(predictions, groups, replicates=replicates, seed=seed)
    return Audit(
        run=folder.record["name"],
        epoch=epoch,
        images=len(predictions),
        patients=predictions.patient_count,
        groups=pd.concat(by_group, names=["column", ""]).reset_index(0).reset_index(drop=True)
        if by_group
        else pd.DataFrame(),
        within=within,
        metadata=_predicted_by_metadata(folder, images, table, predictions.targets, seed),
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

    Returns:
        Column to the (N,) names of the groups, and column to the reason why it is left out.

    Raises:
        HilumError: one of `columns` does not exist or cannot be grouped.
    """
    candidates = {
        "view": _group_names(images["Orientation_PA"].map({1: "PA", 0: "AP"})),
        "sex": _group_names(
            images["Sex_Male"].where(images["Sex_Unknown"] != 1).map({1: "male", 0: "female"})
        ),
        "age": _age_bands(images["Age"]),
        "Support Devices": _group_names(images["Support Devices"].map({1: "with", 0: "without"})),
    }
    candidates |= {name: _named_values(images[name]) for name in images.columns if name not in _NOT_AUDITED}
    groups: dict[str, pd.Series] = {}
    skipped: dict[str, str] = {}
    for name, values in candidates.items():
        if values is None:
            skipped[name] = "has a value of its own for nearly every image"
        elif values.nunique() < 2:
            skipped[name] = f"is {values.iloc[0]} for all images"
        else:
            groups[name] = values
    if columns is None:
        return groups, skipped
    chosen = [COLUMN_ALIASES.get(name, name) for name in columns]
    for name in chosen:
        if name in skipped:
            raise HilumError(f"--columns: {name} cannot be audited: it {skipped[name]}.")
        if name not in groups:
            hint = f"{nearest(name, candidates)} There are {', '.join([*groups, *skipped])}."
            raise HilumError(f"--columns: there is no column {name!r}.{hint}")
    return {name: groups[name] for name in chosen}, {}


def _group_names(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), NOT_RECORDED).astype(str)


def _age_bands(ages: pd.Series) -> pd.Series:
    names = [f"{low}–{high - 1:g}" for low, high in itertools.pairwise(AGE_BANDS)] + [f"{AGE_BANDS[-1]}+"]
    return _group_names(pd.cut(ages.astype(float), [*AGE_BANDS, np.inf], right=False, labels=names))


def _named_values(values: pd.Series) -> pd.Series | None:
    """A group per value; quarters of many numbers; None for text with many values."""
    if values.nunique() <= _MOST_GROUPS:
        return _group_names(values)
    if not pd.api.types.is_numeric_dtype(values.dtype) or values.nunique() == len(values):
        return None
    quarters = pd.qcut(values.astype(float), 4, duplicates="drop")
    return _group_names(quarters.map(lambda quarter: f"{quarter.left:g} to {quarter.right:g}"))


def _predicted_by_metadata(
    folder: RunFolder, images: pd.DataFrame, table: pd.DataFrame, targets: tuple[str, ...], seed: int
) -> pd.DataFrame:
    """How well the metadata together predict each target, over the images of both parts."""
    parts = [labels_of_part([table], part, targets) for part in PARTS]
    labels = pd.concat([part for part in parts if len(part)])
    features = images.loc[labels.index].assign(Hierarchical_Path="")[list(FEATURE_COLUMNS)]
    catalog = Catalog(
        folder.record["catalog"]["name"], features.join(labels.astype(np.float64)), targets, root=None
    )
    leaks = metadata_leaks(catalog, seed=seed)
    if (leaks["feature"] == ALL_TOGETHER).any():  # else only one feature varies
        leaks = leaks[leaks["feature"] == ALL_TOGETHER]
    return leaks[["target", "auc", "low", "high"]].reset_index(drop=True)


def _conclusions(within: pd.DataFrame, groups: dict[str, pd.Series]) -> tuple[str, ...]:
    if within.empty:
        return ("No recorded column divides these images into groups, so there is nothing to compare.",)
    shortcuts = within[within["possible_shortcut"]].sort_values("loss", ascending=False)
    if len(shortcuts):
        return tuple(describe_shortcut(row) for _, row in shortcuts.iterrows())
    untested = within["p"].isna()
    if untested.all():
        return ("Too few images: no finding has enough positives with a negative in the same group.",)
    few = f" {untested.sum()} of {len(within)} pairs of finding and column have too few images."
    conclusion = f"No sign of a shortcut by {', '.join(groups)}: no finding loses ROC AUC within its groups."
    return (conclusion + (few if untested.any() else ""),)


def show_audit(audit: Audit, console: Console | None = None) -> None:
    """Prints the conclusions, the ROC AUC within groups, and the scores of each group."""
    console = console or standard_console()
    console.print(
        f"[bold]{escape(audit.run)}[/], validation, epoch {audit.epoch}: {audit.images:,} images of "
        f"{audit.patients:,} patients"
    )
    for sentence in audit.conclusions:
        console.print(escape(sentence), soft_wrap=True)
    for column, reason in audit.skipped.items():
        console.print(f"{escape(column)} is left out: it {escape(reason)}.", soft_wrap=True)
    if audit.within.empty:
        return
    console.print("\n[bold]ROC AUC over all images, and among images of the same group[/]")
    for column, rows in audit.within.groupby("column", sort=False):
        console.print(_within_table(audit, str(column), rows))
        console.print()
    console.print(
        "[bold]By group, at the frozen operating points[/]  (few: fewer than 10 positives or patients)"
    )
    for column in audit.groups["column"].unique():
        console.print(_groups_table(audit, column))
        console.print()


def _within_table(audit: Audit, column: str, rows: pd.DataFrame) -> Table:
    """One row per target; possible shortcuts in bold."""
    table = new_table(
        "target", "all images", f"same {column}", "AUC lost", f"{column}\nalone", "metadata\nalone"
    )
    for row in rows.to_dict("records"):
        table.add_row(
            escape(row["target"]),
            format_number(row["pooled_auc"]),
            format_number(row["within_auc"]),
            f"n/a: {row['lack']}" if row["lack"] else format_with_interval(row, "loss"),
            format_number(row["column_auc"]),
            format_number(audit.metadata_auc.get(row["target"])),
            style="bold" if row["possible_shortcut"] else "",
        )
    return table


def _groups_table(audit: Audit, column: str) -> Table:
    """One row per target and group."""
    scores = ("recall", "roc_auc", "precision", "specificity")
    table = new_table(
        "target", escape(column), "positives", *(SCORE_NAMES[name] for name in scores), "", text=2
    )
    for row in audit.groups_of_column(column).to_dict("records"):
        table.add_row(
            escape(row["target"]),
            escape(row["group"]),
            f"{row['positives']:,} of {row['positives'] + row['negatives']:,}",
            *(format_with_interval(row, name) for name in scores),
            "few" if row["few"] else "",
            style="dim" if row["few"] else "",
        )
    return table
