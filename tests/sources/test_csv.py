import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.sources._csv import CsvTable, first_file, first_present, read_csv

GOOD = b"Name,Age,Note\na,1,\nb,2,NA\n"


@pytest.fixture
def index(tmp_path):
    """Writes an index with this content, and gives its path."""

    def write(content: bytes, name: str = "index.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def message_of(path, columns=("Name", "Age")) -> str:
    with pytest.raises(HilumError) as error:
        read_csv(path, columns)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(str(path))


def test_cells_are_unchanged_text_and_blanks_are_empty(index):
    table = read_csv(index(GOOD), ["Note", "Age"])
    assert table.cells.to_dict("list") == {"Note": ["", "NA"], "Age": ["1", "2"]}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD + b"\n\n",
        b'"Name",Age,Note\n"a",1,\nb,"2",NA',
    ],
    ids=["byte order mark", "Windows line ends", "blank lines at the end", "quotes"],
)
def test_other_csv_formats_are_read_the_same(index, content):
    assert read_csv(index(content), ["Name", "Age"]).cells.to_numpy().tolist() == [["a", "1"], ["b", "2"]]


def test_a_gzipped_csv_is_read_the_same(index):
    assert len(read_csv(index(gzip.compress(GOOD), "index.csv.gz"), ["Name"]).cells) == 2


def test_a_missing_file_is_named(tmp_path):
    assert (
        message_of(tmp_path / "none.csv") == ": there is no such file. Give the path of the data set's index."
    )


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_named(index, content):
    assert message_of(index(content)) == ": the file is empty. Restore it from the data set."


def test_a_header_without_rows_is_named(index):
    assert message_of(index(b"Name,Age\n")) == ": the file has a header but no rows."


def test_a_missing_column_is_named_with_the_nearest_and_all(index):
    message = message_of(index(GOOD), ["Nam"])
    assert message == ": the column 'Nam' is missing. Did you mean 'Name'? Its columns are Name, Age, Note."


def test_a_needed_column_that_appears_twice_is_named(index):
    twice = index(b"Name,Age,Age\na,1,2\n")
    assert message_of(twice) == ": the column 'Age' appears twice. Remove the one that is wrong."
    assert len(read_csv(twice, ["Name"]).cells) == 1


@pytest.mark.parametrize(
    ("content", "line", "cells"),
    [
        (b"Name,Age,Note\na,1,\nb,2\n", 3, 2),
        (b"Name,Age,Note\na,1,,\nb,2,\n", 2, 4),
        (b"Name,Age,Note\na,1,,\nb,2,,\n", 2, 4),
        (b"Name,Age,Note\na,1,\n\nb,2,\n", 3, 0),
    ],
    ids=["truncated", "one too many", "one too many everywhere", "blank line"],
)
def test_a_line_with_other_cells_than_the_header_raises_and_is_not_filled_with_blanks(
    index, content, line, cells
):
    message = message_of(index(content))
    assert message.startswith(f", line {line}: it has {cells} cells, the header has 3. ")
    assert "restore it from the data set" in message


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\xff", "index.csv"),
        (b"Name,Age\nM\xfcller,1\n", "index.csv"),
        (b'Name,Age\n"a,1\n', "index.csv"),
        (GOOD, "index.csv.gz"),
        (gzip.compress(GOOD * 100)[:-20], "index.csv.gz"),
        (gzip.compress(GOOD)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD)[15:], "index.csv.gz"),
    ],
    ids=["PNG", "Latin-1", "open quote", "not gzipped", "gzip truncated", "gzip damaged"],
)
def test_a_file_that_is_not_a_csv_is_named(index, content, name):
    message = message_of(index(content, name))
    assert message.startswith(": not a readable CSV: ")
    assert message.endswith("Restore it from the data set.")


def table_of(**columns) -> CsvTable:
    return CsvTable(Path("index.csv"), pd.DataFrame(columns))


def test_the_first_wrong_value_is_named_with_its_line_and_the_number_of_others():
    ages = table_of(Age=["1", "x", "y"])
    with pytest.raises(HilumError) as error:
        ages.check("Age", pd.Series([True, False, False]), "is odd", "Correct it.")
    assert str(error.value) == "index.csv, line 3, column 'Age': 'x' is odd (1 more like it). Correct it."
    ages.check("Age", pd.Series([True, True, True]), "is odd")


def test_a_repeated_value_is_named():
    table_of(Name=["a", "b"]).check_unique("Name")
    with pytest.raises(
        HilumError, match=r"line 4, column 'Name': 'a' is also in an earlier line\. Remove one"
    ):
        table_of(Name=["a", "b", "a"]).check_unique("Name")


def test_an_image_that_is_not_in_the_folder_is_named(tmp_path):
    with pytest.raises(HilumError, match=r"line 3, .*'b' is in the index but not in .*Complete the download"):
        table_of(Name=["a", "b"]).check_present("Name", np.array([True, False]), tmp_path)


def test_values_are_replaced_by_their_meaning():
    table = table_of(Sex=["M", "F", ""])
    assert table.map("Sex", {"M": 1, "F": 0, "": 2}).tolist() == [1, 0, 2]
    assert table.map("Sex", {"m": 1, "f": 0, "": 2}, str.lower).tolist() == [1, 0, 2]
    with pytest.raises(
        HilumError, match=r"line 4, column 'Sex': '' is not one of 'M', 'F'\. Correct the line"
    ):
        table.map("Sex", {"M": 1, "F": 0})
    with pytest.raises(HilumError, match="line 3, column 'Sex': 'F' is not one of 'M', blank"):
        table.map("Sex", {"M": 1, "": 0})


def test_whole_numbers_are_int64():
    numbers = table_of(Age=["007", "12.0", "3", "9" * 15]).whole_numbers("Age", "a number")
    assert numbers.tolist() == [7, 12, 3, 10**15 - 1]
    assert numbers.dtype == "int64"
    assert table_of(Age=["058Y", "7"]).whole_numbers("Age", "an age", suffix="Y").tolist() == [58, 7]


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e3", "nan", " 3", "٣", "9" * 16])
def test_other_numbers_raise(value):
    with pytest.raises(HilumError, match=r"column 'Age': .* is not an age"):
        table_of(Age=[value]).whole_numbers("Age", "an age")


def test_the_first_file_that_is_there_is_taken(tmp_path):
    (tmp_path / "b.csv").write_text("")
    assert first_file(tmp_path, ["a.csv", "b.csv"], "CheXpert") == tmp_path / "b.csv"


def test_a_folder_without_any_of_the_files_is_named_with_the_remedy(tmp_path):
    with pytest.raises(
        HilumError,
        match=r"does not contain a\.csv or b\.csv\. root must be the folder that holds CheXpert's a",
    ):
        first_file(tmp_path, ["a.csv", "b.csv"], "CheXpert")
    with pytest.raises(
        HilumError, match=r"none: there is no such folder\. root must be .* CheXpert's a\.csv\."
    ):
        first_file(tmp_path / "none", ["a.csv"], "CheXpert")


def test_the_first_path_that_is_a_file_is_taken(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("1.png", "sub/1.png", "sub/2.png"):
        (tmp_path / name).touch()
    names = pd.Series(["1.png", "2.png", "3.png"], index=[4, 7, 9])
    assert first_present(tmp_path, [names, "sub/" + names]).to_dict() == {4: "1.png", 7: "sub/2.png", 9: ""}
