"""Reading a CSV so that whatever is wrong with it can be named: file, line, column, value."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from hilum.errors import HilumError, nearest


def read_csv(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """These columns of a CSV (None: all), plain or gzipped, as text; blank cells are empty strings.

    Raises:
        HilumError: no such file, no CSV, no rows, a column of `columns` is missing or stands twice, or
            a line has more or fewer cells than the header.
    """
    if not path.is_file():
        raise HilumError(f"{path}: there is no such file. Give the path of the data set's index.")
    header, *rows = _lines(path) or [[]]
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
            raise HilumError(f"{path}: the column {name!r} stands twice. Remove the one that is wrong.")
    if not rows:
        raise HilumError(f"{path}: the file has a header but no rows.")
    # A line cut short must not be taken for one whose last cells are blank: a blank is a label.
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise HilumError(
                f"{path}, line {line}: it has {len(row)} cells, the header has {len(header)}. "
                "The file is cut short or damaged; restore it from the data set."
            )
    return pd.DataFrame(rows, columns=header, dtype=object)[columns]


def _lines(path: Path) -> list[list[str]]:
    """The cells of every line, without the blank lines at the end."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise HilumError(
            f"{path}: this is not a readable CSV: {error}. Restore it from the data set."
        ) from None
    while lines and not lines[-1]:
        lines.pop()
    return lines


def refuse(
    path: Path,
    column: pd.Series,
    wrong: pd.Series,
    mistake: str,
    cure: str = "Correct the line, or restore the file from the data set.",
) -> None:
    """Raises a HilumError naming the first value of `column` for which `wrong` holds, if any does."""
    if not wrong.any():
        return
    row = int(wrong.to_numpy().argmax())
    count = int(wrong.sum())
    others = f" ({count - 1:,} more like it)" if count > 1 else ""
    # Line 1 is the header.
    raise HilumError(
        f"{path}, line {row + 2}, column {column.name!r}: {column.iloc[row]!r} {mistake}{others}. {cure}"
    )


def mapped(path: Path, column: pd.Series, meaning: dict[str, float | int]) -> pd.Series:
    """Each text value replaced by its meaning.

    Raises:
        HilumError: a value that has none.
    """
    values = column.map(meaning)
    known = ", ".join(repr(key) if key else "blank" for key in meaning)
    refuse(path, column, ~column.isin(list(meaning)), f"is not one of {known}")
    return values


def whole_numbers(path: Path, column: pd.Series, mistake: str) -> pd.Series:
    """A column of text as int64.

    Raises:
        HilumError: a value that is not a whole number >= 0, of at most 15 digits.
    """
    refuse(path, column, ~column.str.fullmatch(r"[0-9]{1,15}(\.0*)?"), mistake)
    return column.astype("float64").astype("int64")


def first_file(folder: Path, names: Iterable[str], describe: Callable[[str], str]) -> Path:
    """The first of `names` that is a file in `folder`.

    Raises:
        HilumError: none is there, or the folder itself is missing; `describe` gives the cure.
    """
    names = list(names)
    if not folder.is_dir():
        raise HilumError(f"{folder}: there is no such folder. {describe(' or '.join(names))}")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise HilumError(f"{folder}: neither {' nor '.join(names)} is there. {describe(' or '.join(names))}")
