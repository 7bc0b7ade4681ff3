"""From settings to what a training needs: images and labels, split, loaders, network, loop."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

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
from hilum.data.loaders import Loaders, measure_pixels, trained_labels, without_left_out
from hilum.data.split import Split, check_leaks, load_split, make_split
from hilum.metrics import Metrics
from hilum.models import Normalized, build_model
from hilum.models.layer_groups import backbone_modules, stages
from hilum.models.transfer import Transfer, initialise_from
from hilum.run_folder import RunFolder
from hilum.sources import Catalog, open_catalog
from hilum.sources.images import check_images
from hilum.training.loop import TrainingLoop
from hilum.training.losses import make_loss, positivity_weights
from hilum.training.oom import MemoryKeeper
from hilum.training.optim import AveragedWeights, make_optimizer, make_schedule


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The images of a run, ready to be learned from.

    Attributes:
        catalog: with the labels that are scored against.
        classed: bool (targets,), which targets have three classes in training.
        split: who is in which part.
        train_loader: batches to learn from.
        val_loader: batches to validate on.
        pixel_mean: of the training pixels, 0..1.
        pixel_sd: of the training pixels, 0..1.
        fingerprint: of the data set, before the run's choice of targets and policies.
        image_root: where the image files lie.
    """

    catalog: Catalog
    classed: np.ndarray
    split: Split
    train_loader: DataLoader
    val_loader: DataLoader
    pixel_mean: float
    pixel_sd: float
    fingerprint: str
    image_root: Path | dict[str, Path] | None

    @property
    def outputs(self) -> int:
        """How many the network must have."""
        return len(self.catalog.targets) + 2 * int(self.classed.sum())


def prepare_data(
    config: RunConfig,
    own_catalog: Catalog | None = None,
    *,
    pin_memory: bool = False,
    device: int = 0,
    devices: int = 1,
) -> PreparedData:
    """Opens, labels, splits and loads the images of a run.

    Args:
        config: of the run.
        own_catalog: images in place of `config.source`.
        pin_memory: page-locked batches, for a GPU.
        device: which of several devices that train together this is for, from 0.
        devices: how many there are.

    Raises:
        HilumError: whatever is wrong with the data, or does not fit the settings.
    """
    catalog = own_catalog or open_catalog(config.source, config.root, **config.source_kwargs)
    fingerprint = catalog.fingerprint
    catalog = catalog.select_targets(config.target_columns)
    image_root = catalog.root
    column = "Image_Path"
    if config.hierarchy is not None:
        catalog, column = open_hierarchy(catalog, config.hierarchy), "Hierarchical_Path"
    if config.pack is not None:
        catalog = _packed(catalog, config.pack)
    if config.check_images:
        check_images(catalog.image_paths(column))
    to_train_on = training_labels(catalog, config.labels, config.seed)
    to_train_on = pd.DataFrame(to_train_on, catalog.table.index, list(catalog.targets))
    classed = multiclass_targets(catalog, config.labels)
    catalog = catalog.with_labels(evaluation_labels(catalog, config.labels))
    split = _split(config, catalog)
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
        pin_memory=pin_memory,
        rank=device,
        devices=devices,
    )
    train_loader, val_loader = loaders.get_train_val_loaders(split=split)
    mean, sd = _pixel_stats(config, catalog, train_loader)
    return PreparedData(catalog, classed, split, train_loader, val_loader, mean, sd, fingerprint, image_root)


