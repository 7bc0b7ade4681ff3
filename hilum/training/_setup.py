"""From settings to what a run trains with: images and labels, split, loaders, network, loop."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hilum.config import RunConfig
from hilum.data.folder_copy import open_hierarchy
from hilum.data.label_policies import evaluation_labels, multiclass_targets, training_labels
from hilum.data.loaders import (
    EpochBatchSampler,
    Loaders,
    actual_labels,
    measure_pixels,
    trained_labels,
    without_left_out,
)
from hilum.data.split import Split, check_balance, check_leaks, load_split, make_split
from hilum.metrics import Metrics
from hilum.metrics.selection import BestEpoch, parse_rule
from hilum.metrics.thresholds import Policy, resolve_policies
from hilum.models import Normalized, build_model
from hilum.models.layer_groups import backbone_modules, stages
from hilum.models.transfer import Transfer, initialise_from
from hilum.run_folder import RunFolder
from hilum.sources import Catalog, open_catalog
from hilum.sources.images import check_images
from hilum.training._oom import OutOfMemoryRetry
from hilum.training.loop import TrainingLoop
from hilum.training.losses import make_loss, positivity_weights
from hilum.training.optim import AveragedWeights, make_optimizer, make_schedule


def sampler_of(loader: DataLoader) -> EpochBatchSampler:
    """The batch sampler of a loader that `Loaders` has made."""
    assert isinstance(loader.batch_sampler, EpochBatchSampler)
    return loader.batch_sampler


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The images of a run, ready for training."""

    catalog: Catalog  # with the labels to score against
    classed: np.ndarray  # bool (targets,): the targets that have three classes in training
    split: Split
    train_loader: DataLoader
    val_loader: DataLoader
    pixel_mean: float  # of the training pixels, 0..1
    pixel_sd: float
    fingerprint: str  # of the data set, before the run's choice of targets and policies
    image_root: Path | dict[str, Path] | None

    @property
    def outputs(self) -> int:
        """Number of outputs that the network must have."""
        return len(self.catalog.targets) + 2 * int(self.classed.sum())

    @property
    def images(self) -> dict[str, tuple[int, int]]:
        """Number of images of an epoch by part ("train", "val"): on this device, and on all devices."""
        samplers = {"train": sampler_of(self.train_loader), "val": sampler_of(self.val_loader)}
        return {part: (sampler.images, sampler.count) for part, sampler in samplers.items()}


@dataclass(frozen=True, eq=False)
class RunSetup:
    """Everything that a run trains with."""

    fabric: Fabric  # device, precision and the processes that train together
    data: PreparedData
    metrics: Metrics  # without epochs yet
    policies: dict[str, Policy]  # target -> how its threshold is chosen
    best: BestEpoch  # without epochs yet
    loop: TrainingLoop  # with network, loss, optimizer and schedule
    transfer: Transfer | None  # what was taken from the run `init_from`, if anything
    imbalance: pd.DataFrame  # features whose share differs between the parts, see `check_balance`


def set_up(
    config: RunConfig,
    fabric: Fabric,
    oom: OutOfMemoryRetry,
    own_net: nn.Module | None = None,
    own_catalog: Catalog | None = None,
    *,
    has_checkpoint: bool = False,
) -> RunSetup:
    """Opens the data and builds the network, the loss and the loop of a run.

    `own_net` and `own_catalog` are used instead of `config.net_name` and `config.source`. With `has_checkpoint` a
    checkpoint's weights will be loaded, so no initial weights are read.

    Raises:
        HilumError: data or settings that cannot be used, or do not fit each other.
    """
    rule = parse_rule(config.best_rule)
    on_gpu = fabric.device.type == "cuda"
    data = prepare_data(
        config, own_catalog, pin_memory=on_gpu, rank=fabric.global_rank, devices=fabric.world_size
    )
    targets, manual = data.catalog.targets, config.target_thresholds
    policies = resolve_policies(config.threshold_policy, targets, manual_thresholds=manual is not None)
    metrics = Metrics(targets, actual_labels(data.train_loader), actual_labels(data.val_loader), manual)
    best = BestEpoch(rule, policies, metrics.target_thresholds.tolist(), config.early_stopping)
    net = prepare_net(config, data, own_net, pretrained=not has_checkpoint)
    transfer = None if has_checkpoint else prepare_weights(config, net, data)
    criterion = prepare_criterion(config, data)
    optimizer = prepare_optimizer(config, net, criterion, fabric.device)
    steps_per_epoch = ceil(len(data.train_loader) / config.accumulate_batches)
    compiled: Any = torch.compile(net) if config.compile else net
    loop = TrainingLoop(
        fabric,
        compiled,
        optimizer,
        criterion,
        metrics,
        seed=config.seed,
        schedule=make_schedule(optimizer, config.training, steps_per_epoch),
        accumulate_batches=config.accumulate_batches,
        clip_norm=config.clip_norm,
        average=AveragedWeights(net, config.ema_decay) if config.ema_decay else None,
        oom=oom,
        frozen=backbone_modules(net, _size(config)) if config.frozen_epochs else (),
        frozen_epochs=config.frozen_epochs,
    )
    imbalance = check_balance(data.catalog, data.split, config.balance_tolerance)
    return RunSetup(fabric, data, metrics, policies, best, loop, transfer, imbalance)


