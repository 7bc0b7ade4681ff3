"""Time of an epoch: Hilum's training loop, a bare PyTorch loop, Lightning's Trainer and timm's steps.

Every loop trains the same ResNet-18 from the same weights, with the same Adam and loss, on the same batches in memory,
and validates on the same other batches, so only the loop differs. Hilum saves the probability of every image, computes
the scores and shows its progress bar. Lightning's Trainer shows its progress bar and neither logs nor saves. timm's
loop follows `train_one_epoch` and `validate` of its train.py, with its meters and its scheduler. The bare loop only
sums the losses.

The loops take turns, in a different order each time. Ratios are Hilum's seconds divided by the other loop's seconds in
the same turn, so below 1 if Hilum is faster. Times are wall-clock times, and on a CPU also CPU times, which depend
less on other work of the machine.
"""

import contextlib
import copy
import io
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from common import make_parser, summarize
from torch import nn

from hilum.metrics import Metrics
from hilum.models import build_model
from hilum.targets import CHEXPERT_TARGETS
from hilum.training.loop import TrainingLoop
from hilum.training.losses import MaskedBCEWithLogitsLoss
from hilum.training.progress import EpochProgress

LEARNING_RATE = 1e-4

Batch = dict[str, torch.Tensor]


class InMemory:
    """Batches in memory, in the form that a loader gives."""

    batch_sampler = None

    def __init__(self, first_id: int, batches: int, batch_size: int, size: int, pin: bool):
        draw = torch.Generator().manual_seed(first_id)
        self.batches: list[Batch] = []
        for start in range(first_id, first_id + batches * batch_size, batch_size):
            shape = (batch_size, 1, size, size)
            batch = {
                "id": torch.arange(start, start + batch_size),
                "img": torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw),
                "labels": (torch.rand(batch_size, len(CHEXPERT_TARGETS), generator=draw) < 0.2).float(),
            }
            self.batches.append({key: value.pin_memory() if pin else value for key, value in batch.items()})

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def labels(self) -> pd.DataFrame:
        """Labels in the form that Metrics takes."""
        ids = np.concatenate([batch["id"].numpy() for batch in self.batches])
        labels = np.concatenate([batch["labels"].numpy() for batch in self.batches])
        return pd.DataFrame(labels, pd.Index(ids, name="ImageID"), list(CHEXPERT_TARGETS))


class Terminal(io.StringIO):
    """Discards its input, but looks like a terminal to a progress bar."""

    def write(self, text: str) -> int:
        return len(text)

    def isatty(self) -> bool:
        return True


def hilum_loop(net: nn.Module, train: InMemory, val: InMemory, device: torch.device) -> Callable[[], None]:
    """Hilum's loop with metrics, their history and the progress bar."""
    images = {part: (sum(map(len, _ids(of))),) * 2 for part, of in (("train", train), ("val", val))}
    metrics = Metrics(CHEXPERT_TARGETS, train.labels(), val.labels())
    with contextlib.redirect_stdout(Terminal()):
        progress = EpochProgress(1000, images, quiet=False)
    optimizer = torch.optim.Adam(net.to(device).parameters(), lr=LEARNING_RATE)
    loop = TrainingLoop(
        device, net, optimizer, MaskedBCEWithLogitsLoss(), metrics, seed=0, callbacks=[progress]
    )
    epochs = iter(range(1, 1000))

    def epoch() -> None:
        number = next(epochs)
        with progress:
            loop.train(number, train, val, first_epoch=number)

    return epoch


def _ids(batches: InMemory) -> list[torch.Tensor]:
    return [batch["id"] for batch in batches]


def bare_loop(net: nn.Module, train: InMemory, val: InMemory, device: torch.device) -> Callable[[], None]:
    """A minimal loop that trains and validates."""
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    criterion = MaskedBCEWithLogitsLoss()

    def epoch() -> None:
        net.train()
        total = torch.zeros((), device=device)
        for batch in train:
            images, labels = batch["img"].to(device), batch["labels"].to(device)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        net.eval()
        with torch.no_grad():
            for batch in val:
                images, labels = batch["img"].to(device), batch["labels"].to(device)
                total += criterion(net(images), labels)
        float(total)

    return epoch


