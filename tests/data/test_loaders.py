"""Batches depend on the seed and the epoch alone: not on workers, not on what was drawn before."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.config import AugmentationSettings, PixelSettings, SplitSettings, TrainingSettings
from hilum.data import loaders, shards
from hilum.data.loaders import (
    EpochBatchSampler,
    Loaders,
    actual_labels,
    default_workers,
    measure_pixels,
    open_pixels,
)
from hilum.data.pack_builder import build_pack
from hilum.data.pixels import Pack, RawImages
from hilum.data.resize import resize
from hilum.data.split import make_split
from hilum.errors import HilumError
from hilum.sources.images import read_gray


def loaders_of(catalog, **changes) -> Loaders:
    small = {"batch_size": 8, "image_width": 32, "image_height": 32, "aug_fraction": 0.7, "num_workers": 0}
    return Loaders(catalog, **small | changes)


def epoch_of(loader, epoch: int) -> dict[str, torch.Tensor]:
    """All batches of an epoch, joined."""
    loader.batch_sampler.set_epoch(epoch)
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for key in ("id", "img", "labels"):
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 200),
    batch_size=st.integers(1, 50),
    shuffle=st.booleans(),
    epoch=st.integers(1, 5),
)
def test_an_epoch_has_each_row_once_and_no_batch_has_one_image(count, batch_size, shuffle, epoch):
    sampler = EpochBatchSampler(count, batch_size, shuffle=shuffle, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    addresses = [address for batch in batches for address in batch]
    assert sorted(address.row for address in addresses) == list(range(count))
    assert [address.position for address in addresses] == list(range(count))
    assert {address.epoch for address in addresses} == {epoch}
    assert len(sampler) == len(batches)
    sizes = [len(batch) for batch in batches]
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] <= batch_size + 1
    if batch_size > 1 and count > 1:
        assert min(sizes) > 1
    if not shuffle:
        assert [address.row for address in addresses] == list(range(count))


def test_the_order_differs_between_epochs_and_seeds_and_is_reproducible():
    def order(seed, epoch):
        sampler = EpochBatchSampler(40, 8, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return [address.row for batch in sampler for address in batch]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(*key)) for key in [(0, 1), (0, 2), (1, 1), (1, 2)]}) == 4


def test_batches_are_bit_identical_with_and_without_workers(small_catalog):
    alone, _ = loaders_of(small_catalog).get_train_val_loaders()
    with_workers, _ = loaders_of(small_catalog, num_workers=2).get_train_val_loaders()
    epochs = [epoch_of(alone, epoch) for epoch in (1, 2)]
    for epoch, expected in zip((1, 2), epochs, strict=True):
        assert_same(epoch_of(with_workers, epoch), expected)
    assert not torch.equal(epochs[0]["id"], epochs[1]["id"])
    again, _ = loaders_of(small_catalog).get_train_val_loaders()
    assert_same(epoch_of(again, 2), epochs[1])  # the second epoch does not need the first


def test_workers_start_after_opencv_has_used_its_threads_here(small_catalog):
    cv2.setNumThreads(4)
    large = np.random.default_rng(0).integers(0, 256, (2000, 2000), dtype=np.uint8)
    cv2.warpAffine(large, np.eye(2, 3), (2000, 2000))
    train, _ = loaders_of(small_catalog, num_workers=1).get_train_val_loaders()
    train.timeout = 30  # an error instead of an endless wait
    assert len(epoch_of(train, 1)["id"]) == len(train.dataset)


def test_a_pass_draws_nothing_from_the_global_generator(small_catalog):
    train, _ = loaders_of(small_catalog).get_train_val_loaders()
    before = torch.get_rng_state()
    epoch_of(train, 1)
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_the_validation_loader_is_in_order_and_unchanged_by_augmentation(small_catalog):
    loaders = loaders_of(small_catalog, aug_fraction=1.0, image_width=64, image_height=64)
    train, val = loaders.get_train_val_loaders()
    first, second = epoch_of(val, 1), epoch_of(val, 2)
    assert_same(first, second)
    assert first["id"].tolist() == sorted(first["id"].tolist())
    for image_id, image in zip(first["id"].tolist(), first["img"], strict=True):
        np.testing.assert_array_equal(image[0], read_gray(small_catalog.image_path(image_id)))
    assert set(first["id"].tolist()).isdisjoint(epoch_of(train, 1)["id"].tolist())


def test_training_labels_belong_to_their_ids(small_catalog):
    train, _ = loaders_of(small_catalog, target_columns=("Edema", "Effusion")).get_train_val_loaders()
    epoch = epoch_of(train, 1)
    expected = small_catalog.table.loc[epoch["id"].tolist(), ["Edema", "Pleural_Effusion"]]
    np.testing.assert_array_equal(epoch["labels"], expected.to_numpy(np.float32))


def test_repeats_of_oversampling_keep_their_id_but_have_their_own_augmentation(small_catalog):
    loaders = loaders_of(small_catalog, target_columns="Edema", observation_min_count=60, aug_fraction=1.0)
    train, _ = loaders.get_train_val_loaders()
    epoch = epoch_of(train, 1)
    assert len(epoch["id"]) == len(train.dataset) == 120
    ids, counts = epoch["id"].unique(return_counts=True)
    repeated = ids[counts.argmax()]
    images = epoch["img"][epoch["id"] == repeated]
    assert len(images) > 1
    assert len(images.reshape(len(images), -1).unique(dim=0)) == len(images)
    labels = epoch["labels"][epoch["id"] == repeated]
    assert len(labels.unique(dim=0)) == 1


def test_one_loader_gives_all_images_in_the_catalogs_order_without_augmentation(small_catalog):
    epoch = epoch_of(loaders_of(small_catalog, aug_fraction=1.0).get_loader(), 1)
    assert epoch["id"].tolist() == small_catalog.table.index.tolist()
    chosen = small_catalog.table.index[[7, 1]]
    assert epoch_of(loaders_of(small_catalog).get_loader(chosen), 1)["id"].tolist() == chosen.tolist()


def test_an_existing_split_is_used_unchanged(small_catalog):
    split = make_split(small_catalog, SplitSettings(number_images=20, val_fraction=0.5), seed=8)
    train, val = loaders_of(small_catalog).get_train_val_loaders(split=split)
    assert sorted(epoch_of(train, 1)["id"].tolist()) == split.image_ids("train").tolist()
    assert epoch_of(val, 1)["id"].tolist() == split.image_ids("val").tolist()


def test_the_actual_labels_of_a_loader_are_the_labels_of_the_catalog(small_catalog):
    train, _ = loaders_of(small_catalog).get_train_val_loaders()
    labels = actual_labels(train)
    assert labels.index.name == "ImageID"
    expected = small_catalog.table.loc[labels.index, list(small_catalog.targets)]
    np.testing.assert_array_equal(labels.to_numpy(), expected.to_numpy(np.float32))


def test_settings_in_groups_are_settings_by_name_and_a_name_goes_before_its_group(small_catalog):
    by_name, _ = loaders_of(small_catalog, affine_degrees=30, seed=5).get_train_val_loaders()
    loaders = Loaders(
        small_catalog,
        pixels=PixelSettings(image_width=32, image_height=64),
        augmentation=AugmentationSettings(aug_fraction=0.7, affine_degrees=30),
        training=TrainingSettings(batch_size=8, num_workers=2, seed=5),
        image_height=32,
        num_workers=0,
    )
    in_groups, _ = loaders.get_train_val_loaders()
    assert_same(epoch_of(in_groups, 1), epoch_of(by_name, 1))


def test_a_setting_that_loaders_do_not_have_is_refused(small_catalog):
    with pytest.raises(HilumError, match="no setting 'num_epochs'"):
        loaders_of(small_catalog, num_epochs=3)
    with pytest.raises(HilumError, match=r"no setting 'image_with'.*'image_width'"):
        loaders_of(small_catalog, image_with=32)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("aug_fraction", 20),
        ("image_width", 0),
        ("num_workers", -1),
        ("contrast_jitter", -0.1),
        ("fit", "squash"),
        ("interpolation", "bilinear"),
        ("image_column", "Path"),
    ],
)
def test_a_value_that_a_run_would_refuse_is_refused_here_too(small_catalog, setting, value):
    with pytest.raises(HilumError, match=setting):
        loaders_of(small_catalog, **{setting: value})


def test_pixel_statistics_are_those_of_numpy(small_catalog):
    train, _ = loaders_of(
        small_catalog, image_width=64, image_height=64, aug_fraction=1.0
    ).get_train_val_loaders()
    paths = [small_catalog.image_path(image_id) for image_id in actual_labels(train).index]
    pixels = np.stack([read_gray(path) for path in paths]) / 255
    mean, deviation = measure_pixels(train, seed=0)
    assert mean == pytest.approx(pixels.mean(), abs=1e-12)
    assert deviation == pytest.approx(pixels.std(), abs=1e-12)


def test_pixel_statistics_of_a_sample_are_repeatable_and_near_those_of_all(small_catalog):
    train, _ = loaders_of(small_catalog).get_train_val_loaders()
    whole, sampled = measure_pixels(train, seed=0), measure_pixels(train, seed=0, sample=15)
    assert sampled == measure_pixels(train, seed=0, sample=15) != whole
    assert sampled == pytest.approx(whole, abs=0.05)


def test_images_of_one_gray_level_are_refused(small_catalog):
    for path in small_catalog.image_paths():
        cv2.imwrite(path, np.full((64, 64), 128, dtype=np.uint8))
    train, _ = loaders_of(small_catalog).get_train_val_loaders()
    with pytest.raises(HilumError, match="All pixels of the training images have one value"):
        measure_pixels(train, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_a_pack_are_bit_identical_to_those_of_the_files(small_catalog, tmp_path, workers):
    build_pack(small_catalog, tmp_path / "pack", width=32, height=32)
    from_files, _ = loaders_of(small_catalog).get_train_val_loaders()
    packed = loaders_of(small_catalog, pack=tmp_path / "pack", num_workers=workers)
    train, val = packed.get_train_val_loaders()
    assert_same(epoch_of(train, 1), epoch_of(from_files, 1))
    assert len(epoch_of(val, 1)["id"]) == len(val.dataset)


def test_a_pack_of_another_size_or_of_fewer_images_is_refused(small_catalog, tmp_path):
    some = small_catalog.select_images(small_catalog.table.index[:12])
    build_pack(some, tmp_path / "pack", width=32, height=32)
    assert len(epoch_of(loaders_of(some, pack=tmp_path / "pack").get_loader(), 1)["id"]) == 12
    with pytest.raises(HilumError, match="width is 32 there, but 40 here"):
        loaders_of(some, pack=tmp_path / "pack", image_width=40)
    with pytest.raises(HilumError, match="is missing"):
        loaders_of(small_catalog, pack=tmp_path / "pack")


def test_files_are_found_and_resized_by_the_settings(small_catalog):
    for image_id in small_catalog.table.index:
        place = small_catalog.image_path(image_id, "Hierarchical_Path")
        place.parent.mkdir(parents=True, exist_ok=True)
        small_catalog.image_path(image_id).rename(place)
    settings = {"image_width": 40, "fit": "letterbox", "interpolation": "nearest"}
    loader = loaders_of(small_catalog, **settings, image_column="Hierarchical_Path").get_loader()
    batch = next(iter(loader))
    path = small_catalog.image_path(int(batch["id"][0]), "Hierarchical_Path")
    np.testing.assert_array_equal(batch["img"][0, 0], resize(read_gray(path), 40, 32, "letterbox", "nearest"))


def test_the_default_number_of_workers_leaves_cores_to_the_model():
    assert 0 <= default_workers() <= 8


def shares(count: int, batch_size: int, devices: int, *, shuffle: bool) -> list[list[list[tuple]]]:
    """The batches of each device, as places and rows."""
    return [
        [
            [(address.position, address.row) for address in batch]
            for batch in EpochBatchSampler(
                count, batch_size, shuffle=shuffle, seed=3, rank=rank, devices=devices
            )
        ]
        for rank in range(devices)
    ]


@pytest.mark.parametrize("count", [40, 41, 43, 47])
@pytest.mark.parametrize("devices", [2, 3])
def test_devices_share_the_batches_that_one_device_learns_from(count, devices):
    (alone,) = shares(count, 8, 1, shuffle=True)
    shared = shares(count, 8, devices, shuffle=True)
    together = [place for parts in zip(*shared, strict=True) for part in parts for place in part]
    assert together == [place for batch in alone for place in batch]  # each once, in the order of one device
    for parts in zip(*shared, strict=True):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 2


@pytest.mark.parametrize("devices", [2, 3])
def test_devices_validate_whole_batches_of_one_device_in_turn(devices):
    (alone,) = shares(41, 8, 1, shuffle=False)
    shared = shares(41, 8, devices, shuffle=False)
    for rank in range(devices):
        assert shared[rank] == alone[rank::devices]


def test_a_batch_without_an_image_for_each_device_is_refused():
    with pytest.raises(HilumError, match="batch_size 2, 50 training images: 3 devices share each batch"):
        EpochBatchSampler(50, 2, shuffle=True, seed=0, devices=3)


def test_without_a_pack_the_files_are_read(small_catalog):
    settings = PixelSettings(image_width=24, image_height=16, fit="letterbox", interpolation="nearest")
    pixels = open_pixels(small_catalog, settings, "Hierarchical_Path")
    assert isinstance(pixels, RawImages)
    assert (pixels.size, pixels.settings) == ((24, 16), settings)
    assert pixels.path(small_catalog.table.index[0]).endswith(
        small_catalog.table["Hierarchical_Path"].iloc[0]
    )


def test_a_pack_is_opened_and_checked(small_catalog, tmp_path):
    build_pack(small_catalog, tmp_path / "pack", width=24, height=16)
    settings = {"pack": tmp_path / "pack", "image_width": 24}
    assert isinstance(open_pixels(small_catalog, PixelSettings(**settings, image_height=16)), Pack)
    with pytest.raises(HilumError, match="height is 16 there, but 20 here"):
        open_pixels(small_catalog, PixelSettings(**settings, image_height=20))


@pytest.mark.parametrize("where", ["s3://bucket/x", "a folder with their record"])
def test_shards_are_opened_and_checked(small_catalog, tmp_path, monkeypatch, where):
    class NoShards:
        def __init__(self, url):
            self.url = url

        def check(self, *settings):
            self.checked = settings

    monkeypatch.setattr(loaders, "Shards", NoShards)
    if "://" not in where:
        where = str(tmp_path)
        (tmp_path / shards.RECORD).write_text("{}")
    settings = PixelSettings(pack=where, fit="crop")
    opened = open_pixels(small_catalog, settings)
    assert opened.url == where
    assert opened.checked == (small_catalog, settings)
