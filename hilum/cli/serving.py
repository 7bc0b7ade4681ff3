"""The command that serves the reading page and its API."""

from pathlib import Path

import click


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
    from hilum.reading.service.server import serve as serve_until_stopped

    serve_until_stopped(path, host=host, port=port, token=token, device=device, say=click.echo)