def lightning_loop(
    net: nn.Module, train: InMemory, val: InMemory, device: torch.device
) -> Callable[[], float]:
    """Lightning's Trainer. The time is that of its epoch, without the set-up of `fit`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning as lightning
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.criterion = net, MaskedBCEWithLogitsLoss()

        def training_step(self, batch: Batch, _: int) -> torch.Tensor:
            loss = self.criterion(self.net(batch["img"]), batch["labels"])
            self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["id"]))
            return loss

        def validation_step(self, batch: Batch, _: int) -> None:
            loss = self.criterion(self.net(batch["img"]), batch["labels"])
            self.log("val_loss", loss, batch_size=len(batch["id"]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            self.started = now(device)

        def on_train_epoch_end(self, *_: object) -> None:
            self.spent = np.subtract(now(device), self.started)

    module = Module()

    def epoch() -> tuple[float, float]:
        clock = Clock()
        screen = Terminal()
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(screen),
            contextlib.redirect_stderr(screen),
        ):
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=1,
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                callbacks=[clock],
            )
            trainer.fit(module, train, val)
        return tuple(clock.spent)

    return epoch


def timm_loop(net: nn.Module, train: InMemory, val: InMemory, device: torch.device) -> Callable[[], None]:
    """The loop of timm's train.py: meters, losses, scheduler steps."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter

    net.to(device)
    criterion = MaskedBCEWithLogitsLoss()
    optimizer = create_optimizer_v2(net, opt="adam", lr=LEARNING_RATE)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=1000, updates_per_epoch=len(train), step_on_epochs=False
    )
    interval = 50  # train.py's --log-interval
    updates = 0

    def epoch() -> None:
        nonlocal updates
        batch_time, data_time, losses = AverageMeter(), AverageMeter(), AverageMeter()
        net.train()
        optimizer.zero_grad()
        end = time.time()
        for number, batch in enumerate(train):
            images, labels = batch["img"].to(device), batch["labels"].to(device)
            data_time.update(time.time() - end)
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(images))
            updates += 1
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            batch_time.update(time.time() - end)
            if number % interval == 0:
                rate = statistics.fmean(group["lr"] for group in optimizer.param_groups)
                f"{number} {losses.avg:.3g} {batch_time.avg:.3f} {data_time.avg:.3f} {rate:.3e}"
            scheduler.step_update(num_updates=updates, metric=losses.avg)
            end = time.time()
        net.eval()
        losses.reset()
        with torch.no_grad():
            for batch in val:
                images, labels = batch["img"].to(device), batch["labels"].to(device)
                loss = criterion(net(images), labels)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                losses.update(loss.item(), len(images))

    return epoch


LOOPS = {"hilum": hilum_loop, "bare": bare_loop, "lightning": lightning_loop, "timm": timm_loop}


def now(device: torch.device) -> tuple[float, float]:
    """Wall-clock and CPU seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def seconds(epoch: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one epoch; an epoch that returns its own times overrides them."""
    start = now(device)
    own = epoch()
    return own or tuple(np.subtract(now(device), start).tolist())


def measure(device: torch.device, batches: int, batch_size: int, size: int, runs: int) -> dict[str, object]:
    """Runs each loop `runs` times in turn, after one warm-up epoch."""
    pin = device.type == "cuda"
    train = InMemory(0, batches, batch_size, size, pin)
    val = InMemory(1_000_000, max(1, batches // 4), batch_size, size, pin)
    net = build_model("resnet_grayscale", len(CHEXPERT_TARGETS), {"layers": 18}, mean=0.5, sd=0.25, seed=0)
    net = net.to(memory_format=torch.channels_last)
    epochs = {name: make_loop(copy.deepcopy(net), train, val, device) for name, make_loop in LOOPS.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in epochs}
    names = list(epochs)
    for run in range(runs + 1):
        for name in names[run % len(names) :] + names[: run % len(names)]:
            spent = seconds(epochs[name], device)
            if run:
                times[name].append(spent)
    clocks = {"wall": 0} if device.type == "cuda" else {"wall": 0, "cpu_time": 1}
    return {
        "benchmark": "loop",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "model": "ResNet-18",
        "size": size,
        "batch_size": batch_size,
        "batches": {"train": len(train), "val": len(val)},
        "seconds": {name: summarize([wall for wall, _ in values]) for name, values in times.items()},
        "ratios": {
            clock: {
                f"hilum_to_{name}": summarize(
                    [ours[at] / theirs[at] for ours, theirs in zip(times["hilum"], times[name], strict=True)]
                )
                for name in names
                if name != "hilum"
            }
            for clock, at in clocks.items()
        },
    }


def main() -> None:
    """Runs the comparison and prints the result."""
    parser = make_parser(__doc__, quick="2 batches of 4 images and 1 run")
    parser.add_argument("--runs", type=int, default=None, help="timed epochs of each loop (default: 9)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    batches, batch_size, size = (2, 4, 32) if arguments.quick else (12, 32, 64)
    if device.type == "cuda" and not arguments.quick:
        batches, batch_size, size = 100, 64, 320
    result = measure(device, batches, batch_size, size, arguments.runs or (1 if arguments.quick else 9))
    for name, value in result["seconds"].items():
        print(f"{name}: {value['median']:.3f} s per epoch ({value['min']:.3f} to {value['max']:.3f})")
    for clock, ratios in result["ratios"].items():
        for name, ratio in ratios.items():
            print(
                f"{name}, {clock}: {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f} in "
                f"{ratio['runs']} runs)"
            )
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
