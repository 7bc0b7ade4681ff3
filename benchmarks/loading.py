"""Batches per second: Hilum, the founding document's pipeline and torchxrayvision.

The task is the training part of the document: 320 x 320 pixels, 64 images per batch, shuffled, a fifth of the images
augmented (rotation within 5 degrees, shift within 5 %, shear within 5 degrees, brightness within 20 %, contrast within
10 %). The images are phantom radiographs as gray JPEGs of 390 x 320 pixels, the usual size in CheXpert-small. Every
pipeline uses its best number of workers of 0, 1 and 2, with one thread each. Runs alternate, so that a slow moment of
the machine affects all. The time is that of a full epoch in the training process, with workers that are already
running. Images are repeated until the epochs of all pipelines take about the same time. The peers deliver normalized
float32, Hilum delivers uint8, which is converted on the device.

Also measured: the memory of a worker, and the rate with 100,000 images compared with 5,000, on packs of 160 x 160
noise (2.6 GB and 128 MB, both larger than a processor's caches).
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import torch
from common import make_parser, summarize
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from hilum.config import AugmentationSettings, PixelSettings
from hilum.data.augmentation import Augmentation
from hilum.data.dataset import CheXpertDataset
from hilum.data.loaders import Loaders
from hilum.data.pack_builder import build_pack
from hilum.data.pixels import FORMAT, INDEX, PIXELS, RECORD, Pack, RawImages, images_fingerprint
from hilum.machine import cores
from hilum.phantom import write_phantom
from hilum.phantom.cohort import DATASET
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog
from hilum.sources.chexpert import CleanMetaData

SIZE, BATCH, AUGMENTED = 320, 64, 0.2
FILE_WIDTH, FILE_HEIGHT, QUALITY = 390, 320, 90
NOISE = 7  # standard deviation in gray levels
SCALE_SIZE = 160

AFFINE = {"degrees": 5, "translate": (0.05, 0.05), "shear": 5}
JITTER = {"brightness": 0.2, "contrast": 0.1}


def write_images(folder: Path, images: int) -> Catalog:
    """Gray JPEGs in CheXpert's layout, of the usual size; noise makes the files as large as real ones."""
    root = write_phantom(folder, images=images, size=FILE_WIDTH, masks=False)
    catalog = CleanMetaData(root, max_studies=None, cache=False).catalog()
    draw = np.random.default_rng(0)
    top = (FILE_WIDTH - FILE_HEIGHT) // 2
    for path in map(Path, catalog.image_paths()):
        pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
        pixels = pixels[top : top + FILE_HEIGHT] + draw.normal(0, NOISE, (FILE_HEIGHT, FILE_WIDTH))
        _, encoded = cv2.imencode(
            ".jpg", np.clip(pixels, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        path.write_bytes(encoded.tobytes())
    return catalog


class DocumentDataset(Dataset):
    """The founding document's items: a PIL image from its path, torchvision's transforms, the labels."""

    def __init__(self, catalog: Catalog):
        self.paths, self.labels = catalog.image_paths(), torch.tensor(catalog.labels())
        self.ids = catalog.table.index.tolist()
        self.transform = transforms.Compose(
            [
                transforms.Resize((SIZE, SIZE)),
                transforms.RandomApply(
                    [transforms.RandomAffine(**AFFINE), transforms.ColorJitter(**JITTER)], p=AUGMENTED
                ),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.25]),
            ]
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int) -> dict:
        with Image.open(self.paths[item]) as image:
            pixels = self.transform(image)
        return {"id": self.ids[item], "img": pixels, "labels": self.labels[item]}


def torchxrayvision_dataset(root: Path) -> Dataset:
    """Torchxrayvision's own CheXpert data set, cropping, resizing and augmentation.

    ColorJitter accepts neither its float images nor its range of -1024 to 1024. So augmented images are scaled to
    0..1 for it, and back.
    """
    to_tensor, color_jitter = transforms.ToTensor(), transforms.ColorJitter(**JITTER)

    def jitter(image: Image.Image) -> torch.Tensor:
        return color_jitter(to_tensor(image).add_(1024).div_(2048)).mul_(2048).sub_(1024)

    def as_tensor(image: Image.Image | torch.Tensor) -> torch.Tensor:
        return image if isinstance(image, torch.Tensor) else to_tensor(image)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchxrayvision as xrv

        return xrv.datasets.CheX_Dataset(
            imgpath=str(root.parent),  # its paths start with the name of the root folder
            csvpath=str(root / "train.csv"),
            views=["PA", "AP"],
            unique_patients=False,
            transform=transforms.Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE)]),
            data_aug=transforms.Compose(
                [
                    xrv.datasets.ToPILImage(),
                    transforms.RandomApply([transforms.RandomAffine(**AFFINE), jitter], p=AUGMENTED),
                    as_tensor,
                ]
            ),
        )


