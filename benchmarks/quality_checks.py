"""Quality checks on real frontal radiographs, and the agreement of a bundle with its run.

The images are split into two halves. Each half is checked with the reference of the other half, at 64 x 64. Correct
images should pass; negatives and rotated images should be detected. The lateral images are drawings, because no real
lateral images are available. Then a run of one epoch is exported, and the probabilities of PyTorch and ONNX Runtime are
compared for all images.

    python benchmarks/quality_checks.py --root path/to/nih-sample --json > benchmarks/results/quality_checks.json
"""

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import make_parser

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
    """Drawn lateral images, uint8 (256, 256) each."""
    return [draw_image(ImagePlan(0, patient, 1, 1, False, 60, "", {}), 256)[0] for patient in range(count)]


def noise(count: int) -> list[np.ndarray]:
    """Images of independent random pixels, uint8 (256, 256) each."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (256, 256), dtype=np.uint8) for _ in range(count)]


def count_flags(images: Sequence[np.ndarray], others: int) -> dict[str, dict[str, int]]:
    """Number of images with each flag, by the change made to the images; `images` is the number of images.

    Args:
        images: correct images, uint8.
        others: number of drawn lateral images and of noise images.
    """
    halves = images[::2], images[1::2]
    other_images = {"drawn_laterals": lateral_drawings(others), "noise": noise(others)}
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "correct": lambda image: image,
        "negative": lambda image: 255 - image,
        "rotated_90": lambda image: np.ascontiguousarray(np.rot90(image)),
        "rotated_180": lambda image: np.ascontiguousarray(np.rot90(image, 2)),
    }
    counts: dict[str, dict[str, int]] = {name: {"images": 0} for name in (*changes, *other_images)}
    for reference, checked in (halves, halves[::-1]):
        preprocessing = PREPROCESSING | {"reference": measure_reference(reference, PREPROCESSING)}
        for name, change in changes.items():
            _add_flags(counts[name], [change(image) for image in checked], preprocessing)
    for name, pixels in other_images.items():
        _add_flags(
            counts[name], pixels, PREPROCESSING | {"reference": measure_reference(halves[0], PREPROCESSING)}
        )
    return counts


def _add_flags(counts: dict[str, int], images: Sequence[np.ndarray], preprocessing: dict[str, Any]) -> None:
    from hilum.data.resize import resize

    for image in images:
        counts["images"] += 1
        prepared = resize(image, SIDE, SIDE, "stretch", "area")
        for flag in check_quality(image, prepared, "PA", {}, preprocessing):
            counts[flag.code] = counts.get(flag.code, 0) + 1


def max_probability_difference(source: str, root: Path, files: Sequence[Path], scratch: Path) -> float:
    """The largest difference of a probability between a run of one epoch and its bundle."""
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
    """Counts flags, compares probabilities and prints both."""
    parser = make_parser(__doc__, quick="60 phantom images, for the tests")
    parser.add_argument("--root", type=Path, help="a folder in NIH ChestX-ray14's layout")
    arguments = parser.parse_args()
    if arguments.root is None and not arguments.quick:
        parser.error("--root is missing: give the folder of the radiographs")
    warnings.simplefilter("ignore")  # few images lack some findings
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.root
        if arguments.quick:
            root = Path(scratch) / "phantom"
            write_phantom(root, images=60, size=SIDE, workers=1)
        files = sorted(root.rglob("*frontal.jpg") if arguments.quick else (root / "images").glob("*.png"))
        counts = count_flags([read_gray(file) for file in files], 10 if arguments.quick else 100)
        source = "phantom" if arguments.quick else "nih"
        largest = max_probability_difference(source, root, files, Path(scratch))
    record = {
        "benchmark": "quality_checks",
        "command": "python benchmarks/quality_checks.py --root path/to/nih-sample --json",
        "size": SIDE,
        "images": len(files),
        "counts": counts,
        "largest_probability_difference": largest,
    }
    for name, found in counts.items():
        codes = ", ".join(f"{code} {count}" for code, count in found.items() if code != "images")
        print(f"{name:16} of {found['images']}: {codes or 'no flag'}")
    print(
        f"PyTorch and ONNX Runtime: largest difference of a probability {largest:.2g}, over {len(files)} images"
    )
    if arguments.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
