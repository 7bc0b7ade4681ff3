"""Every setting of a run: its default, unit, limits and help, each named once.

The settings are in groups; each group is an argument of the code that it configures. Flags, TOML files and
run.json are flat: `--learning-rate 1e-3`, `learning_rate = 1e-3`.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hilum.errors import HilumError, nearest

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]

#: What an uncertain or a blank label can become, see `hilum.data.label_policies`.
EvaluationPolicy = Literal["zeros", "ones", "ignore"]
TrainingPolicy = Literal["zeros", "ones", "ignore", "smooth-zeros", "smooth-ones"]
UncertainPolicy = TrainingPolicy | Literal["multiclass", "chexpert-best"]

#: What each `epoch_args` name shows at the end of an epoch, as arguments of `Metrics.display_metrics`.
EPOCH_ARGS: dict[str, dict[str, Any]] = {
    "none": {"show_combined_metrics": False, "show_metric_data_frame": False},
    "combined": {"show_combined_metrics": True, "show_metric_data_frame": False},
    "standard": {"show_combined_metrics": True, "show_metric_data_frame": True, "metric_data_source": "val"},
    "full": {"show_combined_metrics": True, "show_metric_data_frame": True, "metric_data_source": "both"},
}

#: Accepted name -> today's name. The first two are the founding document's; run.json of format 1 has them.
ALIASES = {"aug_percent": "aug_fraction", "translate_percent": "translate_fraction"}

#: What is allowed, for settings whose general message says too little or repeats itself per accepted type.
_ALLOWED = {
    "name": "must be letters, digits, dots, dashes and underscores, beginning with a letter or digit",
    "uncertain_policy": "must be zeros, ones, ignore, smooth-zeros, smooth-ones, multiclass or chexpert-best, "
    "or one of them by target, as in {Edema = 'ones'}",
    "blank_policy": "must be zeros, ones, ignore, smooth-zeros or smooth-ones, or one of them by target",
    "eval_uncertain_policy": "must be zeros, ones or ignore, or one of them by target",
    "eval_blank_policy": "must be zeros, ones or ignore, or one of them by target",
    "number_images": "must be a whole number of images, 0 or more, or a fraction below 1",
    "target_thresholds": "must be within 0..1: one for all, a list with one per target, or a table {Edema = 0.2}",
    "threshold_policy": "must be fixed, recall>=R, precision>=P, fbeta:B or youden, or one of them by target, "
    "as in {Edema = 'recall>=0.95'}",
    "loggers": "must be a list of tensorboard and mlflow",
    "best_rule": "must be scores in order of importance, each with its tolerance, as in ['recall:0.01', 'roc_auc']",
    "epoch_args": f"must be {', '.join(EPOCH_ARGS)}, or a table of arguments of display_metrics",
}


class SettingsError(HilumError):
    """Settings that cannot be used; `problems` has one line for each."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        first = f"{len(problems)} settings cannot be used:\n  " if len(problems) > 1 else ""
        super().__init__(first + "\n  ".join(problems))


def _setting(default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, **limits)


