"""Several catalogs as one, on the findings they share."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog, extensions_of, hierarchical_paths
from hilum.targets import canonical_target, resolve_targets

#: The ImageIDs of the source at position p, counted from 0, begin at p times this.
ID_STRIDE = 100_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ENTRY_KEYS = ("source", "root", "name", "source_kwargs")


def merge(
    catalogs: Mapping[str, Catalog] | Sequence[Catalog], targets: str | Sequence[str] | None = None
) -> Catalog:
    """One catalog of all images.

    - `ImageID`: position of the source x `ID_STRIDE` + its own ImageID. Appending a source changes no other id.
    - `PatientID` and `Image_Path` begin with the source's name and a slash: patients of two sources are never the same,
      and the fingerprint does not depend on the sources' folders.
    - `Source`, a column after the features, has the source's name.
    - Official splits stay. Images of a source without one are drawn into train and val (`train_val`).
    - `codes` stay if every source has them; else each source's own labels count.

    Args:
        catalogs: by name, or a list of catalogs with different names.
        targets: names, aliases or a named set that every source has; None for all that they share.

    Raises:
        HilumError: fewer than two catalogs, two with one name, a name with a slash or space, a target that a source
            lacks, no shared target, a merge in a merge, images without a root, or an ImageID above `ID_STRIDE`.
    """
    named = _named(catalogs)
    roots = {name: _root(name, catalog) for name, catalog in named.items()}
    shared = _shared_targets(named, targets)
    table = pd.concat([_prefixed(position, *item, shared) for position, item in enumerate(named.items())])
    endings = extensions_of(table["Image_Path"])
    table["Hierarchical_Path"] = hierarchical_paths(table.index.to_numpy(), extensions=endings)
    fixed = _fixed_split(list(named.values()), table.index)
    codes = _codes(list(named.values()), shared, table.index)
    return Catalog("+".join(named), table, shared, roots, fixed_split=fixed, codes=codes)


def open_catalog(
    root: Path | None = None, *, of: Sequence[Mapping] = (), targets: Sequence[str] | None = None
) -> Catalog:
    """Opens several data sets and merges them; see `merge`.

    Args:
        root: folder that the sources' roots are relative to, if they are relative.
        of: a table for each source: `source`, `root` and, optionally, `name` (default: the source's) and
            `source_kwargs` (its own filters).
        targets: as for `merge`.

    Raises:
        HilumError: an entry that is not such a table, an error in a source, and as `merge`.
    """
    from hilum.sources import open_catalog as open_source

    if isinstance(of, Mapping | str) or not isinstance(of, Sequence) or len(of) < 2:
        raise HilumError(_expected(f"it is {of!r}"))
    catalogs: dict[str, Catalog] = {}
    for position, entry in enumerate(of, start=1):
        if not isinstance(entry, Mapping) or "source" not in entry:
            raise HilumError(_expected(f"entry {position} is {entry!r}"))
        for key in entry:
            if key not in _ENTRY_KEYS:
                raise HilumError(
                    f"source_kwargs of, entry {position}: unknown key {key!r}.{nearest(key, _ENTRY_KEYS)} "
                    f"An entry takes {', '.join(_ENTRY_KEYS)}."
                )
        name = entry.get("name", entry["source"])
        if name in catalogs:
            raise HilumError(f"source_kwargs of: two sources are named {name!r}. Give one another name.")
        folder = entry.get("root")
        if folder is not None and root is not None:
            folder = Path(root) / folder
        catalogs[name] = open_source(entry["source"], folder, **entry.get("source_kwargs", {}))
    return merge(catalogs, targets)


def _expected(found: str) -> str:
    return (
        "source_kwargs: a merge needs of, a list with a table for each of two or more sources, such as "
        f'{{of = [{{source = "nih", root = "A"}}, {{source = "kaggle", root = "B"}}]}}; {found}.'
    )


def _named(catalogs: Mapping[str, Catalog] | Sequence[Catalog]) -> dict[str, Catalog]:
    pairs = [*catalogs.items()] if isinstance(catalogs, Mapping) else [(one.name, one) for one in catalogs]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise HilumError(f"merge: two catalogs are named {name!r}. Give a dictionary of them.")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise HilumError(
                f"merge: {name!r} cannot be a source's name. Use letters, digits, dots, dashes and underscores."
            )
    if len(names) < 2:
        raise HilumError(f"merge needs two or more catalogs; it has {len(names)}.")
    return dict(pairs)


def _root(name: str, catalog: Catalog) -> Path:
    if isinstance(catalog.root, dict):
        raise HilumError(f"merge: {name} is a merge itself. Merge its sources directly.")
    if catalog.root is None:
        raise HilumError(f"merge: the {name} catalog was made without its images. Give its root.")
    return catalog.root


def _shared_targets(catalogs: dict[str, Catalog], wanted: str | Sequence[str] | None) -> tuple[str, ...]:
    """By their own names where they are known, in the order of the first source."""
    names_of = {name: [canonical_target(t) for t in catalog.targets] for name, catalog in catalogs.items()}
    first, *others = names_of.values()
    shared = tuple(target for target in first if all(target in names for names in others))
    if not shared:
        having = "; ".join(f"{name} has {', '.join(names)}" for name, names in names_of.items())
        raise HilumError(f"merge: the sources share no target: {having}.")
    try:
        return resolve_targets(wanted, shared)
    except HilumError as error:
        raise HilumError(f"merge of {', '.join(catalogs)}, on the targets they share: {error}") from None


def _prefixed(position: int, name: str, catalog: Catalog, shared: tuple[str, ...]) -> pd.DataFrame:
    if catalog.table.index.min() < 0 or catalog.table.index.max() >= ID_STRIDE:
        raise HilumError(f"merge: the ImageIDs of {name} must be within 0..{ID_STRIDE - 1:,}.")
    chosen = catalog.select_targets(shared)
    table = chosen.table[[*FEATURE_COLUMNS, *chosen.targets]]
    table = table.set_axis([*FEATURE_COLUMNS, *shared], axis="columns")
    table.insert(len(FEATURE_COLUMNS), "Source", name)
    table["PatientID"] = f"{name}/" + table["PatientID"].astype("str")
    # Some data sets have numbers, some text and some nothing: text fits all.
    table["StudyID"] = table["StudyID"].astype("str").where(table["StudyID"].notna(), "")
    table["Image_Path"] = f"{name}/" + table["Image_Path"]
    measures = ["Age", "Sex_Male", "Sex_Unknown", "Orientation_PA", "Support Devices", *shared]
    table[measures] = table[measures].astype("float64")
    return table.set_axis(pd.Index(table.index + position * ID_STRIDE, name="ImageID"), axis="index")


def _fixed_split(catalogs: list[Catalog], index: pd.Index) -> pd.Series | None:
    if all(catalog.fixed_split is None for catalog in catalogs):
        return None
    parts = [["train_val"] * len(each) if each.fixed_split is None else each.fixed_split for each in catalogs]
    return pd.Series([*chain.from_iterable(parts)], index=index)


def _codes(catalogs: list[Catalog], shared: tuple[str, ...], index: pd.Index) -> pd.DataFrame | None:
    codes = [catalog.select_targets(shared).codes for catalog in catalogs]
    known = [table.to_numpy() for table in codes if table is not None]
    complete = len(known) == len(codes)
    return pd.DataFrame(np.concatenate(known), index=index, columns=list(shared)) if complete else None
