"""Copies the images of a catalog into folders of bounded size; a killed copy continues where it stopped."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from hilum.errors import HilumError, first_lines
from hilum.files import replacing, sha256_of_file
from hilum.machine import cores
from hilum.sources.catalog import FOLDER_SIZE, Catalog, extensions_of, hierarchical_paths
from hilum.sources.images import parse_address

#: The file with the path, size and SHA-256 of each image, and whether it is still missing.
MANIFEST = "hierarchy.parquet"

#: Files are written here and then renamed, so that no folder ever has one entry too many.
_GROWING = ".growing"

_BLOCK = 512  # images between two checks of the clock
_FLUSH_SECONDS = 30.0

#: The manifest's values for an image that is not copied yet.
_PENDING = {"bytes": -1, "sha256": "", "modified_ns": -1, "source_modified_ns": -1}
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


@dataclass(frozen=True)
class HierarchyReport:
    """The result of `build_hierarchy`: images copied or linked now, images copied earlier, bytes of all."""

    out: Path
    images: int
    copied: int
    kept: int
    bytes: int


def plan_hierarchy(catalog: Catalog, folder_size: int = FOLDER_SIZE) -> pd.DataFrame:
    """The path of each image: `Image_Path` and `Hierarchical_Path`, indexed by `ImageID`.

    With the default folder size these are the catalog's own paths; with another one they are computed from the ids, and
    keep the extension of each image.

    Raises:
        HilumError: a folder size below 2, or a path that is blank, occurs twice or leads out of its folder.
    """
    plan = catalog.table[["Image_Path", "Hierarchical_Path"]].copy()
    if folder_size != FOLDER_SIZE:
        endings = extensions_of(plan["Image_Path"])
        plan["Hierarchical_Path"] = hierarchical_paths(plan.index.to_numpy(), folder_size, endings)
    paths = plan["Hierarchical_Path"].astype(str)
    wrong = paths.str.fullmatch(r"|/.*|(?:.*/)?\.\.(?:/.*)?") | paths.duplicated()
    if wrong.any():
        row = wrong.idxmax()
        raise HilumError(
            f"{catalog.origin or catalog.name}: ImageID {row}, column Hierarchical_Path: {paths.at[row]!r} is "
            "blank, occurs twice or leads out of its folder. Make it with hilum.sources.catalog.hierarchical_paths."
        )
    return plan


def build_hierarchy(
    catalog: Catalog,
    out: str | Path,
    *,
    link: bool = False,
    folder_size: int = FOLDER_SIZE,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> HierarchyReport:
    """Copies every image of the catalog to `out`/`Hierarchical_Path`, at most `folder_size` to a folder.

    Each file is checked by size and SHA-256 and appears whole or not at all. Another call copies only the
    files that are missing or differ: a file with the size and time of `out`/hierarchy.parquet is kept, any
    other is read and compared. `open_hierarchy` gives the catalog that reads from there.

    Args:
        catalog: with the root of its images.
        out: a folder; made if it is missing.
        link: make hard links instead of copies; only within one file system.
        folder_size: entries in a folder, 2 or more.
        workers: threads; None for twice the cores.
        progress: called with the number of images just finished.

    Raises:
        HilumError: `out` holds another data set or layout, the disk is full, a link is not possible, or
            some images cannot be read; then all others are copied. Finished copies stay.
    """
    out = Path(out)
    sources = dict(zip(catalog.table.index.tolist(), map(_file_of, catalog.image_paths()), strict=True))
    copier = _Copier(out, sources, link, _merge(out, plan_hierarchy(catalog, folder_size)))
    try:
        shutil.rmtree(out / _GROWING, ignore_errors=True)
        (out / _GROWING).mkdir(parents=True)
        copier.copy_all(workers or 2 * cores(), progress)
    except OSError as error:
        raise _write_problem(out, error) from None
    finally:
        shutil.rmtree(out / _GROWING, ignore_errors=True)
    if copier.unreadable:
        raise HilumError(
            f"{len(copier.unreadable):,} of {len(sources):,} images cannot be read; the others are in {out}. Restore "
            f"these from the data set and run it again:\n  {first_lines(copier.unreadable)}"
        )
    total = int(copier.manifest.loc[list(sources), "bytes"].sum())
    return HierarchyReport(out, len(sources), copier.copied, len(sources) - copier.copied, total)


def open_hierarchy(catalog: Catalog, out: str | Path) -> Catalog:
    """The same catalog, reading from `out`: its root is `out`, its `Hierarchical_Path` the paths there.

    Read it with `Loaders(..., image_column="Hierarchical_Path")`.

    Raises:
        HilumError: `out` holds no hierarchy, another data set's, or not all of the catalog's images.
    """
    out = Path(out)
    manifest = _read_manifest(out)
    if manifest is None:
        raise HilumError(
            f"{out}: this is not a hierarchy (it has no {MANIFEST}). Make one with `hilum hierarchy`."
        )
    rows = manifest.reindex(catalog.table.index)
    _check_same(out, rows, catalog.table[["Image_Path"]])
    missing = rows["bytes"].fillna(-1) < 0
    if missing.any():
        raise HilumError(
            f"{out}: {int(missing.sum()):,} of the {len(rows):,} images of {catalog.name} are missing, for example "
            f"ImageID {missing.idxmax()}. Run `hilum hierarchy` again to finish it."
        )
    table = catalog.table.copy()
    # The part of an address after its file, such as a window, holds for the copy too.
    suffix = table["Image_Path"].str.extract("(#.*)", expand=False).fillna("")
    table["Hierarchical_Path"] = rows["Hierarchical_Path"].astype("str") + suffix
    return replace(catalog, table=table, root=out)


def _file_of(path: str) -> str:
    """The file of an image's address; raises HilumError if the file holds several images."""
    address = parse_address(path)
    if address.row is not None:
        raise HilumError(
            f"{path}: this image is one row of a file with several, so it has no file of its own to copy. "
            "Use `hilum pack` for this data set."
        )
    return address.file


