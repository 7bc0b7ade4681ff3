"""Every command: parse, call one function, print."""

import os
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hilum import __version__
from hilum.errors import HilumError


class SettingsCommand(click.Command):
    """A command with an option for every setting of a run, made from `RunConfig` when it is needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then the settings."""
        return [*super().get_params(ctx)[:-1], *_setting_options(), *super().get_params(ctx)[-1:]]


def _setting_options() -> list[click.Option]:
    from hilum.config import RunConfig

    options = []
    for name, field in RunConfig.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        shown = field.description or ""
        if field.annotation is bool:
            declared, kind = [f"{flag}/--no-{flag[2:]}"], {"default": None}
        else:
            declared, kind = [flag], {"metavar": "VALUE"}
        if field.default is not None and field.default is not False and field.default != {}:
            shown += f"  [{field.default}]"
        options.append(click.Option(declared, help=shown, **kind))
    return options


def _parse_setting(name: str, value: str) -> Any:
    """A flag's text as a TOML value, so that 0.2, true and {layers = 34} mean what they mean in a file."""
    from hilum.config import RunConfig

    if value == "none" and name != "epoch_args":  # which has a "none" of its own
        return None
    if RunConfig.model_fields[name].annotation in (str, Path, str | None, Path | None):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if value[:1] in "{[":
            raise HilumError(
                f"--{name.replace('_', '-')}: {value!r} is no TOML value; a table is written {{layers = 34}}."
            ) from None
        return value


def _given_settings(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The settings of a TOML file, overruled by the flags that were given."""
    from hilum.config import settings_from_toml

    settings = settings_from_toml(file) if file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    return settings | {
        name: value if isinstance(value, bool) else _parse_setting(name, value)
        for name, value in given.items()
    }


#: The keys of `hilum.sources.SOURCES`, written out so that `--help` need not import them.
_SOURCES = "chexpert, nih, mimic, padchest, vindr, kaggle, medmnist, folder, merge or phantom"


def data_options(command: Callable) -> Callable:
    """--source, --root and --source-kwargs."""
    options = [
        click.option("--source", default="phantom", show_default=True, help=_SOURCES),
        click.option("--root", type=click.Path(path_type=Path), help="the data set's folder"),
        click.option(
            "--source-kwargs", default="{}", help="the source's own filters, such as '{max_studies = 2}'"
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _opened(source: str, root: Path | None, source_kwargs: str) -> Any:
    """The catalog that `data_options` name."""
    from hilum.config import RunConfig

    filters = RunConfig(source_kwargs=_parse_setting("source_kwargs", source_kwargs)).source_kwargs
    from hilum.sources import open_catalog

    return open_catalog(source, root, **filters)


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable]:
    """A bar, where there is a terminal to show it; gives a function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (console.is_terminal and total)
    ) as bar:
        task = bar.add_task(label, total=total)

        def advance(images: int = 1, *, absolute: bool = False) -> None:
            bar.update(task, **{"completed" if absolute else "advance": images})

        yield advance


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hilum")
def cli() -> None:
    """Repeatable chest X-ray experiments: change one parameter, run again, know whether it helped.

    Research use only: nothing here is a medical device.
    """


@cli.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="where to"
)
def demo(out: Path) -> None:
    """Draw radiographs, clean, train and score: the whole way in a few minutes, without any download."""
    from hilum.demo import run_demo

    run_demo(out)


@cli.command()
@data_options
@click.option("--check-images", is_flag=True, help="decode every image")
@click.option("--out", type=click.Path(path_type=Path), help="write the table here (.parquet or .csv)")
def catalog(source: str, root: Path | None, source_kwargs: str, check_images: bool, out: Path | None) -> None:
    """Read, clean and check a data set, and say what it holds."""
    opened = _opened(source, root, source_kwargs)
    from hilum.report.tables import show_catalog
    from hilum.sources.images import check_images as decode_all

    if check_images:
        with _progress("reading images", len(opened)) as advance:
            decode_all(opened.image_paths(), advance)
    if out:
        opened.write(out)
    show_catalog(opened)


@cli.command()
@data_options
@click.option("--target-columns", help="targets by name, alias or set; all if left out")
@click.option("--observation-min-count", help="show the target vectors after oversampling, too")
@click.option(
    "--uncertain-policy", default="zeros", help="the policy whose effect is shown, as for hilum train"
)
@click.option("--blank-policy", default="zeros", help="the policy whose effect is shown, as for hilum train")
@click.option("--split-file", type=click.Path(path_type=Path), help="the split.parquet of a run")
@click.option(
    "--strict-leaks", is_flag=True, help="refuse duplicate images or patients across the split's parts"
)
@click.option("--seed", default="0", help="of the examples, the folds and the bootstrap")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("eda"), show_default=True, help="where to"
)
def eda(
    source: str,
    root: Path | None,
    source_kwargs: str,
    split_file: Path | None,
    strict_leaks: bool,
    out: Path,
    **flags: Any,
) -> None:
    """Show what a data set holds and hides: one HTML page, and its figures.

    Prevalence, co-occurrence, target vectors, views, age and sex, examples, and how well view, devices,
    age and sex alone give the findings away.
    """
    from hilum.config import RunConfig

    chosen = RunConfig(**_given_settings(None, flags))
    opened = _opened(source, root, source_kwargs).select_targets(chosen.target_columns)
    from hilum.data.split import load_split
    from hilum.report.eda import write_eda

    with _progress("reading images", len(opened) if strict_leaks else 0) as advance:
        page = write_eda(
            opened,
            out,
            observation_min_count=chosen.observation_min_count,
            uncertain_policy=chosen.uncertain_policy,
            blank_policy=chosen.blank_policy,
            split=load_split(split_file, opened) if split_file else None,
            strict_leaks=strict_leaks,
            seed=chosen.seed,
            progress=advance,
        )
    click.echo(f"The page is {page}")


