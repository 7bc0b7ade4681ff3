"""Commands for a data set: show its content, and prepare its images."""

from pathlib import Path
from typing import Any

import click

from hilum.cli.options import DATA_SETTINGS, PATH, SettingsCommand, open_data, progress_bar

_EDA_SETTINGS = (
    *("target_columns", "observation_min_count", "uncertain_policy", "blank_policy"),
    *("split_file", "strict_leaks", "seed"),
)
_PACK_SETTINGS = ("image_width", "image_height", "fit", "interpolation")


@click.command(cls=SettingsCommand, settings=DATA_SETTINGS)
@click.option("--check-images", is_flag=True, help="decode every image")
@click.option("--out", type=PATH, help="write the table to this file (.parquet or .csv)")
def catalog(check_images: bool, out: Path | None, **flags: Any) -> None:
    """Read, clean and check a data set, and show its content."""
    _, opened = open_data(flags)
    from hilum.report.terminal import show_catalog
    from hilum.sources.images import check_images as decode_all

    if check_images:
        with progress_bar("reading images", len(opened)) as advance:
            decode_all(opened.image_paths(), advance)
    if out:
        opened.write(out)
    show_catalog(opened)


@click.command(cls=SettingsCommand, settings=(*DATA_SETTINGS, *_EDA_SETTINGS))
@click.option("--out", type=PATH, default=Path("eda"), help="folder of the page")
def eda(out: Path, **flags: Any) -> None:
    """Write an HTML page about a data set.

    Prevalence, co-occurrence, target vectors, views, age and sex, examples, and how well view, devices, age and
    sex alone predict the findings.
    """
    config, opened = open_data(flags)
    opened = opened.select_targets(config.target_columns)
    from hilum.data.split import load_split
    from hilum.report.dataset_page import write_eda

    with progress_bar("reading images", len(opened) if config.strict_leaks else 0) as advance:
        page = write_eda(
            opened,
            out,
            observation_min_count=config.observation_min_count,
            uncertain_policy=config.uncertain_policy,
            blank_policy=config.blank_policy,
            split=load_split(config.split_file, opened) if config.split_file else None,
            strict_leaks=config.strict_leaks,
            seed=config.seed,
            progress=advance,
        )
    click.echo(f"The page is {page}")


@click.command(cls=SettingsCommand, settings=(*DATA_SETTINGS, *_PACK_SETTINGS))
@click.option(
    "--on-corrupt",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    help="unreadable images: stop, or skip them",
)
@click.option("--workers", type=int, help="number of processes; default: one per core")
@click.option("--out", type=PATH, required=True, help="folder of the pack")
def pack(on_corrupt: Any, workers: int | None, out: Path, **flags: Any) -> None:
    """Decode and resize every image once, for --pack.

    After an interruption, the same command continues.
    """
    config, opened = open_data(flags)
    from hilum.data.pack_builder import build_pack

    with progress_bar("packing", len(opened)) as advance:
        built = build_pack(
            opened,
            out,
            width=config.image_width,
            height=config.image_height,
            fit=config.fit,
            interpolation=config.interpolation,
            on_corrupt=on_corrupt,
            workers=workers,
            progress=lambda done, _: advance(done, absolute=True),
        )
    click.echo(f"{len(built):,} images are in {out}; train with --pack {out}")


@click.command(cls=SettingsCommand, settings=DATA_SETTINGS)
@click.option("--link", is_flag=True, help="create hard links instead of copies")
@click.option("--folder-size", type=int, default=50, help="largest number of entries in a folder")
@click.option("--out", type=PATH, required=True, help="folder of the copy")
def hierarchy(link: bool, folder_size: int, out: Path, **flags: Any) -> None:
    """Copy the images into folders of bounded size.

    For file systems that are slow in large folders. After an interruption, the same command copies only what is
    missing or differs.
    """
    _, opened = open_data(flags)
    from hilum.data.folder_copy import build_hierarchy

    with progress_bar("copying", len(opened)) as advance:
        done = build_hierarchy(opened, out, link=link, folder_size=folder_size, progress=advance)
    click.echo(
        f"{done.copied:,} images {'linked' if link else 'copied'}, {done.kept:,} already there, "
        f"{done.bytes:,} bytes in {out}; train with --hierarchy {out}"
    )


@click.command()
@click.argument("pack_folder", metavar="PACK", type=PATH)
@click.argument("url")
@click.option("--chunk-megabytes", type=float, default=64, help="approximate size of a shard")
def shards(pack_folder: Path, url: str, chunk_megabytes: float) -> None:
    """Copy a PACK to object storage, as shards.

    URL is s3://bucket/name, gs://bucket/name or a folder. After an interruption, the same command sends only
    what is missing. Credentials and endpoint are taken from the environment, as by the cloud's own tools.
    """
    from hilum.data.pixels import Pack
    from hilum.data.shards import write_shards

    opened = Pack(pack_folder)
    with progress_bar("sending", len(opened)) as advance:
        done = write_shards(opened, url, chunk_bytes=int(chunk_megabytes * 2**20), progress=advance)
    click.echo(
        f"{done.images:,} images in {done.chunks:,} shards, {done.bytes:,} bytes ({done.sent:,} sent, "
        f"{done.kept:,} already there); train with --pack {url}"
    )
