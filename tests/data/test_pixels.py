"""Image files and packs give the pixels of ids, and a pack is used only for a run that it fits."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hilum.config import PixelSettings
from hilum.data.loaders import without_left_out
from hilum.data.pack_builder import build_pack
from hilum.data.pixels import CORRUPT, INDEX, PIXELS, RECORD, Pack, RawImages, rows_of
from hilum.data.resize import resize
from hilum.errors import HilumError
from hilum.sources.images import read_gray


def pixels_of(**changes) -> PixelSettings:
    """Images 24 wide and 16 high."""
    return PixelSettings(**{"image_width": 24, "image_height": 16} | changes)


def test_files_are_read_by_id_in_the_given_order_with_repeats(small_catalog):
    shuffled = small_catalog.select_images(small_catalog.table.index[::-1])
    raw = RawImages(shuffled, pixels_of(fit="crop", interpolation="linear"))
    ids = small_catalog.table.index.to_numpy()[[5, 0, 5, 30]]
    images = raw.read(ids)
    assert (images.dtype, images.shape, raw.size) == (np.uint8, (4, 16, 24), (24, 16))
    for image, image_id in zip(images, ids, strict=True):
        path = small_catalog.image_path(image_id)
        np.testing.assert_array_equal(image, resize(read_gray(path), 24, 16, "crop", "linear"))


def test_the_returned_images_may_be_written_to(small_catalog):
    raw = RawImages(small_catalog, pixels_of())
    ids = small_catalog.table.index.to_numpy()[:1]
    first = raw.read(ids)
    first[:] = 0
    assert raw.read(ids).any()


def test_files_are_read_by_the_given_path_column(small_catalog):
    image_id = int(small_catalog.table.index[3])
    target = small_catalog.image_path(image_id, "Hierarchical_Path")
    target.parent.mkdir(parents=True)
    small_catalog.image_path(image_id).rename(target)
    assert RawImages(small_catalog, pixels_of(), column="Hierarchical_Path").read(np.array([image_id])).any()
    with pytest.raises(HilumError, match="the image is missing"):
        RawImages(small_catalog, pixels_of()).read(np.array([image_id]))
    with pytest.raises(HilumError, match="image_column is 'Path'"):
        RawImages(small_catalog, pixels_of(), column="Path")


def test_a_path_may_have_any_letters(small_catalog):
    table = small_catalog.table.copy()
    table["Image_Path"] = table["Image_Path"].astype(object)
    table.iloc[1, table.columns.get_loc("Image_Path")] = "Röntgen/肺.png"
    raw = RawImages(
        type(small_catalog)("mine", table, small_catalog.targets, small_catalog.root), pixels_of()
    )
    assert raw.path(table.index[1]) == f"{small_catalog.root}/Röntgen/肺.png"
    assert raw.path(table.index[2]) == str(small_catalog.image_path(table.index[2]))


def test_an_unknown_id_is_named(small_catalog):
    with pytest.raises(HilumError, match=r"ImageID 999999 is not in the chexpert catalog \(nor are 1 others"):
        RawImages(small_catalog, pixels_of()).read(np.array([small_catalog.table.index[0], 999999, -4]))


@pytest.mark.parametrize("known", [[], [5], [1, 2, 9]])
def test_ids_are_found_among_any_number_of_known_ones(known):
    known = np.array(known, dtype=np.int64)
    np.testing.assert_array_equal(rows_of(known[::-1], known, "here"), np.arange(len(known))[::-1])
    for absent in (0, 3, 10):
        with pytest.raises(HilumError, match=f"ImageID {absent} is not in here"):
            rows_of(np.array([absent]), known, "here")


@pytest.fixture
def pack(small_catalog, tmp_path) -> Pack:
    return build_pack(small_catalog, tmp_path / "pack", width=24, height=16)


def test_a_pack_has_the_pixels_of_the_files(small_catalog, pack):
    ids = small_catalog.table.index.to_numpy()
    asked = np.concatenate([ids[::-1], ids[:3]])
    images = pack.read(asked)
    assert (images.dtype, images.shape, pack.size) == (np.uint8, (len(asked), 16, 24), (24, 16))
    np.testing.assert_array_equal(images, RawImages(small_catalog, pixels_of()).read(asked))


def test_pixels_read_from_a_pack_may_be_written_to(small_catalog, pack):
    ids = small_catalog.table.index.to_numpy()[:2]
    before = pack.read(ids)
    pack.read(ids)[:] = 0
    np.testing.assert_array_equal(pack.read(ids), before)


def test_an_id_that_is_not_packed_is_an_error_with_its_name(pack):
    with pytest.raises(HilumError, match=r"ImageID 100000 is not in the pack .*pack"):
        pack.read(np.array([100000]))


def test_a_subset_of_images_or_targets_may_use_the_pack(small_catalog, pack):
    pack.check(small_catalog, pixels_of())
    pack.check(small_catalog.select_images(small_catalog.table.index[[9, 2, 30]]), pixels_of())
    pack.check(small_catalog.select_targets("competition"), pixels_of())


@pytest.mark.parametrize(
    ("setting", "value", "packed"),
    [
        ("image_width", 32, "24"),
        ("image_height", 24, "16"),
        ("fit", "crop", "'stretch'"),
        ("interpolation", "cubic", "'auto'"),
    ],
)
def test_another_setting_is_refused_with_both_values(small_catalog, pack, setting, value, packed):
    with pytest.raises(
        HilumError, match=f"{setting.removeprefix('image_')} is {packed} there, but {value!r} here"
    ):
        pack.check(small_catalog, pixels_of(**{setting: value}))


def test_another_data_set_is_refused(small_catalog, pack):
    with pytest.raises(HilumError, match="catalog is 'chexpert' there, but 'other' here"):
        pack.check(replace(small_catalog, name="other"), pixels_of())


def test_other_images_under_the_same_ids_are_refused_with_both_paths(small_catalog, pack):
    table = small_catalog.table.copy()
    paths = table["Image_Path"].tolist()
    table["Image_Path"] = [paths[0], paths[2], paths[1], *paths[3:]]
    with pytest.raises(HilumError, match=f"ImageID {table.index[1]} is {paths[1]} there, but {paths[2]} in"):
        pack.check(replace(small_catalog, table=table), pixels_of())


def test_images_that_are_not_packed_are_refused(small_catalog, tmp_path):
    some = small_catalog.select_images(small_catalog.table.index[:20])
    pack = build_pack(some, tmp_path / "some", width=24, height=16)
    missing = small_catalog.table.index[20]
    with pytest.raises(
        HilumError, match=rf"ImageID {missing} is missing \({len(small_catalog) - 20} are missing"
    ):
        pack.check(small_catalog, pixels_of())


def test_images_left_out_as_unreadable_are_named_and_can_be_left_out(small_catalog, tmp_path):
    broken = [int(image_id) for image_id in small_catalog.table.index[[4, 7]]]
    small_catalog.image_path(broken[0]).write_bytes(b"")
    small_catalog.image_path(broken[1]).unlink()
    pack = build_pack(small_catalog, tmp_path / "pack", width=24, height=16, on_corrupt="skip")
    assert len(pack) == pack.meta["images"] == len(small_catalog) - 2
    with pytest.raises(
        HilumError, match=rf"left out 2 unreadable image\(s\).*ImageID {broken[0]}: .*the file is empty"
    ):
        pack.check(small_catalog, pixels_of())
    kept = without_left_out(tmp_path / "pack", small_catalog)
    assert set(small_catalog.table.index) - set(kept.table.index) == set(broken)
    pack.check(kept, pixels_of())
    np.testing.assert_array_equal(pack.read(pack.ids), RawImages(kept, pixels_of()).read(pack.ids))
    assert without_left_out(tmp_path / "pack", kept) is kept
    with pytest.raises(HilumError, match=f"ImageID {broken[1]} is not in the pack"):
        pack.read(np.array(broken[1:]))


def test_a_folder_without_a_pack_is_refused(tmp_path):
    with pytest.raises(HilumError, match="this is not a pack"):
        Pack(tmp_path)
    with pytest.raises(HilumError, match="this is not a pack"):
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


def test_the_list_of_unreadable_images_exists_even_if_it_is_empty(pack):
    assert (pack.path / CORRUPT).read_text() == "ImageID,Image_Path,reason\n"
    assert pack.left_out().empty


def test_a_pack_of_other_files_of_the_same_names_is_refused(small_catalog, tmp_path):
    pack = build_pack(small_catalog, tmp_path / "pack", width=24, height=16)
    pack.check(small_catalog, pixels_of())
    first = small_catalog.image_path(small_catalog.table.index[0])
    first.write_bytes(small_catalog.image_path(small_catalog.table.index[1]).read_bytes())
    with pytest.raises(HilumError, match="is not the file that was packed"):
        pack.check(small_catalog, pixels_of())
    with pytest.raises(HilumError, match="is not the file that was packed"):
        build_pack(small_catalog, tmp_path / "pack", width=24, height=16)
