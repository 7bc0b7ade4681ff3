"""Every setting of a run, its default, its unit and its limits: named here, once."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hilum.errors import HilumError, nearest

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]

#: What an uncertain or a blank label may become, see `hilum.data.label_policies`.
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


class RunConfig(BaseModel):
    """The settings of one run. Unknown names and impossible values are refused, all at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    # Data
    source: str = Field("phantom", description="the data set; see `hilum catalog --help`")
    root: Path | None = Field(None, description="the data set's folder; the phantom has one of its own")
    source_kwargs: dict[str, Any] = Field(
        {}, description="the source's own filters, such as {max_studies = 2}"
    )
    check_images: bool = Field(False, description="decode every image once before training")
    target_columns: tuple[str, ...] | None = Field(
        None, description="targets by name, alias or set (competition); all if left out"
    )
    number_images: int | float = Field(
        0, ge=0, description="a random subset: a count, or a fraction below 1; 0 takes all"
    )

    # Labels that are neither positive nor negative
    uncertain_policy: UncertainPolicy | dict[str, UncertainPolicy] = Field(
        "zeros",
        description="uncertain labels in training: zeros, ones, ignore, smooth-zeros, smooth-ones, multiclass "
        "or chexpert-best; or by target, {Edema = 'ones'}",
    )
    blank_policy: TrainingPolicy | dict[str, TrainingPolicy] = Field(
        "zeros", description="labels not mentioned, in training: as above, without multiclass"
    )
    eval_uncertain_policy: EvaluationPolicy | dict[str, EvaluationPolicy] = Field(
        "zeros", description="uncertain labels in every score: zeros, ones or ignore; or by target"
    )
    eval_blank_policy: EvaluationPolicy | dict[str, EvaluationPolicy] = Field(
        "zeros", description="labels not mentioned, in every score: zeros, ones or ignore; or by target"
    )

    # Split
    val_fraction: Fraction = Field(0.2, description="share of the images for validation")
    test_fraction: Fraction = Field(0.0, description="share of the images kept for testing")
    split_unit: Literal["patient", "image"] = Field(
        "patient", description="what never lies on both sides: patient, or only image"
    )
    split_file: Path | None = Field(None, description="the split.parquet of a former run, used as it is")
    official_split: bool = Field(True, description="honour the data set's own test part, where it has one")
    balance_tolerance: Fraction = Field(
        0.02, description="warn of features whose share differs by more than this between parts"
    )
    observation_min_count: int | None = Field(
        None, ge=1, description="oversample the training part: each target vector at least so often"
    )
    sampling: Literal["rows", "weights"] = Field(
        "rows", description="oversample by more rows, or by weighted draws in an epoch of the usual length"
    )
    strict_leaks: bool = Field(
        False, description="refuse a split with duplicate images or patients across its parts"
    )

    # Pixels
    pack: str | None = Field(
        None, description="a pack made by `hilum pack`, or the URL of its shards, in place of image files"
    )
    hierarchy: Path | None = Field(
        None, description="a folder made by `hilum hierarchy`, to read the image files from"
    )
    fit: Literal["stretch", "letterbox", "crop"] = Field(
        "stretch",
        description="how an image comes to its size: stretch, letterbox (black bars), crop (center)",
    )
    interpolation: Literal["auto", "area", "linear", "cubic", "nearest"] = Field(
        "auto",
        description="of the resizing: auto, area, linear, cubic or nearest; auto averages areas from half on",
    )
    image_width: int = Field(320, ge=16, le=4096, description="pixels")
    image_height: int = Field(320, ge=16, le=4096, description="pixels")
    pixel_mean: float | None = Field(None, ge=0, le=1, description="0..1; published or measured if left out")
    pixel_sd: float | None = Field(None, gt=0, le=1, description="0..1; published or measured if left out")

    # Augmentation of the training part
    aug_percent: Probability = Field(0.2, description="share of the images that are augmented, 0..1")
    affine_degrees: float = Field(5.0, ge=0, le=180, description="rotation within +- this, degrees")
    translate_percent: Fraction = Field(0.05, description="shift within +- this share of width and height")
    shear_degrees: float = Field(5.0, ge=0, lt=90, description="horizontal shear within +- this, degrees")
    brightness_jitter: Fraction = Field(0.2, description="brightness times 1 +- this")
    contrast_jitter: Fraction = Field(0.1, description="contrast times 1 +- this")

    # Model
    net_name: str = Field("resnet_grayscale", description="the model; see `hilum models`")
    net_kwargs: dict[str, Any] = Field({}, description="the model's own settings, such as {layers = 34}")
    init_from: Path | None = Field(
        None, description="a run whose best weights to begin with; outputs are matched by target name"
    )
    frozen_epochs: int = Field(0, ge=0, description="epochs at the beginning in which only the head learns")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate times this for each stage away from the head"
    )

    # Training
    num_epochs: int = Field(4, ge=1, description="passes over the training part")
    batch_size: int = Field(64, ge=1, description="images, over all devices together")
    accumulate_batches: int = Field(1, ge=1, description="batches whose gradients make one step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd")
    learning_rate: float = Field(1e-4, gt=0, description="of the optimizer, at its highest")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    l2_reg: float = Field(0.0, ge=0, description="weight decay: L2 for adam and sgd, decoupled for adamw")
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = Field(
        "constant", description="of the learning rate: constant, cosine, one_cycle or plateau"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="linear rise of the learning rate (constant, cosine)")
    plateau_patience: int = Field(
        2,
        ge=0,
        description="epochs without a lower validation loss before the plateau schedule divides by 10",
    )
    clip_norm: float | None = Field(None, gt=0, description="largest L2 norm of a step's gradient")
    loss: Literal["bce", "focal", "asymmetric", "auc_margin"] = Field(
        "bce", description="bce, focal, asymmetric or auc_margin"
    )
    loss_kwargs: dict[str, float] = Field({}, description="the loss's own settings, such as {gamma = 2}")
    loss_reduction: Literal["mean", "sum"] = Field("mean", description="over a batch's labels")
    use_positivity_weights: bool = Field(
        False, description="weigh each target's positives by negatives / positives of the training part"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="validate and keep an average of the weights with this decay per step"
    )
    best_rule: tuple[str, ...] = Field(
        ("recall:0.01", "roc_auc:0.002", "precision"),
        description="what makes an epoch the best: scores in order, each with the difference that is none",
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better one"
    )
    target_thresholds: Probability | tuple[Probability, ...] | dict[str, Probability] | None = Field(
        None, description="positive from this probability on: one, one per target, or {Edema = 0.2}; 0.5"
    )
    threshold_policy: str | dict[str, str] | None = Field(
        None,
        description="the frozen operating points: fixed, recall>=R, precision>=P, fbeta:B or youden, or by target; "
        "recall>=0.9, or fixed where target_thresholds are given",
    )
    calibration: Literal["none", "temperature", "platt"] = Field(
        "none", description="of the probabilities, fitted on validation: none, temperature or platt"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of everything that is drawn")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    devices: int = Field(1, ge=1, description="so many processes train together, each on a device of its own")
    precision: Literal["auto", "32", "bf16", "16"] = Field(
        "auto", description="auto (bf16 where the device has it natively, else 32), 32, bf16 or 16"
    )
    compile: bool = Field(False, description="compile the model with torch.compile")
    deterministic: bool = Field(
        False, description="on CUDA: only operators that give the same result each time"
    )
    on_oom: Literal["stop", "halve"] = Field(
        "stop", description="out of memory: stop, or halve what is computed at once and accumulate"
    )
    num_workers: int | None = Field(None, ge=0, description="loader processes; half the cores if left out")

    # Output
    save_path: Path = Field(Path("runs"), description="the folder of run folders")
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run folder; numbered if left out"
    )
    epoch_args: Literal["none", "combined", "standard", "full"] | dict[str, Any] = Field(
        "standard", description="what to show after each epoch: none, combined, standard, full"
    )
    quiet: bool = Field(False, description="plain lines instead of progress bars")
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = Field(
        (), description="also write to tensorboard, mlflow"
    )
    mlflow_uri: str | None = Field(
        None, description="MLflow's tracking store; an SQLite file in save_path if left out"
    )

    def __init__(self, **settings: Any):
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise HilumError(_explain(error, settings)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must be a value, not true or false")
        return value

    @field_validator("target_columns", "best_rule", "loggers", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("number_images")
    @classmethod
    def _count_or_fraction(cls, value: float) -> float:
        if isinstance(value, float) and value >= 1:
            if not value.is_integer():
                raise ValueError("must be a whole number of images, or a fraction below 1")
            return int(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction ({self.val_fraction:g}) and test_fraction ({self.test_fraction:g}) leave "
                "nothing to train on: their sum must be below 1"
            )
        if self.devices > 1 and self.on_oom == "halve":
            raise ValueError("on_oom halve works on one device; with several, use a smaller batch_size")
        if self.split_file is not None:
            fields = type(self).model_fields
            drawn = ("number_images", "val_fraction", "test_fraction", "split_unit", "official_split")
            also = [name for name in drawn if getattr(self, name) != fields[name].default]
            if also:
                raise ValueError(
                    f"split_file fixes the split, so {', '.join(also)} would do nothing: leave the one or the other out"
                )
        return self

    def as_record(self) -> dict[str, Any]:
        """The settings as JSON values, in order."""
        return self.model_dump(mode="json")


def refuse_idle(config: RunConfig) -> None:
    """Refuses settings of a new run that would do nothing beside its others.

    Raises:
        HilumError: names the setting, and what it needs.
    """
    for name, needs, serves in (
        ("momentum", "optimizer", "sgd"),
        ("plateau_patience", "schedule", "plateau"),
        ("mlflow_uri", "loggers", "mlflow"),
    ):
        given = getattr(config, name) != RunConfig.model_fields[name].default
        if given and serves not in getattr(config, needs):
            raise HilumError(f"{name} does nothing without {needs} {serves}: leave it out, or set {needs}.")


def settings_from_file(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, or in a JSON file such as a run's run.json; not yet validated.

    Raises:
        HilumError: the file is missing, or neither TOML nor a JSON object.
    """
    if path.suffix != ".json":
        return settings_from_toml(path)
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HilumError(f"{path}: there is no such settings file.") from None
    except (ValueError, OSError) as error:
        raise HilumError(f"{path}: this is no JSON file: {error}.") from None
    if not isinstance(read, dict):
        raise HilumError(f"{path}: this holds no settings: it is not one JSON object.")
    if isinstance(read.get("settings"), dict):
        read = read["settings"]
    return {name: value for name, value in read.items() if value is not None}


def settings_from_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, not yet validated.

    Raises:
        HilumError: the file is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HilumError(f"{path}: there is no such settings file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise HilumError(f"{path}: this is no TOML file: {error}.") from None


#: What is allowed, for settings of which the general message tells too little, or once per form they take.
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


def _explain(error: ValidationError, settings: dict[str, Any]) -> str:
    """One line per mistake, naming the setting, the value and what is allowed."""
    lines = list(dict.fromkeys(_explain_one(detail, settings) for detail in error.errors()))
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} settings cannot be used:\n  " + "\n  ".join(lines)


def _explain_one(detail: dict[str, Any], settings: dict[str, Any]) -> str:
    if not detail["loc"]:
        return detail["msg"].removeprefix("Value error, ") + "."
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        hint = nearest(name, RunConfig.model_fields)
        return f"There is no setting {name!r}.{hint} See `hilum train --help` for all of them."
    if name in _ALLOWED:
        return f"Setting {name}: {settings[name]!r} {_ALLOWED[name]}."
    if detail["type"] == "path_type":
        return f"Setting {name}: {detail['input']!r} must be a path."
    allowed = detail["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return f"Setting {name}: {detail['input']!r} {allowed}."


#: The defaults, for signatures elsewhere.
DEFAULTS = RunConfig()
