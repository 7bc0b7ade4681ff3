"""The gateway: settings in, a trained model and a complete run folder out."""

import contextlib
import inspect
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader

from hilum.config import EPOCH_ARGS, RunConfig
from hilum.data.duplicates import refuse_leaks
from hilum.data.hierarchy import open_hierarchy
from hilum.data.loaders import Loaders, actual_labels, measure_pixels, trained_labels
from hilum.data.policies import evaluation_labels, multiclass_targets, training_labels
from hilum.data.prepared import without_left_out
from hilum.data.split import Split, check_balance, load_split, make_split
from hilum.errors import HilumError, nearest
from hilum.metrics import Metrics
from hilum.metrics.operating_points import resolve_policies
from hilum.models import Normalized, build_model
from hilum.report.figures import write_figures
from hilum.report.metrics import read_metrics
from hilum.report.page import write_report
from hilum.report.tables import show_parameters
from hilum.run_folder import RunFolder, digest_of
from hilum.sources import Catalog, open_catalog
from hilum.sources.images import check_images
from hilum.training.checkpoints import copy_checkpoint, save_checkpoint, take_up_checkpoint
from hilum.training.conclusions import conclusions
from hilum.training.environment import choose_device, describe_environment
from hilum.training.loop import TrainingLoop
from hilum.training.losses import MaskedBCEWithLogitsLoss, MultiClassLoss, positivity_weights
from hilum.training.progress import EpochProgress
from hilum.training.resuming import refuse_other_data, settings_of_stopped