def prepare_net(
    config: RunConfig, data: PreparedData, own_net: nn.Module | None = None, *, pretrained: bool = True
) -> Normalized:
    """The network of a run, as it is before training.

    Args:
        config: of the run.
        data: of the run.
        own_net: in place of `config.net_name`.
        pretrained: load the weights that the model begins with; not needed where others follow.

    Raises:
        HilumError: an unknown model, settings it does not take, or weights that are not there.
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


def prepare_weights(config: RunConfig, net: Normalized, data: PreparedData) -> Transfer:
    """Gives the network the weights of the former run that `config.init_from` names.

    Raises:
        HilumError: there is no such run, or its network is another.
    """
    former = RunFolder(config.init_from)
    return initialise_from(net, former, data.catalog.targets, model=config.net_name, image_size=_size(config))


def prepare_optimizer(
    config: RunConfig, net: nn.Module, criterion: nn.Module, *, device: torch.device
) -> Optimizer:
    """The optimizer of a run.

    Raises:
        HilumError: settings of it that do not fit.
    """
    return make_optimizer(
        net,
        criterion,
        name=config.optimizer,
        learning_rate=config.learning_rate,
        l2_reg=config.l2_reg,
        momentum=config.momentum,
        layer_decay=config.layer_decay,
        stages=stages(net, _size(config)) if config.layer_decay < 1 else None,
        fused=device.type == "cuda",
    )


def prepare_loop(
    config: RunConfig,
    fabric: Fabric,
    data: PreparedData,
    net: nn.Module,
    metrics: Metrics,
    memory: MemoryKeeper,
    on_batch: Callable[[str, int], None],
) -> TrainingLoop:
    """The loop of a run with its loss, optimizer and schedule.

    Raises:
        HilumError: settings of them that do not fit.
    """
    criterion = prepare_criterion(config, data)
    optimizer = prepare_optimizer(config, net, criterion, device=fabric.device)
    schedule = make_schedule(
        optimizer,
        config.schedule,
        num_epochs=config.num_epochs,
        steps_per_epoch=ceil(len(data.train_loader) / config.accumulate_batches),
        warmup_epochs=config.warmup_epochs,
        plateau_patience=config.plateau_patience,
    )
    return TrainingLoop(
        fabric,
        torch.compile(net) if config.compile else net,
        optimizer,
        criterion,
        metrics,
        seed=config.seed,
        schedule=schedule,
        accumulate_batches=config.accumulate_batches,
        clip_norm=config.clip_norm,
        average=AveragedWeights(net, config.ema_decay) if config.ema_decay else None,
        memory=memory,
        frozen=backbone_modules(net, _size(config)) if config.frozen_epochs else (),
        frozen_epochs=config.frozen_epochs,
        on_batch=on_batch,
    )


def prepare_criterion(config: RunConfig, data: PreparedData) -> nn.Module:
    """The loss of a run, weighted by its training part if that is asked for.

    Raises:
        HilumError: a loss or a setting of it that does not exist or does not fit.
    """
    labels = trained_labels(data.train_loader).to_numpy()
    chances = data.train_loader.batch_sampler.weights
    weights = None
    if config.use_positivity_weights:
        weights = positivity_weights(labels, data.catalog.targets, chances)
    return make_loss(
        config.loss,
        config.loss_kwargs,
        reduction=config.loss_reduction,
        pos_weight=weights,
        prevalence=_prevalence(labels, chances),
        classed=data.classed,
        targets=data.catalog.targets,
    )


def _size(config: RunConfig) -> tuple[int, int]:
    return config.image_width, config.image_height


def _prevalence(labels: np.ndarray, chances: np.ndarray | None) -> np.ndarray:
    """The share of positives of each target among the labels (images, targets) that are drawn and known."""
    shares = np.where(labels <= 1, labels, np.nan)  # an uncertain class is neither
    often = np.ones((len(labels), 1)) if chances is None else chances[:, None]
    known = (often * ~np.isnan(shares)).sum(axis=0)
    return np.divide(np.nansum(often * shares, axis=0), known, out=np.zeros(labels.shape[1]), where=known > 0)


def _packed(catalog: Catalog, pack: str) -> Catalog:
    packed = without_left_out(pack, catalog)
    if len(packed) < len(catalog):
        print(f"warning: {len(catalog) - len(packed):,} images are left out; {pack} has not got them.")
    return packed


def _split(config: RunConfig, catalog: Catalog) -> Split:
    if config.split_file is not None:
        return load_split(config.split_file, catalog)
    return make_split(catalog, config.split, config.seed)


def _pixel_stats(config: RunConfig, catalog: Catalog, train_loader: DataLoader) -> tuple[float, float]:
    mean, sd = catalog.pixel_stats or (None, None)
    mean = mean if config.pixel_mean is None else config.pixel_mean
    sd = sd if config.pixel_sd is None else config.pixel_sd
    if mean is None or sd is None:
        measured = measure_pixels(train_loader, config.seed)
        mean, sd = (measured[0] if mean is None else mean), (measured[1] if sd is None else sd)
    return mean, sd
