"""Validation of SMACv2's ``capability_config``, which SMACv2 itself reads only while it draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ...utils.errors import UserError, nearest, one_of, shown_value

#: numbers of units, which all distributions read
COUNTS = ("n_units", "n_enemies")
#: what can be drawn, and by which of SMACv2's distributions
DRAWN = {
    "team_gen": ("weighted_teams", "all_teams"),
    "start_positions": ("surrounded_and_reflect", "reflect_position", "surrounded"),
    "attack": ("per_agent_uniform", "fixed"),
    "health": ("per_agent_uniform", "fixed"),
    "enemy_mask": ("mask",),
}
#: keys that a distribution cannot be without
NEEDS = {
    "weighted_teams": ("unit_types", "weights"),
    "all_teams": ("unit_types",),
    "surrounded_and_reflect": ("p", "map_x", "map_y"),
    "reflect_position": ("map_x", "map_y"),
    "surrounded": ("map_x", "map_y"),
    "per_agent_uniform": ("lower_bound", "upper_bound"),
    "fixed": ("test_mode", "items"),
    "mask": ("mask_probability",),
}
#: what agents may be shown of it
OBSERVED = ("team_gen", "attack", "health")


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    raise UserError(f"env_args.capability_config.{name}={shown_value(value)} is not allowed: {expected}.")


def check_drawn(config: Mapping[str, Any], units: Sequence[str] | None) -> None:
    """Validate a user's ``capability_config``.

    Args:
        config: SMACv2's ``capability_config``.
        units: the unit types of a map on which teams must be drawn; None: the map brings its own teams.

    Raises:
        UserError: a key or a distribution that SMACv2 does not know or lacks, or a value that it cannot draw from.
    """
    known = (*COUNTS, *DRAWN)
    for name in config:
        if name not in known:
            hint = nearest(str(name), known) or f": use {', '.join(known)}."
            raise UserError(f"env_args.capability_config.{name} is nothing that SMACv2 draws{hint}")
    for name in COUNTS:
        _number(name, config.get(name), low=1, whole=True)
    if units is not None and "team_gen" not in config:
        raise UserError("env_args.capability_config lacks team_gen: this map has no units of its own.")
    for name, part in config.items():
        if name in COUNTS:
            continue
        if not isinstance(part, Mapping):
            _refuse(name, part, f"a mapping with dist_type ({one_of(DRAWN[name])}) is expected")
        kind = part.get("dist_type")
        if kind not in DRAWN[name]:
            _refuse(f"{name}.dist_type", kind, f"use {one_of(DRAWN[name])}")
        for key in (*NEEDS[kind], *(("observe",) if name in OBSERVED else ())):
            if part.get(key) is None:
                raise UserError(f"env_args.capability_config.{name} lacks {key}, which {kind} needs.")
        if name == "team_gen":
            _team(config, part, units)
        else:
            _numbers(name, part)


def _number(name: str, value: Any, low: float, high: float = math.inf, whole: bool = False) -> None:
    fine = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not fine:
        span = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        _refuse(name, value, f"a {'whole ' if whole else ''}number, {span}, is expected")


def _listed(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)) or not value:
        _refuse(name, value, "a list is expected")
    return list(value)


def _team(config: Mapping[str, Any], part: Mapping[str, Any], units: Sequence[str] | None) -> None:
    types = _listed("team_gen.unit_types", part["unit_types"])
    exceptions = list(part.get("exception_unit_types") or ())
    for name, given in (("unit_types", types), ("exception_unit_types", exceptions)):
        for unit in given:
            if not isinstance(unit, str) or (units is not None and unit not in units):
                _refuse(f"team_gen.{name}", given, f"{unit!r} is no unit of this map{_which(units)}")
    if part["dist_type"] == "weighted_teams":
        weights = _listed("team_gen.weights", part["weights"])
        if len(weights) != len(types):
            _refuse("team_gen.weights", weights, f"one for each of the {len(types)} unit_types is expected")
        for weight in weights:
            _number("team_gen.weights", weight, 0, 1)
        if abs(sum(weights) - 1) > 1e-8:  # numpy's own bound
            _refuse("team_gen.weights", weights, f"their sum must be 1, and is {sum(weights):g}")
        types = [unit for unit, weight in zip(types, weights, strict=True) if weight > 0]
    elif config["n_units"] != config["n_enemies"]:
        _refuse("n_enemies", config["n_enemies"], f"all_teams gives both sides n_units={config['n_units']}")
    if all(unit in exceptions for unit in types):
        _refuse("team_gen.exception_unit_types", exceptions, "no other unit is left, which each team needs")


def _which(units: Sequence[str] | None) -> str:
    return "" if units is None else f", which has {', '.join(units)}"


def _numbers(name: str, part: Mapping[str, Any]) -> None:
    for key in ("map_x", "map_y"):
        if key in part:
            _number(f"{name}.{key}", part[key], low=1)
    for key in ("p", "mask_probability"):
        if key in part:
            _number(f"{name}.{key}", part[key], 0, 1)
    if part["dist_type"] == "per_agent_uniform":
        low, high = (_listed(f"{name}.{key}", part[key]) for key in ("lower_bound", "upper_bound"))
        for key, bounds in (("lower_bound", low), ("upper_bound", high)):
            for bound in bounds:
                _number(f"{name}.{key}", bound, -math.inf)
        if len(low) != len(high) or any(a > b for a, b in zip(low, high, strict=True)):
            _refuse(f"{name}.upper_bound", high, f"as many numbers as lower_bound={low} are expected, and none below")
    if part["dist_type"] == "fixed":
        _listed(f"{name}.items", part["items"])
