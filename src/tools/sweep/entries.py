"""The entries of a sweep file: algorithms, environments, overrides, settings and seeds."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...utils.errors import UserError, nearest
from ...utils.schema import yamls
from ...utils.schema.layers import leaves

#: keys of a run that a sweep sets itself
OWN = ("seed", "seeds_at_once", "label", "local_results_path", "checkpoint_path", "evaluate", "render")

#: runs of a sweep
MOST_CELLS = 10_000

LABEL = re.compile(r"[\w.+=,-]+")


@dataclass(frozen=True)
class Part:
    """An algorithm, an environment or an override: its label, its YAML, its settings."""

    label: str
    config: str
    values: Mapping[str, Any]


def check_known(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse keys that are not ``known``.

    Raises:
        UserError: there is one.
    """
    for word in content:
        if word not in known:
            raise UserError(f"{where}: unknown key '{word}': use {', '.join(known)}{nearest(word, known)}")


def read_parts(value: Any, what: str, shown: str) -> list[Part]:
    """Read `[oappo, ./mine.yaml]` or `{label: {config: oappo, with: {...}}}`."""
    example = "oappo" if what == "algorithms" else "maze"
    if not value or not isinstance(value, (list, Mapping, str)):
        raise UserError(f"{shown}: no {what} are given: write {what}: [{example}]")
    if not isinstance(value, Mapping):
        names = [value] if isinstance(value, str) else value
        if not all(isinstance(n, str) for n in names):
            raise UserError(f"{shown}: {what} must be names, paths, or a mapping of names to `config` and `with`.")
        return [Part(check_label(Path(n).stem.replace(":", "."), what, shown), n, {}) for n in names]
    parts = []
    for label, entry in value.items():
        entry = {} if entry is None else entry
        if not isinstance(entry, Mapping):
            raise UserError(f"{shown}: '{label}' of {what} must hold `config` and `with`.")
        check_known(entry, ("config", "with"), f"{shown}, '{label}' of {what}")
        values = read_settings(entry.get("with"), f"{label}.with", shown)
        parts.append(Part(check_label(label, what, shown), str(entry.get("config", label)), values))
    return parts


def names_a_file(text: Any) -> bool:
    """Whether ``text`` can be a file's name, or part of one."""
    return isinstance(text, str) and LABEL.fullmatch(text) is not None and text.strip(".") != ""


def check_label(label: str, what: str, shown: str) -> str:
    """Return a label, refused where it cannot be part of a file's name.

    Raises:
        UserError: it cannot.
    """
    if not names_a_file(label):
        raise UserError(f"{shown}: '{label}' of {what} cannot be part of a file's name: use letters, digits and _.+=,-")
    return label


def read_settings(value: Any, where: str, shown: str) -> dict[str, Any]:
    """Return settings with dotted keys."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{shown}: `{where}` must hold `key: value` lines.")
    found = flat(value, where, shown)
    for own in OWN:
        if own in found:
            instead = {"seed": "list it under `seeds`", "seeds_at_once": "write it beside `seeds`"}.get(
                own, "take it out"
            )
            raise UserError(f"{shown}: '{own}' in `{where}` is set by the sweep itself: {instead}.")
    return found


def flat(value: Mapping[str, Any], where: str, shown: str) -> dict[str, Any]:
    """Return settings, which may be nested or dotted, with dotted keys.

    Raises:
        UserError: one of them is given twice, dotted and nested.
    """
    found: dict[str, Any] = {}
    for name, one in leaves(value):
        # a value beside settings inside it is a contradiction too: env_args: null, env_args.key: x
        twice = next((k for k in found if k == name or k.startswith(f"{name}.") or name.startswith(f"{k}.")), None)
        if twice is not None:
            both = "is given twice" if twice == name else f"and '{twice}' contradict each other"
            raise UserError(f"{shown}: '{name}' in `{where}` {both}: leave one of them out.")
        found[name] = one
    return found


def check_number(number: int, what: str, shown: str) -> None:
    """Refuse more entries than a sweep may have.

    Raises:
        UserError: there are more.
    """
    if number > MOST_CELLS:
        raise UserError(f"{shown}: {number:,} {what} are too many: at most {MOST_CELLS:,} are allowed.")


def read_overrides(value: Any, shown: str) -> list[Part]:
    """Read `{label: {key: value}}`, or a grid `{key: [values]}` whose combinations are named by their values."""
    if value is None:
        return [Part("", "", {})]
    if not isinstance(value, Mapping) or not value:
        raise UserError(f"{shown}: `overrides` must hold `label: {{key: value}}` or `key: [values]` lines.")
    # a grid may be written nested, as any settings
    grid = dict(leaves(value))
    if all(isinstance(v, list) for v in grid.values()):
        grid = read_settings(value, "overrides", shown)
        for key, values in grid.items():
            if not values:
                raise UserError(f"{shown}: '{key}' in `overrides` has no values: list at least one.")
        check_number(math.prod(len(v) for v in grid.values()), "combinations in `overrides`", shown)
        combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        return [Part(grid_label(c), "", c) for c in combinations]
    if not all(isinstance(v, Mapping) or v is None for v in value.values()):
        raise UserError(f"{shown}: `overrides` mixes labels and lists: use `label: {{key: value}}` or `key: [values]`.")
    return [
        Part(check_label(k, "overrides", shown), "", read_settings(v, f"overrides.{k}", shown))
        for k, v in value.items()
    ]


def grid_label(values: Mapping[str, Any]) -> str:
    """Return `lr=0.001,epochs=5` for a combination."""
    texts = (f"{k.rpartition('.')[2]}={yamls.inline(v)}" for k, v in values.items())
    return re.sub(r"[^\w.+=,-]+", "_", ",".join(texts))


def read_seeds(value: Any, shown: str) -> list[int]:
    """Read `[1, 2, 5]` or `1-5` or `1-3, 7`."""
    items: Sequence[Any] = value if isinstance(value, list) else str(value).split(",")
    if value is None or isinstance(value, (int, float)) or not items:
        one = f": [{value}] is this seed, 1-{value} that many" if isinstance(value, int) else ""
        raise UserError(f"{shown}: seeds={value!r} is not allowed: a list or a range such as 1-5 is expected{one}.")
    found: list[int] = []
    for item in items:
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", str(item))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if isinstance(item, (bool, float)) or not first <= last < 2**31 or last - first >= 10**5:
            raise UserError(f"{shown}: '{item}' in seeds is not allowed: whole numbers and ranges such as 1-5 are.")
        found += range(first, last + 1)
    twice = sorted({s for s in found if found.count(s) > 1})
    if twice:
        raise UserError(f"{shown}: seed {twice[0]} is listed twice: a run must not be counted twice.")
    return found
