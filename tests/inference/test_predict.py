"""Tests of hilum.inference.predict: finding files, and files that cannot be read."""

import os
from pathlib import Path

import pytest

from hilum.errors import HilumError
from hilum.inference.predict import find_files, predict


def test_names_with_glob_characters_are_literal(tmp_path):
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


def test_things_that_are_not_files_do_not_end_the_search(tmp_path):
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    expected = [str(tmp_path / name) for name in ("dangling.png", "loop.png", "pipe.png")]
    assert find_files([f"{tmp_path}/*"]) == find_files([str(tmp_path)]) == expected
    assert find_files(["/dev/null"]) == ["/dev/null"]
    with pytest.raises(HilumError, match="there is no such file or image"):
        find_files([f"{tmp_path}/*.jpg"])


def test_a_missing_or_forbidden_file_is_the_only_one_not_read(reader, frontal, tmp_path, monkeypatch):
    hidden = tmp_path / "hidden.png"
    real = Path.stat

    def stat(path, **options):
        if path == hidden:
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    files = [str(tmp_path / "gone.png"), str(frontal), str(hidden), str(tmp_path)]
    results = [result for result, _ in predict(reader, files)]
    assert [result.image for result in results] == files
    assert [result.status for result in results] == ["missing", "read", "unreadable", "unreadable"]
    assert "Permission denied" in results[2].reason
    assert results[1].findings
    assert results[1].reason is None
