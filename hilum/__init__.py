"""Hilum makes chest X-ray experiments repeatable: change one parameter, run again, know whether it helped."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Catalog": "hilum.sources",
    "CheXpertDataset": "hilum.data.dataset",
    "CleanMetaData": "hilum.sources.chexpert",
    "HilumError": "hilum.errors",
    "Loaders": "hilum.data.loaders",
    "Metrics": "hilum.metrics",
    "ModelLoop": "hilum.sweeps.model_loop",
    "RunConfig": "hilum.config",
    "RunFolder": "hilum.run_folder",
    "StandardTraining": "hilum.training.run",
    "TrainingLoop": "hilum.training.loop",
    "open_catalog": "hilum.sources",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    # Imports on first use: `import hilum` stays fast and does not load torch.
    if name not in _HOME:
        raise AttributeError(f"module 'hilum' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