def prepare_data(config: RunConfig, own_catalog: Catalog | None = None, **loading: Any) -> PreparedData:
    """Opens, labels, splits and loads the images of a run.

    `own_catalog` is used instead of `config.source`; `loading` is `pin_memory`, `rank` and `devices` of
    `hilum.data.loaders.Loaders`.

    Raises:
        HilumError: data that cannot be used, or that do not fit the settings.
    """
    catalog = own_catalog or open_catalog(config.source, config.root, **config.source_kwargs)
    fingerprint, image_root = catalog.fingerprint, catalog.root
    catalog = catalog.select_targets(config.target_columns)
    column = "Image_Path"
    if config.hierarchy is not None:
        catalog, column = open_hierarchy(catalog, config.hierarchy), "Hierarchical_Path"
    if config.pack is not None:
        in_pack = without_left_out(config.pack, catalog)
        if missing := len(catalog) - len(in_pack):
            print(f"warning: {missing:,} images are left out: they are not in {config.pack}.")
        catalog = in_pack
    if config.check_images:
        check_images(catalog.image_paths(column))
    to_train_on = training_labels(catalog, config.labels, config.seed)
    to_train_on = pd.DataFrame(to_train_on, catalog.table.index, list(catalog.targets))
    classed = multiclass_targets(catalog, config.labels)
    catalog = catalog.with_labels(evaluation_labels(catalog, config.labels))
    if config.split_file is not None:
        split = load_split(config.split_file, catalog)
    else:
        split = make_split(catalog, config.split, config.seed)
    if config.strict_leaks:
        check_leaks(catalog, split, column=column)
    loaders = Loaders(
        catalog,
        pixels=config.pixels,
        augmentation=config.augmentation,
        split=config.split,
        training=config.training,
        training_labels=to_train_on,
        image_column=column,
        **loading,
    )
    train_loader, val_loader = loaders.get_train_val_loaders(split=split)
    mean, sd = _pixel_stats(config, catalog, train_loader)
    return PreparedData(catalog, classed, split, train_loader, val_loader, mean, sd, fingerprint, image_root)


def _pixel_stats(config: RunConfig, catalog: Catalog, train_loader: DataLoader) -> tuple[float, float]:
    """Mean and standard deviation: of the settings, else published, else measured."""
    mean, sd = catalog.pixel_stats or (None, None)
    mean = mean if config.pixel_mean is None else config.pixel_mean
    sd = sd if config.pixel_sd is None else config.pixel_sd
    if mean is None or sd is None:
        measured = measure_pixels(train_loader, config.seed)
        mean, sd = (measured[0] if mean is None else mean), (measured[1] if sd is None else sd)
    return mean, sd


def prepare_net(
    config: RunConfig, data: PreparedData, own_net: nn.Module | None = None, *, pretrained: bool = True
) -> Normalized:
    """The network of a run before training; `own_net` instead of `config.net_name`.

    Without `pretrained` the model's initial weights are not loaded, because others will be.

    Raises:
        HilumError: an unknown model, arguments that it does not have, or weights that are missing.
    """
    if own_net is not None:
        net = Normalized(own_net, data.pixel_mean, data.pixel_sd)
    else:
        net = build_model(
            config.net_name,
            data.outputs,
            config.net_kwargs,
            mean=data.pixel_mean,
            sd=data.pixel_sd,
            seed=config.seed,
            image_size=_size(config),
            pretrained=pretrained,
        )
    # Convolutions are faster with the channels innermost, on CPUs and GPUs alike.
    return net.to(memory_format=torch.channels_last)


def prepare_weights(config: RunConfig, net: Normalized, data: PreparedData) -> Transfer | None:
    """Loads the weights of the run `config.init_from` into the network, if one is given.

    Raises:
        HilumError: there is no such run, or its network is another.
    """
    if config.init_from is None:
        return None
    source = RunFolder(config.init_from)
    return initialise_from(net, source, data.catalog.targets, model=config.net_name, image_size=_size(config))


def prepare_optimizer(
    config: RunConfig, net: nn.Module, criterion: nn.Module, device: torch.device
) -> Optimizer:
    """The optimizer of a run."""
    decay = config.layer_decay
    groups = stages(net, _size(config)) if decay < 1 else None
    fused = device.type == "cuda"
    return make_optimizer(net, criterion, config.training, layer_decay=decay, stages=groups, fused=fused)


def prepare_criterion(config: RunConfig, data: PreparedData) -> nn.Module:
    """The loss of a run, weighted by its training part if the settings ask for it.

    Raises:
        HilumError: a loss or an argument of it that does not exist or does not fit.
    """
    targets = data.catalog.targets
    labels = trained_labels(data.train_loader).to_numpy()
    chances = sampler_of(data.train_loader).weights
    weights = positivity_weights(labels, targets, chances) if config.use_positivity_weights else None
    # The fraction of positives among the labels that are drawn and known.
    positive = np.where(labels <= 1, labels, np.nan)  # an uncertain class is neither
    drawn = np.ones((len(labels), 1)) if chances is None else chances[:, None]
    known = (drawn * ~np.isnan(positive)).sum(axis=0)
    total = np.nansum(drawn * positive, axis=0)
    prevalence = np.divide(total, known, out=np.zeros(len(targets)), where=known > 0)
    return make_loss(
        config.training, targets=targets, classed=data.classed, prevalence=prevalence, pos_weight=weights
    )


def _size(config: RunConfig) -> tuple[int, int]:
    return config.image_width, config.image_height