@cli.command()
@data_options
@click.option("--image-width", help="pixels  [320]")
@click.option("--image-height", help="pixels  [320]")
@click.option("--fit", help="stretch, letterbox or crop  [stretch]")
@click.option("--interpolation", help="auto, area, linear, cubic or nearest  [auto]")
@click.option(
    "--on-corrupt",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="what unreadable images do: stop, or be left out",
)
@click.option("--workers", type=int, help="processes; one per core if left out")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the pack's folder")
def pack(
    source: str,
    root: Path | None,
    source_kwargs: str,
    on_corrupt: str,
    workers: int | None,
    out: Path,
    **flags: Any,
) -> None:
    """Decode and resize every image once, for runs that read it with --pack.

    Run again after an interruption, it goes on where it stopped.
    """
    from hilum.config import RunConfig

    chosen = RunConfig(**_given_settings(None, flags))
    opened = _opened(source, root, source_kwargs)
    from hilum.data.packing import build_pack

    with _progress("packing", len(opened)) as advance:
        made = build_pack(
            opened,
            out,
            width=chosen.image_width,
            height=chosen.image_height,
            fit=chosen.fit,
            interpolation=chosen.interpolation,
            on_corrupt=on_corrupt,
            workers=workers,
            progress=lambda done, _: advance(done, absolute=True),
        )
    click.echo(f"{len(made):,} images are in {out}; train with --pack {out}")


@cli.command()
@data_options
@click.option("--link", is_flag=True, help="make hard links instead of copies")
@click.option("--folder-size", type=int, default=50, show_default=True, help="most entries in a folder")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="where to")
def hierarchy(
    source: str, root: Path | None, source_kwargs: str, link: bool, folder_size: int, out: Path
) -> None:
    """Copy the images into folders of bounded size, for file systems that look names up slowly.

    Run again after an interruption, it copies only what is missing or differs.
    """
    opened = _opened(source, root, source_kwargs)
    from hilum.data.hierarchy import build_hierarchy

    with _progress("copying", len(opened)) as advance:
        done = build_hierarchy(opened, out, link=link, folder_size=folder_size, progress=advance)
    click.echo(
        f"{done.copied:,} images {'linked' if link else 'copied'}, {done.kept:,} there already, "
        f"{done.bytes:,} bytes in {out}; train with --hierarchy {out}"
    )


@cli.command()
@click.argument("pack_folder", metavar="PACK", type=click.Path(path_type=Path))
@click.argument("url")
@click.option(
    "--chunk-megabytes", type=float, default=64, show_default=True, help="about the size of a shard"
)
def shards(pack_folder: Path, url: str, chunk_megabytes: float) -> None:
    """Put a PACK as shards at a URL: s3://bucket/name, gs://bucket/name or a folder.

    Run again after an interruption, it sends only what is not there. Credentials and endpoint come from
    the environment, as for the cloud's own tools.
    """
    from hilum.data.pack import Pack
    from hilum.data.shards import write_shards

    opened = Pack(pack_folder)
    with _progress("sending", len(opened)) as advance:
        done = write_shards(opened, url, chunk_bytes=int(chunk_megabytes * 2**20), progress=advance)
    click.echo(
        f"{done.images:,} images in {done.chunks:,} shards, {done.bytes:,} bytes ({done.sent:,} sent, "
        f"{done.kept:,} there already); train with --pack {url}"
    )


_TRAIN_EXAMPLES = """\b
hilum train --source nih --root DIR --image-width 128 --image-height 128 --num-epochs 3
hilum train settings.toml --learning-rate 1e-3
"""


@cli.command(cls=SettingsCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path))
def train(file: Path | None, **flags: Any) -> None:
    """Train one model, with the settings of a TOML FILE and of flags; flags win."""
    settings = _given_settings(file, flags)
    from hilum.config import RunConfig

    RunConfig(**settings)  # a misspelt setting is told before torch is waited for
    from hilum.training.standard import StandardTraining

    training = StandardTraining(**settings)
    training.train()
    click.echo(f"See it with: hilum show {training.folder.path}")


@cli.command()
@click.argument("save_path", type=click.Path(path_type=Path), default=Path("runs"))
def runs(save_path: Path) -> None:
    """List the runs in SAVE_PATH (default: runs)."""
    from hilum.report.tables import show_runs
    from hilum.run_folder import find_runs

    found, problems = find_runs(save_path)
    show_runs(found)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show the settings and the scores of a RUN folder."""
    from hilum.report.tables import show_run
    from hilum.run_folder import RunFolder

    show_run(RunFolder(run))


def main() -> None:
    """The command line: a HilumError is told without a traceback and ends with exit code 2."""
    warnings.showwarning = _show_warning
    try:
        cli.main(prog_name="hilum", standalone_mode=False)
    except HilumError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)
