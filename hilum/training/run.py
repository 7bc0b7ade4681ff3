"""A training run: settings in, a trained model and a complete run folder out."""

import json
import os
import shutil
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.metrics.calibration import fit_calibration
from hilum.metrics.predictions import Predictions
from hilum.metrics.thresholds import freeze_operating_points
from hilum.report.run_page import write_figures, write_report
from hilum.report.terminal import show_parameters
from hilum.run_folder import RunFolder, digest_of, find_runs
from hilum.sources import Catalog
from hilum.training._oom import OutOfMemoryRetry
from hilum.training._setup import RunSetup, set_up
from hilum.training.checkpoints import load_newest_checkpoint
from hilum.training.distributed import (
    choose_device,
    choose_precision,
    deterministic_operators,
    is_main_process,
    make_fabric,
    train_on_devices,
    under_torchrun,
)
from hilum.training.progress import EpochLines, EpochProgress
from hilum.training.run_writer import (
    BestEpochUpdate,
    EpochWriter,
    check_same_data,
    describe_environment,
    make_record,
    recorded_end,
)
from hilum.training.trackers import Trackers, check_trackers, open_trackers

#: Settings that may change when a run is resumed: no result depends on them.
MAY_CHANGE = (
    *("root", "pack", "hierarchy", "num_workers", "check_images", "epoch_args", "quiet"),
    *("loggers", "mlflow_uri"),
)


