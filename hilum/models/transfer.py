"""A network that begins with the best weights of another run (`init_from`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hilum.errors import HilumError
from hilum.files import sha256_of_file, whole_folder
from hilum.models import Normalized
from hilum.models._weights import first_line
from hilum.models.layer_groups import split_head
from hilum.run_folder import RunFolder

_NORMALIZATION = ("mean", "sd")


@dataclass(frozen=True)
class Transfer:
    """What was taken from another run, which had the name `run` and the net_name `model`.

    Attributes:
        epoch: of its weights.
        weights: SHA-256 of their file.
        taken: for each target of the new run whether its output was taken, or stays as drawn.
        outputs_as_drawn: number of outputs that stay as drawn, including additional ones of three-class targets.
    """

    run: str
    model: str
    epoch: int
    weights: str
    taken: dict[str, bool]
    outputs_as_drawn: int

    def as_record(self) -> dict[str, Any]:
        """As JSON values, for run.json."""
        record = {name: getattr(self, name) for name in ("run", "model", "epoch", "weights")}
        return record | {"taken": self._targets(taken=True), "as_drawn": self._targets(taken=False)}

    def as_text(self) -> str:
        """One line for the user."""
        taken, drawn = self._targets(taken=True), self._targets(taken=False)
        start = f"The weights are those of {self.run} ({self.model}, epoch {self.epoch}), "
        if not taken:
            return f"{start}except for the outputs: it has none of the targets."
        if not drawn:
            return f"{start}with the outputs of all {len(taken)} targets."
        return f"{start}with the outputs of {', '.join(taken)}; those of {', '.join(drawn)} are drawn."

    def _targets(self, *, taken: bool) -> list[str]:
        return [target for target, is_taken in self.taken.items() if is_taken == taken]


def initialise_from(
    net: Normalized,
    run_folder: RunFolder,
    targets: Sequence[str],
    *,
    model: str | None = None,
    image_size: tuple[int, int] = (320, 320),
) -> Transfer:
    """Loads the best weights of another run into a network of the same architecture.

    The outputs are matched by target name: rows of the head's tensors. A target that the other run lacks, and the
    additional outputs of targets with three classes, keep their values. Everything else must have the same name and
    shape, and is taken, including the counts of batch normalization. Mean and deviation of the pixels stay the new
    network's: the weights expect pixels of mean 0 and deviation 1, which only the new data's own statistics give.
    A normalization of pretrained weights is the same in both.

    Args:
        net: the new network; unchanged if an error is raised.
        run_folder: of the other run.
        targets: of the new run, one for each of the first outputs of `net`.
        model: the new network's net_name, for messages.
        image_size: of the new run, see `hilum.models.layer_groups.stages`.

    Raises:
        HilumError: the other run has no complete checkpoint, or has another architecture: both models and the
            first tensor that differs are named.
    """
    record = run_folder.record
    weights_file = whole_folder(run_folder.path / "checkpoints" / "best") / "model.safetensors"
    theirs = _load(weights_file, run_folder)
    own = net.state_dict()
    head = _names_of_head(net, image_size)

    new = {}
    for name in {**own, **theirs}:
        ours, other = own.get(name), theirs.get(name)
        if name in head and ours is not None and other is not None and ours.shape[1:] == other.shape[1:]:
            new[name] = _matched_rows(ours, other, targets, run_folder.targets)
        elif ours is None or other is None or ours.shape != other.shape:
            raise HilumError(
                f"init_from {run_folder.path}: its weights ({_describe(run_folder)}) do not fit "
                f"{model or type(net.net).__name__}: {name} is {_shape(other)} there and {_shape(ours)} here. "
                "Give the same net_name and net_kwargs as that run has."
            )
        else:
            new[name] = ours if name in _NORMALIZATION else other
    net.load_state_dict(new)
    taken = {target: target in run_folder.targets for target in targets}
    return Transfer(
        run=record["name"],
        model=record.get("own_net") or run_folder.settings["net_name"],
        epoch=record.get("best_epoch") or 0,
        weights=sha256_of_file(weights_file),
        taken=taken,
        outputs_as_drawn=own[head[0]].shape[0] - sum(taken.values()),
    )


def _names_of_head(net: Normalized, image_size: tuple[int, int]) -> list[str]:
    """The names of the head's tensors that have a row for each output."""
    head = {id(parameter) for parameter in split_head(net, image_size)[1]}
    named = [(name, parameter) for name, parameter in net.named_parameters() if id(parameter) in head]
    outputs = named[-1][1].shape[0]
    return [name for name, parameter in named if parameter.ndim and parameter.shape[0] == outputs]


def _matched_rows(
    ours: torch.Tensor, other: torch.Tensor, targets: Sequence[str], their_targets: Sequence[str]
) -> torch.Tensor:
    """A tensor of the head (outputs, …): the other run's rows for targets that it has, else its own."""
    rows = ours.clone()
    for row, target in enumerate(targets):
        if target in their_targets:
            rows[row] = other[their_targets.index(target)]
    return rows


def _load(path: Path, run_folder: RunFolder) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise HilumError(
            f"init_from {run_folder.path}: {path.name} is missing under checkpoints/best. A run has it after an epoch."
        ) from None
    except Exception as error:  # safetensors has an exception type of its own, outside its public names
        raise HilumError(f"{path}: the checkpoint is damaged: {first_line(error)}.") from None


def _describe(run_folder: RunFolder) -> str:
    if run_folder.record.get("own_net"):
        return run_folder.record["own_net"]
    kwargs = run_folder.settings.get("net_kwargs") or {}
    settings = ", ".join(f"{name} = {value!r}" for name, value in kwargs.items())
    return run_folder.settings["net_name"] + (f" with {settings}" if settings else "")


def _shape(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