class StandardTraining:
    """A training run with the same defaults every time, so that two runs differ only where they are told to.

    Args:
        net: a network of your own, float32 (B, 1, height, width) → logits (B, targets), in place of
            `net_name` and `net_kwargs`.
        catalog: images of your own, in place of `source` and `root`.
        settings: those of `hilum.config.RunConfig`; what is left out has its default.

    Raises:
        HilumError: an unknown setting or an impossible value.

    Example:
        >>> StandardTraining(source="nih", num_epochs=3, image_widht=128)
        Traceback (most recent call last):
        hilum.errors.HilumError: There is no setting 'image_widht'. Did you mean 'image_width'? See \
`hilum train --help` for all of them.
    """

    def __init__(self, *, net: nn.Module | None = None, catalog: Catalog | None = None, **settings: Any):
        self.config = RunConfig(**settings)
        self.own_net = net
        self.own_catalog = catalog
        self.folder: RunFolder | None = None

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        net: nn.Module | None = None,
        catalog: Catalog | None = None,
        **settings: Any,
    ) -> "StandardTraining":
        """A run that was stopped, ready to `train` on; it ends with the digest of one that was not stopped.

        It goes on after the last epoch that had ended: the epoch that was running begins anew, and what it
        draws is what it drew before.

        Args:
            path: the run's folder.
            net: the network, for a run that was given one of your own; its weights are replaced.
            catalog: the images, for a run that was given them.
            settings: to say again, or those of `hilum.training.resuming.MAY_CHANGE`.

        Raises:
            HilumError: the run has finished, is running still, or was given a network or images that are
                missing here; a setting would change.
        """
        folder = RunFolder(path)
        training = cls(net=net, catalog=catalog, **settings_of_stopped(folder, net, catalog, settings))
        training.folder = folder
        return training

    def train(self, last_epoch: int | None = None, *, conclude: bool = True) -> Metrics:
        """Trains, and writes the run folder; `self.folder` is it.

        Args:
            last_epoch: stop after this epoch, as if the machine had; the run can be resumed.
            conclude: at the end freeze the operating points and write figures and report.

        Raises:
            HilumError: whatever is wrong with the data, the settings or the machine. If a new run stops
                before an epoch has ended, its folder is removed.
        """
        if self.folder is None:
            return self._train(last_epoch, conclude)
        with self.folder.held():
            return self._train(last_epoch, conclude)

    def _train(self, last_epoch: int | None, conclude: bool) -> Metrics:
        config = self.config
        device = choose_device(config.device)
        catalog, training_labels, classed = self._catalog()
        policies = resolve_policies(
            config.threshold_policy,
            catalog.targets,
            hand_thresholds_given=config.target_thresholds is not None,
        )
        split = self._split(catalog)
        train_loader, val_loader, pixel_stats = self._loaders(catalog, split, training_labels, device)
        criterion = self._criterion(catalog, train_loader, classed)
        net = self._net(len(catalog.targets) + 2 * int(classed.sum()), pixel_stats)
        optimizer = Adam(net.parameters(), lr=config.learning_rate, weight_decay=config.l2_reg)
        metrics = Metrics(
            catalog.targets, actual_labels(train_loader), actual_labels(val_loader), config.target_thresholds
        )
        imbalance = check_balance(catalog, split, config.balance_tolerance)
        record = self._record(catalog, classed, split, metrics, pixel_stats, imbalance, train_loader, device)
        resumed = self.folder is not None
        if resumed:
            for warning in refuse_other_data(self.folder.record, record):
                self._say(f"warning: {warning}")
            self.folder.update(status="running", failure=None)
        else:
            own = None if self.own_net is None else type(self.own_net).__name__
            self.folder = RunFolder.create(
                config.save_path, config.name, f"{catalog.name}-{own or config.net_name}", record
            )
        with (
            _EndOfRun(self.folder, resumed) as end,
            contextlib.nullcontext() if resumed else self.folder.held(),
        ):
            self.folder.write_split(split.table)
            self.folder.write_images(catalog.described(split.table))
            self._announce(split, imbalance)
            images = {"train": len(train_loader.dataset), "val": len(val_loader.dataset)}
            with EpochProgress(config.num_epochs, images, config.quiet) as progress:
                loop = TrainingLoop(
                    device, net, optimizer, criterion, metrics, seed=config.seed, on_batch=progress.advance
                )
                keep = _EpochKeeper(
                    self.folder, metrics, net, optimizer, self._after_epoch(metrics, progress)
                )
                done = self._take_up(metrics, net, optimizer, keep) if resumed else 0
                progress.epoch = done
                last = min(last_epoch or config.num_epochs, config.num_epochs)
                loop.train(last, train_loader, val_loader, on_epoch_end=keep, first_epoch=done + 1)
            if last < config.num_epochs or not conclude:
                return metrics
            self._say("Freezing the operating points, and writing figures and report …")
            self.folder.update(**conclusions(self.folder, metrics, policies, config))
            end.finished(digest_of(self.folder.predictions(config.num_epochs)))
            shutil.rmtree(self.folder.path / "checkpoints" / "previous", ignore_errors=True)
            write_figures(self.folder, metrics)
            write_report(self.folder)
        self._say(f"The run is in {self.folder.path}; its digest is {self.folder.record['digest'][:16]}.")
        return metrics

    def _take_up(
        self, metrics: Metrics, net: nn.Module, optimizer: torch.optim.Optimizer, keep: "_EpochKeeper"
    ) -> int:
        """Loads what the stopped run had done; the number of its ended epochs."""
        folder, done, passed_over = take_up_checkpoint(self.folder.path / "checkpoints", net, optimizer)
        for complaint in passed_over:
            self._say(f"warning: {complaint} The one before it is used.")
        metrics.take_up(
            {epoch: self.folder.predictions(epoch) for epoch in range(1, done + 1)},
            self.folder.combined() if done else None,
        )
        keep.take_up(folder, done)
        after = f"after epoch {done} of" if done else "at the first of"
        self._say(f"The run goes on {after} {self.config.num_epochs}.")
        return done

    @staticmethod
    def display_run_parameters(path: str | Path) -> None:
        """Prints the settings and the course of a run.

        Raises:
            HilumError: there is no run at `path`.
        """
        show_parameters(RunFolder(path))

    @staticmethod
    def load_metrics(path: str | Path) -> Metrics:
        """The metrics of a run with all its epochs, as they were at its end.

        Raises:
            HilumError: there is no run at `path`, or it has no finished epoch.
        """
        return read_metrics(RunFolder(path))

    def _catalog(self) -> tuple[Catalog, pd.DataFrame, np.ndarray]:
        """The catalog with the labels to score against, those to train on, and which targets have classes."""
        config = self.config
        if self.own_catalog is not None:
            catalog = self.own_catalog
        else:
            catalog = open_catalog(config.source, config.root, **config.source_kwargs)
        self._fingerprint = (
            catalog.fingerprint
        )  # of the data, before this run's choice of targets and policies
        catalog = catalog.select_targets(config.target_columns)
        self._image_root = catalog.root
        if config.hierarchy is not None:
            catalog = open_hierarchy(catalog, config.hierarchy)
        if config.pack is not None:
            packed = without_left_out(config.pack, catalog)
            if len(packed) < len(catalog):
                print(
                    f"warning: {len(catalog) - len(packed):,} images are left out; {config.pack} has not got them."
                )
            catalog = packed
        if config.check_images:
            check_images(catalog.image_paths(self._image_column))
        to_train_on = training_labels(catalog, config.uncertain_policy, config.blank_policy, config.seed)
        to_train_on = pd.DataFrame(to_train_on, catalog.table.index, list(catalog.targets))
        classed = multiclass_targets(catalog, config.uncertain_policy)
        evaluated = evaluation_labels(catalog, config.eval_uncertain_policy, config.eval_blank_policy)
        return catalog.with_labels(evaluated), to_train_on, classed

    @property
    def _image_column(self) -> str:
        return "Image_Path" if self.config.hierarchy is None else "Hierarchical_Path"

    def _split(self, catalog: Catalog) -> Split:
        split = self._drawn_split(catalog)
        if self.config.strict_leaks:
            refuse_leaks(catalog, split, column=self._image_column)
        return split

    def _drawn_split(self, catalog: Catalog) -> Split:
        config = self.config
        if config.split_file is not None:
            return load_split(config.split_file, catalog)
        return make_split(
            catalog,
            number_images=config.number_images,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            unit=config.split_unit,
            seed=config.seed,
            official=config.official_split,
        )

    def _loaders(
        self, catalog: Catalog, split: Split, training_labels: pd.DataFrame, device: torch.device
    ) -> tuple[DataLoader, DataLoader, tuple[float, float]]:
        config = self.config
        loaders = Loaders(
            catalog,
            batch_size=config.batch_size,
            image_width=config.image_width,
            image_height=config.image_height,
            affine_degrees=config.affine_degrees,
            translate_percent=config.translate_percent,
            shear_degrees=config.shear_degrees,
            brightness_jitter=config.brightness_jitter,
            contrast_jitter=config.contrast_jitter,
            aug_percent=config.aug_percent,
            observation_min_count=config.observation_min_count,
            sampling=config.sampling,
            training_labels=training_labels,
            pack=config.pack,
            image_column=self._image_column,
            fit=config.fit,
            interpolation=config.interpolation,
            num_workers=config.num_workers,
            seed=config.seed,
            pin_memory=device.type == "cuda",
        )
        train_loader, val_loader = loaders.get_train_val_loaders(split=split)
        mean, sd = catalog.pixel_stats or (None, None)
        mean = mean if config.pixel_mean is None else config.pixel_mean
        sd = sd if config.pixel_sd is None else config.pixel_sd
        if mean is None or sd is None:
            measured = measure_pixels(train_loader, config.seed)
            mean, sd = (measured[0] if mean is None else mean), (measured[1] if sd is None else sd)
        return train_loader, val_loader, (mean, sd)

    def _net(self, outputs: int, pixel_stats: tuple[float, float]) -> nn.Module:
        config = self.config
        mean, sd = pixel_stats
        if self.own_net is not None:
            net = Normalized(self.own_net, mean, sd)
        else:
            net = build_model(config.net_name, outputs, config.net_kwargs, mean=mean, sd=sd, seed=config.seed)
        # Convolutions are faster with the channels innermost, on CPUs and GPUs alike.
        return net.to(memory_format=torch.channels_last)

    def _criterion(self, catalog: Catalog, train_loader: DataLoader, classed: np.ndarray) -> nn.Module:
        weights = None
        if self.config.use_positivity_weights:
            chances = train_loader.batch_sampler.weights
            weights = positivity_weights(trained_labels(train_loader).to_numpy(), catalog.targets, chances)
        if classed.any():
            return MultiClassLoss(torch.from_numpy(classed), weights, self.config.loss_reduction)
        return MaskedBCEWithLogitsLoss(weights, self.config.loss_reduction)

    def _record(
        self,
        catalog: Catalog,
        classed: np.ndarray,
        split: Split,
        metrics: Metrics,
        pixel_stats: tuple[float, float],
        imbalance: pd.DataFrame,
        train_loader: DataLoader,
        device: torch.device,
    ) -> dict[str, Any]:
        """What run.json says from the start."""
        net = (
            None
            if self.own_net is None
            else f"{type(self.own_net).__module__}.{type(self.own_net).__qualname__}"
        )
        return {
            "settings": self.config.as_record(),
            "own_net": net,
            "own_catalog": self.own_catalog is not None,
            "seed": self.config.seed,
            "targets": list(catalog.targets),
            "multiclass_targets": [
                target for target, many in zip(catalog.targets, classed, strict=True) if many
            ],
            "thresholds": dict(zip(catalog.targets, metrics.target_thresholds.tolist(), strict=True)),
            "pixel_mean": pixel_stats[0],
            "pixel_sd": pixel_stats[1],
            "catalog": {
                "name": catalog.name,
                "fingerprint": self._fingerprint,
                "images": len(catalog),
                "origin": None if catalog.origin is None else str(catalog.origin),
                "image_root": _as_text(self._image_root),
            },
            "split": {
                "fingerprint": split.fingerprint,
                "unit": split.unit,
                "parts": split.counts(),
                "train_images_after_oversampling": len(train_loader.dataset),
                "imbalance": imbalance.to_dict("records"),
            },
            **describe_environment(device),
        }

    def _announce(self, split: Split, imbalance: pd.DataFrame) -> None:
        counts = ", ".join(
            f"{part} {count['images']:,} images of {count['patients']:,} patients"
            for part, count in split.counts().items()
        )
        self._say(f"Run {self.folder.path.name}: {counts}.")
        if split.unit == "image":
            self._say("warning: the split is by image: a patient may be on both sides, and scores too high.")
        for row in imbalance.itertuples():
            self._say(
                f"warning: {row.feature} is {row.train_share:.1%} of train but {row.part_share:.1%} of {row.part}."
            )

    def _after_epoch(self, metrics: Metrics, progress: EpochProgress) -> Callable[[int], None]:
        """Says how the epoch went, in the detail that `epoch_args` asks for."""
        chosen = self.config.epoch_args
        shown = EPOCH_ARGS[chosen] if isinstance(chosen, str) else chosen
        known = [name for name in inspect.signature(metrics.display_metrics).parameters if name != "epoch"]
        for name in shown:
            if name not in known:
                raise HilumError(
                    f"epoch_args: there is no {name!r}.{nearest(name, known)} It takes {', '.join(known)}."
                )
        shown = {"show_roc_curves": False, "show_precision_recall_curves": False} | shown

        def say(epoch: int) -> None:
            combined = metrics.combined[metrics.combined["epoch"] == epoch].set_index("part")
            scores = validation_scores(metrics, epoch)
            self._say(
                f"epoch {epoch}/{self.config.num_epochs}: "
                f"loss {combined.at['train', 'loss']:.4f} train, {combined.at['val', 'loss']:.4f} val; "
                f"val {_mean_in_words('recall', scores['recall'])}, {_mean_in_words('ROC AUC', scores['roc_auc'])}, "
                f"{_mean_in_words('precision', scores['precision'])}; "
                f"{progress.images_per_second('train'):,.0f} images/s"
            )
            if not self.config.quiet and chosen != "none":
                metrics.display_metrics(**shown)
            progress.restart_clock()

        return say

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self.folder.log(line)


