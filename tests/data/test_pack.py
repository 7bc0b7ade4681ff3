"""A pack gives the pixels of the files, and is refused wherever it is not the pack of the run."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hilum.data.loaders import without_left_out
from hilum.data.pack import CORRUPT, INDEX, PIXELS, RECORD, Pack
from hilum.data.pack_builder import build_pack
from hilum.data.pixels import RawImages
from hilum.errors import HilumError


@pytest.fixture
def pack(small_catalog, tmp_path) -> Pack:
    return build_pack(small_catalog, tmp_path / "pack", width=24, height=16)


def test_the_pixels_are_those_of_the_files(small_catalog, pack):
    ids = small_catalog.table.index.to_numpy()
    asked = np.concatenate([ids[::-1], ids[:3]])
    images = pack.read(asked)
    assert (images.dtype, images.shape, pack.size) == (np.uint8, (len(asked), 16, 24), (24, 16))
    np.testing.assert_array_equal(images, RawImages(small_catalog, 24, 16).read(asked))


def test_what_is_read_is_the_callers_own(small_catalog, pack):
    ids = small_catalog.table.index.to_numpy()[:2]
    before = pack.read(ids)
    pack.read(ids)[:] = 0
    np.testing.assert_array_equal(pack.read(ids), before)


def test_an_id_that_is_not_packed_is_named(pack):
    with pytest.raises(HilumError, match=r"ImageID 100000 is not in the pack .*pack"):
        pack.read(np.array([100000]))


def check(pack: Pack, catalog, **changes) -> None:
    settings = {"width": 24, "height": 16, "fit": "stretch", "interpolation": "auto"}
    pack.check(catalog, **settings | changes)


def test_a_subset_of_images_or_targets_may_use_the_pack(small_catalog, pack):
    check(pack, small_catalog)
    check(pack, small_catalog.select_images(small_catalog.table.index[[9, 2, 30]]))
    check(pack, small_catalog.select_targets("competition"))


@pytest.mark.parametrize(
    ("setting", "value", "packed"),
    [
        ("width", 32, "24"),
        ("height", 24, "16"),
        ("fit", "crop", "'stretch'"),
        ("interpolation", "cubic", "'auto'"),
    ],
)
def test_another_setting_is_refused_with_both_values(small_catalog, pack, setting, value, packed):
    with pytest.raises(HilumError, match=f"{setting} is {packed} there, but {value!r} here"):
        check(pack, small_catalog, **{setting: value})


def test_another_data_set_is_refused(small_catalog, pack):
    with pytest.raises(HilumError, match="catalog is 'chexpert' there, but 'other' here"):
        check(pack, replace(small_catalog, name="other"))


def test_other_images_under_the_same_ids_are_refused_with_both_paths(small_catalog, pack):
    table = small_catalog.table.copy()
    paths = table["Image_Path"].tolist()
    table["Image_Path"] = [paths[0], paths[2], paths[1], *paths[3:]]
    with pytest.raises(HilumError, match=f"ImageID {table.index[1]} is {paths[1]} there, but {paths[2]} in"):
        check(pack, replace(small_catalog, table=table))


def test_images_that_are_not_packed_are_refused(small_catalog, tmp_path):
    some = small_catalog.select_images(small_catalog.table.index[:20])
    pack = build_pack(some, tmp_path / "some", width=24, height=16)
    missing = small_catalog.table.index[20]
    with pytest.raises(HilumError, match=rf"lacks ImageID {missing} \({len(small_catalog) - 20} are missing"):
        check(pack, small_catalog)


def test_images_left_out_as_unreadable_are_named_and_can_be_dropped(small_catalog, tmp_path):
    broken = [int(image_id) for image_id in small_catalog.table.index[[4, 7]]]
    small_catalog.image_path(broken[0]).write_bytes(b"")
    small_catalog.image_path(broken[1]).unlink()
    pack = build_pack(small_catalog, tmp_path / "pack", width=24, height=16, on_corrupt="skip")
    assert len(pack) == pack.meta["images"] == len(small_catalog) - 2
    with pytest.raises(HilumError, match=rf"left out 2 image\(s\).*ImageID {broken[0]} .*the file is empty"):
        check(pack, small_catalog)
    kept = without_left_out(tmp_path / "pack", small_catalog)
    assert set(small_catalog.table.index) - set(kept.table.index) == set(broken)
    check(pack, kept)
    np.testing.assert_array_equal(pack.read(pack.ids), RawImages(kept, 24, 16).read(pack.ids))
    assert without_left_out(tmp_path / "pack", kept) is kept
    with pytest.raises(HilumError, match=f"ImageID {broken[1]} is not in the pack"):
        pack.read(np.array(broken[1:]))


def test_a_folder_without_a_pack_is_refused(tmp_path):
    with pytest.raises(HilumError, match="there is no pack"):
        Pack(tmp_path)
    with pytest.raises(HilumError, match="there is no pack"):
        Pack(tmp_path / "absent")


@pytest.mark.parametrize("name", [RECORD, INDEX, PIXELS])
def test_a_damaged_file_is_named(pack, name):
    (pack.path / name).write_bytes(b"not this")
    with pytest.raises(HilumError, match=name):
        Pack(pack.path)


def test_a_record_of_another_format_is_refused(pack):
    record = json.loads((pack.path / RECORD).read_text())
    (pack.path / RECORD).write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(HilumError, match="format 99"):
        Pack(pack.path)


def test_pixels_of_another_pack_are_refused(small_catalog, pack, tmp_path):
    smaller = build_pack(small_catalog, tmp_path / "small", width=8, height=8)
    (pack.path / PIXELS).write_bytes((smaller.path / PIXELS).read_bytes())
    with pytest.raises(HilumError, match=r"pixels.npy: it holds uint8 \(\d+, 8, 8\)"):
        Pack(pack.path)


def test_the_list_of_unreadable_images_is_there_even_if_it_is_empty(pack):
    assert (pack.path / CORRUPT).read_text() == "ImageID,Image_Path,reason\n"
    assert pack.left_out().empty


def test_a_pack_of_other_files_of_the_same_names_is_refused(small_catalog, tmp_path):
    pack = build_pack(small_catalog, tmp_path / "pack", width=24, height=16)
    check(pack, small_catalog)
    first = small_catalog.image_path(small_catalog.table.index[0])
    first.write_bytes(small_catalog.image_path(small_catalog.table.index[1]).read_bytes())
    with pytest.raises(HilumError, match="is not the file that was packed"):
        check(pack, small_catalog)
    with pytest.raises(HilumError, match="is not the file that was packed"):
        build_pack(small_catalog, tmp_path / "pack", width=24, height=16)
