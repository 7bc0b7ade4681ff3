"""Tests of hilum.inference.predict: which files are meant, and what becomes of those that are gone."""

import os
from pathlib import Path

import pytest

from hilum.errors import HilumError
from hilum.inference.predict import find_files, predict


def test_names_with_characters_of_a_glob_are_found_as_given(tmp_path):
    folder = tmp_path / "a[1]"
    folder.mkdir()
    for name in ("b[2].png", "b2.png", "c.txt"):
        (folder / name).write_bytes(b"")
    (tmp_path / "a1").mkdir()
    both = [str(folder / "b2.png"), str(folder / "b[2].png")]
    assert find_files([str(folder / "b[2].png")]) == both[1:]
    assert find_files([str(folder)]) == both
    assert find_files([f"{folder}/*.png"]) == both
    assert find_files([f"{folder}/**/*"]) == both
    assert find_files([f"{tmp_path}/[a]*"]) == both


def test_relative_patterns_keep_their_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"")
    assert find_files(["*.png", "./*.png"]) == ["a.png", "./a.png"]


def test_what_is_no_file_ends_no_search(tmp_path):
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    wanted = [str(tmp_path / name) for name in ("dangling.png", "loop.png", "pipe.png")]
    assert find_files([f"{tmp_path}/*"]) == find_files([str(tmp_path)]) == wanted
    assert find_files(["/dev/null"]) == ["/dev/null"]
    with pytest.raises(HilumError, match="there is no such file or image"):
        find_files([f"{tmp_path}/*.jpg"])


def test_a_file_that_vanished_or_may_not_be_seen_costs_only_itself(reader, frontal, tmp_path, monkeypatch):
    hidden = tmp_path / "hidden.png"
    real = Path.stat

    def stat(path, **options):
        if path == hidden:
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    files = [str(tmp_path / "gone.png"), str(frontal), str(hidden), str(tmp_path)]
    found = list(predict(reader, files))
    assert [one.path for one in found] == files
    assert [one.error and one.error.code for one in found] == ["missing", None, "unreadable", "unreadable"]
    assert "Permission denied" in found[2].error.problem
    assert found[1].was_read
