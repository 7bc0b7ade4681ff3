"""An item is the image and the labels of its id, as uint8 and float32."""

import numpy as np
import pytest
import torch

from hilum.config import AugmentationSettings
from hilum.data.augmentation import Augmentation, augment
from hilum.data.dataset import Address, CheXpertDataset
from hilum.data.resize import resize
from hilum.errors import HilumError
from hilum.sources.images import read_gray

STRONG = Augmentation(
    AugmentationSettings(
        aug_fraction=1,
        affine_degrees=20,
        translate_fraction=0.1,
        shear_degrees=10,
        brightness_jitter=0.3,
        contrast_jitter=0.3,
    )
)


def test_an_item_has_the_documented_keys_shapes_and_dtypes(small_catalog):
    item = CheXpertDataset(small_catalog, image_width=40, image_height=24)[3]
    assert list(item) == ["id", "img", "labels"]
    assert isinstance(item["id"], int)
    assert (item["img"].dtype, item["img"].shape) == (torch.uint8, (1, 24, 40))
    assert (item["labels"].dtype, item["labels"].shape) == (torch.float32, (12,))


def test_a_batch_has_the_same_keys_and_a_leading_dimension(small_catalog):
    dataset = CheXpertDataset(small_catalog, 40, 24)
    batch = dataset.__getitems__([Address(1, 0, 5), Address(1, 1, 2)])
    assert (batch["id"].dtype, batch["id"].shape) == (torch.int64, (2,))
    assert (batch["img"].dtype, batch["img"].shape) == (torch.uint8, (2, 1, 24, 40))
    assert (batch["labels"].dtype, batch["labels"].shape) == (torch.float32, (2, 12))
    for row, position in enumerate([5, 2]):
        single = dataset[position]
        assert batch["id"][row] == single["id"]
        torch.testing.assert_close(batch["img"][row], single["img"], rtol=0, atol=0)


def test_image_and_labels_are_those_of_the_id(small_catalog):
    catalog = small_catalog.select_images(small_catalog.table.index[::-1])
    dataset = CheXpertDataset(catalog, 64, 64)
    assert len(dataset) == len(catalog)
    for item in (dataset[position] for position in range(len(dataset))):
        expected = small_catalog.table.loc[item["id"], list(small_catalog.targets)]
        np.testing.assert_array_equal(item["labels"], expected.to_numpy(np.float32))
        np.testing.assert_array_equal(item["img"][0], read_gray(small_catalog.image_path(item["id"])))


def test_unknown_labels_stay_unknown(small_catalog):
    table = small_catalog.table.copy()
    table.loc[table.index[4], "Edema"] = np.nan
    catalog = type(small_catalog)("mine", table, small_catalog.targets, small_catalog.root)
    labels = CheXpertDataset(catalog, 16, 16)[4]["labels"]
    assert labels.isnan().nonzero().ravel().tolist() == [small_catalog.targets.index("Edema")]


def test_a_position_beyond_the_end_is_an_index_error(small_catalog):
    dataset = CheXpertDataset(small_catalog, 16, 16)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert dataset[-1]["id"] == dataset[len(dataset) - 1]["id"]


def test_augmentation_depends_on_epoch_and_position_and_not_on_earlier_items(small_catalog):
    dataset = CheXpertDataset(small_catalog, 32, 32, STRONG, seed=9)
    pixels = resize(read_gray(small_catalog.image_paths()[6]), 32, 32)
    drawn = STRONG.draw(9, 3, len(dataset))
    image = dataset.__getitems__([Address(3, 11, 6)])["img"][0, 0]
    np.testing.assert_array_equal(image, augment(pixels, drawn[11]))
    dataset.__getitems__([Address(5, 0, 1)])
    np.testing.assert_array_equal(image, dataset.__getitems__([Address(3, 11, 6)])["img"][0, 0])
    assert not torch.equal(image, dataset.__getitems__([Address(4, 11, 6)])["img"][0, 0])
    assert not torch.equal(image, dataset.__getitems__([Address(3, 12, 6)])["img"][0, 0])


def test_the_items_without_augmentation_are_the_images_on_disk(small_catalog):
    augmented = CheXpertDataset(small_catalog, 64, 64, STRONG)
    plain = augmented.without_augmentation()
    on_disk = read_gray(small_catalog.image_paths()[0])
    np.testing.assert_array_equal(plain[0]["img"][0], on_disk)
    assert not np.array_equal(augmented[0]["img"][0], on_disk)


def test_a_broken_image_is_named(small_catalog):
    path = small_catalog.image_path(small_catalog.table.index[2])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(HilumError, match=f"{path.name}: the image is truncated"):
        CheXpertDataset(small_catalog, 32, 32)[2]


def test_another_source_of_pixels_replaces_the_files(small_catalog):
    class Counting:
        size = (32, 24)

        def __init__(self):
            self.asked = []

        def read(self, image_ids):
            self.asked.append(image_ids.tolist())
            return np.multiply.outer(image_ids.astype(np.uint8), np.ones((24, 32), dtype=np.uint8))

    pixels = Counting()
    dataset = CheXpertDataset(small_catalog, 32, 24, pixels=pixels)
    batch = dataset.__getitems__([Address(1, place, row) for place, row in enumerate([4, 0, 4])])
    ids = small_catalog.table.index[[4, 0, 4]].tolist()
    assert pixels.asked == [ids]  # the whole batch at once
    assert batch["id"].tolist() == ids
    assert batch["img"].shape == (3, 1, 24, 32)
    assert batch["img"][:, 0, 0, 0].tolist() == ids


def test_changes_do_not_depend_on_how_many_are_drawn_together(small_catalog, monkeypatch):
    addresses = [Address(2, place, place) for place in range(20)]
    expected = CheXpertDataset(small_catalog, 32, 32, STRONG).__getitems__(addresses)
    monkeypatch.setattr("hilum.data.dataset._DRAWN_TOGETHER", 8)
    blocks = CheXpertDataset(small_catalog, 32, 32, STRONG).__getitems__(addresses)
    torch.testing.assert_close(blocks["img"], expected["img"], rtol=0, atol=0)
