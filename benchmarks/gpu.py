"""Training on a GPU: images per second of Hilum, of the founding document's method and of timm at its best settings.

ResNet-50 and DenseNet-121 are trained on 12 targets of phantom radiographs, 320 x 320; a fifth is augmented.

- hilum: Hilum's training loop with metrics; 8-bit batches from a pack, normalized on the device, bf16, channels_last,
  fused Adam.
- document: the founding document's method: JPEG files read by PIL, torchvision's transforms, float32 batches in a
  plain DataLoader; fp32, NCHW, torch's default Adam.
- timm: timm's models, optimizer factory and PrefetchLoader as its train.py uses them at its best settings:
  8-bit batches, normalized on a side stream, bf16, channels_last, fused Adam.

All have the same number of loader processes and take turns. Each pipeline also trains repeatedly on one batch that is
already on the device. The fraction of time that this saves is the time that the device waits for data.
`--device cpu --quick` runs everything at a small size, as a check.
"""

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from common import make_parser, summarize
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from hilum.data.loaders import Loaders, actual_labels
from hilum.data.pack_builder import build_pack
from hilum.machine import cores
from hilum.metrics import Metrics
from hilum.metrics.history import UndefinedScoreWarning
from hilum.models import Normalized
from hilum.phantom import write_phantom
from hilum.sources.catalog import Catalog
from hilum.sources.chexpert import CleanMetaData
from hilum.training.distributed import make_fabric
from hilum.training.loop import TrainingLoop
from hilum.training.losses import MaskedBCEWithLogitsLoss

NETS = ("resnet50", "densenet121")
MEAN, SD, LEARNING_RATE, AUGMENTED = 0.5, 0.25, 1e-4, 0.2
AFFINE = {"degrees": 5, "translate": (0.05, 0.05), "shear": 5}
JITTER = {"brightness": 0.2, "contrast": 0.1}

#: Trains one epoch on these batches.
Epoch = Callable[[Iterable], None]


def network(name: str, targets: int) -> nn.Module:
    """A network of torchvision, for one channel."""
    net = getattr(models, name)(num_classes=targets)
    first = "conv1" if name == "resnet50" else "features.conv0"
    old = net.get_submodule(first)
    net.set_submodule(
        first,
        nn.Conv2d(1, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False),
    )
    return net


