"""The command that scores a run on other images."""

from pathlib import Path

import click

from hilum.cli.settings import parse_setting, progress_bar


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--source", help="the data set, as for hilum train; the run's own if left out")
@click.option("--root", type=click.Path(path_type=Path), help="the data set's folder")
@click.option("--source-kwargs", default="{}", help="the source's own filters, such as '{max_studies = 2}'")
@click.option(
    "--split",
    type=click.Choice(["test", "val", "train", "all"]),
    help="which part; of the run's own data set test, of others all, if left out",
)
@click.option("--pack", help="prepared pixels of these images, see hilum pack")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option(
    "--num-workers", type=click.IntRange(min=0), help="loader processes; half the cores if left out"
)
@click.option(
    "--replicates",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="bootstrap samples of the patients",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object, for machines")
def evaluate(
    run: Path,
    source: str | None,
    root: Path | None,
    source_kwargs: str,
    split: str | None,
    pack: str | None,
    device: str,
    num_workers: int | None,
    replicates: int,
    as_json: bool,
) -> None:
    """Score a RUN on another data set or its own test part.

    Targets are matched by name, thresholds are those frozen in the run. Predictions and scores are kept in
    the run's folder, under evaluations/.
    """
    from hilum.training.evaluation import evaluate as evaluate_run

    with progress_bar("scoring", None) as advance:
        found = evaluate_run(
            run,
            source=source,
            root=root,
            source_kwargs=parse_setting("source_kwargs", source_kwargs),
            part=split,
            pack=pack,
            device=device,
            num_workers=num_workers,
            replicates=replicates,
            progress=advance,
        )
    from hilum.report.evaluations import evaluation_json, show_evaluation

    if as_json:
        click.echo(evaluation_json(found.folder))
    else:
        show_evaluation(found.folder)