def peer_loader(dataset: Dataset, items: int, workers: int) -> DataLoader:
    """A loader as in the peers' examples: shuffled, with the default collation."""
    return DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=RandomSampler(dataset, num_samples=items),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def hilum_loader(catalog: Catalog, pixels: RawImages | Pack, items: int, workers: int) -> DataLoader:
    """Hilum's loader of the training part, with repeated rows as in oversampling."""
    width, height = pixels.size
    augmentation = Augmentation(AugmentationSettings(aug_fraction=AUGMENTED))
    loaders = Loaders(catalog, batch_size=BATCH, image_width=width, image_height=height, num_workers=workers)
    rows = np.resize(np.arange(len(catalog)), items)
    dataset = CheXpertDataset(catalog, width, height, augmentation, rows=rows, pixels=pixels)
    return loaders._loader(dataset, shuffle=True)


class Pipeline:
    """One pipeline with its best number of workers, which keep running between epochs."""

    def __init__(
        self,
        make: Callable[[int, int], DataLoader],
        images: int,
        min_seconds: float,
        worker_counts: tuple[int, ...],
    ):
        first = self._rate(make(images, 0), images)
        self.items = max(images, BATCH * round(first * min_seconds / BATCH))
        rates = {workers: self._rate(make(self.items, workers), self.items) for workers in worker_counts}
        self.workers = max(rates, key=rates.get)
        self.loader = make(self.items, self.workers)
        self.rates: list[float] = []
        self._pass(self.loader)

    def run(self) -> None:
        """One more timed epoch."""
        self.rates.append(self._timed(self.loader, self.items))

    def _rate(self, loader: DataLoader, items: int) -> float:
        self._pass(loader)
        # The best of three: a slow moment must not decide the number of workers.
        return max(self._timed(loader, items) for _ in range(3))

    def _timed(self, loader: DataLoader, items: int) -> float:
        start = time.perf_counter()
        count = self._pass(loader)
        assert count == items
        return items / (time.perf_counter() - start)

    @staticmethod
    def _pass(loader: DataLoader) -> int:
        return sum(len(batch["img"]) for batch in loader)


def compare(
    folder: Path, images: int, runs: int, min_seconds: float, worker_counts: tuple[int, ...]
) -> dict[str, object]:
    """Images per second of each pipeline, and the ratios of Hilum's pipelines to the peers in each run."""
    catalog = write_images(folder / DATASET, images)
    pack = build_pack(catalog, folder / "pack", width=SIZE, height=SIZE, workers=1)
    raw = RawImages(catalog, PixelSettings(image_width=SIZE, image_height=SIZE))
    document, xrv = DocumentDataset(catalog), torchxrayvision_dataset(folder / DATASET)
    assert len(document) == len(pack)
    makers = {
        "document": lambda items, workers: peer_loader(document, items, workers),
        "torchxrayvision": lambda items, workers: peer_loader(xrv, items, workers),
        "pack": lambda items, workers: hilum_loader(catalog, pack, items, workers),
        "jpeg": lambda items, workers: hilum_loader(catalog, raw, items, workers),
    }
    pipelines = {
        name: Pipeline(make, len(catalog), min_seconds, worker_counts) for name, make in makers.items()
    }
    for _ in range(runs):
        for pipeline in pipelines.values():
            pipeline.run()
    ratios = {
        f"{ours}_to_{theirs}": summarize(
            [a / b for a, b in zip(pipelines[ours].rates, pipelines[theirs].rates, strict=True)]
        )
        for ours in ("pack", "jpeg")
        for theirs in ("document", "torchxrayvision")
    }
    return {
        "images": len(catalog),
        "bytes_per_jpeg": round(statistics.mean(Path(path).stat().st_size for path in catalog.image_paths())),
        "best_workers": {name: pipeline.workers for name, pipeline in pipelines.items()},
        "images_per_second": {name: summarize(pipeline.rates) for name, pipeline in pipelines.items()},
        "ratios": ratios,
    }