class _EpochKeeper:
    """Writes what an epoch leaves behind: predictions, scores, checkpoints, the state of the run."""

    def __init__(
        self,
        folder: RunFolder,
        metrics: Metrics,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        say: Callable[[int], None],
    ):
        self.folder, self.metrics, self.net, self.optimizer, self.say = folder, metrics, net, optimizer, say
        self.best = -np.inf
        self.started = time.perf_counter() - folder.record.get("seconds", 0.0)

    def take_up(self, checkpoint: Path | None, done: int) -> None:
        """Comes to know of the epochs that ended before the run was stopped; the last is in `checkpoint`."""
        best_epoch = 0
        for epoch in range(1, done + 1):
            if self._is_best(epoch):
                best_epoch = epoch
        if best_epoch == done and done:
            # The run may have been stopped after the checkpoint was written, and before it was copied.
            copy_checkpoint(checkpoint, self.folder.path / "checkpoints" / "best")
        if done:
            score = None if np.isinf(self.best) else float(self.best)
            self.folder.update(epochs_done=done, best_epoch=best_epoch, best_roc_auc=score)

    def _is_best(self, epoch: int) -> bool:
        score = validation_scores(self.metrics, epoch)["roc_auc"].mean()
        if score > self.best or epoch == 1:
            self.best = score if np.isfinite(score) else self.best
            return True
        return False

    def __call__(self, epoch: int) -> None:
        self.folder.write_epoch(
            epoch, self.metrics.predictions(epoch), self.metrics.scores, self.metrics.combined
        )
        checkpoints = self.folder.path / "checkpoints"
        save_checkpoint(checkpoints / "last", self.net, self.optimizer, epoch)
        changes = {"epochs_done": epoch, "seconds": round(time.perf_counter() - self.started, 1)}
        if self._is_best(epoch):
            copy_checkpoint(checkpoints / "last", checkpoints / "best")
            score = None if np.isinf(self.best) else float(self.best)
            changes |= {"best_epoch": epoch, "best_roc_auc": score}
        self.folder.update(**changes)
        self.say(epoch)


