"""The pixels of a batch, from the image files or from a pack: every image decoded and resized once."""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hilum.config import PixelSettings
from hilum.data.resize import resize
from hilum.errors import HilumError
from hilum.files import sha256_of_file
from hilum.sources.catalog import Catalog
from hilum.sources.images import parse_address, read_gray

#: The files of a pack, in its folder. `RECORD` is written last: a pack that has it is complete.
PIXELS, INDEX, CORRUPT, RECORD = "pixels.npy", "index.parquet", "corrupt.csv", "pack.json"
#: An incomplete pack has in addition its parameters and a folder with a file for each finished chunk.
STARTED, PROGRESS = "pack.started.json", "progress"
#: Rises when older code could not read a pack, or newer code an older one.
FORMAT = 1

_RECORD_KEYS = {"catalog", "images_fingerprint", "width", "height", "fit", "interpolation", "left_out"}
_AGAIN = "Make the pack again in another folder."


class PixelSource(Protocol):
    """Gives the pixels of images by their ids, all at one size.

    Attributes:
        size: (width, height) in pixels.
    """

    size: tuple[int, int]

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """The images of these ids, int64 (B,), in their order: uint8 (B, height, width), a new array.

        Raises:
            HilumError: an id is unknown, or its image cannot be read.
        """
        ...


class RawImages:
    """Decodes and resizes the image files of a catalog at each read.

    Args:
        catalog: the images.
        settings: size, fit and interpolation.
        column: the path to read: `"Image_Path"`, or `"Hierarchical_Path"` after `hilum hierarchy`.

    Raises:
        HilumError: an unknown column, or a catalog without a root.
    """

    def __init__(self, catalog: Catalog, settings: PixelSettings, column: str = "Image_Path"):
        if column not in ("Image_Path", "Hierarchical_Path"):
            raise HilumError(f"image_column is {column!r}. It may be Image_Path or Hierarchical_Path.")
        self.size = (settings.image_width, settings.image_height)
        self.settings = settings
        ids = catalog.table.index.to_numpy(dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        self._name, self._ids = catalog.name, ids[order]
        # Two flat arrays, not a list of strings: Python counts references in each string, so a loader's
        # worker would copy the memory of every string that it reads.
        encoded = [path.encode("utf-8", "surrogateescape") for path in catalog.image_paths(column)]
        encoded = [encoded[position] for position in order.tolist()]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(path) for path in encoded], dtype=np.int64)

    def path(self, image_id: int) -> str:
        """Path of the image's file."""
        return self._path_at(self._rows_of(np.array([image_id], dtype=np.int64))[0])

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """See `PixelSource.read`."""
        width, height = self.size
        images = np.empty((len(image_ids), height, width), dtype=np.uint8)
        for image, row in zip(images, self._rows_of(image_ids), strict=True):
            pixels = read_gray(self._path_at(row))
            image[:] = resize(pixels, width, height, self.settings.fit, self.settings.interpolation)
        return images

    def _rows_of(self, image_ids: np.ndarray) -> list[int]:
        return rows_of(image_ids, self._ids, f"the {self._name} catalog").tolist()

    def _path_at(self, row: int) -> str:
        start = int(self._ends[row - 1]) if row else 0
        return self._bytes[start : int(self._ends[row])].tobytes().decode("utf-8", "surrogateescape")