def noise_pack(folder: Path, images: int, size: int) -> tuple[Catalog, Pack]:
    """A pack of noise and its catalog, written without image files."""
    ids = np.arange(images)
    table = pd.DataFrame(dict.fromkeys(FEATURE_COLUMNS, 0.0), index=pd.Index(ids, name="ImageID"))
    table["Image_Path"] = table["Hierarchical_Path"] = [f"images/{image_id:08d}.jpg" for image_id in ids]
    for target in range(12):
        table[f"Target {target}"] = (ids % (target + 2) == 0).astype(np.float64)
    catalog = Catalog("noise", table, tuple(table.columns[len(FEATURE_COLUMNS) :]), root=folder)
    folder.mkdir()
    pixels = np.lib.format.open_memmap(folder / PIXELS, "w+", np.uint8, (images, size, size))
    draw = np.random.default_rng(0)
    for start in range(0, images, 1000):
        block = pixels[start : start + 1000]
        block[:] = draw.integers(0, 256, block.shape, dtype=np.uint8)
    del pixels
    index = pd.DataFrame({"ImageID": ids, "row": ids, "Image_Path": table["Image_Path"].to_numpy()})
    index.to_parquet(folder / INDEX)
    record = {"format": FORMAT, "catalog": "noise", "width": size, "height": size, "left_out": 0}
    record |= {"fit": "stretch", "interpolation": "auto"}
    record["images_fingerprint"] = images_fingerprint(ids, table["Image_Path"])
    (folder / RECORD).write_text(json.dumps(record))
    return catalog, Pack(folder)


def worker_memory(loader: DataLoader) -> float:
    """Largest private memory of a worker after an epoch, in MB more than a bare interpreter."""
    before = {child.pid for child in psutil.Process().children()}
    iterator = iter(loader)
    workers = [child for child in psutil.Process().children() if child.pid not in before]
    for _ in iterator:
        pass
    return max(child.memory_full_info().uss for child in workers) / 1e6 - bare_interpreter()


def bare_interpreter() -> float:
    """Private memory of a bare `python`, in MB."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        time.sleep(0.5)
        memory = psutil.Process(process.pid).memory_full_info().uss / 1e6
        process.communicate(b"\n")
    return memory


def scale(folder: Path, few: int, many: int, runs: int, worker_counts: tuple[int, ...]) -> dict[str, object]:
    """Rate and memory with many and with few images, in epochs of equal length."""
    pipelines, memory = {}, {}
    for count in (few, many):
        catalog, pack = noise_pack(folder / str(count), count, SCALE_SIZE)
        pipelines[count] = Pipeline(
            lambda items, workers, catalog=catalog, pack=pack: hilum_loader(catalog, pack, items, workers),
            many,
            0,
            worker_counts,
        )
        memory[count] = worker_memory(hilum_loader(catalog, pack, many, 2))
    for _ in range(runs):
        for pipeline in pipelines.values():
            pipeline.run()
    ratios = [a / b for a, b in zip(pipelines[many].rates, pipelines[few].rates, strict=True)]
    return {
        "few": few,
        "many": many,
        "size": SCALE_SIZE,
        "images_per_second": {str(count): summarize(pipeline.rates) for count, pipeline in pipelines.items()},
        "many_to_few": summarize(ratios),
        "worker_mb": {str(count): value for count, value in memory.items()},
    }


def main() -> None:
    """Runs the comparisons and prints the results."""
    parser = make_parser(__doc__, quick="40 images, one short run")
    parser.add_argument("--runs", type=int, default=None, help="timed epochs of each pipeline (default: 7)")
    arguments = parser.parse_args()
    quick = arguments.quick
    runs = arguments.runs or (1 if quick else 7)
    # One thread per process in every pipeline: only the workers run in parallel.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        result = {"benchmark": "loading", "cores": cores()}
        worker_counts = (0,) if quick else (0, 1, 2)
        result |= compare(Path(folder), 40 if quick else 1200, runs, 0 if quick else 2.0, worker_counts)
        counts = (100, 300) if quick else (5_000, 100_000)
        result["scale"] = scale(Path(folder), *counts, runs, worker_counts)
    for name, rate in result["images_per_second"].items():
        print(
            f"{name}: {rate['median']:,.0f} images/s ({rate['min']:,.0f} to {rate['max']:,.0f}) "
            f"with {result['best_workers'][name]} workers"
        )
    for name, ratio in result["ratios"].items():
        print(
            f"{name}: {ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f} in {ratio['runs']} runs)"
        )
    sizes = result["scale"]
    print(
        f"{sizes['many']:,} images to {sizes['few']:,}: {sizes['many_to_few']['median']:.2f} times the rate; "
        f"a worker needs {sizes['worker_mb'][str(sizes['many'])]:.0f} MB more than a bare interpreter"
    )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
