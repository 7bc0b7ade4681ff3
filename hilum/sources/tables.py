"""Reading a CSV so that whatever is wrong with it can be named: file, line, column, value."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from hilum.errors import HilumError, nearest


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV, plain or gzipped, as text; blank cells are empty strings.

    Raises:
        HilumError: no such file, no CSV, no rows, or a column of `columns` is missing.
    """
    if not path.is_file():
        raise HilumError(f"{path}: there is no such file. Give the path of the data set's index.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, EOFError, OSError) as error:
        raise HilumError(f"{path}: this is not a readable CSV: {error}.") from None
    for name in columns:
        if name not in table.columns:
            raise HilumError(
                f"{path}: the column {name!r} is missing.{nearest(name, table.columns)} "
                f"Its columns are {', '.join(table.columns)}."
            )
    if table.empty:
        raise HilumError(f"{path}: the file has a header but no rows.")
    return table


def refuse(path: Path, column: pd.Series, wrong: pd.Series, expected: str) -> None:
    """Raises a HilumError naming the first value of `column` for which `wrong` holds, if any does."""
    if not wrong.any():
        return
    row = int(wrong.to_numpy().argmax())
    count = int(wrong.sum())
    others = f" ({count - 1:,} more like it)" if count > 1 else ""
    # Line 1 is the header.
    raise HilumError(
        f"{path}, line {row + 2}, column {column.name!r}: {column.iloc[row]!r} {expected}{others}."
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


def whole_numbers(path: Path, column: pd.Series, expected: str) -> pd.Series:
    """A column of text as int64.

    Raises:
        HilumError: a value that is not a whole number >= 0.
    """
    refuse(path, column, ~column.str.fullmatch(r"\d+(\.0*)?"), expected)
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
