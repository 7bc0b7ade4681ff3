import gzip

import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.sources.csv import first_file, mapped, read_csv, refuse, whole_numbers

GOOD = b"Name,Age,Note\na,1,\nb,2,NA\n"


@pytest.fixture
def index(tmp_path):
    """Writes an index with this content, and gives its path."""

    def write(content: bytes, name: str = "index.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def refusal(path, columns=("Name", "Age")) -> str:
    with pytest.raises(HilumError) as told:
        read_csv(path, columns)
    assert str(told.value).startswith(str(path))
    return str(told.value).removeprefix(str(path))


def test_cells_are_text_as_they_stand_and_blanks_are_empty(index):
    table = read_csv(index(GOOD), ["Note", "Age"])
    assert table.to_dict("list") == {"Note": ["", "NA"], "Age": ["1", "2"]}


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
def test_other_ways_to_write_a_csv_are_read_the_same(index, content):
    assert read_csv(index(content), ["Name", "Age"]).to_numpy().tolist() == [["a", "1"], ["b", "2"]]


def test_a_gzipped_csv_is_read_the_same(index):
    assert len(read_csv(index(gzip.compress(GOOD), "index.csv.gz"), ["Name"])) == 2


def test_a_missing_file_is_told(tmp_path):
    assert refusal(tmp_path / "none.csv") == ": there is no such file. Give the path of the data set's index."


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_told(index, content):
    assert refusal(index(content)) == ": the file is empty. Restore it from the data set."


def test_a_header_without_rows_is_told(index):
    assert refusal(index(b"Name,Age\n")) == ": the file has a header but no rows."


def test_a_missing_column_is_told_with_the_nearest_and_all(index):
    told = refusal(index(GOOD), ["Nam"])
    assert told == ": the column 'Nam' is missing. Did you mean 'Name'? Its columns are Name, Age, Note."


def test_a_column_that_stands_twice_is_told_if_it_is_needed(index):
    twice = index(b"Name,Age,Age\na,1,2\n")
    assert refusal(twice) == ": the column 'Age' stands twice. Remove the one that is wrong."
    assert len(read_csv(twice, ["Name"])) == 1


@pytest.mark.parametrize(
    ("content", "line", "cells"),
    [
        (b"Name,Age,Note\na,1,\nb,2\n", 3, 2),
        (b"Name,Age,Note\na,1,,\nb,2,\n", 2, 4),
        (b"Name,Age,Note\na,1,,\nb,2,,\n", 2, 4),
        (b"Name,Age,Note\na,1,\n\nb,2,\n", 3, 0),
    ],
    ids=["cut short", "one too many", "one too many everywhere", "blank line"],
)
def test_a_line_with_other_cells_than_the_header_is_told_not_filled_with_blanks(index, content, line, cells):
    told = refusal(index(content))
    assert told.startswith(f", line {line}: it has {cells} cells, the header has 3. ")
    assert "restore it from the data set" in told


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
    ids=["PNG", "Latin-1", "open quote", "not gzipped", "gzip cut short", "gzip damaged"],
)
def test_a_file_that_is_no_csv_is_told(index, content, name):
    told = refusal(index(content, name))
    assert told.startswith(": this is not a readable CSV: ")
    assert told.endswith("Restore it from the data set.")


def test_the_first_wrong_value_is_told_with_its_line_and_the_number_of_others(tmp_path):
    ages = pd.Series(["1", "x", "y"], name="Age")
    with pytest.raises(HilumError) as told:
        refuse(tmp_path, ages, pd.Series([False, True, True]), "is odd", "Mend it.")
    assert str(told.value) == f"{tmp_path}, line 3, column 'Age': 'x' is odd (1 more like it). Mend it."


def test_nothing_wrong_nothing_told(tmp_path):
    assert refuse(tmp_path, pd.Series(["1"]), pd.Series([False]), "is odd") is None


def test_values_take_their_meaning_or_are_told(tmp_path):
    column = pd.Series(["M", "F", ""], name="Sex")
    assert mapped(tmp_path, column, {"M": 1, "F": 0, "": 2}).tolist() == [1, 0, 2]
    with pytest.raises(
        HilumError, match=r"line 4, column 'Sex': '' is not one of 'M', 'F'\. Correct the line"
    ):
        mapped(tmp_path, column, {"M": 1, "F": 0})
    with pytest.raises(HilumError, match="line 3, column 'Sex': 'F' is not one of 'M', blank"):
        mapped(tmp_path, column, {"M": 1, "": 0})


def test_whole_numbers_are_int64(tmp_path):
    numbers = whole_numbers(tmp_path, pd.Series(["007", "12.0", "3", "9" * 15]), "is no number")
    assert numbers.tolist() == [7, 12, 3, 10**15 - 1]
    assert numbers.dtype == "int64"


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e3", "nan", " 3", "٣", "9" * 16])
def test_other_numbers_are_told(tmp_path, value):
    with pytest.raises(HilumError, match=r"column 'Age': .* is no age"):
        whole_numbers(tmp_path, pd.Series([value], name="Age"), "is no age")


def test_the_first_file_that_is_there_is_taken(tmp_path):
    (tmp_path / "b.csv").write_text("")
    assert first_file(tmp_path, ["a.csv", "b.csv"], str) == tmp_path / "b.csv"


def test_a_folder_without_any_of_the_files_is_told_with_the_cure(tmp_path):
    with pytest.raises(HilumError, match=r"neither a\.csv nor b\.csv is there\. Give a\.csv or b\.csv\."):
        first_file(tmp_path, ["a.csv", "b.csv"], lambda names: f"Give {names}.")
    with pytest.raises(HilumError, match=r"none: there is no such folder\. Give a\.csv\."):
        first_file(tmp_path / "none", ["a.csv"], lambda names: f"Give {names}.")
