import errno
import os
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.data import folder_copy
from hilum.data.folder_copy import MANIFEST, build_hierarchy, open_hierarchy, plan_hierarchy
from hilum.errors import HilumError
from hilum.sources import Catalog
from hilum.sources.images import read_gray


def largest_folder(paths) -> int:
    entries = defaultdict(set)
    for path in paths:
        folder = ""
        for name in path.split("/"):
            entries[folder].add(name)
            folder += f"/{name}"
    return max(len(names) for names in entries.values())


def files_of(out: Path) -> dict[str, int]:
    """Every file under `data/` with its inode: a file that was not touched keeps it."""
    return {str(path.relative_to(out)): path.stat().st_ino for path in out.rglob("data/**/*.*")}


def test_plan_of_the_whole_clean_set_keeps_to_50_entries(real_catalog):
    plan = plan_hierarchy(real_catalog)
    assert len(plan) == 131_748
    assert largest_folder([*plan["Hierarchical_Path"], MANIFEST]) <= 50
    assert plan["Hierarchical_Path"].is_unique


def test_every_image_is_copied_byte_for_byte(small_catalog, tmp_path):
    out = tmp_path / "out"
    report = build_hierarchy(small_catalog, out)
    table = small_catalog.table
    for image_id, path in table["Hierarchical_Path"].items():
        assert path.endswith(f"/i{image_id}.jpg")
        assert (out / path).read_bytes() == small_catalog.image_path(image_id).read_bytes()
    assert len(files_of(out)) == len(table) == report.images == report.copied
    assert report.kept == 0
    assert report.bytes == sum(path.stat().st_size for path in out.rglob("*.jpg"))
    assert sorted(path.name for path in out.iterdir()) == ["data", MANIFEST]


def test_hard_links_share_the_file(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out, link=True)
    for image_id, path in small_catalog.table["Hierarchical_Path"].items():
        assert (out / path).samefile(small_catalog.image_path(image_id))
    assert build_hierarchy(small_catalog, out, link=True).copied == 0


def test_second_run_copies_only_what_is_missing_or_differs(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out)
    before = files_of(out)
    lost, short, changed, *_ = small_catalog.table["Hierarchical_Path"]
    (out / lost).unlink()
    (out / short).write_bytes((out / short).read_bytes()[:-5])
    flipped = bytearray((out / changed).read_bytes())
    flipped[40] ^= 1
    (out / changed).write_bytes(flipped)

    report = build_hierarchy(small_catalog, out)

    assert (report.copied, report.kept) == (3, len(before) - 3)
    for image_id, path in small_catalog.table["Hierarchical_Path"].items():
        assert (out / path).read_bytes() == small_catalog.image_path(image_id).read_bytes()
    after = files_of(out)
    assert all(after[path] == before[path] for path in before if path not in {lost, short, changed})


def test_a_changed_source_is_copied_again(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out)
    source = small_catalog.image_path(small_catalog.table.index[3])
    source.write_bytes(source.read_bytes() + b"\0\0")
    assert build_hierarchy(small_catalog, out).copied == 1
    assert (out / small_catalog.table["Hierarchical_Path"].iloc[3]).read_bytes() == source.read_bytes()


def test_files_are_kept_without_a_manifest_too(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out)
    (out / MANIFEST).unlink()
    before = files_of(out)
    assert build_hierarchy(small_catalog, out).copied == 0
    assert files_of(out) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from hilum.data.folder_copy import build_hierarchy
from hilum.sources.chexpert import CleanMetaData

done = 0
def progress(images):
    global done
    done += images
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)

