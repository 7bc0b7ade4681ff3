"""The commands that use a finished run."""

from pathlib import Path

import click

from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the bundle's folder")
def export(run: Path, out: Path) -> None:
    """Write a RUN's best model as a bundle for other programs.

    ONNX and safetensors, the frozen thresholds, the preprocessing and a model card. Research use only.
    """
    from hilum.inference.export import export_bundle

    export_bundle(run, out)
    click.echo(f"The bundle is in {out}. Research use only; see {out / 'README.md'}.")


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="RUN_OR_BUNDLE")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="write a CSV file, a row per finding"
)
@click.option("--json", "json_file", help="write a JSON file; - for the terminal")
@click.option("--all", "every", is_flag=True, help="show findings below their thresholds, too")
@click.option(
    "--heatmaps", type=click.Path(path_type=Path), help="a folder for an overlay per suggested finding"
)
@click.option(
    "--heatmap-method",
    type=click.Choice(HEATMAP_METHODS),
    default=DEFAULT_METHOD,
    show_default=True,
    help="how the overlays are made",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option(
    "--batch-size", type=click.IntRange(1), default=16, show_default=True, help="images read at once"
)
def predict(
    model: Path,
    paths: tuple[str, ...],
    csv_file: Path | None,
    json_file: str | None,
    every: bool,
    heatmaps: Path | None,
    heatmap_method: str,
    device: str,
    batch_size: int,
) -> None:
    """Findings of images: files, folders, patterns.

    PNG, JPEG and DICOM. Suggested findings are first, ordered by how far their odds exceed the threshold's. Images that
    the model was not made for are refused, with the reason. Research use only: not for clinical use.
    """
    from hilum.inference.predict import run_predict

    run_predict(model, paths, csv_file, json_file, every, heatmaps, heatmap_method, device, batch_size)


@click.command()
@click.argument("path", metavar="RUN_OR_BUNDLE", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="address to bind to")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one"
)
@click.option(
    "--token", help="what clients must send; needed where others can reach the host. Better in HILUM_TOKEN"
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
def serve(path: Path, host: str, port: int, token: str | None, device: str) -> None:
    """Serve a page and an API that read radiographs.

    RUN_OR_BUNDLE may also be a folder of runs: then /runs shows and compares them, and the page reads with the
    best. Files that are sent are decoded in memory and forgotten. Research use only: this is not a medical
    device.
    """
    from hilum.service.server import serve as serve_until_stopped

    serve_until_stopped(path, host=host, port=port, token=token, device=device, echo=click.echo)
