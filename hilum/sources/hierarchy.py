"""Folders of bounded size, for file systems that look names up slowly (Google Drive, say)."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from hilum.errors import HilumError

#: At most so many entries in a folder, unless another number is asked for.
FOLDER_SIZE = 50


def extensions_of(image_paths: Iterable[str]) -> list[str]:
    """How each file's name ends, ".jpg" where it does not say; a row of a stack has no file of its own.

    >>> extensions_of(["a/b.PNG", "a/c.dicom", "d", "e.png#window=0,4095"])
    ['.png', '.dicom', '.jpg', '.png']
    """
    return [PurePosixPath(path.partition("#")[0]).suffix.lower() or ".jpg" for path in image_paths]


def hierarchical_paths(
    image_ids: np.ndarray, folder_size: int = FOLDER_SIZE, extensions: Sequence[str] | None = None
) -> list[str]:
    """`data/d<i>/d<j>/.../i<ImageID>.jpg`, with no more than `folder_size` entries in any folder.

    The folders are the digits of the id in base `folder_size`, the last digit being the file's place
    in its folder. The number of levels follows from the largest id, and at least two are kept, as in
    the CheXpert project this layout comes from.

    Args:
        image_ids: (images,) whole numbers >= 0.
        folder_size: 2 or more.
        extensions: (images,) how each name ends, such as ".png"; None ends all with ".jpg".

    Raises:
        HilumError: a folder size below 2.

    >>> hierarchical_paths(np.array([0, 131_747]))
    ['data/d0/d0/d0/i0.jpg', 'data/d1/d2/d34/i131747.jpg']
    """
    if type(folder_size) is not int or folder_size < 2:
        raise HilumError(f"folder_size must be a whole number of entries, 2 or more; it is {folder_size!r}.")
    ids = np.asarray(image_ids, dtype=np.int64)
    levels = 2
    while folder_size ** (levels + 1) <= ids.max(initial=0):
        levels += 1
    digits = [ids // folder_size**power % folder_size for power in range(levels, 0, -1)]
    endings = [".jpg"] * len(ids) if extensions is None else extensions
    return [
        "data/" + "".join(f"d{digit}/" for digit in folders) + f"i{image_id}{ending}"
        for image_id, ending, *folders in zip(
            ids.tolist(), endings, *(column.tolist() for column in digits), strict=True
        )
    ]
