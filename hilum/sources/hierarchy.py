"""Folders of bounded size, for file systems that look names up slowly (Google Drive, say)."""

import numpy as np

#: At most so many entries in a folder, unless another number is asked for.
FOLDER_SIZE = 50


def hierarchical_paths(image_ids: np.ndarray, folder_size: int = FOLDER_SIZE) -> list[str]:
    """`data/d<i>/d<j>/.../i<ImageID>.jpg`, with no more than `folder_size` entries in any folder.

    The folders are the digits of the id in base `folder_size`, the last digit being the file's place
    in its folder. The number of levels follows from the largest id, and at least two are kept, as in
    the CheXpert project this layout comes from.

    Args:
        image_ids: (images,) whole numbers >= 0.
        folder_size: 2 or more.

    >>> hierarchical_paths(np.array([0, 131_747]))
    ['data/d0/d0/d0/i0.jpg', 'data/d1/d2/d34/i131747.jpg']
    """
    ids = np.asarray(image_ids, dtype=np.int64)
    levels = 2
    while folder_size ** (levels + 1) <= ids.max(initial=0):
        levels += 1
    digits = [ids // folder_size**power % folder_size for power in range(levels, 0, -1)]
    return [
        "data/" + "".join(f"d{digit}/" for digit in folders) + f"i{image_id}.jpg"
        for image_id, *folders in zip(ids.tolist(), *(column.tolist() for column in digits), strict=True)
    ]
