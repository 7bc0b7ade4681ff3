"""Batches in an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler

from hilum.config import (
    DEFAULTS,
    AugmentationSettings,
    PixelSettings,
    RunConfig,
    SplitSettings,
    TrainingSettings,
    with_current_names,
)
from hilum.data.augmentation import Augmentation
from hilum.data.dataset import Address, CheXpertDataset
from hilum.data.oversampling import oversample, oversampling_weights
from hilum.data.pixels import Pack, PixelSource, RawImages
from hilum.data.shards import RECORD, Shards
from hilum.data.split import Split, make_split
from hilum.errors import HilumError, nearest
from hilum.machine import cores
from hilum.randomness import generator
from hilum.sources.catalog import Catalog

#: The settings that `Loaders` uses, in addition to those of the pixels and the augmentation.
_OTHER_SETTINGS = ("batch_size", "num_workers", "seed", "target_columns", "observation_min_count", "sampling")


class EpochBatchSampler(Sampler[list[Address]]):
    """Batches of addresses, shuffled again for each epoch; the same for the same seed and epoch.

    The last images join the batch before them if they are fewer than two per device: batch normalization cannot
    train on one image. Several devices share the order and the batches of one device. Each has a part of every
    training batch; sizes differ by one at most. Validation batches are whole and assigned in turn, so the neighbors
    of an image, and its output, are bit-identical to those of one device.

    Args:
        count: number of images in the epoch.
        batch_size: images of a batch, over all devices together.
        shuffle: whether the batches are for training.
        seed: of the order.
        weights: float64 (count,): an epoch's images are drawn with replacement in proportion; None shuffles.
        rank: number of this device, from 0.
        devices: number of devices.

    Raises:
        HilumError: a batch has fewer images than there are devices.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        weights: np.ndarray | None = None,
        rank: int = 0,
        devices: int = 1,
    ):
        if shuffle and min(batch_size, count) < devices:
            raise HilumError(
                f"batch_size {batch_size}, {count:,} training images: {devices} devices share each batch, and "
                "every one needs an image. Use a larger batch_size or fewer devices."
            )
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.weights = weights
        self.rank, self.devices = rank, devices
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, counted from 1."""
        self.epoch = epoch

    @property
    def images(self) -> int:
        """Number of images of an epoch on this device."""
        return sum(end - start for start, end in self._own_ranges())

    def __len__(self) -> int:
        return len(self._own_ranges())

    def __iter__(self) -> Iterator[list[Address]]:
        order = np.arange(self.count)
        draw = generator(self.seed, "order", self.epoch)
        if self.weights is not None:
            order = draw.choice(self.count, size=self.count, p=self.weights / self.weights.sum())
        elif self.shuffle:
            order = draw.permutation(self.count)
        for start, end in self._own_ranges():
            rows = enumerate(order[start:end].tolist(), start)
            yield [Address(self.epoch, position, row) for position, row in rows]

    def _own_ranges(self) -> list[tuple[int, int]]:
        """The first and the last position (exclusive) in the epoch of each batch of this device."""
        starts = list(range(0, self.count, self.batch_size))
        least = self.devices * min(2, self.batch_size // self.devices) if self.shuffle else 2
        if len(starts) > 1 and self.batch_size > 1 and self.count - starts[-1] < least:
            starts.pop()
        batches = list(zip(starts, [*starts[1:], self.count], strict=True))
        if not self.shuffle:
            return batches[self.rank :: self.devices]
        rank, devices = self.rank, self.devices
        return [
            (start + (end - start) * rank // devices, start + (end - start) * (rank + 1) // devices)
            for start, end in batches
        ]


class Loaders:
    """Makes the data loaders of a run from a catalog.

    Batches are dictionaries with `id` (int64), `img` (uint8, (B, 1, height, width)) and `labels` (float32, (B,
    targets)). Settings are given in the groups of a `RunConfig`, or by name: `Loaders(catalog, batch_size=32)`. A name
    goes before its group; all other settings have the defaults of `RunConfig`.

    Args:
        catalog: the images.
        pixels: size, fit and interpolation; and the pack or shards to read instead of image files.
        augmentation: of the training images.
        split: `observation_min_count` and `sampling`, for oversampling: "rows" repeats rows, so the epoch is longer;
            "weights" draws each epoch's images with the same expected shares, in the usual length.
        training: `batch_size` (over all devices), `num_workers` (None is half the cores) and `seed` (of all draws).
        training_labels: if they differ from the catalog's: indexed by ImageID, one column per target.
        image_column: the path of image files: "Image_Path", or "Hierarchical_Path" after `open_hierarchy`.
        pin_memory: page-locked batches, for a GPU.
        rank: number of this device among those that train together, from 0.
        devices: number of devices.
        settings: by name; also `target_columns`, names, aliases or a named set.

    Raises:
        HilumError: a value that a run refuses as well, a setting that loaders do not have, an unknown target,
            or a pack that does not match the catalog or the settings.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        pixels: PixelSettings | None = None,
        augmentation: AugmentationSettings | None = None,
        split: SplitSettings | None = None,
        training: TrainingSettings | None = None,
        training_labels: pd.DataFrame | None = None,
        image_column: str = "Image_Path",
        pin_memory: bool = False,
        rank: int = 0,
        devices: int = 1,
        **settings: Any,
    ):
        settings = with_current_names(settings)
        known = [*PixelSettings.model_fields, *AugmentationSettings.model_fields, *_OTHER_SETTINGS]
        for name in settings:
            if name not in known:
                raise HilumError(f"Loaders have no setting {name!r}.{nearest(name, known)}")
        groups = [group for group in (pixels, augmentation, split, training) if group is not None]
        given = {name: getattr(group, name) for group in groups for name in group.model_fields_set}
        self.settings = RunConfig(**given | settings)
        self.catalog = catalog.select_targets(self.settings.target_columns)
        self.pixels = open_pixels(catalog, self.settings.pixels, image_column)
        self.training_labels = training_labels
        self.pin_memory = pin_memory
        self.rank, self.devices = rank, devices

    def get_train_val_loaders(
        self,
        number_images: float = DEFAULTS.number_images,
        val_fraction: float = DEFAULTS.val_fraction,
        split: Split | None = None,
    ) -> tuple[DataLoader, DataLoader]:
        """A training loader (shuffled, augmented, oversampled if asked) and a validation loader.

        Args:
            number_images: size of a random subset, in images or as a fraction below 1; 0 for all.
            val_fraction: fraction of the images for validation; the parts share no patient.
            split: an existing split, used instead.

        Raises:
            HilumError: a part would be empty, or more images are asked for than the catalog has.
        """
        seed = self.settings.training.seed
        if split is None:
            drawn = SplitSettings(number_images=number_images, val_fraction=val_fraction)
            split = make_split(self.catalog, drawn, seed)
        train = self.catalog.select_images(split.image_ids("train"))
        rows, weights = self._oversampled(train.labels())
        labels = None
        if self.training_labels is not None:
            labels = self.training_labels.loc[train.table.index, list(train.targets)].to_numpy(np.float32)
        augmentation = Augmentation(self.settings.augmentation)
        dataset = CheXpertDataset(train, *self.pixels.size, augmentation, seed, rows, labels, self.pixels)
        return self._loader(dataset, shuffle=True, weights=weights), self.get_loader(split.image_ids("val"))

    def get_loader(self, image_ids: np.ndarray | None = None) -> DataLoader:
        """One loader, in the catalog's order and without augmentation, for all images or those given."""
        catalog = self.catalog if image_ids is None else self.catalog.select_images(image_ids)
        return self._loader(CheXpertDataset(catalog, *self.pixels.size, pixels=self.pixels), shuffle=False)

    def _oversampled(self, labels: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The training part's rows with their repeats, or their weights; neither without oversampling."""
        min_count = self.settings.split.observation_min_count
        if min_count is None:
            return None, None
        if self.settings.split.sampling == "weights":
            return None, oversampling_weights(labels, min_count)
        return oversample(labels, min_count, self.settings.training.seed), None

    def _loader(
        self, dataset: CheXpertDataset, *, shuffle: bool, weights: np.ndarray | None = None
    ) -> DataLoader:
        training = self.settings.training
        workers = default_workers() if training.num_workers is None else training.num_workers
        if workers:
            # The workers, one thread each, are the parallelism. OpenCV's threads do not survive the fork, and
            # a worker that ends them waits for them forever; so this process, which has them, ends them.
            cv2.setNumThreads(0)
        place = {"rank": self.rank, "devices": self.devices}
        batches = EpochBatchSampler(
            len(dataset), training.batch_size, shuffle=shuffle, seed=training.seed, weights=weights, **place
        )
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_as_collated,
            persistent_workers=workers > 0,
            pin_memory=self.pin_memory,
            # Each pass, and with workers only the first, draws a number that nothing here uses. If it came
            # from the global generator, the network's dropout would depend on the number of workers.
            generator=torch.Generator(),
        )


