"""Copies the images of a catalog into folders of bounded size, so that a killed copy goes on where it stopped."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from hilum.errors import HilumError
from hilum.files import replacing, sha256_of_file
from hilum.machine import cores
from hilum.sources.catalog import FOLDER_SIZE, Catalog, extensions_of, hierarchical_paths
from hilum.sources.images import parse_address

#: Beside `data/`: which image lies where, how large it is and its SHA-256, or that it is still to come.
MANIFEST = "hierarchy.parquet"

#: Where files grow before they are renamed into place, so that no folder ever holds one entry too many.
_GROWING = ".growing"

_BLOCK = 512  # images between two looks at the clock
_FLUSH_SECONDS = 30.0

#: What a manifest row says of an image that is not there yet.
_PENDING = {"bytes": -1, "sha256": "", "modified_ns": -1, "source_modified_ns": -1}
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


@dataclass(frozen=True)
class HierarchyReport:
    """What `build_hierarchy` did: images copied or linked, images that were there already, bytes of all."""

    out: Path
    images: int
    copied: int
    kept: int
    bytes: int


def plan_hierarchy(catalog: Catalog, folder_size: int = FOLDER_SIZE) -> pd.DataFrame:
    """Where each image goes: `Image_Path` and `Hierarchical_Path`, indexed by `ImageID`.

    With the usual folder size these are the catalog's own paths; with another one they are computed
    from the ids, and keep the extension of each image.

    Raises:
        HilumError: a folder size below 2, or a path of the catalog that is blank, stands twice or leads
            out of its folder.
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
            "blank, stands twice or leads out of its folder. Make it with hilum.sources.catalog.hierarchical_paths."
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

    Each file is checked by size and SHA-256 and appears whole or not at all. Another call copies only
    what is missing or differs: a file whose size and time are those noted in `out`/hierarchy.parquet is
    taken as it is, any other is read and compared. `open_hierarchy` gives the catalog that reads from there.

    Args:
        catalog: with the root of its images.
        out: a folder; made if it is not there.
        link: make hard links instead of copies; only within one file system.
        folder_size: entries in a folder, 2 or more.
        workers: threads; None for twice the cores.
        progress: called with the number of images just dealt with.

    Raises:
        HilumError: `out` holds another data set or layout, the disk is full, a link is not possible, or
            some images cannot be read; then all others are copied. What was copied stays.
    """
    out = Path(out)
    sources = dict(zip(catalog.table.index.tolist(), map(_file_of, catalog.image_paths()), strict=True))
    manifest = _merge(out, _read_manifest(out), plan_hierarchy(catalog, folder_size))
    tree = _Tree(out, sources, link)
    unreadable: list[str] = []
    try:
        shutil.rmtree(out / _GROWING, ignore_errors=True)
        (out / _GROWING).mkdir(parents=True)
        copied, manifest = _run(tree, manifest, list(sources), workers, progress, unreadable)
    except OSError as error:
        raise _write_problem(out, error) from None
    finally:
        shutil.rmtree(out / _GROWING, ignore_errors=True)
    if unreadable:
        more = f"\n  … and {len(unreadable) - 10:,} more" if len(unreadable) > 10 else ""
        raise HilumError(
            f"{len(unreadable):,} of {len(sources):,} images cannot be read; the others are in {out}. Restore "
            "these from the data set and run it again:\n  " + "\n  ".join(unreadable[:10]) + more
        )
    return HierarchyReport(
        out=out,
        images=len(sources),
        copied=copied,
        kept=len(sources) - copied,
        bytes=int(manifest.loc[list(sources), "bytes"].sum()),
    )


def open_hierarchy(catalog: Catalog, out: str | Path) -> Catalog:
    """The same catalog, reading from `out`: its root is `out`, its `Hierarchical_Path` what lies there.

    Read it with `Loaders(..., image_column="Hierarchical_Path")`.

    Raises:
        HilumError: `out` holds no hierarchy, another data set's, or not all of the catalog's images.
    """
    out = Path(out)
    manifest = _read_manifest(out)
    if manifest is None:
        raise HilumError(f"{out}: there is no {MANIFEST}, so no hierarchy. Make one with `hilum hierarchy`.")
    rows = manifest.reindex(catalog.table.index)
    _refuse_other(out, rows, catalog.table[["Image_Path"]])
    missing = rows["bytes"].fillna(-1) < 0
    if missing.any():
        raise HilumError(
            f"{out}: {int(missing.sum()):,} of the {len(rows):,} images of {catalog.name} are not there yet, "
            f"ImageID {missing.idxmax()} among them. Run `hilum hierarchy` again to finish it."
        )
    table = catalog.table.copy()
    # What an address says beyond its file, such as a window, is said of the copy too.
    beyond = table["Image_Path"].str.extract("(#.*)", expand=False).fillna("")
    table["Hierarchical_Path"] = rows["Hierarchical_Path"].astype("str") + beyond
    return replace(catalog, table=table, root=out)


def _file_of(path: str) -> str:
    """The file of an image's address.

    Raises:
        HilumError: the image is one of many in a file.
    """
    address = parse_address(path)
    if address.row is not None:
        raise HilumError(
            f"{path}: this image is a row of a file of many, so there is no file of its own to copy. "
            "Use `hilum pack` for this data set."
        )
    return address.file


@dataclass(frozen=True)
class _Tree:
    out: Path
    sources: dict[int, str]
    link: bool

    def place(self, image_id: int, path: str, noted: tuple[int, str, int, int]) -> tuple:
        """Puts one image in place if it is not: (bytes, sha256, the file's time, its source's time, copied)."""
        target = self.out / path
        with _readable(self.sources[image_id]) as file:
            source = os.fstat(file.fileno())
            there = _stat(target)
            if there and (there.st_size, there.st_mtime_ns, source.st_mtime_ns) == (noted[0], *noted[2:]):
                return *noted, False
            digest = hashlib.sha256()
            if there and there.st_size == source.st_size:
                _read_through(file, digest.update)
                if sha256_of_file(target) == digest.hexdigest():
                    return there.st_size, digest.hexdigest(), there.st_mtime_ns, source.st_mtime_ns, False
                file.seek(0)
            target.parent.mkdir(parents=True, exist_ok=True)
            checksum = self._put(image_id, file, target)
        there = target.stat()
        return there.st_size, checksum, there.st_mtime_ns, source.st_mtime_ns, True

    def _put(self, image_id: int, file, target: Path) -> str:
        growing, digest = self.out / _GROWING / str(image_id), hashlib.sha256()
        try:
            if self.link:
                _read_through(file, digest.update)
                growing.hardlink_to(self.sources[image_id])
            else:
                with growing.open("wb") as copy:
                    _read_through(file, digest.update, copy.write)
                if sha256_of_file(growing) != digest.hexdigest():
                    raise OSError(errno.EIO, "what was written reads back differently", str(target))
            growing.replace(target)
        finally:
            growing.unlink(missing_ok=True)
        return digest.hexdigest()


class _UnreadableError(Exception):
    """A source image that cannot be opened or read, so that it is told from a disk that cannot be written."""


def _readable(path: str):
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise _UnreadableError(f"{path}: {error.strerror}") from None


def _read_through(file, *consumers: Callable[[bytes], object]) -> None:
    while True:
        try:
            block = file.read(1 << 20)
        except OSError as error:
            raise _UnreadableError(f"{file.name}: {error.strerror}") from None
        if not block:
            return
        for consume in consumers:
            consume(block)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _run(
    tree: _Tree,
    manifest: pd.DataFrame,
    image_ids: list[int],
    workers: int | None,
    progress: Callable[[int], None] | None,
    unreadable: list[str],
) -> tuple[int, pd.DataFrame]:
    """Places all images; gives the number copied and the manifest, which is also on the disk."""
    _write_manifest(tree.out, manifest)
    columns = {name: manifest[name].to_numpy(copy=True) for name in _PENDING}
    paths, rows = manifest["Hierarchical_Path"].to_numpy(), manifest.index.get_indexer(image_ids)
    copied, flushed, pause = 0, time.monotonic(), _FLUSH_SECONDS

    def place(item: tuple[int, int]) -> tuple | str:
        image_id, row = item
        try:
            return tree.place(image_id, paths[row], tuple(column[row] for column in columns.values()))
        except _UnreadableError as error:
            return str(error)

    pool = ThreadPoolExecutor(workers or 2 * cores())
    try:
        for start in range(0, len(rows), _BLOCK):
            block = range(start, min(start + _BLOCK, len(rows)))
            for at, result in zip(
                block, pool.map(place, ((image_ids[i], rows[i]) for i in block)), strict=True
            ):
                if isinstance(result, str):
                    unreadable.append(result)
                else:
                    *notes, was_copied = result
                    copied += was_copied
                    for column, note in zip(columns.values(), notes, strict=True):
                        column[rows[at]] = note
                if progress:
                    progress(1)
            if time.monotonic() - flushed > pause:
                started = time.monotonic()
                _write_manifest(tree.out, manifest.assign(**columns))
                flushed = time.monotonic()
                pause = max(_FLUSH_SECONDS, 10 * (flushed - started))  # of a large table, less often
    finally:
        pool.shutdown(cancel_futures=True)
        manifest = manifest.assign(**columns)
        _write_manifest(tree.out, manifest)
    return copied, manifest


def _read_manifest(out: Path) -> pd.DataFrame | None:
    path = out / MANIFEST
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)[["Image_Path", "Hierarchical_Path", *_PENDING]]
    except (OSError, ValueError, KeyError):
        raise HilumError(
            f"{path}: this is not a readable manifest. Delete it and run `hilum hierarchy` again: the images "
            "that are there are compared and kept."
        ) from None


def _write_manifest(out: Path, manifest: pd.DataFrame) -> None:
    # What the manifest calls done is taken without being read again, so it must be on the disk first.
    if hasattr(os, "sync"):
        os.sync()
    with replacing(out / MANIFEST) as partial:
        manifest.to_parquet(partial)


def _merge(out: Path, noted: pd.DataFrame | None, plan: pd.DataFrame) -> pd.DataFrame:
    """The manifest of what is there and what is planned."""
    if noted is None:
        return plan.assign(**_PENDING)
    known = noted.reindex(plan.index)
    _refuse_other(out, known, plan)
    new = plan[known["bytes"].isna()].assign(**_PENDING)
    return pd.concat([noted, new]).sort_index() if len(new) else noted


def _refuse_other(out: Path, noted: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """A folder holds one data set in one layout: images of another would take the same names."""
    for column in wanted.columns:
        other = noted[column].notna() & (noted[column] != wanted[column])
        if other.any():
            row = other.idxmax()
            raise HilumError(
                f"{out}: ImageID {row}, column {column}: it holds {noted.at[row, column]}, the catalog has "
                f"{wanted.at[row, column]}. Another data set or folder size lies there; choose another folder."
            )


def _write_problem(out: Path, error: OSError) -> HilumError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return HilumError(
            f"{out}: the disk is full ({error.strerror}). What was copied stays; make room and run it again."
        )
    if error.errno in _NOT_LINKABLE:
        return HilumError(
            f"{out}: hard links to the images are not possible there ({error.strerror}). Links work only "
            "within one file system; copy the images instead (without --link)."
        )
    return HilumError(
        f"{error.filename or out}: it cannot be written: {error.strerror}. What was copied stays; run it again."
    )