class _UnreadableError(Exception):
    """A source image that cannot be opened or read; other errors are of the disk that is written to."""


class _Copier:
    """Copies or links images, and keeps the manifest up to date, in memory and on the disk."""

    def __init__(self, out: Path, sources: dict[int, str], link: bool, manifest: pd.DataFrame):
        self.out, self.sources, self.link, self.manifest = out, sources, link, manifest
        self.copied = 0
        self.unreadable: list[str] = []

    def copy_all(self, workers: int, progress: Callable[[int], None] | None) -> None:
        _write_manifest(self.out, self.manifest)
        columns = {name: self.manifest[name].to_numpy(copy=True) for name in _PENDING}
        paths = self.manifest["Hierarchical_Path"].to_numpy()
        image_ids = list(self.sources)
        rows = self.manifest.index.get_indexer(image_ids).tolist()

        def copy(item: tuple[int, int]) -> tuple | str:
            image_id, row = item
            try:
                return self._copy(image_id, paths[row], tuple(column[row] for column in columns.values()))
            except _UnreadableError as error:
                return str(error)

        flushed, pause = time.monotonic(), _FLUSH_SECONDS
        pool = ThreadPoolExecutor(workers)
        try:
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                items = zip(image_ids[start : start + _BLOCK], block, strict=True)
                for row, result in zip(block, pool.map(copy, items), strict=True):
                    if isinstance(result, str):
                        self.unreadable.append(result)
                    else:
                        *values, is_new = result
                        self.copied += is_new
                        for column, value in zip(columns.values(), values, strict=True):
                            column[row] = value
                    if progress:
                        progress(1)
                if time.monotonic() - flushed > pause:
                    started = time.monotonic()
                    _write_manifest(self.out, self.manifest.assign(**columns))
                    flushed = time.monotonic()
                    pause = max(_FLUSH_SECONDS, 10 * (flushed - started))  # less often for a large table
        finally:
            pool.shutdown(cancel_futures=True)
            self.manifest = self.manifest.assign(**columns)
            _write_manifest(self.out, self.manifest)

    def _copy(
        self, image_id: int, path: str, noted: tuple[int, str, int, int]
    ) -> tuple[int, str, int, int, bool]:
        """Copies one image if needed: (bytes, sha256, the file's time, its source's time, copied now)."""
        target = self.out / path
        with _open(self.sources[image_id]) as file:
            source = os.fstat(file.fileno())
            found = target.stat() if target.exists() else None
            if found and (found.st_size, found.st_mtime_ns, source.st_mtime_ns) == (noted[0], *noted[2:]):
                return *noted, False
            digest = hashlib.sha256()
            if found and found.st_size == source.st_size:
                _read_through(file, digest.update)
                if sha256_of_file(target) == digest.hexdigest():
                    return found.st_size, digest.hexdigest(), found.st_mtime_ns, source.st_mtime_ns, False
                file.seek(0)
            target.parent.mkdir(parents=True, exist_ok=True)
            checksum = self._put(image_id, file, target)
        found = target.stat()
        return found.st_size, checksum, found.st_mtime_ns, source.st_mtime_ns, True

    def _put(self, image_id: int, file: BinaryIO, target: Path) -> str:
        growing, digest = self.out / _GROWING / str(image_id), hashlib.sha256()
        try:
            if self.link:
                _read_through(file, digest.update)
                growing.hardlink_to(self.sources[image_id])
            else:
                with growing.open("wb") as copy:
                    _read_through(file, digest.update, copy.write)
                if sha256_of_file(growing) != digest.hexdigest():
                    raise OSError(errno.EIO, "the written bytes read back differently", str(target))
            growing.replace(target)
        finally:
            growing.unlink(missing_ok=True)
        return digest.hexdigest()


