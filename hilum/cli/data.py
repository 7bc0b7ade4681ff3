"""The commands about a data set: what it holds, and how its images are prepared."""

from pathlib import Path
from typing import Any

import click

from hilum.cli.options import data_options, given_settings, opened_catalog, progress_bar


@click.command()
@data_options
@click.option("--check-images", is_flag=True, help="decode every image")
@click.option("--out", type=click.Path(path_type=Path), help="write the table here (.parquet or .csv)")
def catalog(source: str, root: Path | None, source_kwargs: str, check_images: bool, out: Path | None) -> None:
    """Read, clean and check a data set, and say what it holds."""
    opened = opened_catalog(source, root, source_kwargs)
    from hilum.report.terminal import show_catalog
    from hilum.sources.images import check_images as decode_all

    if check_images:
        with progress_bar("reading images", len(opened)) as advance:
            decode_all(opened.image_paths(), advance)
    if out:
        opened.write(out)
    show_catalog(opened)


@click.command()
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
    """Show what a data set holds and hides, on an HTML page.

    Prevalence, co-occurrence, target vectors, views, age and sex, examples, and how well view, devices,
    age and sex alone give the findings away.
    """
    from hilum.config import RunConfig

    chosen = RunConfig(**given_settings(None, flags))
    opened = opened_catalog(source, root, source_kwargs).select_targets(chosen.target_columns)
    from hilum.data.split import load_split
    from hilum.report.dataset_page import write_eda

    with progress_bar("reading images", len(opened) if strict_leaks else 0) as advance:
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


@click.command()
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
    """Decode and resize every image once, for --pack.

    Run again after an interruption, it goes on where it stopped.
    """
    from hilum.config import RunConfig

    chosen = RunConfig(**given_settings(None, flags))
    opened = opened_catalog(source, root, source_kwargs)
    from hilum.data.pack_builder import build_pack

    with progress_bar("packing", len(opened)) as advance:
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


@click.command()
@data_options
@click.option("--link", is_flag=True, help="make hard links instead of copies")
@click.option("--folder-size", type=int, default=50, show_default=True, help="most entries in a folder")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="where to")
def hierarchy(
    source: str, root: Path | None, source_kwargs: str, link: bool, folder_size: int, out: Path
) -> None:
    """Copy the images into folders of bounded size.

    For file systems that look names up slowly. Run again after an interruption, it copies only what is
    missing or differs.
    """
    opened = opened_catalog(source, root, source_kwargs)
    from hilum.data.folder_copy import build_hierarchy

    with progress_bar("copying", len(opened)) as advance:
        done = build_hierarchy(opened, out, link=link, folder_size=folder_size, progress=advance)
    click.echo(
        f"{done.copied:,} images {'linked' if link else 'copied'}, {done.kept:,} there already, "
        f"{done.bytes:,} bytes in {out}; train with --hierarchy {out}"
    )


@click.command()
@click.argument("pack_folder", metavar="PACK", type=click.Path(path_type=Path))
@click.argument("url")
@click.option(
    "--chunk-megabytes", type=float, default=64, show_default=True, help="about the size of a shard"
)
def shards(pack_folder: Path, url: str, chunk_megabytes: float) -> None:
    """Put a PACK as shards on object storage.

    The URL is s3://bucket/name, gs://bucket/name or a folder.
    Run again after an interruption, it sends only what is not there. Credentials and endpoint come from
    the environment, as for the cloud's own tools.
    """
    from hilum.data.pixels import Pack
    from hilum.data.shards import write_shards

    opened = Pack(pack_folder)
    with progress_bar("sending", len(opened)) as advance:
        done = write_shards(opened, url, chunk_bytes=int(chunk_megabytes * 2**20), progress=advance)
    click.echo(
        f"{done.images:,} images in {done.chunks:,} shards, {done.bytes:,} bytes ({done.sent:,} sent, "
        f"{done.kept:,} there already); train with --pack {url}"
    )