def actual_labels(loader: DataLoader) -> pd.DataFrame:
    """The catalog's labels of a loader's items, indexed by `ImageID`, for Metrics; see `trained_labels`."""
    return _labels_of(loader, _dataset_of(loader).actual)


def trained_labels(loader: DataLoader) -> pd.DataFrame:
    """The labels to train on of a loader's items, indexed by `ImageID`."""
    return _labels_of(loader, _dataset_of(loader).labels)


def _labels_of(loader: DataLoader, labels: np.ndarray) -> pd.DataFrame:
    dataset = _dataset_of(loader)
    ids = pd.Index(dataset.ids[dataset.rows], name="ImageID")
    return pd.DataFrame(labels[dataset.rows], index=ids, columns=list(dataset.targets))


def _dataset_of(loader: DataLoader) -> CheXpertDataset:
    assert isinstance(loader.dataset, CheXpertDataset)
    return loader.dataset


def measure_pixels(loader: DataLoader, seed: int, sample: int = 1000) -> tuple[float, float]:
    """Mean and standard deviation of the pixels (0..1) of a loader's images, without augmentation.

    At most `sample` images, drawn at random, are read: with 1,000 radiographs the mean's standard error is about 0.003.

    Raises:
        HilumError: an image cannot be read, or all pixels are equal.
    """
    plain = _dataset_of(loader).without_augmentation()
    chosen = generator(seed, "pixels").permutation(len(plain))[:sample]
    histogram = np.zeros(256)
    for position in np.sort(chosen).tolist():
        histogram += np.bincount(plain[position]["img"].numpy().ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = histogram @ levels / histogram.sum()
    deviation = np.sqrt(histogram @ (levels - mean) ** 2 / histogram.sum())
    if deviation == 0:
        raise HilumError("All pixels of the training images have one value. Check the data set's images.")
    return float(mean), float(deviation)


def default_workers() -> int:
    """Half the cores that this process may use, at most 8: the model needs the others."""
    return min(8, cores() // 2)


def _as_collated(batch: Any) -> Any:
    return batch


def open_pixels(catalog: Catalog, settings: PixelSettings, column: str = "Image_Path") -> PixelSource:
    """The pixels of a run: its pack or shards (`settings.pack`), or the image files at the paths of `column`.

    Raises:
        HilumError: the pack is incomplete, or does not match the catalog or the settings.
    """
    if settings.pack is None:
        return RawImages(catalog, settings, column)
    opened = _open_pack(settings.pack)
    opened.check(catalog, settings)
    return opened


def without_left_out(pack: str | Path, catalog: Catalog) -> Catalog:
    """The catalog without the images that the pack, or its shards, left out as unreadable.

    If more images are missing than were left out, the pack has other images: the catalog is returned unchanged, and
    `open_pixels` then raises the error. An incomplete pack is a HilumError.
    """
    opened = _open_pack(pack)
    packed = catalog.table.index.isin(opened.ids)
    if not 0 < (~packed).sum() <= opened.meta.get("left_out", 0):
        return catalog
    return catalog.select_images(catalog.table.index[packed].to_numpy())


def _open_pack(pack: str | Path) -> Pack | Shards:
    is_shards = "://" in str(pack) or (Path(pack) / RECORD).is_file()
    return Shards(str(pack)) if is_shards else Pack(pack)
