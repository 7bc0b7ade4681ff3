"""The gateway: settings in, a trained model and a complete run folder out."""

import contextlib
import inspect
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn

from hilum.config import EPOCH_ARGS, RunConfig
from hilum.data.loaders import actual_labels
from hilum.data.split import check_balance
from hilum.errors import HilumError, nearest
from hilum.metrics import Metrics
from hilum.metrics.selection import BestEpoch, parse_rule
from hilum.metrics.thresholds import Policy, resolve_policies
from hilum.models.transfer import Transfer
from hilum.report.run_page import write_figures, write_report
from hilum.report.terminal import show_parameters
from hilum.run_folder import RunFolder, digest_of, find_runs
from hilum.sources import Catalog
from hilum.training.checkpoints import take_up_checkpoint
from hilum.training.distributed import (
    choose_device,
    choose_precision,
    deterministic_operators,
    is_main_process,
    make_fabric,
    train_on_devices,
    under_torchrun,
)
from hilum.training.loop import TrainingLoop
from hilum.training.oom import MemoryKeeper
from hilum.training.progress import EpochProgress
from hilum.training.resume import refuse_other_data, settings_of_stopped
from hilum.training.run_writer import (
    EndOfRun,
    EpochKeeper,
    best_in_words,
    conclusions,
    describe_environment,
    epoch_in_words,
    record_of,
)
from hilum.training.setup import PreparedData, prepare_data, prepare_loop, prepare_net, prepare_weights
from hilum.training.trackers import check_trackers, open_trackers


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
        self.resumed = False
        self.batch_pieces = 1
        self.devices = self.config.devices
        self._changes: dict[str, Any] = {}

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
            settings: to say again, or those of `hilum.training.resume.MAY_CHANGE`.

        Raises:
            HilumError: the run has finished, is running still, or was given a network or images that are
                missing here; a setting would change.
        """
        folder = RunFolder(path)
        training = cls(net=net, catalog=catalog, **settings_of_stopped(folder, net, catalog, settings))
        training.folder, training.resumed = folder, True
        training.batch_pieces = folder.record.get("batch_pieces", 1)
        training.devices = folder.record.get("device", {}).get("devices", training.config.devices)
        training._changes = settings
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
        if self.devices > 1 and not under_torchrun():
            return self._train_in_processes()
        device = choose_device(self.config.device)
        with deterministic_operators(self.config.deterministic, device), warnings.catch_warnings():
            if not is_main_process():  # one of several processes says it
                warnings.simplefilter("ignore")
            if self.folder is None or not is_main_process():
                return self._train(device, last_epoch, conclude)
            with self.folder.held():
                return self._train(device, last_epoch, conclude)

    def _train(self, device: torch.device, last_epoch: int | None, conclude: bool) -> Metrics:
        config = self.config
        check_trackers(config.loggers)
        rule = parse_rule(config.best_rule)
        precision = choose_precision(config.precision, device)
        fabric = make_fabric(device, precision, frozen=config.frozen_epochs > 0)
        self._refuse_other_number_of_devices(fabric.world_size)
        data = prepare_data(
            config,
            self.own_catalog,
            pin_memory=device.type == "cuda",
            device=fabric.global_rank,
            devices=fabric.world_size,
        )
        policies = resolve_policies(
            config.threshold_policy,
            data.catalog.targets,
            manual_thresholds=config.target_thresholds is not None,
        )
        train_actual, val_actual = actual_labels(data.train_loader), actual_labels(data.val_loader)
        metrics = Metrics(data.catalog.targets, train_actual, val_actual, config.target_thresholds)
        best = BestEpoch(rule, policies, metrics.target_thresholds, config.early_stopping)
        # The weights of a run that has a checkpoint, or begins with another's, need not be read here.
        begun = self.resumed and (self.folder.path / "checkpoints" / "last").is_dir()
        net = prepare_net(config, data, self.own_net, pretrained=not begun)
        fresh = config.init_from is not None and not begun
        transfer = prepare_weights(config, net, data) if fresh else None
        progress = EpochProgress(config.num_epochs, _images(data), config.quiet or not fabric.is_global_zero)
        memory = MemoryKeeper(
            config.on_oom == "halve", self.batch_pieces, self._halved, devices=fabric.world_size
        )
        loop = prepare_loop(config, fabric, data, net, metrics, memory, progress.advance)
        imbalance = check_balance(data.catalog, data.split, config.balance_tolerance)
        record = record_of(
            config,
            data,
            metrics,
            imbalance,
            own_net=self.own_net,
            own_catalog=self.own_catalog is not None,
            environment=describe_environment(device, fabric.world_size) | {"precision": precision},
            transfer=transfer,
        )
        self._open_folder(fabric, record, data.catalog.name)
        with self._kept(fabric.is_global_zero) as keeping, progress:
            keeper = keeping and EpochKeeper(self.folder, metrics, loop, best)
            if keeper:
                self.folder.write_split(data.split.table)
                self.folder.write_images(data.catalog.add_features(data.split.table))
                self._announce(data, imbalance, transfer)
            trackers = open_trackers(
                config.loggers if keeper else (), self.folder, mlflow_uri=config.mlflow_uri
            )
            if keeping:
                keeping.trackers = trackers
            done = self._take_up(loop, metrics, best, keeper) if self.resumed else 0
            progress.epoch = done
            say = self._epoch_sayer(metrics, progress)

            def after_epoch(epoch: int) -> bool:
                is_best = best.take(epoch, metrics)
                if keeper:
                    keeper.keep(epoch)
                    say(epoch, best_in_words(best) if is_best else None)
                    trackers.epoch(epoch, metrics, learning_rate=loop.learning_rate)
                    progress.restart_clock()
                return best.out_of_patience

            last = min(last_epoch or config.num_epochs, config.num_epochs)
            if not best.out_of_patience:
                loop.train(
                    last, data.train_loader, data.val_loader, on_epoch_end=after_epoch, first_epoch=done + 1
                )
            final = max(metrics.epochs())
            whole = final == config.num_epochs or best.out_of_patience
            if not (whole and conclude and keeper):
                return metrics
            self._conclude(metrics, best, policies, final, keeping)
            trackers.finish()
        self._say(f"The run is in {self.folder.path}; its digest is {self.folder.record['digest'][:16]}.")
        return metrics

    def _refuse_other_number_of_devices(self, devices: int) -> None:
        if devices != self.devices and (self.resumed or self.devices != 1):
            raise HilumError(
                f"The run is one of {self.devices} device(s), and torchrun has started {devices} process(es). "
                f"Start {self.devices}."
            )
        if devices > 1 and self.config.on_oom == "halve":
            raise HilumError(
                "on_oom: halve works on one device only; with several, use a smaller batch_size."
            )

    def _open_folder(self, fabric: Fabric, record: dict[str, Any], data_set: str) -> None:
        """Makes the run's folder, or takes up that of the stopped run; on every device."""
        path = complaint = None
        if fabric.is_global_zero:
            try:
                self._make_folder(record, data_set)
                path = str(self.folder.path)
            except HilumError as error:
                complaint = str(error)
        path, complaint = fabric.broadcast((path, complaint))
        if complaint:
            raise HilumError(complaint)
        if not fabric.is_global_zero:
            self.folder = RunFolder(path)

    def _make_folder(self, record: dict[str, Any], data_set: str) -> None:
        if not self.resumed:
            own = None if self.own_net is None else type(self.own_net).__name__
            name = f"{data_set}-{own or self.config.net_name.replace(':', '-')}"
            self.folder = RunFolder.create(self.config.save_path, self.config.name, name, record)
            return
        for warning in refuse_other_data(self.folder.record, record):
            self._say(f"warning: {warning}")
        self.folder.update(status="running", failure=None)

    @contextlib.contextmanager
    def _kept(self, main: bool) -> Iterator[EndOfRun | None]:
        """On the main process the folder is held, and says at the end how the run ended; None on others."""
        if not main:
            yield None
            return
        held = contextlib.nullcontext() if self.resumed else self.folder.held()
        with EndOfRun(self.folder, self.resumed) as end, held:
            yield end

    def _take_up(
        self, loop: TrainingLoop, metrics: Metrics, best: BestEpoch, keeper: EpochKeeper | None
    ) -> int:
        """Loads what the stopped run had done; the number of its ended epochs."""
        folder, state, passed_over = take_up_checkpoint(self.folder.path / "checkpoints", loop.kept_net)
        done = state["epoch"]
        if done:
            loop.load_state_dict(state)
        metrics.restore(
            {epoch: self.folder.predictions(epoch) for epoch in range(1, done + 1)},
            self.folder.combined() if done else None,
        )
        for epoch in range(1, done + 1):
            best.take(epoch, metrics)
        if keeper:
            for complaint in passed_over:
                self._say(f"warning: {complaint} The one before it is used.")
            if done:
                keeper.take_up(folder, done)
            after = f"after epoch {done} of" if done else "at the first of"
            self._say(f"The run goes on {after} {self.config.num_epochs}.")
        return done

    def _conclude(
        self, metrics: Metrics, best: BestEpoch, policies: dict[str, Policy], final: int, end: EndOfRun
    ) -> None:
        if final < self.config.num_epochs:
            why = f"no epoch was better than {best.epoch} in the {self.config.early_stopping} after it"
            self._say(f"Stopped after epoch {final}: {why}.")
            self.folder.update(stopped_early=f"after epoch {final}: {why}")
        self._say("Freezing the operating points, and writing figures and report …")
        self.folder.update(**conclusions(self.folder, metrics, policies, self.config))
        write_figures(self.folder, metrics)
        end.finished(digest_of(self.folder.predictions(final)))
        shutil.rmtree(self.folder.path / "checkpoints" / "previous", ignore_errors=True)
        write_report(self.folder)

    def _train_in_processes(self) -> Metrics:
        """The same run in `devices` processes that this one starts and waits for."""
        if self.own_net is not None or self.own_catalog is not None:
            raise HilumError(
                f"devices is {self.devices}, and the run has a network or images of your own, which another "
                "process cannot be given. Start your script with torchrun --nproc-per-node."
            )
        device = choose_device(self.config.device)
        with tempfile.TemporaryDirectory(prefix="hilum-") as temporary:
            file = Path(temporary) / "settings.json"
            if self.resumed:
                given = self._changes
                words = ["resume", str(self.folder.path), str(file)]
            else:
                given = {name: value for name, value in self.config.as_record().items() if value is not None}
                words = ["train", str(file)]
            file.write_text(json.dumps(given, default=os.fspath), encoding="utf-8")
            launch = train_on_devices(words, self.devices, device)
        if self.resumed:
            self.folder = RunFolder(self.folder.path)
        else:
            runs, _ = find_runs(self.config.save_path)
            self.folder = next(run for run in runs if run.record.get("launch") == launch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the processes have said what there was to say
            return Metrics.from_run(self.folder)

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
        return Metrics.from_run(path)

    def _announce(self, data: PreparedData, imbalance: pd.DataFrame, transfer: Transfer | None) -> None:
        counts = ", ".join(
            f"{part} {count['images']:,} images of {count['patients']:,} patients"
            for part, count in data.split.counts().items()
        )
        self._say(f"Run {self.folder.path.name}: {counts}.")
        if transfer is not None:
            self._say(transfer.as_text())
        if data.split.unit == "image":
            self._say("warning: the split is by image: a patient may be on both sides, and scores too high.")
        for row in imbalance.itertuples():
            self._say(
                f"warning: {row.feature} is {row.train_share:.1%} of train but {row.part_share:.1%} of {row.part}."
            )

    def _epoch_sayer(self, metrics: Metrics, progress: EpochProgress) -> Callable[[int, str | None], None]:
        """Says how an epoch went, in the detail that `epoch_args` asks for."""
        chosen = self.config.epoch_args
        shown = EPOCH_ARGS[chosen] if isinstance(chosen, str) else chosen
        known = [name for name in inspect.signature(metrics.display_metrics).parameters if name != "epoch"]
        for name in shown:
            if name not in known:
                raise HilumError(
                    f"epoch_args: there is no {name!r}.{nearest(name, known)} It takes {', '.join(known)}."
                )
        shown = {"show_roc_curves": False, "show_precision_recall_curves": False} | shown

        def say(epoch: int, best: str | None) -> None:
            self._say(
                f"epoch {epoch}/{self.config.num_epochs}: {epoch_in_words(metrics, epoch)}; "
                f"{progress.images_per_second('train'):,.0f} images/s"
            )
            if best and epoch > 1:
                self._say(f"  {best}")
            if not self.config.quiet and chosen != "none":
                metrics.display_metrics(**shown)

        return say

    def _halved(self, pieces: int) -> None:
        self.batch_pieces = pieces
        self.folder.update(
            batch_pieces=pieces, batch_pieces_since=self.folder.record.get("epochs_done", 0) + 1
        )
        self._say(f"warning: out of memory: from now on each batch is computed in {pieces} pieces.")

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self.folder.log(line)


def _images(data: PreparedData) -> dict[str, tuple[int, int]]:
    """How many images of each part this device has in an epoch, and how many all devices have."""
    loaders = {"train": data.train_loader, "val": data.val_loader}
    return {part: (loader.batch_sampler.images, len(loader.dataset)) for part, loader in loaders.items()}