class Settings(BaseModel, extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False):
    """A group of settings. It refuses unknown names and impossible values, all at once, with a SettingsError."""

    def __init__(self, **settings: Any):
        settings = with_current_names(settings)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            problems = dict.fromkeys(_explain(detail, settings) for detail in error.errors())
            raise SettingsError(list(problems)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("must be a value, not true or false")
        return value

    @field_validator("target_columns", "best_rule", "loggers", mode="before", check_fields=False)
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value


class DataSettings(Settings):
    """Data"""

    source: str = _setting(
        "phantom",
        "data set: chexpert, nih, mimic, padchest, vindr, kaggle, medmnist, folder, merge or phantom",
    )
    root: Path | None = _setting(None, "folder of the data set; the phantom has a default one")
    source_kwargs: dict[str, Any] = _setting({}, "filters of the source, such as {max_studies = 2}")
    check_images: bool = _setting(False, "decode every image once before training")
    target_columns: tuple[str, ...] | None = _setting(
        None, "targets by name, alias or set (competition); default: all"
    )


class LabelSettings(Settings):
    """Labels that are neither positive nor negative"""

    uncertain_policy: UncertainPolicy | dict[str, UncertainPolicy] = _setting(
        "zeros",
        "uncertain labels in training: zeros, ones, ignore, smooth-zeros, smooth-ones, multiclass "
        "or chexpert-best; or by target, {Edema = 'ones'}",
    )
    blank_policy: TrainingPolicy | dict[str, TrainingPolicy] = _setting(
        "zeros", "blank labels (not mentioned) in training: as above, without multiclass"
    )
    eval_uncertain_policy: EvaluationPolicy | dict[str, EvaluationPolicy] = _setting(
        "zeros", "uncertain labels in scores: zeros, ones or ignore; or by target"
    )
    eval_blank_policy: EvaluationPolicy | dict[str, EvaluationPolicy] = _setting(
        "zeros", "blank labels in scores: zeros, ones or ignore; or by target"
    )


class SplitSettings(Settings):
    """Split and sampling"""

    number_images: int | float = _setting(
        0, "random subset: a number of images, or a fraction below 1; 0 takes all", ge=0
    )
    val_fraction: Fraction = _setting(0.2, "fraction of the images for validation")
    test_fraction: Fraction = _setting(0.0, "fraction of the images for the test part")
    split_unit: Literal["patient", "image"] = _setting(
        "patient", "unit that is never in two parts: patient or image"
    )
    split_file: Path | None = _setting(None, "split.parquet of another run, used unchanged")
    official_split: bool = _setting(True, "use the data set's own test part, if it has one")
    balance_tolerance: Fraction = _setting(
        0.02, "warn of features whose proportion differs by more than this between parts"
    )
    observation_min_count: int | None = _setting(
        None, "oversampling: minimum number of images for each target vector in training", ge=1
    )
    sampling: Literal["rows", "weights"] = _setting(
        "rows", "oversampling method: repeated rows, or weighted draws in an epoch of the same length"
    )
    strict_leaks: bool = _setting(False, "refuse a split with duplicate images or patients in several parts")

    @field_validator("number_images")
    @classmethod
    def _count_or_fraction(cls, value: float) -> float:
        if isinstance(value, float) and value >= 1:
            if not value.is_integer():
                raise ValueError("must be a whole number of images, or a fraction below 1")
            return int(value)
        return value

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction ({self.val_fraction:g}) and test_fraction ({self.test_fraction:g}) leave "
                "nothing to train on: their sum must be below 1"
            )
        if self.split_file is not None:
            drawn = ("number_images", "val_fraction", "test_fraction", "split_unit", "official_split")
            fields = type(self).model_fields
            unused = ", ".join(name for name in drawn if getattr(self, name) != fields[name].default)
            if unused:
                raise ValueError(
                    f"split_file fixes the split, so {unused} would have no effect: leave out split_file or the others"
                )
        return self


