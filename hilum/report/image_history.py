"""What a run gave for one image, epoch by epoch."""

import pandas as pd

from hilum.errors import HilumError
from hilum.run_folder import RunFolder


def image_history(folder: RunFolder, image_id: int, part: str = "val") -> pd.DataFrame:
    """The probabilities of an image in every epoch that is kept.

    Args:
        folder: of the run.
        image_id: of the image.
        part: that it is in; of an image that was drawn repeatedly, the first draw counts.

    Returns:
        float32, indexed by epoch, a column per target. Empty if the image is not in the part.

    Raises:
        HilumError: the predictions of an epoch are damaged.
    """
    wanted = [("part", "==", part), ("ImageID", "==", image_id)]
    rows = {}
    for epoch in folder.epochs():
        file = folder.path / "predictions" / f"epoch-{epoch:04d}.parquet"
        columns = [f"prob_{target}" for target in folder.targets]
        try:
            found = pd.read_parquet(file, columns=columns, filters=wanted)
        except (OSError, ValueError) as error:
            raise HilumError(f"{file}: the file is damaged: {error}.") from None
        if len(found):
            rows[epoch] = found.iloc[0].to_numpy(dtype="float32")
    history = pd.DataFrame.from_dict(rows, orient="index", columns=folder.targets, dtype="float32")
    return history.rename_axis("epoch")
