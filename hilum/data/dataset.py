"""Images and labels of a Catalog, one at a time or a batch at once."""

from copy import copy
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from hilum.data.augmentation import Augmentation, augment
from hilum.sources.catalog import Catalog
from hilum.sources.images import read_gray


class Address(NamedTuple):
    """Which image, and for which place of which epoch: all that its augmentation depends on."""

    epoch: int
    position: int
    row: int


class CheXpertDataset(Dataset):
    """Radiographs with the labels of their targets; any Catalog will do, not only CheXpert's.

    An item is a dictionary: `id`, the int ImageID; `img`, uint8 of shape (1, height, width); `labels`,
    float32 of shape (targets,) with 1.0, 0.0 or NaN. A batch has the same keys and a leading dimension.

    Args:
        catalog: which images; its targets, in its order, are the labels.
        image_width: pixels, after resizing.
        image_height: pixels, after resizing.
        augmentation: how to change the images; None leaves them as they are.
        seed: of the augmentation.
        rows: (items,) rows of the catalog, repeats allowed; None takes each once.
    """

    def __init__(
        self,
        catalog: Catalog,
        image_width: int,
        image_height: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        rows: np.ndarray | None = None,
    ):
        self.rows = np.arange(len(catalog)) if rows is None else rows
        self.ids = catalog.table.index.to_numpy(dtype=np.int64)
        self.paths = np.array(catalog.image_paths(), dtype=object)
        self.labels = catalog.labels()
        self.targets = catalog.targets
        self.size = (image_width, image_height)
        self.augmentation = augmentation
        self.seed = seed
        self._drawn_epoch: int | None = None
        self._drawn = np.empty((0, 7))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Address) -> dict:
        """The item at a position of epoch 0, or at an address.

        Raises:
            IndexError: there is no such position.
            HilumError: the image is missing, damaged or truncated; it is named.
        """
        if not isinstance(item, Address):
            position = range(len(self))[item]
            item = Address(0, position, position)
        batch = self.__getitems__([item])
        return {"id": int(batch["id"][0]), "img": batch["img"][0], "labels": batch["labels"][0]}

    def __getitems__(self, addresses: list[Address]) -> dict[str, torch.Tensor]:
        """A whole batch: `id` int64 (B,), `img` uint8 (B, 1, height, width), `labels` float32 (B, targets)."""
        rows = self.rows[[address.row for address in addresses]]
        width, height = self.size
        images = np.empty((len(rows), 1, height, width), dtype=np.uint8)
        for image, row, address in zip(images, rows, addresses, strict=True):
            pixels = resize(read_gray(self.paths[row]), width, height)
            image[0] = augment(pixels, self._changes(address)) if self.augmentation else pixels
        return {
            "id": torch.from_numpy(self.ids[rows]),
            "img": torch.from_numpy(images),
            "labels": torch.from_numpy(self.labels[rows]),
        }

    def without_augmentation(self) -> "CheXpertDataset":
        """The same items as they are on disk."""
        plain = copy(self)
        plain.augmentation = None
        return plain

    def _changes(self, address: Address) -> np.ndarray:
        if address.epoch != self._drawn_epoch:
            self._drawn = self.augmentation.draw(self.seed, address.epoch, len(self))
            self._drawn_epoch = address.epoch
        return self._drawn[address.position]


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Stretches an image to a size: averaging areas when it shrinks, bilinear when it grows."""
    if pixels.shape == (height, width):
        return pixels
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