class PixelSettings(Settings):
    """Pixels"""

    pack: str | None = _setting(
        None, "pack made by `hilum pack`, or the URL of its shards, to read instead of image files"
    )
    hierarchy: Path | None = _setting(None, "folder made by `hilum hierarchy`, to read image files from")
    fit: Literal["stretch", "letterbox", "crop"] = _setting(
        "stretch", "resize mode: stretch, letterbox (black bars) or crop (center)"
    )
    interpolation: Literal["auto", "area", "linear", "cubic", "nearest"] = _setting(
        "auto",
        "interpolation of the resize: auto, area, linear, cubic or nearest; auto takes area for a "
        "reduction by two or more",
    )
    image_width: int = _setting(320, "width, pixels", ge=16, le=4096)
    image_height: int = _setting(320, "height, pixels", ge=16, le=4096)
    pixel_mean: float | None = _setting(
        None, "mean for normalization, 0..1; default: published or measured", ge=0, le=1
    )
    pixel_sd: float | None = _setting(
        None, "standard deviation for normalization, 0..1; default: published or measured", gt=0, le=1
    )

    @field_validator("pack", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value


class AugmentationSettings(Settings):
    """Augmentation of the training part"""

    aug_fraction: Fraction = _setting(0.2, "fraction of the images that are augmented")
    affine_degrees: float = _setting(5.0, "largest rotation to either side, degrees", ge=0, le=180)
    translate_fraction: Fraction = _setting(0.05, "largest shift, fraction of width and height")
    shear_degrees: float = _setting(5.0, "largest horizontal shear, degrees", ge=0, lt=90)
    brightness_jitter: Fraction = _setting(0.2, "brightness factor, 1 +- this")
    contrast_jitter: Fraction = _setting(0.1, "contrast factor, 1 +- this")


class ModelSettings(Settings):
    """Model"""

    net_name: str = _setting("resnet_grayscale", "model; see `hilum models`")
    net_kwargs: dict[str, Any] = _setting({}, "arguments of the model, such as {layers = 34}")
    init_from: Path | None = _setting(
        None, "run whose best weights to start from; outputs are matched by target name"
    )
    frozen_epochs: int = _setting(0, "first epochs in which only the head is trained", ge=0)
    layer_decay: float = _setting(1.0, "learning rate factor per stage away from the head", gt=0, le=1)


class TrainingSettings(Settings):
    """Training"""

    num_epochs: int = _setting(4, "number of epochs", ge=1)
    batch_size: int = _setting(64, "images per batch, over all devices", ge=1)
    accumulate_batches: int = _setting(1, "gradient accumulation: batches per optimizer step", ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = _setting("adam", "optimizer: adam, adamw or sgd")
    learning_rate: float = _setting(1e-4, "peak learning rate", gt=0)
    momentum: float = _setting(0.9, "momentum of sgd", ge=0, lt=1)
    l2_reg: float = _setting(0.0, "weight decay: L2 for adam and sgd, decoupled for adamw", ge=0)
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = _setting(
        "constant", "learning rate schedule: constant, cosine, one_cycle or plateau"
    )
    warmup_epochs: float = _setting(0.0, "linear warm-up, epochs (schedules constant and cosine)", ge=0)
    plateau_patience: int = _setting(
        2,
        "patience of the plateau schedule: epochs without a lower validation loss before the "
        "learning rate is divided by 10",
        ge=0,
    )
    clip_norm: float | None = _setting(None, "gradient clipping: largest L2 norm", gt=0)
    loss: Literal["bce", "focal", "asymmetric", "auc_margin"] = _setting(
        "bce", "loss: bce, focal, asymmetric or auc_margin"
    )
    loss_kwargs: dict[str, Annotated[float, Field(strict=True)]] = _setting(
        {}, "arguments of the loss, such as {gamma = 2}"
    )
    loss_reduction: Literal["mean", "sum"] = _setting("mean", "reduction over the labels of a batch")
    use_positivity_weights: bool = _setting(
        False, "weight each target's positives by negatives / positives of the training part"
    )
    ema_decay: float | None = _setting(
        None, "exponential moving average of the weights: decay per step", gt=0, lt=1
    )
    best_rule: tuple[str, ...] = _setting(
        ("recall:0.01", "roc_auc:0.002", "precision"),
        "choice of the best epoch: scores in order of importance, each with its tolerance",
    )
    early_stopping: int | None = _setting(
        None, "early-stopping patience, epochs; default: no early stopping", ge=1
    )
    target_thresholds: Probability | tuple[Probability, ...] | dict[str, Probability] | None = _setting(
        None, "decision thresholds: one, one per target, or {Edema = 0.2}; default 0.5"
    )
    threshold_policy: str | dict[str, str] | None = _setting(
        None,
        "operating points chosen on validation: fixed, recall>=R, precision>=P, fbeta:B or youden; or "
        "by target; default recall>=0.9, or fixed where target_thresholds are given",
    )
    calibration: Literal["none", "temperature", "platt"] = _setting(
        "none", "calibration of the probabilities on validation: none, temperature or platt"
    )
    seed: int = _setting(0, "seed of every random draw", ge=0, lt=2**63)
    device: str = _setting("auto", "device: auto, cpu, cuda or cuda:N")
    devices: int = _setting(1, "number of devices, one process each (data parallel)", ge=1)
    precision: Literal["auto", "32", "bf16", "16"] = _setting(
        "auto", "precision: auto (bf16 where the device has it natively, else 32), 32, bf16 or 16"
    )
    compile: bool = _setting(False, "compile the model with torch.compile")
    deterministic: bool = _setting(False, "on CUDA: deterministic operators only")
    on_oom: Literal["stop", "halve"] = _setting(
        "stop", "when out of memory: stop, or halve the batch and accumulate gradients"
    )
    num_workers: int | None = _setting(None, "loader processes; default: half the cores", ge=0)

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        if self.devices > 1 and self.on_oom == "halve":
            raise ValueError("on_oom halve works on one device; with several, use a smaller batch_size")
        return self


class OutputSettings(Settings):
    """Output"""

    save_path: Path = _setting(Path("runs"), "folder of run folders")
    name: str | None = _setting(
        None, "name of the run folder; default: numbered", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    epoch_args: Literal["none", "combined", "standard", "full"] | dict[str, Any] = _setting(
        "standard", "tables shown after each epoch: none, combined, standard or full"
    )
    quiet: bool = _setting(False, "plain lines instead of progress bars")
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = _setting(
        (), "experiment trackers: tensorboard, mlflow"
    )
    mlflow_uri: str | None = _setting(None, "MLflow tracking URI; default: an SQLite file in save_path")


class RunConfig(BaseModel, frozen=True):
    """The settings of one run, in groups.

    `RunConfig(learning_rate=1e-3, aug_fraction=0)` takes settings by name, whatever their group;
    `config.learning_rate` and `config.training.learning_rate` both read one.

    Raises:
        HilumError: for unknown names and impossible values, all at once.
    """

    data: DataSettings
    labels: LabelSettings
    split: SplitSettings
    pixels: PixelSettings
    augmentation: AugmentationSettings
    model: ModelSettings
    training: TrainingSettings
    output: OutputSettings

    def __init__(self, **settings: Any):
        settings = with_current_names(settings)
        groups: dict[str, Settings] = {}
        problems: list[str] = []
        for group, kind in setting_groups().items():
            try:
                groups[group] = kind(
                    **{name: settings[name] for name in kind.model_fields if name in settings}
                )
            except SettingsError as error:
                problems += error.problems
        problems += [_unknown(name) for name in settings if name not in setting_fields()]
        if problems:
            raise SettingsError(problems)
        super().__init__(**groups)

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not groups: a flat read of a setting.
        name = ALIASES.get(name, name)
        for group, kind in setting_groups().items():
            if name in kind.model_fields:
                return getattr(getattr(self, group), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def given(self) -> set[str]:
        """Names of the settings that were given; the others have their defaults."""
        return {name for group in setting_groups() for name in getattr(self, group).model_fields_set}

    def as_record(self) -> dict[str, Any]:
        """All settings as JSON values, flat, in order."""
        groups = (getattr(self, group) for group in setting_groups())
        return {name: value for group in groups for name, value in group.model_dump(mode="json").items()}


def setting_groups() -> dict[str, type[Settings]]:
    """Name of each group -> its class."""
    return {name: field.annotation for name, field in RunConfig.model_fields.items()}  # type: ignore[misc]


def setting_fields() -> dict[str, FieldInfo]:
    """Name of each setting -> its field, in order."""
    return {name: field for kind in setting_groups().values() for name, field in kind.model_fields.items()}


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, aliases replaced by today's names.

    Raises:
        SettingsError: a setting is given under both names.
    """
    twice = (alias for alias, name in ALIASES.items() if alias in settings and name in settings)
    if problems := [f"{alias} is another name of {ALIASES[alias]}: give one of them." for alias in twice]:
        raise SettingsError(problems)
    return {ALIASES.get(name, name): value for name, value in settings.items()}


def check_effect(config: RunConfig) -> None:
    """Refuses settings of a new run that have no effect with its other settings.

    Raises:
        HilumError: names the setting and what it needs.
    """
    needs = {"momentum": ("optimizer", "sgd"), "plateau_patience": ("schedule", "plateau")}
    needs["mlflow_uri"] = ("loggers", "mlflow")
    for name, (other, needed) in needs.items():
        if getattr(config, name) != getattr(DEFAULTS, name) and needed not in getattr(config, other):
            raise HilumError(f"{name} has no effect without {other} {needed}: leave it out, or set {other}.")


def settings_from_file(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, or in a JSON file such as a run's run.json; not yet validated.

    Raises:
        HilumError: the file is missing, or is neither TOML nor a JSON object.
    """
    if path.suffix != ".json":
        return settings_from_toml(path)
    record = _parsed(path, json.loads, "JSON")
    if not isinstance(record, dict):
        raise HilumError(f"{path}: this file has no settings: it is not one JSON object.")
    if isinstance(record.get("settings"), dict):
        record = record["settings"]
    return {name: value for name, value in record.items() if value is not None}


def settings_from_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, not yet validated.

    Raises:
        HilumError: the file is missing or is not TOML.
    """
    return _parsed(path, tomllib.loads, "TOML")


def _parsed(path: Path, parse: Callable[[str], Any], kind: str) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HilumError(f"{path}: this settings file does not exist.") from None
    except (ValueError, OSError) as error:
        raise HilumError(f"{path}: this is not a {kind} file: {error}.") from None


def _unknown(name: str) -> str:
    hint = nearest(name, setting_fields())
    return f"There is no setting {name!r}.{hint} See `hilum train --help` for all of them."


def _explain(detail: ErrorDetails, settings: dict[str, Any]) -> str:
    """One line that names the setting, its value and what is allowed."""
    if not detail["loc"]:
        return detail["msg"].removeprefix("Value error, ") + "."
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return _unknown(name)
    if name in _ALLOWED:
        return f"Setting {name}: {settings[name]!r} {_ALLOWED[name]}."
    if detail["type"] == "path_type":
        return f"Setting {name}: {detail['input']!r} must be a path."
    kind = detail["type"].partition("_")[0]
    allowed = {
        "int": "must be a whole number",
        "float": "must be a number",
        "bool": "must be true or false",
    }.get(kind) or detail["msg"]
    allowed = allowed.removeprefix("Value error, ").replace("Input should", "must")
    hint = nearest(str(detail["input"]), re.findall(r"'([^']+)'", allowed)) if kind == "literal" else ""
    return f"Setting {name}: {detail['input']!r} {allowed}.{hint}"


#: The defaults, for signatures elsewhere.
DEFAULTS = RunConfig()
