"""Phantom radiographs per second, including writing JPEGs and masks and starting workers.

Each run writes to an empty folder. The goal is 150 images/s at 128 x 128 on two cores.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

from common import make_parser, summarize

from hilum.machine import cores
from hilum.phantom import write_phantom


def images_per_second(images: int, size: int, seed: int) -> float:
    """Images per second of one phantom, from the call to the last file."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_phantom(Path(folder) / "phantom", images=images, size=size, seed=seed)
        return images / (time.perf_counter() - start)


def main() -> None:
    """Draws a few phantoms and prints the images per second."""
    parser = make_parser(__doc__, quick="40 images and 1 run")
    arguments = parser.parse_args()
    images, runs = (40, 1) if arguments.quick else (2400, 5)
    rates = [images_per_second(images, 128, seed) for seed in range(runs)]
    result = {
        "benchmark": "phantom",
        "images": images,
        "size": 128,
        "cores": cores(),
        "images_per_second": summarize(rates),
    }
    print(
        f"{images:,} images of 128 x 128 with masks: {statistics.median(rates):.0f} images/s "
        f"({min(rates):.0f} to {max(rates):.0f} in {runs} runs, {result['cores']} cores)"
    )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