class Pack:
    """The images of a pack, by their ids. A `PixelSource`.

    Memory holds only the ids (16 bytes an image); pixels come through a memory map, which all processes share.

    Attributes:
        path: the pack's folder.
        meta: the content of `pack.json`: `catalog` (its name), `catalog_fingerprint`, `images_fingerprint`,
            `width`, `height`, `fit`, `interpolation`, `images`, `left_out`, `hilum` (version), `format`.
        size: (width, height) in pixels.
        ids: int64 (N,), ascending: the ImageIDs that can be read.

    Raises:
        HilumError: `path` is not a pack, is incomplete, or its files do not belong together.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = _read_record(self.path)
        self.size: tuple[int, int] = (self.meta["width"], self.meta["height"])
        rows = self._column("row")
        self.ids, self._rows = rows.index.to_numpy(dtype=np.int64), rows.to_numpy(dtype=np.int64)
        self._pixels = self._map_pixels()

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, image_ids: np.ndarray) -> np.ndarray:
        """See `PixelSource.read`."""
        rows = self._rows[rows_of(image_ids, self.ids, f"the pack {self.path}")]
        width, height = self.size
        images = np.empty((len(rows), height, width), dtype=np.uint8)
        np.take(self._pixels, rows, axis=0, out=images, mode="clip")  # other modes copy twice
        return images

    def check(self, catalog: Catalog, settings: PixelSettings) -> None:
        """Raises HilumError, with both values, unless the pack has the images of a run, at its size.

        The catalog's name and each image's ImageID and `Image_Path` are compared, not the labels or the number of
        images: a subset of the images, or other targets, can use the same pack.
        """
        check_settings(f"The pack {self.path}", self.meta, catalog.name, settings)
        ids, paths = catalog.table.index.to_numpy(dtype=np.int64), catalog.table["Image_Path"]
        if images_fingerprint(ids, paths) != self.meta["images_fingerprint"] or self.meta["left_out"]:
            absent = ids[~np.isin(ids, self.ids)]
            if len(absent):
                raise HilumError(self._explain_absent(absent))
            packed = self._column("Image_Path").loc[ids].to_numpy(dtype=object)
            check_paths(f"The pack {self.path}", catalog, packed)
        self.check_content(catalog)

    def check_content(self, catalog: Catalog, sample: int = 8) -> None:
        """Raises HilumError if a file of a sample of images has another SHA-256 than when it was packed.

        Two data sets may have the same ids and paths for different images. A catalog without a root is not checked.
        """
        if catalog.root is None:
            return
        ids = np.intersect1d(catalog.table.index.to_numpy(dtype=np.int64), self.ids)
        chosen = ids[np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(np.int64)]
        packed = self._column("sha256")
        for image_id in chosen.tolist():
            address = parse_address(catalog.image_path(image_id))
            if address.row is not None or not Path(address.file).is_file():
                continue
            if sha256_of_file(address.file) != packed.loc[image_id]:
                raise HilumError(
                    f"The pack {self.path} has other images: {address.file} (ImageID {image_id}) is not the file "
                    "that was packed. Use the root that the pack was made from, or make another pack."
                )

    def left_out(self) -> pd.DataFrame:
        """The images that could not be read when the pack was made: `ImageID`, `Image_Path`, `reason`."""
        return pd.read_csv(self.path / CORRUPT, dtype={"ImageID": "int64", "Image_Path": str, "reason": str})

    def _explain_absent(self, absent: np.ndarray) -> str:
        unreadable = self.left_out().set_index("ImageID")
        first = int(absent[0])
        if first in unreadable.index:
            count = int(np.isin(absent, unreadable.index).sum())
            return (
                f"The pack {self.path} left out {count:,} unreadable image(s) of this catalog, for example "
                f"ImageID {first}: {unreadable.at[first, 'reason']} "
                f"{self.path / CORRUPT} lists them. Leave them out of the catalog "
                "(hilum.data.loaders.without_left_out), or restore them and pack again."
            )
        return (
            f"The pack {self.path} has other images: ImageID {first} is missing ({len(absent):,} are missing; it has "
            f"{len(self.ids):,}). Make another pack with `hilum pack`."
        )

    def _column(self, name: str) -> pd.Series:
        """A column of the index, by ImageID."""
        try:
            return (
                pq.read_table(self.path / INDEX, columns=["ImageID", name])
                .to_pandas()
                .set_index("ImageID")[name]
            )
        except (OSError, ValueError) as error:
            raise HilumError(f"{self.path / INDEX}: it cannot be read: {error}. {_AGAIN}") from None

    def _map_pixels(self) -> np.ndarray:
        path = self.path / PIXELS
        try:
            pixels = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise HilumError(f"{path}: it cannot be read: {error}. {_AGAIN}") from None
        width, height = self.size
        highest = int(self._rows.max(initial=-1))
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width) or len(pixels) <= highest:
            raise HilumError(
                f"{path}: it holds {pixels.dtype} {pixels.shape}, but {RECORD} and {INDEX} need uint8 "
                f"({highest + 1} or more, {height}, {width}). {_AGAIN}"
            )
        # The class np.memmap costs microseconds at every access; the base keeps the mapping open.
        return np.asarray(pixels)


def images_fingerprint(image_ids: np.ndarray, paths: pd.Series) -> str:
    """SHA-256 of ids and paths, in the order of the ids; equal for two catalogs with the same images."""
    order = np.argsort(image_ids, kind="stable")
    digest = hashlib.sha256(np.ascontiguousarray(image_ids[order], dtype="<i8").tobytes())
    for start in range(0, len(order), 65_536):
        some = paths.iloc[order[start : start + 65_536]]
        digest.update("\n".join([*some, ""]).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def rows_of(image_ids: np.ndarray, known: np.ndarray, where: str) -> np.ndarray:
    """The positions, int64 (B,), of ids (B,) among the ascending ids (N,) of `where`; HilumError for an unknown one."""
    rows = np.minimum(np.searchsorted(known, image_ids), max(len(known) - 1, 0))
    missing = known[rows] != image_ids if len(known) else np.ones(len(image_ids), dtype=bool)
    if missing.any():
        more = f" (nor are {int(missing.sum()) - 1:,} others)" if missing.sum() > 1 else ""
        raise HilumError(f"ImageID {int(image_ids[missing.argmax()])} is not in {where}{more}.")
    return rows


def check_settings(where: str, meta: dict[str, Any], catalog_name: str, settings: PixelSettings) -> None:
    """Raises HilumError, with both values of each difference, unless `where` has a run's data set and settings.

    `where` is a pack or shards; `meta` its record, see `Pack.meta`.
    """
    needed = {"catalog": catalog_name, "width": settings.image_width, "height": settings.image_height}
    needed |= {"fit": settings.fit, "interpolation": settings.interpolation}
    pairs = [(key, meta.get(key), value) for key, value in needed.items() if meta.get(key) != value]
    if pairs:
        differing = "; ".join(f"{key} is {there!r} there, but {here!r} here" for key, there, here in pairs)
        raise HilumError(
            f"{where} does not fit this run: {differing}. "
            "Change the run's settings to those of the pack, or make another pack with `hilum pack`."
        )


def check_paths(where: str, catalog: Catalog, packed: np.ndarray) -> None:
    """Raises HilumError, naming the first difference, unless the paths (N,) of `where` are those of the catalog."""
    paths = catalog.table["Image_Path"].to_numpy(dtype=object)
    differing = packed != paths
    if differing.any():
        first = int(differing.argmax())
        raise HilumError(
            f"{where} has other images: ImageID {catalog.table.index[first]} is {packed[first]} there, but "
            f"{paths[first]} in the {catalog.name} catalog ({int(differing.sum()):,} differ). "
            "Use the source, root and filters that it was made with, or make another one."
        )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        missing = _RECORD_KEYS - set(record)
    except (FileNotFoundError, NotADirectoryError):
        problem = f"this is not a pack (it has no {RECORD}). Make one with `hilum pack`."
        if (path / STARTED).is_file():
            problem = (
                "this pack is incomplete. Run the same `hilum pack` again: it continues where it stopped."
            )
        raise HilumError(f"{path}: {problem}") from None
    except (OSError, ValueError, TypeError) as error:
        raise HilumError(f"{path / RECORD}: it cannot be read: {error}. {_AGAIN}") from None
    if missing or record.get("format") != FORMAT:
        raise HilumError(
            f"{path / RECORD}: this is not the record of a pack of format {FORMAT} (format "
            f"{record.get('format')!r}, missing: {', '.join(sorted(missing)) or 'nothing'}). {_AGAIN}"
        )
    return record
