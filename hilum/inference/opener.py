"""A run folder or a bundle → a Reader."""

from pathlib import Path

from hilum.errors import HilumError
from hilum.inference.reader import Reader


def open_reader(path: str | Path, device: str = "auto") -> Reader:
    """Opens a run folder or a bundle.

    Args:
        path: what `hilum train` or `hilum export` wrote.
        device: auto, cpu, cuda or cuda:N; a bundle's ONNX Runtime must have been built for it.

    Raises:
        HilumError: it is neither, or damaged, or something that is needed is not installed.
    """
    path = Path(path)
    if (path / "bundle.json").is_file():
        from hilum.inference.bundle import open_bundle

        return open_bundle(path, device)
    if not (path / "run.json").is_file():
        raise HilumError(
            f"{path}: this is neither a run folder (run.json is missing) nor a bundle (bundle.json is missing)."
        )
    from hilum.inference.reader import open_run

    return open_run(path, device)
