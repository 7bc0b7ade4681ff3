"""What a search varies and what it looks for: the [search] table, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hilum.errors import HilumError, nearest
from hilum.sweeps.setting_checks import complaint, is_whole, value_complaint
from hilum.sweeps.values import check_range, values_of

#: What can be looked for: validation, best epoch, the mean over the targets that have it.
SEARCH_METRICS = ("recall", "roc_auc", "precision", "avg_precision", "f1", "loss")
SAMPLERS = ("tpe", "random")
_KEYS = ("trials", "metric", "direction", "sampler", "seed", "settings")


@dataclass(frozen=True)
class SearchRange:
    """From `low` to `high`, both included; `log` draws evenly over the logarithm, `whole` whole numbers."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class SearchSpace:
    """A search.

    Attributes:
        trials: how many settings are tried.
        metric: one of `SEARCH_METRICS`.
        direction: "maximize" or "minimize".
        sampler: one of `SAMPLERS`.
        seed: of what is drawn.
        parameters: dotted setting -> its range, or the list of its choices.
        given: the table as it was written.
    """

    trials: int
    metric: str
    direction: str
    sampler: str
    seed: int
    parameters: dict[str, SearchRange | list[Any]]
    given: dict[str, Any]

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        record = {name: getattr(self, name) for name in ("trials", "metric", "direction", "sampler", "seed")}
        return record | {"settings": self.given["settings"]}


def read_search(given: Mapping[str, Any], mistakes: list[str]) -> SearchSpace | None:
    """The search that a table describes; what is wrong with it is added to `mistakes`, and None is given."""
    before = len(mistakes)
    mistakes += [
        f"[search] has no {key!r}.{nearest(key, _KEYS)} It has {', '.join(_KEYS)}."
        for key in given
        if key not in _KEYS
    ]
    metric = given.get("metric", "roc_auc")
    direction = given.get("direction", "minimize" if metric == "loss" else "maximize")
    sampler = given.get("sampler", "tpe")
    for name, value, allowed in (
        ("metric", metric, SEARCH_METRICS),
        ("direction", direction, ("maximize", "minimize")),
        ("sampler", sampler, SAMPLERS),
    ):
        if value not in allowed:
            hint = nearest(str(value), allowed)
            mistakes.append(f"[search] {name}: {value!r} is none.{hint} It must be {' or '.join(allowed)}.")
    trials, seed = given.get("trials"), given.get("seed", 0)
    for name, value, least in (("trials", trials, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            mistakes.append(f"[search] {name} is {value!r}; it must be a whole number from {least} on.")
    settings = given.get("settings")
    if not isinstance(settings, Mapping) or not settings:
        mistakes.append(
            "[search.settings] is missing: a list of choices or a range {from, to} for each setting."
        )
        settings = {}
    parameters = {key: _parameter(key, value, mistakes) for key, value in settings.items()}
    if len(mistakes) > before:
        return None
    return SearchSpace(trials, metric, direction, sampler, seed, parameters, dict(given))


def _parameter(key: str, given: Any, mistakes: list[str]) -> SearchRange | list[Any] | None:
    table = "[search.settings]"
    wrong = complaint(table, key)
    if wrong:
        mistakes += wrong
        return None
    try:
        if not isinstance(given, Mapping):
            choices = values_of(given)
            mistakes += [words for value in choices for words in value_complaint(table, key, value)]
            return choices
        low, high, scale = check_range(given, ("from", "to", "scale"))
    except HilumError as error:
        mistakes.append(f"{table} {key}: {error}")
        return None
    whole_ends, whole = isinstance(low, int) and isinstance(high, int), is_whole(key)
    if whole and not whole_ends:
        mistakes.append(f"{table} {key}: it is a whole number, so from and to must be whole numbers.")
    mistakes += [words for end in (low, high) for words in value_complaint(table, key, end)]
    return SearchRange(low, high, scale == "log", whole_ends if whole is None else whole)
