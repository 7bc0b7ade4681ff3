"""Where the pixels of a batch come from: the image files, a pack, or shards on object storage."""

from typing import Protocol

import numpy as np

from hilum.data.resize import Fit, Interpolation, check_fit, resize
from hilum.errors import HilumError
from hilum.sources.catalog import Catalog
from hilum.sources.images import read_gray


class PixelSource(Protocol):
    """Gives the pixels of images by their ids, all at one size.

    Attributes:
        size: (width, height) in pixels.
    """

    size: tuple[int, int]

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """The images of these ids, int64 (B,), in their order: uint8 (B, height, width), the caller's own.

        Raises:
            HilumError: an id is unknown, or its image cannot be read; it is named.
        """
        ...


class RawImages:
    """Decodes and resizes the image files of a catalog, each time they are asked for.

    Args:
        catalog: the images.
        width: pixels, after resizing.
        height: pixels, after resizing.
        fit: how other proportions are fitted, see `resize`.
        interpolation: see `resize`.
        column: the path to read: `"Image_Path"`, or `"Hierarchical_Path"` after `hilum hierarchy`.

    Raises:
        HilumError: an unknown fit, interpolation or column, or a catalog without a root.
    """

    def __init__(
        self,
        catalog: Catalog,
        width: int,
        height: int,
        fit: Fit = "stretch",
        interpolation: Interpolation = "auto",
        column: str = "Image_Path",
    ):
        check_fit(fit, interpolation)
        if column not in ("Image_Path", "Hierarchical_Path"):
            raise HilumError(f"image_column is {column!r}. It may be Image_Path or Hierarchical_Path.")
        self.size = (width, height)
        self.fit, self.interpolation = fit, interpolation
        ids = catalog.table.index.to_numpy(dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        self._name, self._ids = catalog.name, ids[order]
        # Two flat arrays, not a list of strings: a loader's worker, which shares this memory until it
        # writes to it, would copy each string it merely looks at (Python counts references in them).
        encoded = [path.encode("utf-8", "surrogateescape") for path in catalog.image_paths(column)]
        encoded = [encoded[position] for position in order.tolist()]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(path) for path in encoded], dtype=np.int64)

    def path(self, image_id: int) -> str:
        """Where the image's file lies."""
        place = int(rows_of(np.array([image_id], dtype=np.int64), self._ids, f"the {self._name} catalog")[0])
        return self._path_at(place)

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """See `PixelSource.read`."""
        width, height = self.size
        images = np.empty((len(image_ids), height, width), dtype=np.uint8)
        places = rows_of(image_ids, self._ids, f"the {self._name} catalog")
        for image, place in zip(images, places.tolist(), strict=True):
            image[:] = resize(read_gray(self._path_at(place)), width, height, self.fit, self.interpolation)
        return images

    def _path_at(self, place: int) -> str:
        start = int(self._ends[place - 1]) if place else 0
        return self._bytes[start : int(self._ends[place])].tobytes().decode("utf-8", "surrogateescape")


def rows_of(image_ids: np.ndarray, known: np.ndarray, where: str) -> np.ndarray:
    """The places of ids among sorted ids.

    Args:
        image_ids: int64 (B,).
        known: int64 (N,), ascending.
        where: what `known` are the ids of, for the message.

    Returns:
        int64 (B,).

    Raises:
        HilumError: an id is not among them; the first such is named.
    """
    places = np.minimum(np.searchsorted(known, image_ids), max(len(known) - 1, 0))
    missing = known[places] != image_ids if len(known) else np.ones(len(image_ids), dtype=bool)
    if missing.any():
        more = f" (nor are {int(missing.sum()) - 1:,} others)" if missing.sum() > 1 else ""
        raise HilumError(f"ImageID {int(image_ids[missing.argmax()])} is not in {where}{more}.")
    return places


def check_settings(
    where: str, meta: dict, catalog_name: str, width: int, height: int, fit: str, interpolation: str
) -> None:
    """Refuses prepared pixels that were made of another data set or otherwise than a run wants them.

    Args:
        where: the pack or the shards, for the message.
        meta: what was recorded of them; has the keys of the wanted values.
        catalog_name: of the run, as the following.
        width: pixels.
        height: pixels.
        fit: see `resize`.
        interpolation: see `resize`.

    Raises:
        HilumError: values differ; each is named with both values.
    """
    wanted = {
        "catalog": catalog_name,
        "width": width,
        "height": height,
        "fit": fit,
        "interpolation": interpolation,
    }
    differing = [
        f"{key} is {meta.get(key)!r} there, but {value!r} here"
        for key, value in wanted.items()
        if meta.get(key) != value
    ]
    if differing:
        raise HilumError(
            f"{where} does not fit this run: {'; '.join(differing)}. "
            "Change the run's settings to those of the pack, or make another pack with `hilum pack`."
        )
