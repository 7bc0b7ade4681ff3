"""Quality checks on real frontal radiographs, and the agreement of a bundle with its run.

The images are split into two halves; each is checked with the reference of the other half, at 64 x 64. Correct images
should pass; negatives and rotated images should be detected. The lateral images are drawings, because no real ones are
available. A run of one epoch is then exported, and PyTorch's probabilities are compared with ONNX Runtime's for all
images.

    python benchmarks/reading_checks.py --root path/to/nih-sample --json > benchmarks/results/reading_checks.json
"""

import argparse
import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.inference.export import export_bundle
from hilum.inference.quality_checks import check_quality, measure_reference
from hilum.inference.reader import open_reader
from hilum.phantom import write_phantom
from hilum.phantom.drawing import ImagePlan, draw_image
from hilum.sources.images import read_gray
from hilum.training.run import StandardTraining

SIDE = 64
PREPROCESSING = {"width": SIDE, "height": SIDE, "fit": "stretch", "interpolation": "area", "views": {"PA": 1}}


def lateral_drawings(count: int) -> list[np.ndarray]:
    """uint8 (256, 256) each."""
    return [draw_image(ImagePlan(0, patient, 1, 1, False, 60, "", {}), 256)[0] for patient in range(count)]


def noise(count: int) -> list[np.ndarray]:
    """uint8 (256, 256) each: every pixel drawn by itself."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (256, 256), dtype=np.uint8) for _ in range(count)]


def judged(images: Sequence[np.ndarray], others: int) -> dict[str, dict[str, int]]:
    """How often each code is given, by what was done to the image; `images` is how many there were."""
    halves = images[::2], images[1::2]
    strange = {"laterals_drawn": lateral_drawings(others), "noise": noise(others)}
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "right": lambda image: image,
        "negative": lambda image: 255 - image,
        "on_its_side": lambda image: np.ascontiguousarray(np.rot90(image)),
        "upside_down": lambda image: np.ascontiguousarray(np.rot90(image, 2)),
    }
    counts: dict[str, dict[str, int]] = {name: {"images": 0} for name in (*changes, *strange)}
    for known, judge in (halves, halves[::-1]):
        preprocessing = PREPROCESSING | {"reference": measure_reference(known, PREPROCESSING)}
        for name, change in changes.items():
            _count(counts[name], [change(image) for image in judge], preprocessing)
    for name, pictures in strange.items():
        _count(
            counts[name], pictures, PREPROCESSING | {"reference": measure_reference(halves[0], PREPROCESSING)}
        )
    return counts


def _count(into: dict[str, int], images: Sequence[np.ndarray], preprocessing: dict[str, Any]) -> None:
    from hilum.data.resize import resize

    for image in images:
        into["images"] += 1
        prepared = resize(image, SIDE, SIDE, "stretch", "area")
        for flag in check_quality(image, prepared, "PA", {}, preprocessing):
            into[flag.code] = into.get(flag.code, 0) + 1


def largest_difference(source: str, root: Path, files: Sequence[Path], scratch: Path) -> float:
    """Of a probability, between a run of one epoch and its bundle."""
    with contextlib.redirect_stdout(sys.stderr):
        training = StandardTraining(
            source=source,
            root=root,
            official_split=False,
            image_width=SIDE,
            image_height=SIDE,
            num_epochs=1,
            save_path=scratch,
            name="checks",
            quiet=True,
            epoch_args="none",
        )
        training.train()
        export_bundle(training.folder.path, scratch / "bundle")
    readers = [open_reader(path, device="cpu") for path in (training.folder.path, scratch / "bundle")]
    largest = 0.0
    for first in range(0, len(files), 32):
        images = [readers[0].prepare(file.read_bytes(), file.name) for file in files[first : first + 32]]
        one, other = (reader.probabilities(images) for reader in readers)
        largest = max(largest, float(np.abs(one - other).max()))
    return largest


def main() -> None:
    """Counts, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="a folder in NIH ChestX-ray14's layout")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    parser.add_argument("--quick", action="store_true", help="on 60 drawings, for the tests")
    given = parser.parse_args()
    if given.root is None and not given.quick:
        parser.error("--root is missing: give the folder of the radiographs")
    warnings.simplefilter("ignore")  # so few images lack findings
    with tempfile.TemporaryDirectory() as scratch:
        root = given.root
        if given.quick:
            root = Path(scratch) / "phantom"
            write_phantom(root, images=60, size=SIDE, workers=1)
        files = sorted(root.rglob("*frontal.jpg") if given.quick else (root / "images").glob("*.png"))
        counts = judged([read_gray(file) for file in files], 10 if given.quick else 100)
        source = "phantom" if given.quick else "nih"
        largest = largest_difference(source, root, files, Path(scratch))
    record = {
        "benchmark": "reading_checks",
        "command": "python benchmarks/reading_checks.py --root path/to/nih-sample --json",
        "size": SIDE,
        "images": len(files),
        "counts": counts,
        "largest_probability_difference": largest,
    }
    for name, found in counts.items():
        codes = ", ".join(f"{code} {count}" for code, count in found.items() if code != "images")
        print(f"{name:16} of {found['images']}: {codes or 'no flag'}")
    print(
        f"PyTorch and ONNX Runtime: a probability differs by {largest:.2g} at most, over {len(files)} images"
    )
    if given.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