catalog = CleanMetaData(sys.argv[1], cache=False).catalog()
build_hierarchy(catalog, Path(sys.argv[2]), workers=1, progress=progress)
"""


def test_a_killed_run_leaves_whole_files_and_goes_on(small_catalog, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(small_catalog.root), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    sizes = {path.name: path.stat().st_size for path in out.rglob("data/**/*.jpg")}
    assert 9 <= len(sizes) <= len(small_catalog)
    for image_id, path in small_catalog.table["Hierarchical_Path"].items():
        if (out / path).exists():
            assert (out / path).read_bytes() == small_catalog.image_path(image_id).read_bytes()
    with pytest.raises(HilumError, match=r"are missing.*again to finish"):
        open_hierarchy(small_catalog, out)

    report = build_hierarchy(small_catalog, out)

    assert report.kept == len(sizes)
    assert not (out / ".growing").exists()
    assert len(open_hierarchy(small_catalog, out)) == len(small_catalog)


def test_an_unreadable_image_is_named_and_the_others_are_copied(small_catalog, tmp_path):
    out, lost = tmp_path / "out", small_catalog.table.index[5]
    content = small_catalog.image_path(lost).read_bytes()
    small_catalog.image_path(lost).unlink()
    with pytest.raises(HilumError, match=rf"1 of {len(small_catalog)} images cannot be read") as caught:
        build_hierarchy(small_catalog, out)
    assert str(small_catalog.image_path(lost)) in str(caught.value)
    assert len(files_of(out)) == len(small_catalog) - 1

    small_catalog.image_path(lost).write_bytes(content)
    assert build_hierarchy(small_catalog, out).copied == 1


def test_a_source_that_is_gone_does_not_spoil_its_copy(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out)
    small_catalog.image_path(small_catalog.table.index[0]).unlink()
    with pytest.raises(HilumError, match="cannot be read"):
        build_hierarchy(small_catalog, out)
    assert len(open_hierarchy(small_catalog, out)) == len(small_catalog)


def test_a_full_disk_is_one_error_and_loses_nothing(small_catalog, tmp_path, monkeypatch):
    out, read_through, calls = tmp_path / "out", folder_copy._read_through, []

    def full_at_the_tenth(file, *consumers):
        calls.append(file)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        read_through(file, *consumers)

    monkeypatch.setattr(folder_copy, "_read_through", full_at_the_tenth)
    with pytest.raises(HilumError, match=r"the disk is full.*Finished copies stay"):
        build_hierarchy(small_catalog, out, workers=1)
    assert len(files_of(out)) == 9
    assert sorted(path.name for path in out.iterdir()) == ["data", MANIFEST]

    monkeypatch.setattr(folder_copy, "_read_through", read_through)
    report = build_hierarchy(small_catalog, out)
    assert report.kept == 9


def test_what_reads_back_differently_is_not_put_in_place(small_catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_copy, "sha256_of_file", lambda path: "0" * 64)
    with pytest.raises(HilumError, match=r"reads? back differently"):
        build_hierarchy(small_catalog, tmp_path / "out")
    assert files_of(tmp_path / "out") == {}


def test_links_across_file_systems_are_refused_clearly(small_catalog, tmp_path, monkeypatch):
    def across(self, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", across)
    with pytest.raises(HilumError, match=r"hard links.*one file system"):
        build_hierarchy(small_catalog, tmp_path / "out", link=True)


def test_a_place_that_is_no_folder_is_refused(small_catalog, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(HilumError, match="cannot be written"):
        build_hierarchy(small_catalog, tmp_path / "out")


@pytest.mark.parametrize("folder_size", [2, 7])
def test_another_folder_size_is_kept_and_read_back(small_catalog, tmp_path, folder_size):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out, folder_size=folder_size)
    assert largest_folder(files_of(out)) <= folder_size
    there = open_hierarchy(small_catalog, out)
    image_id = there.table.index[-1]
    np.testing.assert_array_equal(
        read_gray(there.image_path(image_id, "Hierarchical_Path")),
        read_gray(small_catalog.image_path(image_id)),
    )


def test_another_folder_size_keeps_the_extensions(small_catalog):
    table = small_catalog.table.assign(Image_Path=[f"{i}.PNG" for i in range(len(small_catalog))])
    plan = plan_hierarchy(replace(small_catalog, table=table), 9)
    assert plan["Hierarchical_Path"].str.endswith(".png").all()


@pytest.mark.parametrize("folder_size", [1, 0, -3, 2.5, True, "50"])
def test_an_impossible_folder_size_is_refused(small_catalog, tmp_path, folder_size):
    with pytest.raises(HilumError, match="folder_size must be a whole number"):
        build_hierarchy(small_catalog, tmp_path / "out", folder_size=folder_size)


def test_opened_hierarchy_reads_from_out_and_keeps_the_fingerprint(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out)
    there = open_hierarchy(small_catalog, out)
    assert there.root == out
    assert there.fingerprint == small_catalog.fingerprint
    assert all(Path(path).is_file() for path in there.image_paths("Hierarchical_Path"))


def test_a_hierarchy_of_fewer_images_is_not_complete_and_can_be_extended(small_catalog, tmp_path):
    out, few = tmp_path / "out", small_catalog.select_images(small_catalog.table.index[:10])
    build_hierarchy(few, out)
    assert len(open_hierarchy(few, out)) == 10
    with pytest.raises(HilumError, match=f"{len(small_catalog) - 10} of the {len(small_catalog)} images"):
        open_hierarchy(small_catalog, out)
    assert build_hierarchy(small_catalog, out).kept == 10
    assert build_hierarchy(few, out).copied == 0
    assert len(open_hierarchy(small_catalog, out)) == len(small_catalog)


def other_data_set(catalog: Catalog) -> Catalog:
    return replace(catalog, table=catalog.table.assign(Image_Path="other/" + catalog.table["Image_Path"]))


def test_another_data_set_or_layout_is_not_mixed_in(small_catalog, tmp_path):
    out = tmp_path / "out"
    build_hierarchy(small_catalog, out)
    before = files_of(out)
    with pytest.raises(HilumError, match=r"column Image_Path.*choose another folder"):
        build_hierarchy(other_data_set(small_catalog), out)
    with pytest.raises(HilumError, match=r"column Hierarchical_Path.*choose another folder"):
        build_hierarchy(small_catalog, out, folder_size=7)
    with pytest.raises(HilumError, match="column Image_Path"):
        open_hierarchy(other_data_set(small_catalog), out)
    assert files_of(out) == before


@pytest.mark.parametrize("path", ["", "/etc/i3.jpg", "data/../../i3.jpg", ".."])
def test_a_path_out_of_the_folder_is_refused(small_catalog, tmp_path, path):
    table = small_catalog.table.copy()
    table.loc[table.index[2], "Hierarchical_Path"] = path
    with pytest.raises(HilumError, match=rf"ImageID {table.index[2]}, column Hierarchical_Path"):
        build_hierarchy(replace(small_catalog, table=table), tmp_path / "out")


def test_no_hierarchy_and_a_broken_manifest_are_named(small_catalog, tmp_path):
    with pytest.raises(HilumError, match="not a hierarchy"):
        open_hierarchy(small_catalog, tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"PAR1 cut short")
    with pytest.raises(HilumError, match="not a readable manifest"):
        open_hierarchy(small_catalog, tmp_path)
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / MANIFEST)
    with pytest.raises(HilumError, match="not a readable manifest"):
        build_hierarchy(small_catalog, tmp_path)


def test_a_catalog_without_images_is_refused(small_catalog, tmp_path):
    with pytest.raises(HilumError, match="without its images"):
        build_hierarchy(replace(small_catalog, root=None), tmp_path / "out")


def test_progress_counts_every_image(small_catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_copy, "_BLOCK", 7)
    monkeypatch.setattr(folder_copy, "_FLUSH_SECONDS", 0.0)
    seen = []
    build_hierarchy(small_catalog, tmp_path / "out", progress=seen.append)
    assert sum(seen) == len(small_catalog)
    assert len(open_hierarchy(small_catalog, tmp_path / "out")) == len(small_catalog)
