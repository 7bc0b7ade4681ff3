"""Groups of a network's layers: its stages from input to head, and its backbone."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from hilum.errors import HilumError
from hilum.models import Normalized
from hilum.models._shape_trace import calls_of
from hilum.models.resnet import resnet_stages

Stage = tuple[str, list[nn.Parameter]]

_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def stages(net: nn.Module, image_size: tuple[int, int] = (320, 320)) -> list[Stage]:
    """The parameters of a network grouped from its input to its head, each once; the head is last.

    A network may have a method `parameter_stages() -> list[tuple[str, list[nn.Parameter]]]`, as Hilum's own do.
    torchvision's ResNets and DenseNets and timm's networks are known. Any other network is grouped by its
    children, in the order in which an image passes them: the last layer that has parameters is the head, each
    child before it a stage.

    Args:
        net: the network, or `Normalized` around it.
        image_size: width and height of an image that it can take, pixels; for other networks.

    Raises:
        HilumError: it has no parameters, or its `parameter_stages` do not hold each of its parameters once.
    """
    inner: Any = net.net if isinstance(net, Normalized) else net
    if not list(inner.parameters()):
        raise HilumError(f"{type(inner).__name__} has no parameters, so there is nothing to train.")
    found: list[Stage] = []
    if hasattr(inner, "parameter_stages"):
        found = inner.parameter_stages()
    elif _is_torchvisions(inner, "ResNet"):
        found = resnet_stages(inner)
    elif _is_torchvisions(inner, "DenseNet"):
        found = _densenet_stages(inner)
    elif hasattr(inner, "group_matcher") and hasattr(inner, "get_classifier"):
        from hilum.models.timm_backbone import timm_stages

        found = timm_stages(inner)
    if not found or not found[-1][1]:
        found = _by_children(net, inner, image_size)
    _check_complete(inner, found)
    return found


def split_head(
    net: nn.Module, image_size: tuple[int, int] = (320, 320)
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters of the backbone, and those of the head: the layers that compute the logits; see `stages`."""
    *backbone, (_, head) = stages(net, image_size)
    return [parameter for _, parameters in backbone for parameter in parameters], head


def backbone_modules(net: nn.Module, image_size: tuple[int, int] = (320, 320)) -> list[nn.Module]:
    """The largest modules of a network without the head that have parameters or buffers.

    While only the head is trained they belong in evaluation mode, with everything inside them: their batch
    normalization then keeps the statistics that their weights were trained with. Dropout next to the head,
    outside of them, stays active. Raises HilumError as `stages` does.
    """
    head = {id(parameter) for parameter in split_head(net, image_size)[1]}

    def without_head(module: nn.Module) -> Iterable[nn.Module]:
        if not any(id(parameter) in head for parameter in module.parameters()):
            if [*module.parameters(), *module.buffers()]:
                yield module
            return
        for child in module.children():
            yield from without_head(child)

    return list(without_head(net.net if isinstance(net, Normalized) else net))


def _is_torchvisions(net: nn.Module, name: str) -> bool:
    # By name: importing torchvision takes longer than anything else that a small training needs.
    kinds = type(net).__mro__
    return any(kind.__name__ == name and kind.__module__.startswith("torchvision.models") for kind in kinds)


def _densenet_stages(net: nn.Module) -> list[Stage]:
    found: dict[str, list[nn.Parameter]] = {"stem": []}
    stage = "stem"
    for name, module in net.get_submodule("features").named_children():
        if name.startswith("denseblock"):
            stage = name
        found.setdefault(stage, []).extend(module.parameters())
    return [*found.items(), ("classifier", list(net.get_submodule("classifier").parameters()))]


def _by_children(net: nn.Module, inner: nn.Module, image_size: tuple[int, int]) -> list[Stage]:
    """Stages of any other network, see `stages`."""
    root = inner
    layers = _layers_in_order(net, inner, image_size)
    head = layers[-1]
    while len(holders := [child for child in root.children() if list(child.parameters())]) == 1:
        if holders[0] is head or list(root.parameters(recurse=False)):
            break
        root = holders[0]
    position = {layer: number for number, layer in enumerate(layers)}
    children = sorted(
        root.named_children(),
        key=lambda named: min((position[m] for m in named[1].modules() if m in position), default=-1),
    )
    taken = {id(parameter) for parameter in head.parameters(recurse=False)}
    found: list[Stage] = [("stem", [p for p in root.parameters(recurse=False) if id(p) not in taken])]
    for name, child in children:
        taken |= {id(parameter) for parameter in found[-1][1]}
        own = [parameter for parameter in child.parameters() if id(parameter) not in taken]
        # A normalization belongs to the layer whose output it normalizes.
        if isinstance(child, _NORMALIZATIONS):
            found[-1][1].extend(own)
        else:
            found.append((name, own))
    head_name = next(name for name, module in root.named_modules() if module is head)
    found = [stage for stage in found if stage[1]]
    return [*found, (head_name or "head", list(head.parameters(recurse=False)))]


def _layers_in_order(net: nn.Module, inner: nn.Module, image_size: tuple[int, int]) -> list[nn.Module]:
    """The innermost modules with parameters in the order of an image, or as they were made if it cannot take one."""
    layers = [
        module
        for module in inner.modules()
        if list(module.parameters(recurse=False)) and not list(module.children())
    ]
    try:
        last_call = {call.module: position for position, call in enumerate(calls_of(net, image_size))}
    except HilumError:
        last_call = {}
    called = sorted((layer for layer in layers if layer in last_call), key=last_call.__getitem__)
    return called or layers or [inner]


def _check_complete(net: nn.Module, found: list[Stage]) -> None:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    given = [id(parameter) for _, parameters in found for parameter in parameters]
    missing = [name for key, name in names.items() if key not in set(given)]
    if missing or len(given) != len(set(given)) or len(given) != len(names):
        problem = f"{missing[0]} is in none" if missing else "one is in two of them, or is not the network's"
        raise HilumError(
            f"The stages of {type(net).__name__} must hold each of its parameters once: {problem}. Check its "
            "parameter_stages()."
        )