class InBfloat16(nn.Module):
    """A network in bf16 mixed precision, with outputs in fp32."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.net(images).float()


class ImageFiles(Dataset):
    """Image files read by PIL, with torchvision's transforms: float32 as in the document, or 8-bit as in timm."""

    def __init__(self, catalog: Catalog, rows: np.ndarray, size: int, *, as_bytes: bool):
        paths, labels = catalog.image_paths(), torch.tensor(catalog.labels())
        self.items = [(paths[row], labels[row]) for row in rows]
        end = (
            [transforms.PILToTensor()]
            if as_bytes
            else [transforms.ToTensor(), transforms.Normalize([MEAN], [SD])]
        )
        augmentation = [transforms.RandomAffine(**AFFINE), transforms.ColorJitter(**JITTER)]
        self.transform = transforms.Compose(
            [transforms.Resize((size, size)), transforms.RandomApply(augmentation, p=AUGMENTED), *end]
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, labels = self.items[item]
        with Image.open(path) as image:
            return self.transform(image.convert("L")), labels


class OneBatch:
    """One batch on the device, repeated."""

    batch_sampler = None

    def __init__(self, batch: object, times: int):
        self.batch, self.times = batch, times

    def __iter__(self) -> Iterator:
        return iter([self.batch] * self.times)

    def __len__(self) -> int:
        return self.times


def hilum_epoch(name: str, loader: DataLoader, device: torch.device) -> Epoch:
    """An epoch of Hilum's training loop."""
    targets = loader.dataset.targets
    net = Normalized(network(name, len(targets)), MEAN, SD).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    metrics = Metrics(targets, actual_labels(loader), None)
    loop = TrainingLoop(make_fabric(device, "bf16"), net, optimizer, MaskedBCEWithLogitsLoss(), metrics)
    numbers = iter(range(1, 1000))
    return lambda batches: loop.train_epoch(next(numbers), batches)


def plain_epoch(
    net: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, *, channels_last: bool
) -> Epoch:
    """An epoch of a plain loop over (images, labels)."""
    criterion = nn.BCEWithLogitsLoss()

    def epoch(batches: Iterable) -> None:
        net.train()
        for images, labels in batches:
            images = images.to(device, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()

    return epoch


def document_epoch(name: str, targets: int, device: torch.device) -> Epoch:
    """An epoch as in the document: fp32, NCHW, torch's default Adam."""
    net = network(name, targets).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    return plain_epoch(net, optimizer, device, channels_last=False)


def timm_epoch(name: str, targets: int, device: torch.device) -> Epoch:
    """An epoch with timm: its train.py with --channels-last --amp --amp-dtype bfloat16 --opt adam."""
    import timm
    from timm.optim import create_optimizer_v2

    net = timm.create_model(name, in_chans=1, num_classes=targets)
    net = net.to(device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(net, opt="adam", lr=LEARNING_RATE, fused=True)
    return plain_epoch(InBfloat16(net), optimizer, device, channels_last=True)


class Pipeline:
    """One pipeline with its loader and one batch on the device."""

    def __init__(self, epoch: Epoch, loader: Iterable, images: int, device: torch.device):
        self.epoch, self.loader, self.images, self.device = epoch, loader, images, device
        self.rates: list[float] = []
        self.waits: list[float] = []
        self.bytes = 0
        self.resident = OneBatch(_on_device(next(iter(loader)), device), len(loader))
        self._seconds(self.resident)  # warm-up: the first steps choose kernels
        self._seconds(loader)  # warm-up: the first epoch starts the workers

    def run(self) -> None:
        """One more timed epoch, and one without loading."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        loading = self._seconds(self.loader)
        if self.device.type == "cuda":
            self.bytes = max(self.bytes, torch.cuda.max_memory_allocated(self.device))
        resident_images = len(_images(self.resident.batch)) * len(self.resident)
        computing = self._seconds(self.resident) * self.images / resident_images
        self.rates.append(self.images / loading)
        self.waits.append(max(0.0, 1 - computing / loading))

    def _seconds(self, batches: Iterable) -> float:
        self._synchronize()
        start = time.perf_counter()
        self.epoch(batches)
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _on_device(batch: dict | list | tuple, device: torch.device) -> dict | list:
    if isinstance(batch, dict):
        return {key: value.to(device) for key, value in batch.items()}
    return [value.to(device) for value in batch]


def _images(batch: dict | list) -> torch.Tensor:
    return batch["img"] if isinstance(batch, dict) else batch[0]


def make_pipelines(
    name: str, catalog: Catalog, pack: Path, size: int, batch_size: int, workers: int, device: torch.device
) -> dict[str, Pipeline]:
    """All pipelines for one network, on the same images."""
    from timm.data.loader import PrefetchLoader

    cuda = device.type == "cuda"
    own = Loaders(
        catalog,
        batch_size=batch_size,
        image_width=size,
        image_height=size,
        aug_fraction=AUGMENTED,
        pack=pack,
        num_workers=workers,
        pin_memory=cuda,
    ).get_train_val_loaders(val_fraction=0.1)[0]
    rows = np.flatnonzero(catalog.table.index.isin(own.dataset.ids))
    targets = len(catalog.targets)

    def files(*, as_bytes: bool) -> DataLoader:
        return DataLoader(
            ImageFiles(catalog, rows, size, as_bytes=as_bytes),
            batch_size=batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=cuda and as_bytes,  # the document does not pin
        )

    prefetching = PrefetchLoader(
        files(as_bytes=True), mean=(MEAN,), std=(SD,), channels=1, device=device, img_dtype=torch.float32
    )
    made = {
        "hilum": (hilum_epoch(name, own, device), own),
        "document": (document_epoch(name, targets, device), files(as_bytes=False)),
        "timm": (timm_epoch(name, targets, device), prefetching),
    }
    return {side: Pipeline(epoch, loader, len(rows), device) for side, (epoch, loader) in made.items()}


def compare(pipelines: dict[str, Pipeline], runs: int) -> dict[str, object]:
    """Images per second, their ratios, the fraction of time spent waiting for data, and the peak device memory."""
    for _ in range(runs):
        for pipeline in pipelines.values():
            pipeline.run()
    ours = pipelines["hilum"].rates
    return {
        "images_per_second": {side: summarize(pipeline.rates) for side, pipeline in pipelines.items()},
        "ratios": {
            f"hilum_to_{side}": summarize([a / b for a, b in zip(ours, pipeline.rates, strict=True)])
            for side, pipeline in pipelines.items()
            if side != "hilum"
        },
        "waiting_for_data": {side: summarize(pipeline.waits) for side, pipeline in pipelines.items()},
        "peak_bytes": {side: pipeline.bytes or None for side, pipeline in pipelines.items()},
    }


def measure(
    folder: Path, device: torch.device, images: int, size: int, batch_size: int, workers: int, runs: int
) -> dict[str, object]:
    """Measures both networks, on phantom images."""
    root = write_phantom(folder / "phantom", images=images, size=size, masks=False)
    catalog = CleanMetaData(root, max_studies=None, cache=False).catalog()
    build_pack(catalog, folder / "pack", width=size, height=size, workers=max(1, workers))
    result: dict[str, object] = {
        "benchmark": "gpu",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "size": size,
        "batch_size": batch_size,
        "workers": workers,
        "images": len(catalog),
        "networks": {},
    }
    for name in NETS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedScoreWarning)  # few images lack some findings
            pipelines = make_pipelines(name, catalog, folder / "pack", size, batch_size, workers, device)
            result["networks"][name] = compare(pipelines, runs)
        del pipelines
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return result


def main() -> None:
    """Runs the comparison and prints it."""
    parser = make_parser(__doc__, quick="20 images of 32 x 32, one run, no workers")
    parser.add_argument("--runs", type=int, default=None, help="timed epochs of each pipeline (default: 5)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu as a check")
    parser.add_argument("--batch-size", type=int, default=None, help="default: 64")
    parser.add_argument("--images", type=int, default=None, help="number of phantom images (default: 4096)")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes of each loader (default: all cores, at most 16)"
    )
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no GPU; --device cpu --quick checks the script")
    quick = arguments.quick
    workers = 0 if quick else min(16, cores())
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            Path(folder),
            device,
            arguments.images or (20 if quick else 4096),
            32 if quick else 320,
            arguments.batch_size or (8 if quick else 64),
            workers if arguments.workers is None else arguments.workers,
            arguments.runs or (1 if quick else 5),
        )
    for name, values in result["networks"].items():
        for side, rate in values["images_per_second"].items():
            memory = values["peak_bytes"][side]
            print(
                f"{name}, {side}: {rate['median']:,.0f} images/s ({rate['min']:,.0f} to {rate['max']:,.0f}), "
                f"waits for data {values['waiting_for_data'][side]['median']:.1%}, "
                f"memory {f'{memory / 2**30:.1f} GiB' if memory else 'not measured'}"
            )
        for ratio_name, ratio in values["ratios"].items():
            print(
                f"{name}, {ratio_name}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f} in "
                f"{ratio['runs']} runs)"
            )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
