"""Image files give the pixels of the ids asked for, and prepared pixels are used only where they fit."""

import numpy as np
import pytest

from hilum.data.pixels import RawImages, rows_of
from hilum.data.resize import resize
from hilum.errors import HilumError
from hilum.sources.images import read_gray


def test_files_are_read_by_id_in_the_order_asked_for_repeats_included(small_catalog):
    shuffled = small_catalog.select_images(small_catalog.table.index[::-1])
    raw = RawImages(shuffled, 24, 16, "crop", "linear")
    ids = small_catalog.table.index.to_numpy()[[5, 0, 5, 30]]
    images = raw.read(ids)
    assert (images.dtype, images.shape, raw.size) == (np.uint8, (4, 16, 24), (24, 16))
    for image, image_id in zip(images, ids, strict=True):
        path = small_catalog.image_path(image_id)
        np.testing.assert_array_equal(image, resize(read_gray(path), 24, 16, "crop", "linear"))


def test_the_images_read_may_be_written_to(small_catalog):
    raw = RawImages(small_catalog, 64, 64)
    ids = small_catalog.table.index.to_numpy()[:1]
    first = raw.read(ids)
    first[:] = 0
    assert raw.read(ids).any()


def test_files_are_read_by_the_path_column_asked_for(small_catalog):
    image_id = int(small_catalog.table.index[3])
    target = small_catalog.image_path(image_id, "Hierarchical_Path")
    target.parent.mkdir(parents=True)
    small_catalog.image_path(image_id).rename(target)
    assert RawImages(small_catalog, 8, 8, column="Hierarchical_Path").read(np.array([image_id])).any()
    with pytest.raises(HilumError, match="the image is missing"):
        RawImages(small_catalog, 8, 8).read(np.array([image_id]))
    with pytest.raises(HilumError, match="image_column is 'Path'"):
        RawImages(small_catalog, 8, 8, column="Path")


def test_a_path_of_any_letters_is_kept(small_catalog):
    table = small_catalog.table.copy()
    table["Image_Path"] = table["Image_Path"].astype(object)
    table.iloc[1, table.columns.get_loc("Image_Path")] = "Röntgen/肺.png"
    raw = RawImages(type(small_catalog)("mine", table, small_catalog.targets, small_catalog.root), 8, 8)
    assert raw.path(table.index[1]) == f"{small_catalog.root}/Röntgen/肺.png"
    assert raw.path(table.index[2]) == str(small_catalog.image_path(table.index[2]))


def test_an_unknown_id_is_named(small_catalog):
    with pytest.raises(HilumError, match=r"ImageID 999999 is not in the chexpert catalog \(nor are 1 others"):
        RawImages(small_catalog, 8, 8).read(np.array([small_catalog.table.index[0], 999999, -4]))


@pytest.mark.parametrize("known", [[], [5], [1, 2, 9]])
def test_ids_are_found_among_any_number_of_known_ones(known):
    known = np.array(known, dtype=np.int64)
    np.testing.assert_array_equal(rows_of(known[::-1], known, "here"), np.arange(len(known))[::-1])
    for absent in (0, 3, 10):
        with pytest.raises(HilumError, match=f"ImageID {absent} is not in here"):
            rows_of(np.array([absent]), known, "here")