def _open(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise _UnreadableError(f"{path}: {error.strerror}") from None


def _read_through(file: BinaryIO, *consumers: Callable[[bytes], object]) -> None:
    while True:
        try:
            block = file.read(1 << 20)
        except OSError as error:
            raise _UnreadableError(f"{file.name}: {error.strerror}") from None
        if not block:
            return
        for consume in consumers:
            consume(block)


def _read_manifest(out: Path) -> pd.DataFrame | None:
    path = out / MANIFEST
    try:
        return pd.read_parquet(path)[["Image_Path", "Hierarchical_Path", *_PENDING]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError):
        raise HilumError(
            f"{path}: this is not a readable manifest. Delete it and run `hilum hierarchy` again: existing "
            "images are compared and kept."
        ) from None


def _write_manifest(out: Path, manifest: pd.DataFrame) -> None:
    # Finished files of the manifest are not read again, so they must be on the disk first.
    if hasattr(os, "sync"):
        os.sync()
    with replacing(out / MANIFEST) as partial:
        manifest.to_parquet(partial)


def _merge(out: Path, plan: pd.DataFrame) -> pd.DataFrame:
    """The manifest of existing and planned images."""
    noted = _read_manifest(out)
    if noted is None:
        return plan.assign(**_PENDING)
    known = noted.reindex(plan.index)
    _check_same(out, known, plan)
    new = plan[known["bytes"].isna()].assign(**_PENDING)
    return pd.concat([noted, new]).sort_index() if len(new) else noted


def _check_same(out: Path, noted: pd.DataFrame, planned: pd.DataFrame) -> None:
    """A folder holds one data set in one layout: images of another would have the same names."""
    for column in planned.columns:
        other = noted[column].notna() & (noted[column] != planned[column])
        if other.any():
            row = other.idxmax()
            raise HilumError(
                f"{out}: ImageID {row}, column {column}: it holds {noted.at[row, column]}, the catalog has "
                f"{planned.at[row, column]}. It is of another data set or folder size; choose another folder."
            )


def _write_problem(out: Path, error: OSError) -> HilumError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return HilumError(
            f"{out}: the disk is full ({error.strerror}). Finished copies stay; make room and run it again."
        )
    if error.errno in _NOT_LINKABLE:
        return HilumError(
            f"{out}: hard links to the images are not possible there ({error.strerror}). Links work only "
            "within one file system; copy the images instead (without --link)."
        )
    return HilumError(
        f"{error.filename or out}: it cannot be written: {error.strerror}. Finished copies stay; run it again."
    )
