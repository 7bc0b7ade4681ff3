"""How fast phantom radiographs are drawn: images per second, including writing JPEGs and masks and starting workers.

Each run draws into an empty folder. The goal is 150 images/s at 128 x 128 on two cores.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from hilum.phantom import write_phantom


def images_per_second(images: int, size: int, seed: int) -> float:
    """Of one phantom, from the call to the finished tree."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_phantom(Path(folder) / "phantom", images=images, size=size, seed=seed)
        return images / (time.perf_counter() - start)


def main() -> None:
    """Draws a few phantoms and prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="40 images and 1 run")
    arguments = parser.parse_args()
    images, runs = (40, 1) if arguments.quick else (2400, 5)
    rates = [images_per_second(images, 128, seed) for seed in range(runs)]
    result = {
        "benchmark": "phantom",
        "images": images,
        "size": 128,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "images_per_second": {
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
            "runs": runs,
        },
    }
    print(
        f"{images:,} images of 128 x 128 with masks: {statistics.median(rates):.0f} images/s "
        f"({min(rates):.0f} to {max(rates):.0f} in {runs} runs, {result['cores']} cores)"
    )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
