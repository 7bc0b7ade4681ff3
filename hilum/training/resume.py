"""What a stopped run needs to go on as if nothing had happened."""

from typing import Any

from torch import nn

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.sources import Catalog

#: Settings that nothing which is learned depends on: where the data lie, how they are fed, what is shown.
MAY_CHANGE = (
    *("root", "pack", "hierarchy", "num_workers", "check_images", "epoch_args", "quiet"),
    *("loggers", "mlflow_uri"),
)


def settings_of_stopped(
    folder: RunFolder, net: nn.Module | None, catalog: Catalog | None, changes: dict[str, Any]
) -> dict[str, Any]:
    """The settings to go on with: the run's, and those of `changes` that may change.

    Args:
        folder: of the run.
        net: the network given for it now.
        catalog: the images given for it now.
        changes: settings given now.

    Raises:
        HilumError: the run has finished, a network or images are missing or needless, or a setting differs
            from the run's.
    """
    record = folder.record
    if record["status"] == "finished":
        raise HilumError(f"{folder.path}: the run has finished; there is nothing to resume.")
    for what, given, before in (
        ("network", net is not None, record.get("own_net") is not None),
        ("catalog", catalog is not None, record.get("own_catalog", False)),
    ):
        if given != before:
            raise HilumError(
                f"{folder.path}: the run was made {'with' if before else 'without'} a {what} of your own. "
                + (f"Resume it from Python, with {what[:3]}=." if before and what == "network" else "")
                + ("Resume it from Python, with catalog=." if before and what == "catalog" else "")
                + ("" if before else "Leave it out.")
            )
    kept = {name: value for name, value in folder.settings.items() if value is not None}
    wanted = RunConfig(**(kept | changes)).as_record()
    different = [
        name
        for name, value in wanted.items()
        if name in changes and name not in MAY_CHANGE and value != folder.settings.get(name)
    ]
    if different:
        name = different[0]
        raise HilumError(
            f"{name}: the run was begun with {folder.settings.get(name)!r}, not {wanted[name]!r}; with another it "
            f"would be another run. Leave {', '.join(different)} out, or train anew. "
            f"What may change: {', '.join(MAY_CHANGE)}."
        )
    return kept | {"save_path": folder.path.parent, "name": folder.path.name} | changes


def refuse_other_data(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What may keep the digest from being the same, in words.

    Args:
        before: the record that the run was begun with.
        now: the record that it would be begun with now.

    Raises:
        HilumError: the data or the split are not those of the run.
    """
    for what in ("catalog", "split"):
        if before[what]["fingerprint"] != now[what]["fingerprint"]:
            raise HilumError(
                f"The {what} is not the one that the run was begun with: its fingerprint was "
                f"{before[what]['fingerprint'][:16]} and is {now[what]['fingerprint'][:16]}. "
                "Bring the same data, or train anew."
            )
    weights = [record.get("init_from", {}).get("weights") for record in (before, now)]
    if all(weights) and weights[0] != weights[1]:
        raise HilumError(
            f"The weights of {before['init_from']['run']}, which the run began with, are no longer those: its best "
            "epoch has changed since. Bring them back, or train anew."
        )
    differing = [
        f"{name} was {before['versions'].get(name)} and is {version}"
        for name, version in now["versions"].items()
        if before["versions"].get(name) != version
    ]
    differing += [
        f"the device's {name} was {before['device'].get(name)} and is {value}"
        for name, value in now["device"].items()
        if before["device"].get(name) != value
    ]
    return [f"{difference}; the digest may be another than without the stop." for difference in differing]
