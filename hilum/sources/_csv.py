"""Reads a CSV and checks its values: an error names the file, the line, the column, the value and the remedy."""

import csv
import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.sources.images import are_missing

_CORRECT = "Correct the line, or restore the file from the data set."


@dataclass(frozen=True)
class CsvTable:
    """The cells of a CSV, all of them text; blank cells are empty strings."""

    path: Path  # for messages
    cells: pd.DataFrame  # one row per line, indexed from 0

    def __getitem__(self, column: str) -> pd.Series:
        return self.cells[column]

    def check(self, column: str, valid: pd.Series | np.ndarray, problem: str, remedy: str = _CORRECT) -> None:
        """Raises a HilumError if a row is not `valid`, (rows,): names the first one and counts the others.

        `problem` follows the value in the message, such as "is not an age in years"; `remedy` is a sentence.
        """
        wrong = np.flatnonzero(~np.asarray(valid, dtype=bool))
        if len(wrong):
            others = f" ({len(wrong) - 1:,} more like it)" if len(wrong) > 1 else ""
            place = f"{self.path}, line {wrong[0] + 2}, column {column!r}"  # line 1 is the header
            value = self.cells[column].iloc[wrong[0]]
            raise HilumError(f"{place}: {value!r} {problem}{others}. {remedy}")

    def check_unique(self, column: str, repeated: pd.Series | None = None) -> None:
        """Checks that no line repeats the value of an earlier one; `repeated` marks the lines that do."""
        repeated = self.cells[column].duplicated() if repeated is None else repeated
        self.check(column, ~repeated, "is also in an earlier line", "Remove one of the two lines.")

    def check_present(self, column: str, present: pd.Series | np.ndarray, folder: Path) -> None:
        """Checks that the images of all lines are in the data set's folder."""
        remedy = "Complete the download, or remove the lines without an image."
        self.check(column, present, f"is in the index but not in {folder}", remedy)

    def map(self, column: str, meaning: Mapping[str, Any], convert: Callable | None = None) -> pd.Series:
        """Replaces each value, after `convert` (such as `str.lower`), by its meaning; checks that it has one."""
        values = self.cells[column].map(convert) if convert else self.cells[column]
        known = ", ".join(repr(key) if key else "blank" for key in meaning)
        self.check(column, values.isin(list(meaning)), f"is not one of {known}")
        return values.map(dict(meaning))

    def whole_numbers(self, column: str, kind: str, suffix: str = "") -> pd.Series:
        """A column as int64; `kind` is what its numbers are, such as "an age in years".

        Checks that each is a whole number >= 0 of at most 15 digits, with or without `suffix`.
        """
        values = self.cells[column].str.removesuffix(suffix)
        self.check(column, values.str.fullmatch(r"[0-9]{1,15}(\.0*)?"), f"is not {kind}")
        return values.astype("float64").astype("int64")


def read_csv(path: Path, columns: Sequence[str] | None = None) -> CsvTable:
    """Reads these columns of a CSV (None: all), plain or gzipped.

    Raises:
        HilumError: the file is missing, is not a CSV or has no rows, a column of `columns` is missing or
            appears twice, or a line has more or fewer cells than the header.
    """
    if not path.is_file():
        raise HilumError(f"{path}: there is no such file. Give the path of the data set's index.")
    header, *rows = _read_lines(path) or [[]]
    if not header:
        raise HilumError(f"{path}: the file is empty. Restore it from the data set.")
    columns = list(dict.fromkeys(header)) if columns is None else list(columns)
    for name in columns:
        if name not in header:
            raise HilumError(
                f"{path}: the column {name!r} is missing.{nearest(name, header)} "
                f"Its columns are {', '.join(header)}."
            )
        if header.count(name) > 1:
            raise HilumError(f"{path}: the column {name!r} appears twice. Remove the one that is wrong.")
    if not rows:
        raise HilumError(f"{path}: the file has a header but no rows.")
    # The last cells of a truncated line must not be read as blanks: a blank is a label.
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise HilumError(
                f"{path}, line {line}: it has {len(row)} cells, the header has {len(header)}. "
                "The file is truncated or damaged; restore it from the data set."
            )
    return CsvTable(path, pd.DataFrame(rows, columns=header, dtype=object)[columns])


def _read_lines(path: Path) -> list[list[str]]:
    """The cells of every line, without the blank lines at the end."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise HilumError(f"{path}: not a readable CSV: {error}. Restore it from the data set.") from None
    while lines and not lines[-1]:
        lines.pop()
    return lines


def first_file(folder: Path, names: Sequence[str], data_set: str) -> Path:
    """The first of `names` that is a file in `folder`; raises a HilumError with `data_set` if all are missing."""
    expected = " or ".join(names)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    problem = f"it does not contain {expected}" if folder.is_dir() else "there is no such folder"
    raise HilumError(f"{folder}: {problem}. root must be the folder that holds {data_set}'s {expected}.")


def first_present(root: Path, candidates: Sequence[pd.Series]) -> pd.Series:
    """The first of each image's candidate paths that is a file below `root`, or ""; all with the same index."""
    paths = pd.Series("", index=candidates[0].index, dtype="str")
    for candidate in candidates:
        open_paths = candidate[paths == ""]
        present = open_paths[~are_missing(root, open_paths)]
        paths[present.index] = present
    return paths
