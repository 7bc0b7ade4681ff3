"""A pack is complete or refused, its build continues after a kill, and unreadable images are listed."""

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest

from hilum.data import pack_builder
from hilum.data.pack_builder import build_pack
from hilum.data.pixels import CORRUPT, INDEX, PIXELS, PROGRESS, RECORD, STARTED, Pack
from hilum.errors import HilumError
from hilum.files import sha256_of_file

SIZE = {"width": 24, "height": 16}


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Chunks of seven images, so that a small data set has several."""
    monkeypatch.setattr(pack_builder, "_CHUNK_IMAGES", 7)


@pytest.fixture
def killed(small_chunks, small_catalog, tmp_path, monkeypatch):
    """The folder of a build that ended while it did its third chunk."""
    write, done = pack_builder._write_chunk, []

    def write_two(chunk):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(chunk.number)
        write(chunk)

    with monkeypatch.context() as patch:
        patch.setattr(pack_builder, "_write_chunk", write_two)
        with pytest.raises(KeyboardInterrupt):
            build_pack(small_catalog, tmp_path / "pack", **SIZE)
    return tmp_path / "pack"


def written_chunks(monkeypatch) -> list[int]:
    """Fills with the numbers of the chunks that are written from now on."""
    write, numbers = pack_builder._write_chunk, []

    def noting(chunk):
        numbers.append(chunk.number)
        write(chunk)

    monkeypatch.setattr(pack_builder, "_write_chunk", noting)
    return numbers


def test_a_pack_has_pixels_index_list_and_record_and_nothing_else(small_chunks, small_catalog, tmp_path):
    seen = []
    pack = build_pack(small_catalog, tmp_path / "pack", **SIZE, progress=lambda *at: seen.append(at))
    assert sorted(path.name for path in pack.path.iterdir()) == sorted([PIXELS, INDEX, CORRUPT, RECORD])
    total = len(small_catalog)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == [*range(7, total, 7), total]
    assert np.load(pack.path / PIXELS).shape == (total, 16, 24)
    index = pd.read_parquet(pack.path / INDEX)
    assert index["ImageID"].tolist() == sorted(small_catalog.table.index)
    assert index["row"].tolist() == list(range(total))
    for row in index.iloc[[0, 13]].itertuples():
        assert row.Image_Path == small_catalog.table.at[row.ImageID, "Image_Path"]
        assert row.sha256 == sha256_of_file(small_catalog.image_path(row.ImageID))
    record = json.loads((pack.path / RECORD).read_text())
    expected = {"catalog": "chexpert", "width": 24, "height": 16, "fit": "stretch", "interpolation": "auto"}
    expected |= {"images": total, "left_out": 0, "catalog_fingerprint": small_catalog.fingerprint}
    assert expected.items() <= record.items()


def test_the_order_of_the_catalog_does_not_matter(small_catalog, tmp_path):
    build_pack(small_catalog, tmp_path / "one", **SIZE)
    build_pack(small_catalog.select_images(small_catalog.table.index[::-1]), tmp_path / "two", **SIZE)
    for name in (PIXELS, INDEX):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_workers_make_the_same_pack(small_chunks, small_catalog, tmp_path):
    build_pack(small_catalog, tmp_path / "alone", **SIZE, fit="letterbox", interpolation="cubic")
    settings = {"fit": "letterbox", "interpolation": "cubic", "workers": 2}
    build_pack(small_catalog, tmp_path / "two", **SIZE, **settings)
    for name in (PIXELS, INDEX, RECORD):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_existing_pack_is_not_made_again(small_catalog, tmp_path, monkeypatch):
    build_pack(small_catalog, tmp_path / "pack", **SIZE)
    numbers = written_chunks(monkeypatch)
    assert len(build_pack(small_catalog, tmp_path / "pack", **SIZE)) == len(small_catalog)
    assert numbers == []


def test_a_killed_build_is_refused_as_a_pack_and_continues_where_it_stopped(
    killed, small_catalog, tmp_path, monkeypatch
):
    with pytest.raises(HilumError, match=r"incomplete. Run the same `hilum pack` again"):
        Pack(killed)
    numbers = written_chunks(monkeypatch)
    pack = build_pack(small_catalog, killed, **SIZE)
    assert numbers == list(range(2, -(-len(small_catalog) // 7)))
    whole = build_pack(small_catalog, tmp_path / "whole", **SIZE)
    assert (pack.path / PIXELS).read_bytes() == (whole.path / PIXELS).read_bytes()
    assert (pack.path / INDEX).read_bytes() == (whole.path / INDEX).read_bytes()
    assert not (pack.path / PROGRESS).exists()


def test_a_chunk_with_a_damaged_record_is_made_again(killed, small_catalog, monkeypatch):
    (killed / PROGRESS / "0000001.parquet").write_bytes(b"damaged")
    numbers = written_chunks(monkeypatch)
    build_pack(small_catalog, killed, **SIZE)
    assert numbers[:2] == [1, 2]


def test_if_the_pixels_are_lost_all_chunks_are_made_again(killed, small_catalog, monkeypatch):
    (killed / "pixels.partial.npy").unlink()
    numbers = written_chunks(monkeypatch)
    build_pack(small_catalog, killed, **SIZE)
    assert numbers[0] == 0


@pytest.mark.parametrize("moment", ["before the record", "before the cleaning"])
def test_a_kill_at_the_end_loses_nothing(small_chunks, small_catalog, tmp_path, monkeypatch, moment):
    def killed_at_the_end(*_):
        raise KeyboardInterrupt

    name = "_remove_progress" if moment == "before the cleaning" else "__version__"
    with monkeypatch.context() as patch:
        if moment == "before the cleaning":
            patch.setattr(pack_builder, name, killed_at_the_end)
        else:
            patch.delattr(pack_builder, name)
        with pytest.raises((KeyboardInterrupt, NameError)):
            build_pack(small_catalog, tmp_path / "pack", **SIZE)
    assert (tmp_path / "pack" / PIXELS).is_file()
    numbers = written_chunks(monkeypatch)
    pack = build_pack(small_catalog, tmp_path / "pack", **SIZE)
    assert numbers == []
    assert len(pack) == len(small_catalog)
    assert not (pack.path / STARTED).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"width": 32}, "width 24, not 32"), ({"fit": "crop"}, "fit 'stretch', not 'crop'")],
)
def test_another_pack_in_the_folder_is_refused_complete_or_incomplete(
    killed, small_catalog, tmp_path, changes, message
):
    with pytest.raises(HilumError, match=message):
        build_pack(small_catalog, killed, **SIZE | changes)
    whole = build_pack(small_catalog, tmp_path / "whole", **SIZE)
    with pytest.raises(HilumError, match=message):
        build_pack(small_catalog, whole.path, **SIZE | changes)
    assert len(build_pack(small_catalog, killed, **SIZE)) == len(small_catalog)


def test_a_folder_with_something_else_is_left_alone(small_catalog, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(HilumError, match="not empty and is not a pack"):
        build_pack(small_catalog, tmp_path, **SIZE)
    with pytest.raises(HilumError, match="is a file"):
        build_pack(small_catalog, tmp_path / "thesis.txt", **SIZE)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_all_unreadable_images_are_listed_and_restoring_them_finishes_the_pack(
    small_chunks, small_catalog, tmp_path, monkeypatch
):
    ids = small_catalog.table.index[[1, 2, *range(20, 30)]]
    kept = {image_id: small_catalog.image_path(image_id).read_bytes() for image_id in ids}
    for image_id in ids:
        small_catalog.image_path(image_id).write_bytes(kept[image_id][:100])
    with pytest.raises(HilumError, match=r"12 of \d+ image\(s\) cannot be packed") as caught:
        build_pack(small_catalog, tmp_path / "pack", **SIZE)
    assert str(caught.value).count("the image is truncated") == 10
    assert "and 2 more" in str(caught.value)
    listed = pd.read_csv(tmp_path / "pack" / CORRUPT)
    assert listed["ImageID"].tolist() == ids.tolist()
    assert listed["reason"].str.contains("truncated").all()
    assert not (tmp_path / "pack" / RECORD).exists()
    for image_id, content in kept.items():
        small_catalog.image_path(image_id).write_bytes(content)
    numbers = written_chunks(monkeypatch)
    assert len(build_pack(small_catalog, tmp_path / "pack", **SIZE)) == len(small_catalog)
    assert numbers == [0, 2, 3, 4]  # only the chunks that had unreadable images
    assert pd.read_csv(tmp_path / "pack" / CORRUPT).empty


def test_after_a_stop_the_unreadable_may_be_left_out_but_never_silently(small_catalog, tmp_path):
    small_catalog.image_path(small_catalog.table.index[5]).write_bytes(b"")
    with pytest.raises(HilumError, match=r"1 of \d+ image"):
        build_pack(small_catalog, tmp_path / "pack", **SIZE)
    pack = build_pack(small_catalog, tmp_path / "pack", **SIZE, on_corrupt="skip")
    assert small_catalog.table.index[5] not in pack.ids
    with pytest.raises(HilumError, match=r"left out 1 unreadable image\(s\)"):
        build_pack(small_catalog, tmp_path / "pack", **SIZE)


def test_a_pack_of_no_readable_image_is_refused(small_catalog, tmp_path):
    lost = type(small_catalog)("chexpert", small_catalog.table, small_catalog.targets, tmp_path / "elsewhere")
    with pytest.raises(HilumError, match="the image is missing"):
        build_pack(lost, tmp_path / "pack", **SIZE, on_corrupt="skip")


def test_a_disk_that_is_too_small_is_an_error_before_the_work_begins(small_catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(pack_builder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(HilumError, match=r"is full; the pack needs 0.00 GB. Make room"):
        build_pack(small_catalog, tmp_path / "pack", **SIZE)
    assert list((tmp_path / "pack").iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_is_done(small_chunks, small_catalog, tmp_path, monkeypatch):
    write, numbers = pack_builder._write_chunk, []

    def until_full(chunk):
        if len(numbers) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        numbers.append(chunk.number)
        write(chunk)

    with monkeypatch.context() as patch:
        patch.setattr(pack_builder, "_write_chunk", until_full)
        with pytest.raises(HilumError, match=r"the disk of .* is full"):
            build_pack(small_catalog, tmp_path / "pack", **SIZE)
    later = written_chunks(monkeypatch)
    build_pack(small_catalog, tmp_path / "pack", **SIZE)
    assert later[0] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"height": 2.5}, "height is 2.5"),
        ({"workers": 0}, "workers is 0"),
        ({"fit": "squash"}, "fit is 'squash'"),
        ({"on_corrupt": "ignore"}, "on_corrupt is 'ignore'"),
    ],
)
def test_a_parameter_out_of_range_is_named(small_catalog, tmp_path, changes, message):
    with pytest.raises(HilumError, match=message):
        build_pack(small_catalog, tmp_path / "pack", **SIZE | changes)
