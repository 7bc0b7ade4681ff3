"""A pack: every image of a catalog decoded and resized once, read through a memory map."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hilum.data.pixels import check_settings, rows_of
from hilum.errors import HilumError
from hilum.files import sha256_of_file
from hilum.sources.catalog import Catalog
from hilum.sources.images import parse_address

#: The files of a pack, in its folder. `RECORD` is written last: where it is, the pack is whole.
PIXELS, INDEX, CORRUPT, RECORD = "pixels.npy", "index.parquet", "corrupt.csv", "pack.json"
#: What a pack under way has besides: its parameters, and a file for each finished chunk.
STARTED, PROGRESS = "pack.started.json", "progress"
#: Goes up when a pack could no longer be read by the code of before.
FORMAT = 1


class Pack:
    """The images of a pack, by their ids. A `PixelSource`.

    Only the ids are held in memory (16 bytes an image); pixels come from the page cache, which all
    worker processes share.

    Attributes:
        path: the pack's folder.
        meta: what `pack.json` records: `catalog` (its name), `catalog_fingerprint`, `images_fingerprint`,
            `width`, `height`, `fit`, `interpolation`, `images`, `left_out`, `hilum` (version), `format`.
        size: (width, height) in pixels.
        ids: int64 (N,), ascending: the ImageIDs that can be read.

    Raises:
        HilumError: there is no pack at `path`, it is half-written, or its files do not belong together.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = _read_record(self.path)
        self.size: tuple[int, int] = (self.meta["width"], self.meta["height"])
        index = self._read_index(["ImageID", "row"])
        self.ids = index["ImageID"].to_numpy(dtype=np.int64)
        self._rows = index["row"].to_numpy(dtype=np.int64)
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

    def check(self, catalog: Catalog, width: int, height: int, fit: str, interpolation: str) -> None:
        """Refuses the pack for a run that wants other images or another size.

        Of the catalog, its name and each image's ImageID and `Image_Path` are compared, not the labels
        or the number of images: a subset of the images, or other targets, can use the same pack.

        Raises:
            HilumError: what differs, with both values.
        """
        check_settings(f"The pack {self.path}", self.meta, catalog.name, width, height, fit, interpolation)
        ids = catalog.table.index.to_numpy(dtype=np.int64)
        paths = catalog.table["Image_Path"]
        if images_fingerprint(ids, paths) == self.meta["images_fingerprint"] and not self.meta["left_out"]:
            self.check_content(catalog)
            return
        absent = ~np.isin(ids, self.ids)
        if absent.any():
            raise HilumError(self._why_absent(ids[absent]))
        packed = self._read_index(["ImageID", "Image_Path"]).set_index("ImageID")["Image_Path"]
        there = packed.loc[ids].to_numpy(dtype=object)
        differing = there != paths.to_numpy(dtype=object)
        if differing.any():
            first = int(differing.argmax())
            raise HilumError(
                f"The pack {self.path} was made of other images: ImageID {ids[first]} is {there[first]} there, "
                f"but {paths.iloc[first]} in the {catalog.name} catalog ({int(differing.sum()):,} differ). "
                "Use the source, root and filters that the pack was made with, or make another pack."
            )
        self.check_content(catalog)

    def check_content(self, catalog: Catalog, sample: int = 8) -> None:
        """Compares some images' files with what the pack was made of, where the files are at hand.

        Two data sets may give their images the same ids and paths.

        Raises:
            HilumError: a file has another SHA-256 now than when it was packed.
        """
        if catalog.root is None:
            return
        ids = np.intersect1d(catalog.table.index.to_numpy(dtype=np.int64), self.ids)
        chosen = ids[np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(np.int64)]
        packed = self._read_index(["ImageID", "sha256"]).set_index("ImageID")["sha256"]
        for image_id in chosen.tolist():
            address = parse_address(catalog.image_path(image_id))
            if address.row is not None or not Path(address.file).is_file():
                continue
            if sha256_of_file(address.file) != packed.loc[image_id]:
                raise HilumError(
                    f"The pack {self.path} was made of other images: {address.file} (ImageID {image_id}) is not "
                    "the file that was packed. Use the root that the pack was made from, or make another pack."
                )

    def left_out(self) -> pd.DataFrame:
        """The images that could not be read when the pack was made: `ImageID`, `Image_Path`, `reason`."""
        return pd.read_csv(self.path / CORRUPT, dtype={"ImageID": "int64", "Image_Path": str, "reason": str})

    def _why_absent(self, absent: np.ndarray) -> str:
        unreadable = self.left_out().set_index("ImageID")
        first = int(absent[0])
        if first in unreadable.index:
            return (
                f"The pack {self.path} left out {int(np.isin(absent, unreadable.index).sum()):,} image(s) of this "
                f"catalog as unreadable, ImageID {first} for one: {unreadable.at[first, 'reason']} "
                f"All are in {self.path / CORRUPT}. Leave them out of the catalog "
                "(hilum.data.loaders.without_left_out), or restore them and pack again."
            )
        return (
            f"The pack {self.path} was made of other images: it lacks ImageID {first} "
            f"({len(absent):,} are missing; it has {len(self.ids):,}). Make another pack with `hilum pack`."
        )

    def _read_index(self, columns: list[str]) -> pd.DataFrame:
        try:
            return pq.read_table(self.path / INDEX, columns=columns).to_pandas()
        except (OSError, ValueError) as error:
            raise HilumError(
                f"{self.path / INDEX}: it cannot be read: {error}. Make the pack again in another folder."
            ) from None

    def _map_pixels(self) -> np.ndarray:
        path = self.path / PIXELS
        try:
            pixels = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise HilumError(
                f"{path}: it cannot be read: {error}. Make the pack again in another folder."
            ) from None
        width, height = self.size
        highest = int(self._rows.max(initial=-1))
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width) or len(pixels) <= highest:
            raise HilumError(
                f"{path}: it holds {pixels.dtype} {pixels.shape}, but {RECORD} and {INDEX} speak of uint8 "
                f"({highest + 1} or more, {height}, {width}). Make the pack again in another folder."
            )
        # The class np.memmap costs microseconds at every access; the mapping stays open through the base.
        return np.asarray(pixels)


def images_fingerprint(image_ids: np.ndarray, paths: pd.Series) -> str:
    """SHA-256 of ids and paths, in the order of the ids: what makes two catalogs the same images."""
    order = np.argsort(image_ids, kind="stable")
    digest = hashlib.sha256(np.ascontiguousarray(image_ids[order], dtype="<i8").tobytes())
    for start in range(0, len(order), 65_536):
        some = paths.iloc[order[start : start + 65_536]]
        digest.update("\n".join([*some, ""]).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _read_record(path: Path) -> dict:
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        missing = {
            "catalog",
            "images_fingerprint",
            "width",
            "height",
            "fit",
            "interpolation",
            "left_out",
        } - set(record)
    except (FileNotFoundError, NotADirectoryError):
        if (path / STARTED).is_file():
            raise HilumError(
                f"{path}: this pack is half-written. Run the same `hilum pack` again: it goes on where it stopped."
            ) from None
        raise HilumError(
            f"{path}: there is no pack (it has no {RECORD}). Make one with `hilum pack`."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise HilumError(
            f"{path / RECORD}: it cannot be read: {error}. Make the pack again in another folder."
        ) from None
    if missing or record.get("format") != FORMAT:
        raise HilumError(
            f"{path / RECORD}: it is no record of a pack of format {FORMAT} (format {record.get('format')!r}, "
            f"missing: {', '.join(sorted(missing)) or 'nothing'}). Make the pack again in another folder."
        )
    return record
