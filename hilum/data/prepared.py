"""Where the pixels of a run come from: image files, a pack, or its shards."""

from pathlib import Path

from hilum.data.pack import Pack
from hilum.data.pixels import PixelSource, RawImages
from hilum.data.resize import Fit, Interpolation
from hilum.data.shards import RECORD, Shards
from hilum.sources.catalog import Catalog


def open_pixels(
    pack: str | Path | None,
    catalog: Catalog,
    width: int,
    height: int,
    fit: Fit = "stretch",
    interpolation: Interpolation = "auto",
    column: str = "Image_Path",
) -> PixelSource:
    """The pixels of a run: a pack or shards if there are any, else the image files.

    Args:
        pack: None for the image files; the folder of a pack; the folder or URL (`s3://bucket/name`) of shards.
        catalog: the images that will be read.
        width: pixels.
        height: pixels.
        fit: see `resize`.
        interpolation: see `resize`.
        column: the path by which image files are read.

    Raises:
        HilumError: the pack is half-written, or does not match the catalog or the settings.
    """
    if pack is None:
        return RawImages(catalog, width, height, fit, interpolation, column)
    opened = _open_pack(pack)
    opened.check(catalog, width, height, fit, interpolation)
    return opened


def without_left_out(pack: str | Path, catalog: Catalog) -> Catalog:
    """The catalog without the images that the pack, or its shards, left out as unreadable.

    If more images are missing than were left out, the catalog is given back as it is: then the pack
    is of other images, which `open_pixels` says.

    Raises:
        HilumError: there is no whole pack.
    """
    opened = _open_pack(pack)
    there = catalog.table.index.isin(opened.ids)
    if not 0 < (~there).sum() <= opened.meta.get("left_out", 0):
        return catalog
    return catalog.select_images(catalog.table.index[there])


def _open_pack(pack: str | Path) -> Pack | Shards:
    of_shards = "://" in str(pack) or (Path(pack) / RECORD).is_file()
    return Shards(str(pack)) if of_shards else Pack(pack)
