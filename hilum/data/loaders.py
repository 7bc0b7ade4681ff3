"""Batches in an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler

from hilum.config import DEFAULTS, RunConfig
from hilum.data.augmentation import Augmentation
from hilum.data.dataset import Address, CheXpertDataset
from hilum.data.oversampling import oversample, oversampling_weights
from hilum.data.pack import Pack
from hilum.data.pixels import PixelSource, RawImages
from hilum.data.resize import Fit, Interpolation
from hilum.data.shards import RECORD, Shards
from hilum.data.split import Split, make_split
from hilum.errors import HilumError
from hilum.machine import cores
from hilum.randomness import generator
from hilum.sources.catalog import Catalog


class EpochBatchSampler(Sampler[list[Address]]):
    """Batches of addresses; shuffled anew for each epoch, the same for the same seed and epoch.

    With weights, an epoch's images are drawn with replacement, each with a chance in proportion to its
    weight; the epoch keeps its length. Images left over at the end that are too few for every device to
    have two of join the batch before them: batch normalization cannot train on one image.

    Several devices share an epoch: its order and its batches are those of one device. Of a batch to learn
    from each device takes a part, the parts' sizes differing by one at most; of the batches to validate
    on, which need no exchange, each takes whole ones in turn, so that an image's output is computed among
    the same neighbours as on one device and is the same to the last bit.

    Args:
        count: images of the epoch.
        batch_size: images of a batch, over all devices together.
        shuffle: whether the batches are to learn from.
        seed: of the order.
        weights: float64 (count,), of drawing; None shuffles.
        device: which of the devices this is, from 0.
        devices: how many there are.

    Raises:
        HilumError: a batch has not an image for each device.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        weights: np.ndarray | None = None,
        device: int = 0,
        devices: int = 1,
    ):
        if shuffle and min(batch_size, count) < devices:
            raise HilumError(
                f"batch_size {batch_size}, {count:,} training images: {devices} devices share each batch, and "
                "every one needs an image. Use a larger batch_size or fewer devices."
            )
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.weights = weights
        self.device, self.devices = device, devices
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is of, counted from 1."""
        self.epoch = epoch

    @property
    def images(self) -> int:
        """How many images of an epoch this device has."""
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
        """The first and the last place (exclusive) in the epoch of each batch of this device."""
        starts = list(range(0, self.count, self.batch_size))
        least = self.devices * min(2, self.batch_size // self.devices) if self.shuffle else 2
        if len(starts) > 1 and self.batch_size > 1 and self.count - starts[-1] < least:
            starts.pop()
        batches = list(zip(starts, [*starts[1:], self.count], strict=True))
        if not self.shuffle:
            return batches[self.device :: self.devices]
        return [
            (
                start + (end - start) * self.device // self.devices,
                start + (end - start) * (self.device + 1) // self.devices,
            )
            for start, end in batches
        ]


class Loaders:
    """Makes the data loaders of a run from a catalog.

    Batches are dictionaries with `id` (int64), `img` (uint8, (B, 1, height, width)) and `labels`
    (float32, (B, targets)). The defaults are those of `RunConfig`; see there for each setting.

    Args:
        catalog: the images; `target_columns` selects from its targets.
        batch_size: images in a batch.
        image_width: pixels.
        image_height: pixels.
        pack: the folder of a pack, or the URL of its shards, to read instead of image files.
        fit: how an image comes to its size, see `hilum.data.resize.resize`.
        interpolation: of the resizing, see there.
        image_column: which path image files are read by: "Image_Path", or "Hierarchical_Path" for the
            catalog of `hilum.data.folder_copy.open_hierarchy`.
        affine_degrees: of the augmentation, as the next five.
        translate_fraction: share of the width and height.
        shear_degrees: along the rows.
        brightness_jitter: factor within 1 +- this.
        contrast_jitter: factor within 1 +- this.
        aug_fraction: share of the training images that are augmented.
        observation_min_count: oversample the training part so that each target vector occurs so often.
        sampling: "rows" oversamples by repeating rows, which makes the epoch longer; "weights" by drawing
            each epoch's images with chances that give the same expected shares, in the usual length.
        training_labels: labels to train on where they differ from the catalog's (see
            `hilum.data.label_policies`): indexed by ImageID, one column per target.
        target_columns: names, aliases or a named set; None for all.
        num_workers: processes that read images; 0 reads in this one, None takes half the cores.
        seed: of the order, the split, the oversampling and the augmentation.
        pin_memory: page-locked batches, for a GPU.
        device: which of several devices that train together these loaders are for, from 0.
        devices: how many there are; `batch_size` is over all of them.

    Raises:
        HilumError: a value that a run would refuse as well, an unknown target, or a pack that does not
            match the catalog or the settings.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        batch_size: int = DEFAULTS.batch_size,
        image_width: int = DEFAULTS.image_width,
        image_height: int = DEFAULTS.image_height,
        pack: str | Path | None = DEFAULTS.pack,
        fit: str = DEFAULTS.fit,
        interpolation: str = DEFAULTS.interpolation,
        image_column: str = "Image_Path",
        affine_degrees: float = DEFAULTS.affine_degrees,
        translate_fraction: float = DEFAULTS.translate_fraction,
        shear_degrees: float = DEFAULTS.shear_degrees,
        brightness_jitter: float = DEFAULTS.brightness_jitter,
        contrast_jitter: float = DEFAULTS.contrast_jitter,
        aug_fraction: float = DEFAULTS.aug_fraction,
        observation_min_count: int | None = DEFAULTS.observation_min_count,
        sampling: str = DEFAULTS.sampling,
        training_labels: pd.DataFrame | None = None,
        target_columns: str | tuple[str, ...] | None = DEFAULTS.target_columns,
        num_workers: int | None = DEFAULTS.num_workers,
        seed: int = DEFAULTS.seed,
        pin_memory: bool = False,
        device: int = 0,
        devices: int = 1,
    ):
        RunConfig(
            batch_size=batch_size,
            image_width=image_width,
            image_height=image_height,
            fit=fit,
            interpolation=interpolation,
            affine_degrees=affine_degrees,
            translate_fraction=translate_fraction,
            shear_degrees=shear_degrees,
            brightness_jitter=brightness_jitter,
            contrast_jitter=contrast_jitter,
            aug_fraction=aug_fraction,
            observation_min_count=observation_min_count,
            sampling=sampling,
            num_workers=num_workers,
            seed=seed,
        )
        self.catalog = catalog.select_targets(target_columns)
        self.batch_size = batch_size
        self.size = (image_width, image_height)
        self.pixels = open_pixels(pack, catalog, *self.size, fit, interpolation, image_column)
        self.augmentation = Augmentation(
            percent=aug_fraction,
            affine_degrees=affine_degrees,
            translate_fraction=translate_fraction,
            shear_degrees=shear_degrees,
            brightness=brightness_jitter,
            contrast=contrast_jitter,
        )
        self.observation_min_count = observation_min_count
        self.sampling = sampling
        self.training_labels = training_labels
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.seed = seed
        self.pin_memory = pin_memory
        self.device, self.devices = device, devices

    def get_train_val_loaders(
        self,
        number_images: float = DEFAULTS.number_images,
        val_fraction: float = DEFAULTS.val_fraction,
        split: Split | None = None,
    ) -> tuple[DataLoader, DataLoader]:
        """A training loader (shuffled, augmented, oversampled if asked) and a validation loader.

        Args:
            number_images: a random subset of so many images, or a fraction below 1; 0 for all.
            val_fraction: share of the images that validate; the parts share no patient.
            split: a split made before, used instead.

        Raises:
            HilumError: a part would be empty, or more images are asked for than there are.
        """
        split = split or make_split(
            self.catalog,
            number_images=number_images,
            val_fraction=val_fraction,
            test_fraction=0,
            unit="patient",
            seed=self.seed,
            official=True,
        )
        train = self.catalog.select_images(split.image_ids("train"))
        rows, weights = self._oversampled(train.labels())
        labels = None
        if self.training_labels is not None:
            labels = self.training_labels.loc[train.table.index, list(train.targets)].to_numpy(np.float32)
        dataset = CheXpertDataset(train, *self.size, self.augmentation, self.seed, rows, labels, self.pixels)
        return (
            self._loader(dataset, shuffle=True, weights=weights),
            self.get_loader(split.image_ids("val")),
        )

    def _oversampled(self, labels: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The training part's rows with their repeats, or their weights; neither without oversampling."""
        if self.observation_min_count is None:
            return None, None
        if self.sampling == "weights":
            return None, oversampling_weights(labels, self.observation_min_count)
        return oversample(labels, self.observation_min_count, self.seed), None

    def get_loader(self, image_ids: np.ndarray | None = None) -> DataLoader:
        """One loader, in the catalog's order and without augmentation, for all images or those given."""
        catalog = self.catalog if image_ids is None else self.catalog.select_images(image_ids)
        return self._loader(CheXpertDataset(catalog, *self.size, pixels=self.pixels), shuffle=False)

    def _loader(
        self, dataset: CheXpertDataset, *, shuffle: bool, weights: np.ndarray | None = None
    ) -> DataLoader:
        if self.num_workers:
            # The workers, one thread each, are the parallelism. OpenCV's threads do not survive the fork, and
            # a worker that ends them waits for them forever; so they end here, in the process that has them.
            cv2.setNumThreads(0)
        return DataLoader(
            dataset,
            batch_sampler=EpochBatchSampler(
                len(dataset),
                self.batch_size,
                shuffle=shuffle,
                seed=self.seed,
                weights=weights,
                device=self.device,
                devices=self.devices,
            ),
            num_workers=self.num_workers,
            collate_fn=_as_collated,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            # Each pass, and with workers only the first, draws a number that nothing here uses. Not from
            # the global generator: the network's dropout would then depend on the number of workers.
            generator=torch.Generator(),
        )


def actual_labels(loader: DataLoader) -> pd.DataFrame:
    """The catalog's labels of a loader's items, indexed by `ImageID`: what Metrics compares with.

    What is trained on may differ from them; see `training_labels` of `Loaders`.
    """
    return _labels_of(loader, loader.dataset.actual)


def trained_labels(loader: DataLoader) -> pd.DataFrame:
    """The labels that a loader delivers, one row per item, indexed by `ImageID`."""
    return _labels_of(loader, loader.dataset.labels)


def _labels_of(loader: DataLoader, labels: np.ndarray) -> pd.DataFrame:
    dataset: CheXpertDataset = loader.dataset
    return pd.DataFrame(
        labels[dataset.rows],
        index=pd.Index(dataset.ids[dataset.rows], name="ImageID"),
        columns=dataset.targets,
    )


def measure_pixels(loader: DataLoader, seed: int, sample: int = 1000) -> tuple[float, float]:
    """Mean and standard deviation of the pixels (0..1) of a loader's images, without augmentation.

    At most `sample` images, drawn at random, are read: among 1,000 radiographs the mean's standard
    error is some 0.003.

    Raises:
        HilumError: an image cannot be read, or all pixels are alike.
    """
    plain = loader.dataset.without_augmentation()
    chosen = generator(seed, "pixels").permutation(len(plain))[:sample]
    histogram = np.zeros(256)
    for position in np.sort(chosen).tolist():
        histogram += np.bincount(plain[position]["img"].numpy().ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = histogram @ levels / histogram.sum()
    deviation = np.sqrt(histogram @ (levels - mean) ** 2 / histogram.sum())
    if deviation == 0:
        raise HilumError(
            "All pixels of the training images have one value. Check the images of the data set."
        )
    return float(mean), float(deviation)


def default_workers() -> int:
    """Half the cores this process may use, at most 8: the model needs the others."""
    return min(8, cores() // 2)


def _as_collated(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch


def open_pixels(
    pack: str | Path | None,
    catalog: Catalog,
    width: int,
    height: int,
    fit: Fit = "stretch",
    interpolation: Interpolation = "auto",
    column: str = "Image_Path",
) -> PixelSource:
    """The pixels of a run: a pack or shards if there are any, else the image files.

    Args:
        pack: None for the image files; the folder of a pack; the folder or URL (`s3://bucket/name`) of shards.
        catalog: the images that will be read.
        width: pixels.
        height: pixels.
        fit: see `resize`.
        interpolation: see `resize`.
        column: the path by which image files are read.

    Raises:
        HilumError: the pack is half-written, or does not match the catalog or the settings.
    """
    if pack is None:
        return RawImages(catalog, width, height, fit, interpolation, column)
    opened = _open_pack(pack)
    opened.check(catalog, width, height, fit, interpolation)
    return opened


def without_left_out(pack: str | Path, catalog: Catalog) -> Catalog:
    """The catalog without the images that the pack, or its shards, left out as unreadable.

    If more images are missing than were left out, the catalog is given back as it is: then the pack
    is of other images, which `open_pixels` says.

    Raises:
        HilumError: there is no whole pack.
    """
    opened = _open_pack(pack)
    there = catalog.table.index.isin(opened.ids)
    if not 0 < (~there).sum() <= opened.meta.get("left_out", 0):
        return catalog
    return catalog.select_images(catalog.table.index[there])


def _open_pack(pack: str | Path) -> Pack | Shards:
    of_shards = "://" in str(pack) or (Path(pack) / RECORD).is_file()
    return Shards(str(pack)) if of_shards else Pack(pack)
