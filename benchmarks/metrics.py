"""Time to score one epoch: Hilum and the scikit-learn calls of the founding document.

The task is the document's full training part: 131,748 images by 12 targets. Both get the same labels (float32, 1 or 0),
probabilities (float32) and predictions. Both compute recall, precision, F1, ROC AUC and average precision per target,
and for all targets together accuracy, Hamming loss, and recall, precision and F1 averaged over images. Runs alternate,
so that a slow moment of the machine affects both.

Also measured: the time to append the batches of an epoch (batches of 64, read back once), as a fraction of the time to
train torchvision's DenseNet-121 on the same number of images, 224 x 224, on the same device.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from common import make_parser, summarize
from sklearn import metrics as reference
from torchvision.models import densenet121

from hilum.metrics import combined_scores, itemized_scores
from hilum.metrics.predictions import PendingEpoch
from hilum.targets import CHEXPERT_TARGETS

ITEMIZED = ("recall", "precision", "f1", "roc_auc", "avg_precision")
COMBINED = ("accuracy", "hamming_loss", "recall", "precision", "f1")


def synthetic_epoch(images: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Labels, probabilities and predictions of a simulated model; prevalences range from 3 to 40 %."""
    draw = np.random.default_rng(seed)
    prevalence = np.linspace(0.03, 0.4, len(CHEXPERT_TARGETS))
    labels = (draw.random((images, len(prevalence))) < prevalence).astype(np.float32)
    logits = draw.normal(-1.0, 1.2, labels.shape) + labels
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    frames = (labels, probabilities, (probabilities >= 0.5).astype(np.int8))
    return tuple(pd.DataFrame(values, columns=list(CHEXPERT_TARGETS)) for values in frames)


def with_scikit_learn(
    labels: pd.DataFrame, probabilities: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Scores with the calls of the document's Metrics class: (T, 5) itemized, (5,) combined."""
    itemized = [
        (
            reference.recall_score(labels[target], predictions[target], zero_division=0),
            reference.precision_score(labels[target], predictions[target], zero_division=0),
            reference.f1_score(labels[target], predictions[target], zero_division=0),
            reference.roc_auc_score(labels[target], probabilities[target]),
            reference.average_precision_score(labels[target], probabilities[target]),
        )
        for target in labels.columns
    ]
    combined = (
        reference.accuracy_score(labels, predictions),
        reference.hamming_loss(labels, predictions),
        reference.recall_score(labels, predictions, average="samples", zero_division=0),
        reference.precision_score(labels, predictions, average="samples", zero_division=0),
        reference.f1_score(labels, predictions, average="samples", zero_division=0),
    )
    return np.array(itemized), np.array(combined)


def with_hilum(
    labels: pd.DataFrame, probabilities: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """The same scores with Hilum: (T, 5) itemized, (5,) combined."""
    itemized = itemized_scores(labels, probabilities, list(labels.columns), [0.5] * labels.shape[1])
    combined = combined_scores(labels, predictions)
    return itemized[list(ITEMIZED)].to_numpy(), np.array([combined[name] for name in COMBINED])


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds_of_appending(images: int, device: torch.device) -> float:
    """Seconds to append an epoch of logits batch by batch and to read it back."""
    targets = len(CHEXPERT_TARGETS)
    ids = torch.arange(images, device=device).split(64)
    outputs = torch.zeros(images, targets, device=device).split(64)

    def epoch() -> None:
        pending = PendingEpoch("train", targets)
        for batch_ids, batch_outputs in zip(ids, outputs, strict=True):
            pending.append(batch_ids, batch_outputs)
        pending.read()

    epoch()
    return seconds(epoch)


def seconds_of_training(images: int, size: int, device: torch.device) -> float:
    """Seconds to train DenseNet-121 on this number of images, scaled from a few batches."""
    batch = 64 if device.type == "cuda" else 4
    net = densenet121(num_classes=len(CHEXPERT_TARGETS)).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters())
    pixels = torch.zeros(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, len(CHEXPERT_TARGETS), device=device)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(net(pixels), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    return min(seconds(step) for _ in range(3)) / batch * images


def measure(images: int, runs: int, size: int = 224) -> dict[str, object]:
    """Times both `runs` times in turn, after one warm-up run that compares the results."""
    epoch = synthetic_epoch(images)
    ours, theirs = with_hilum(*epoch), with_scikit_learn(*epoch)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    times = [
        (seconds(lambda: with_scikit_learn(*epoch)), seconds(lambda: with_hilum(*epoch))) for _ in range(runs)
    ]
    ratios = [theirs / ours for theirs, ours in times]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = seconds_of_training(images, size, device)
    shares = [seconds_of_appending(images, device) / training for _ in range(runs)]
    return {
        "benchmark": "metrics",
        "images": images,
        "targets": len(CHEXPERT_TARGETS),
        "scikit_learn_seconds": statistics.median(theirs for theirs, _ in times),
        "hilum_seconds": statistics.median(ours for _, ours in times),
        "largest_difference": difference,
        "speedup": summarize(ratios),
        "device": device.type,
        "appending_share_of_densenet121_epoch": summarize(shares),
    }


def main() -> None:
    """Runs the comparison and prints the result."""
    parser = make_parser(__doc__, quick="5,000 images and 3 runs")
    parser.add_argument("--runs", type=int, default=None, help="timed runs of each (default: 9)")
    arguments = parser.parse_args()
    images, size = (5_000, 64) if arguments.quick else (131_748, 224)
    result = measure(images, arguments.runs or (3 if arguments.quick else 9), size)
    speedup = result["speedup"]
    print(
        f"{result['images']:,} images x {result['targets']} targets: "
        f"scikit-learn {result['scikit_learn_seconds']:.3f} s, Hilum {result['hilum_seconds']:.3f} s, "
        f"{speedup['median']:.1f} times as fast ({speedup['min']:.1f} to {speedup['max']:.1f} in "
        f"{speedup['runs']} runs); largest difference {result['largest_difference']:.1e}"
    )
    share = result["appending_share_of_densenet121_epoch"]
    print(
        f"appending an epoch takes {share['median']:.4%} of a DenseNet-121 epoch on {result['device']} "
        f"({share['min']:.4%} to {share['max']:.4%} in {share['runs']} runs)"
    )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