class StandardTraining:
    """A training run with the same defaults every time, so that two runs differ only in the given settings.

    Args:
        net: a network of your own, float32 (B, 1, height, width) -> logits (B, targets), instead of
            `net_name` and `net_kwargs`.
        catalog: images of your own, instead of `source` and `root`.
        settings: of `hilum.config.RunConfig`; the others have their defaults.

    Raises:
        HilumError: an unknown setting or an impossible value.

    Example:
        >>> StandardTraining(source="nih", num_epochs=3, image_widht=128)
        Traceback (most recent call last):
        hilum.config.SettingsError: There is no setting 'image_widht'. Did you mean 'image_width'? See \
`hilum train --help` for all of them.
    """

    def __init__(self, *, net: nn.Module | None = None, catalog: Catalog | None = None, **settings: Any):
        self.config = RunConfig(**settings)
        self.own_net, self.own_catalog = net, catalog
        self._folder: RunFolder | None = None
        self.resumed, self.batch_pieces = False, 1
        self.devices: int = self.config.devices
        self._changes: dict[str, Any] = {}

    @property
    def folder(self) -> RunFolder:
        """The run folder.

        Raises:
            HilumError: the training has not started.
        """
        if self._folder is None:
            raise HilumError("The run has no folder yet: call train() first.")
        return self._folder

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        net: nn.Module | None = None,
        catalog: Catalog | None = None,
        **settings: Any,
    ) -> "StandardTraining":
        """A stopped run, ready to `train` after its last finished epoch.

        An interrupted epoch starts again with the same random draws: the digest is that of an uninterrupted run.

        Args:
            path: the run's folder.
            net: the network, if the run has one of your own; its weights are replaced.
            catalog: the images, if the run has a catalog of your own.
            settings: the run's own values, or changes of the settings in `MAY_CHANGE`.

        Raises:
            HilumError: the run has finished or is still running, a network or catalog is missing or superfluous,
                or a setting would change.
        """
        folder = RunFolder(path)
        training = cls(net=net, catalog=catalog, **_settings_to_resume(folder, net, catalog, settings))
        training._folder, training.resumed = folder, True
        training.batch_pieces = folder.record.get("batch_pieces", 1)
        training.devices = folder.record.get("device", {}).get("devices", training.config.devices)
        training._changes = settings
        return training

    def train(self, last_epoch: int | None = None, *, conclude: bool = True) -> Metrics:
        """Trains, and writes the run folder, which is `self.folder`.

        Args:
            last_epoch: stop after this epoch, as if the machine had stopped; the run can be resumed.
            conclude: at the end freeze the operating points and write figures and report.

        Raises:
            HilumError: data, settings or a machine that cannot be used. The folder of a new run is removed if
                it stops before its first epoch ends.
        """
        if self.devices > 1 and not under_torchrun():
            return self._train_in_processes()
        device = choose_device(self.config.device)
        main = is_main_process()
        with ExitStack() as stack:
            stack.enter_context(deterministic_operators(self.config.deterministic, device))
            stack.enter_context(warnings.catch_warnings())
            if not main:  # the main process shows the warnings
                warnings.simplefilter("ignore")
            if self.resumed and main:
                stack.enter_context(self.folder.held())
            setup = self._set_up(device)
            return self._train(setup, last_epoch or self.config.num_epochs, conclude)

    def _set_up(self, device: torch.device) -> RunSetup:
        """Data, network and loop; and the run's folder."""
        config = self.config
        check_trackers(config.loggers)
        precision = choose_precision(config.precision, device)
        fabric = make_fabric(device, precision, frozen=config.frozen_epochs > 0)
        self._check_devices(fabric.world_size)
        oom = OutOfMemoryRetry(
            config.on_oom == "halve", self.batch_pieces, self._record_halving, devices=fabric.world_size
        )
        has_checkpoint = self.resumed and (self.folder.path / "checkpoints" / "last").is_dir()
        setup = set_up(config, fabric, oom, self.own_net, self.own_catalog, has_checkpoint=has_checkpoint)
        environment = describe_environment(device, fabric.world_size) | {"precision": precision}
        self._open_folder(setup, make_record(config, setup, self.own_net, self.own_catalog, environment))
        return setup

    def _train(self, setup: RunSetup, last_epoch: int, conclude: bool) -> Metrics:
        """Trains the epochs that are missing, then concludes the run if it is complete."""
        config, metrics, best = self.config, setup.metrics, setup.best
        main = setup.fabric.is_global_zero
        progress = EpochProgress(config.num_epochs, setup.data.images, config.quiet or not main)
        with ExitStack() as stack:
            if main:
                stack.enter_context(recorded_end(self.folder, self.resumed))
                if not self.resumed:
                    stack.enter_context(self.folder.held())
                self._write_start(setup)
            loggers = config.loggers if main else ()
            trackers = stack.enter_context(open_trackers(loggers, self.folder, config.mlflow_uri))
            stack.enter_context(progress)
            done = self._restore(setup) if self.resumed else 0
            setup.loop.callbacks = [progress, BestEpochUpdate(best)]
            if main:
                setup.loop.callbacks += [
                    EpochWriter(self.folder, setup.loop, best),
                    EpochLines(config, self.folder, best, progress),
                    trackers,
                ]
            if not best.out_of_patience:
                loaders = setup.data.train_loader, setup.data.val_loader
                setup.loop.train(min(last_epoch, config.num_epochs), *loaders, first_epoch=done + 1)
            final = max(metrics.epochs())
            complete = final == config.num_epochs or best.out_of_patience
            if complete and conclude and main:
                self._conclude(setup, final, trackers)
        return metrics

    def _check_devices(self, processes: int) -> None:
        if processes != self.devices and (self.resumed or self.devices != 1):
            raise HilumError(
                f"The run needs {self.devices} device(s), but torchrun has started {processes} process(es). "
                f"Start {self.devices}."
            )
        if processes > 1 and self.config.on_oom == "halve":
            raise HilumError("on_oom: halve works on one device only; for several, lower batch_size.")

    def _open_folder(self, setup: RunSetup, record: dict[str, Any]) -> None:
        """Makes the run's folder, or opens that of the stopped run; on every device."""
        path = message = None
        if setup.fabric.is_global_zero:
            try:
                if self.resumed:
                    for difference in check_same_data(self.folder.record, record):
                        self.folder.print_and_log(f"warning: {difference}")
                    self.folder.update(status="running", failure=None)
                else:
                    own = self.own_net
                    model = type(own).__name__ if own is not None else self.config.net_name.replace(":", "-")
                    default = f"{setup.data.catalog.name}-{model}"
                    self._folder = RunFolder.create(self.config.save_path, self.config.name, default, record)
                path = str(self.folder.path)
            except HilumError as error:
                message = str(error)
        path, message = setup.fabric.broadcast((path, message))
        if path is None:
            raise HilumError(message)
        if not setup.fabric.is_global_zero:
            self._folder = RunFolder(path)

    def _write_start(self, setup: RunSetup) -> None:
        """Writes the split and the images; prints what the run starts with."""
        split = setup.data.split
        self.folder.write_split(split.table)
        self.folder.write_images(setup.data.catalog.add_features(split.table))
        counts = ", ".join(
            f"{part} {count['images']:,} images of {count['patients']:,} patients"
            for part, count in split.counts().items()
        )
        lines = [f"Run {self.folder.path.name}: {counts}."]
        if setup.transfer is not None:
            lines.append(setup.transfer.as_text())
        if split.unit == "image":
            lines.append(
                "warning: the split is by image: a patient may be in several parts, and scores are too high."
            )
        lines += [
            f"warning: {row.feature}: {row.train_share:.1%} of the train images, {row.part_share:.1%} of {row.part}."
            for row in setup.imbalance.itertuples()
        ]
        for line in lines:
            self.folder.print_and_log(line)

    def _restore(self, setup: RunSetup) -> int:
        """Loads the results of the stopped run; returns the number of its finished epochs."""
        loop, metrics, best = setup.loop, setup.metrics, setup.best
        checkpoint, state, damaged = load_newest_checkpoint(self.folder.path / "checkpoints", loop.kept_net)
        done: int = state["epoch"]
        if done:
            loop.load_state_dict(state)
        predictions = {epoch: self.folder.predictions(epoch) for epoch in range(1, done + 1)}
        metrics.restore(predictions, self.folder.combined() if done else None)
        for epoch in predictions:
            best.take(epoch, metrics)
        if setup.fabric.is_global_zero:
            for message in damaged:
                self.folder.print_and_log(f"warning: {message} The one before it is used.")
            if checkpoint is not None:
                # The run may have stopped before the checkpoint was copied or recorded.
                EpochWriter(self.folder, loop, best).write_best(done, checkpoint)
            after = f"after epoch {done} of" if done else "at the first of"
            self.folder.print_and_log(f"The run continues {after} {self.config.num_epochs} epochs.")
        return done

    def _conclude(self, setup: RunSetup, final: int, trackers: Trackers) -> None:
        """Freezes the operating points and the calibration, writes figures and report, and ends the record."""
        folder = self.folder
        if final < self.config.num_epochs:
            best, patience = setup.best.epoch, self.config.early_stopping
            reason = f"no epoch was better than {best} in the {patience} after it"
            folder.print_and_log(f"Stopped after epoch {final}: {reason}.")
            folder.update(stopped_early=f"after epoch {final}: {reason}")
        folder.print_and_log("Choosing the thresholds, writing figures and report …")
        predictions, calibration = Predictions.from_run(folder), None
        points = freeze_operating_points(predictions, setup.policies, seed=self.config.seed)
        if self.config.calibration != "none":
            calibration = fit_calibration(predictions, self.config.calibration).as_record()
        folder.update(operating_points=points, calibration=calibration)
        write_figures(folder, setup.metrics)
        folder.end("finished", digest=digest_of(folder.predictions(final)))
        shutil.rmtree(folder.path / "checkpoints" / "previous", ignore_errors=True)
        write_report(folder)
        trackers.finish()
        folder.print_and_log(f"The run is in {folder.path}; its digest is {folder.record['digest'][:16]}.")

    def _record_halving(self, pieces: int) -> None:
        since = self.folder.record.get("epochs_done", 0) + 1
        self.batch_pieces = pieces
        self.folder.update(batch_pieces=pieces, batch_pieces_since=since)
        self.folder.print_and_log(f"warning: out of memory: each batch is now computed in {pieces} pieces.")

    def _train_in_processes(self) -> Metrics:
        """Trains in `devices` processes that this one starts and waits for."""
        if self.own_net is not None or self.own_catalog is not None:
            raise HilumError(
                f"devices is {self.devices}, and the run has a network or images of your own, which cannot be sent to "
                "other processes. Start your script with torchrun --nproc-per-node."
            )
        with tempfile.TemporaryDirectory(prefix="hilum-") as temporary:
            file = Path(temporary) / "settings.json"
            if self.resumed:
                given = self._changes
                arguments = ["resume", str(self.folder.path), str(file)]
            else:
                given = {name: value for name, value in self.config.as_record().items() if value is not None}
                arguments = ["train", str(file)]
            file.write_text(json.dumps(given, default=os.fspath), encoding="utf-8")
            launch = train_on_devices(arguments, self.devices, choose_device(self.config.device))
        if self.resumed:
            self._folder = RunFolder(self.folder.path)
        else:
            runs, _ = find_runs(self.config.save_path)
            self._folder = next(run for run in runs if run.record.get("launch") == launch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the processes have shown them
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
        """The metrics of a run with all its epochs, as at its end.

        Raises:
            HilumError: there is no run at `path`, or it has no finished epoch.
        """
        return Metrics.from_run(path)


def _settings_to_resume(
    folder: RunFolder, net: nn.Module | None, catalog: Catalog | None, changes: dict[str, Any]
) -> dict[str, Any]:
    """The run's settings, with those of `changes` that may change; an error if it cannot be resumed."""
    record = folder.record
    if record["status"] == "finished":
        raise HilumError(f"{folder.path}: the run has finished; there is nothing to resume.")
    for name, argument, given, needed in (
        ("network", "net", net is not None, record.get("own_net") is not None),
        ("catalog", "catalog", catalog is not None, record.get("own_catalog", False)),
    ):
        if given != needed:
            remedy = f"Resume it from Python, with {argument}=." if needed else "Leave it out."
            raise HilumError(
                f"{folder.path}: the run was made {'with' if needed else 'without'} a {name} of your own. {remedy}"
            )
    kept = {name: value for name, value in folder.settings.items() if value is not None}
    before, now = folder.settings, RunConfig(**(kept | changes)).as_record()
    fixed = [name for name in now if name in changes and name not in MAY_CHANGE]
    different = [name for name in fixed if now[name] != before.get(name)]
    if different:
        name = different[0]
        raise HilumError(
            f"{name}: the run started with {before.get(name)!r}, not {now[name]!r}; a different value "
            f"makes a different run. Leave {', '.join(different)} out, or train a new run. "
            f"These settings may change: {', '.join(MAY_CHANGE)}."
        )
    return kept | {"save_path": folder.path.parent, "name": folder.path.name} | changes
