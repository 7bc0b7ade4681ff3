"""Commands that use the model of a finished run."""

from pathlib import Path
from typing import Any

import click

from hilum.cli.options import PATH, device_option
from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS

_METHODS = click.Choice(HEATMAP_METHODS)


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, required=True, help="folder of the bundle")
def export(run: Path, out: Path) -> None:
    """Write a RUN's best model as a bundle for other programs.

    ONNX and safetensors files, the frozen thresholds, the preprocessing and a model card. Research use only.
    """
    from hilum.inference.export import export_bundle

    export_bundle(run, out)
    click.echo(f"The bundle is in {out}. Research use only; see {out / 'README.md'}.")


@click.command()
@click.argument("model", type=PATH, metavar="RUN_OR_BUNDLE")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--csv", "csv_file", type=PATH, help="write a CSV file, one row per finding")
@click.option("--json", "json_file", help="write a JSON file; - prints it")
@click.option("--all", "every", is_flag=True, help="also show findings below their thresholds")
@click.option("--heatmaps", type=PATH, help="write an overlay per suggested finding to this folder")
@click.option("--heatmap-method", type=_METHODS, default=DEFAULT_METHOD, help="method of the heatmaps")
@device_option
@click.option("--batch-size", type=click.IntRange(1), default=16, help="images per batch")
def predict(model: Path, paths: tuple[str, ...], **options: Any) -> None:
    """Predict the findings of images: files, folders or patterns.

    PNG, JPEG and DICOM. Suggested findings are first, ordered by how far their odds exceed the threshold's.
    Images that the model was not made for are refused, with the reason. Research use only: not for clinical use.
    """
    from hilum.inference.predict import run_predict

    run_predict(model, paths, **options)


@click.command()
@click.argument("path", metavar="RUN_OR_BUNDLE", type=PATH)
@click.option("--host", default="127.0.0.1", help="address to bind to")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0: any free port")
@click.option(
    "--token",
    help="token that clients must send; required if other machines reach the host. HILUM_TOKEN is safer",
)
@device_option
def serve(path: Path, **options: Any) -> None:
    """Serve a web page and an API that predict findings.

    RUN_OR_BUNDLE may also be a folder of runs: then /runs shows and compares them, and the page uses the best.
    Uploaded files are decoded in memory and not kept. Research use only: this is not a medical device.
    """
    from hilum.service.server import serve as serve_until_stopped

    serve_until_stopped(path, **options, echo=click.echo)
