"""Images and labels of a Catalog, one at a time or a batch at once."""

from copy import copy
from typing import NamedTuple, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from hilum.config import PixelSettings
from hilum.data.augmentation import Augmentation, augment
from hilum.data.pixels import PixelSource, RawImages
from hilum.errors import HilumError, ImageError
from hilum.sources.catalog import Catalog

#: Number of positions whose augmentation is drawn together; a multiple of four, see `Augmentation.draw`.
_DRAWN_TOGETHER = 8192


class Address(NamedTuple):
    """An item of an epoch: its row, and the epoch and the position that its augmentation depends on."""

    epoch: int
    position: int
    row: int


class CheXpertDataset(Dataset):
    """Radiographs with the labels of their targets, of any Catalog.

    An item is a dictionary: `id`, the int ImageID; `img`, uint8 of shape (1, height, width); `labels`,
    float32 of shape (targets,) with 1.0, 0.0 or NaN. A batch has the same keys and a leading dimension.

    Args:
        catalog: the images; its targets, in its order, are the labels.
        image_width: pixels, after resizing.
        image_height: pixels, after resizing.
        augmentation: changes of the images; None leaves them unchanged.
        seed: of the augmentation.
        rows: (items,) rows of the catalog, repeats allowed; None is each once.
        labels: float32 (images, targets), instead of the catalog's.
        pixels: gives the images, at the size above; None reads the catalog's image files.
    """

    def __init__(
        self,
        catalog: Catalog,
        image_width: int,
        image_height: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        rows: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        pixels: PixelSource | None = None,
    ):
        self.rows = np.arange(len(catalog)) if rows is None else rows
        self.ids = catalog.table.index.to_numpy(dtype=np.int64)
        size = PixelSettings(image_width=image_width, image_height=image_height)
        self.pixels: PixelSource = RawImages(catalog, size) if pixels is None else pixels
        self.actual = catalog.labels()
        self.labels = self.actual if labels is None else labels
        self.targets = catalog.targets
        assert self.pixels.size == (image_width, image_height)
        self.augmentation, self.seed = augmentation, seed
        self._drawn_block: tuple[int, int] | None = None
        self._drawn = np.empty((0, 7))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Address) -> dict:
        """The item at a position of epoch 0, or at an address.

        Raises:
            IndexError: the position does not exist.
            HilumError: the image is missing, damaged or truncated.
        """
        if not isinstance(item, Address):
            position = range(len(self))[item]
            item = Address(0, position, position)
        batch = self.__getitems__([item])
        return {"id": int(batch["id"][0]), "img": batch["img"][0], "labels": batch["labels"][0]}

    def __getitems__(self, addresses: list[Address]) -> dict[str, torch.Tensor]:
        """A whole batch: `id` int64 (B,), `img` uint8 (B, 1, height, width), `labels` float32 (B, targets)."""
        rows = self.rows[[address.row for address in addresses]]
        try:
            images = self.pixels.read(self.ids[rows])
        except ImageError as error:
            # A loader's worker can pass on only an exception that is built from one string.
            raise HilumError(str(error)) from None
        if self.augmentation:
            for image, address in zip(images, addresses, strict=True):
                drawn = self._draw(self.augmentation, address)
                if drawn[0]:
                    image[:] = augment(image, drawn)
        return {
            "id": torch.from_numpy(self.ids[rows]),
            "img": torch.from_numpy(images)[:, None],
            "labels": torch.from_numpy(self.labels[rows]),
        }

    def without_augmentation(self) -> Self:
        """The same items, not augmented."""
        plain = copy(self)
        plain.augmentation = None
        return plain

    def _draw(self, augmentation: Augmentation, address: Address) -> np.ndarray:
        # Positions follow each other, so one block is used for many batches; the draws of a whole epoch of
        # a large data set would fill each worker's memory.
        block = address.position // _DRAWN_TOGETHER
        if (address.epoch, block) != self._drawn_block:
            start = block * _DRAWN_TOGETHER
            self._drawn = augmentation.draw(self.seed, address.epoch, _DRAWN_TOGETHER, start)
            self._drawn_block = (address.epoch, block)
        return self._drawn[address.position % _DRAWN_TOGETHER]
