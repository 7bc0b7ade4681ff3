"""The data sets: each is one module with a function `open_catalog(root, **filters) -> Catalog`."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.errors import HilumError, nearest

if TYPE_CHECKING:
    from hilum.sources.catalog import FEATURE_COLUMNS, Catalog

#: The names of the data sets, with a description.
SOURCES = {
    "chexpert": "CheXpert: train.csv and its images (CheXpert-v1.0 or -small)",
    "nih": "NIH ChestX-ray14: Data_Entry_2017_v2020.csv and images/",
    "mimic": "MIMIC-CXR-JPG: mimic-cxr-2.0.0-chexpert.csv, -metadata.csv, -split.csv (or .csv.gz) and files/",
    "padchest": "PadChest: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and its 16-bit PNGs",
    "vindr": "VinDr-CXR: annotations/image_labels_{train,test}.csv and the DICOMs of train/ and test/",
    "kaggle": "Kermany's pediatric pneumonia: chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/",
    "medmnist": "MedMNIST's chest sets: chestmnist*.npz or pneumoniamnist*.npz",
    "folder": "any images with a CSV: a column of paths, a column per target",
    "merge": "several of these on the targets they share: of = [{source = ..., root = ...}, ...]",
    "phantom": "synthetic radiographs in CheXpert's layout, drawn at root if they are not there yet",
}

__all__ = ["FEATURE_COLUMNS", "SOURCES", "Catalog", "open_catalog"]


def __getattr__(name: str) -> Any:
    # A bundle's reader decodes images without pandas.
    if name in ("FEATURE_COLUMNS", "Catalog"):
        return getattr(import_module("hilum.sources.catalog"), name)
    raise AttributeError(f"module 'hilum.sources' has no attribute {name!r}")


def open_catalog(source: str, root: str | Path | None, **filters: Any) -> "Catalog":
    """Reads and checks a data set.

    Args:
        source: a key of `SOURCES`.
        root: the data set's folder; None for the phantom's cache folder, and for a merge's own roots.
        filters: keyword arguments of that source's own `open_catalog`.

    Raises:
        HilumError: an unknown source or filter, or an error in the files.
    """
    if source not in SOURCES:
        raise HilumError(f"Unknown source {source!r}.{nearest(source, SOURCES)} Known: {', '.join(SOURCES)}.")
    module = import_module("hilum.phantom" if source == "phantom" else f"hilum.sources.{source}")
    parameters = inspect.signature(getattr(module, "FILTERS_OF", module.open_catalog)).parameters
    known = [name for name in parameters if name != "root"]
    for name in filters:
        if name not in known:
            raise HilumError(
                f"source_kwargs: the source {source!r} has no filter {name!r}.{nearest(name, known)} "
                f"It takes {', '.join(known) or 'none'}."
            )
    if root is None and source not in ("phantom", "merge"):
        raise HilumError(f"root is missing: give the folder of the {source} data set (--root DIR).")
    return module.open_catalog(None if root is None else Path(root), **filters)