class _EndOfRun:
    """Sees to it that run.json says how the run ended, and keeps no folder of a run that never began."""

    def __init__(self, folder: RunFolder, resumed: bool):
        self.folder, self.resumed = folder, resumed

    def __enter__(self) -> "_EndOfRun":
        return self

    def finished(self, digest: str) -> None:
        self.folder.update(status="finished", digest=digest, finished=_now())

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or self.folder.record["status"] == "finished":
            return
        if isinstance(error, HilumError) and not self.folder.epochs() and not self.resumed:
            self.folder.remove()
            return
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{kind.__name__}: {error}"
        self.folder.update(status="failed", failure=reason, finished=_now())
        self.folder.log(f"failed: {reason}")
        if isinstance(error, KeyboardInterrupt):
            print(
                f"Everything up to the last ended epoch is kept. Go on with: hilum resume {self.folder.path}"
            )


def validation_scores(metrics: Metrics, epoch: int) -> pd.DataFrame:
    """The itemized validation scores of an epoch, one row per target."""
    scores = metrics.scores
    return scores[(scores["epoch"] == epoch) & (scores["part"] == "val")]


def _mean_in_words(name: str, values: pd.Series) -> str:
    """The mean over the targets that have the score, saying how many these are unless it is all."""
    defined = int(values.notna().sum())
    if not defined:
        return f"{name} n/a"
    return f"{name} {values.mean():.3f}" + ("" if defined == len(values) else f" (of {defined} targets)")


def _as_text(root: Path | dict[str, Path] | None) -> str | dict[str, str] | None:
    if isinstance(root, dict):
        return {source: str(folder) for source, folder in root.items()}
    return None if root is None else str(root)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
