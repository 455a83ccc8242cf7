"""The `search` section of a sweep file: the space of settings, the number of trials, and the metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...utils.errors import UserError, nearest, one_of

KINDS = ("choice", "uniform", "loguniform", "int", "logint")
KEYS = ("space", "trials", "metric", "direction", "pruner", "sampler", "seed")
DIRECTIONS = ("maximize", "minimize")
PRUNERS = ("none", "median", "halving")
SAMPLERS = ("tpe", "random")


@dataclass(frozen=True)
class Range:
    """The values of one key: `options` of a choice, else the bounds `low` and `high`, inclusive."""

    kind: str
    options: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Search:
    """A search for good settings.

    | field | meaning |
    |---|---|
    | space | dotted key -> what it may be |
    | trials | combinations to try, for each algorithm in each environment |
    | metric | its mean over the last 10 % of training, averaged over seeds, is a trial's value |
    | direction, pruner, sampler, seed | of Optuna's study |
    """

    space: dict[str, Range]
    trials: int
    metric: str
    direction: str
    pruner: str
    sampler: str
    seed: int

    def ends(self) -> dict[str, list[Any]]:
        """Return of each key the values that stand for all: the options, or the bounds."""
        return {name: list(r.options) if r.kind == "choice" else [r.low, r.high] for name, r in self.space.items()}


def read_search(content: Any, shown: str) -> Search:
    """Read the section.

    Raises:
        UserError: what is wrong with it.
    """
    where = f"{shown}, search"
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: {', '.join(KEYS)} are expected.")
    for word in content:
        if word not in KEYS:
            raise UserError(f"{where}: unknown key '{word}': use {', '.join(KEYS)}{nearest(word, KEYS)}")
    space = content.get("space")
    if not isinstance(space, Mapping) or not space:
        raise UserError(f"{where}: a `space` is needed, such as lr: {{loguniform: [0.0001, 0.01]}}")
    trials, seed, metric = content.get("trials", 20), content.get("seed", 0), content.get("metric", "return_mean")
    for name, value, low in (("trials", trials, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**31:
            raise UserError(f"{where}: {name}={value!r} is not allowed: a whole number from {low} on.")
    if not isinstance(metric, str) or not metric:
        raise UserError(f"{where}: metric={metric!r} is not the name of a metric.")
    return Search(
        space=dict(_ranges(space, where, "")), trials=trials, metric=metric, seed=seed,
        direction=_one(content, "direction", DIRECTIONS, where), pruner=_one(content, "pruner", PRUNERS, where),
        sampler=_one(content, "sampler", SAMPLERS, where),
    )  # fmt: skip


def _one(content: Mapping[str, Any], name: str, options: tuple[str, ...], where: str) -> str:
    value = content.get(name, options[0])
    if value is None:
        value = "none"
    if value not in options:
        near = nearest(value, options)
        raise UserError(f"{where}: {name}={value!r} is not allowed: use {one_of(options)}{near}")
    return str(value)


def _ranges(space: Mapping[str, Any], where: str, prefix: str) -> list[tuple[str, Range]]:
    """Read the space; keys may be nested as in any settings."""
    found: list[tuple[str, Range]] = []
    for name, entry in space.items():
        dotted = prefix + name
        if isinstance(entry, Mapping) and len(entry) == 1 and next(iter(entry)) in KINDS:
            kind, value = next(iter(entry.items()))
            found.append((dotted, _range(dotted, kind, value, where)))
        elif isinstance(entry, Mapping) and entry and all(isinstance(v, Mapping) for v in entry.values()):
            found += _ranges(entry, where, f"{dotted}.")
        else:
            kind = str(next(iter(entry))) if isinstance(entry, Mapping) and entry else str(entry)
            raise UserError(
                f"{where}: '{dotted}' needs one of {', '.join(KINDS)}, "
                f"such as {{loguniform: [0.0001, 0.01]}}{nearest(kind, KINDS)}"
            )
    return found


def _range(name: str, kind: str, value: Any, where: str) -> Range:
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{where}: {name}: `{kind}` takes a list: {'the options' if kind == 'choice' else '[low, high]'}."
        )
    if kind == "choice":
        return Range(kind, tuple(value))
    whole = kind in ("int", "logint")
    fine = len(value) == 2 and all(
        not isinstance(v, bool) and isinstance(v, int if whole else (int, float)) and math.isfinite(v) for v in value
    )
    if not fine or not value[0] <= value[1] or (kind.startswith("log") and value[0] <= 0):
        what = f"two {'whole ' if whole else ''}numbers [low, high]{' above 0' if kind.startswith('log') else ''}"
        raise UserError(f"{where}: {name}: {kind}={value!r} is not allowed: {what} are expected.")
    return Range(kind, (), value[0], value[1])
