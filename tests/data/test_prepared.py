"""Prepared pixels are used where they fit the run, and only there."""

import pytest

from hilum.data import prepared, shards
from hilum.data.pack import Pack
from hilum.data.packing import build_pack
from hilum.data.pixels import RawImages
from hilum.data.prepared import open_pixels
from hilum.errors import HilumError


def test_without_a_pack_the_files_are_read(small_catalog):
    pixels = open_pixels(None, small_catalog, 20, 10, "letterbox", "nearest", "Hierarchical_Path")
    assert isinstance(pixels, RawImages)
    assert (pixels.size, pixels.fit, pixels.interpolation) == ((20, 10), "letterbox", "nearest")
    assert pixels.path(small_catalog.table.index[0]).endswith(
        small_catalog.table["Hierarchical_Path"].iloc[0]
    )


def test_a_pack_is_opened_and_checked(small_catalog, tmp_path):
    build_pack(small_catalog, tmp_path / "pack", width=24, height=16)
    assert isinstance(open_pixels(str(tmp_path / "pack"), small_catalog, 24, 16), Pack)
    with pytest.raises(HilumError, match="height is 16 there, but 20 here"):
        open_pixels(tmp_path / "pack", small_catalog, 24, 20)


@pytest.mark.parametrize("where", ["s3://bucket/x", "a folder with their record"])
def test_shards_are_opened_and_checked(small_catalog, tmp_path, monkeypatch, where):
    class NoShards:
        def __init__(self, url):
            self.url = url

        def check(self, *settings):
            self.checked = settings

    monkeypatch.setattr(prepared, "Shards", NoShards)
    if "://" not in where:
        where = str(tmp_path)
        (tmp_path / shards.RECORD).write_text("{}")
    opened = open_pixels(where, small_catalog, 24, 16, "crop")
    assert opened.url == where
    assert opened.checked == (small_catalog, 24, 16, "crop", "auto")
