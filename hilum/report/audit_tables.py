"""The audit, for the terminal."""

from rich.console import Console
from rich.markup import escape

from hilum.report.audit import Audit
from hilum.report.tables import new_table, one_score, score_and_interval, standard_console


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
