"""Numbers of repeated rounds: medians, spread, ratios, and the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]


def _call(result: Result, clock: str) -> float:
    return statistics.median(call[clock] for call in result["calls"])


def _sample(result: Result, clock: str) -> float:
    return statistics.median(1e6 * call[clock] / call["samples"] for call in result["calls"])


#: measure -> (unit, value of one result by a clock: ``wall``, or ``cpu`` of all its processes)
MEASURES: dict[str, tuple[str, Callable[[Result, str], float]]] = {
    "steps": ("steps/s", lambda result, clock: result["steps"] / result[clock]),
    "updates": ("updates/s", lambda result, clock: 1.0 / _call(result, clock)),
    "update": ("ms an update", lambda result, clock: 1e3 * _call(result, clock)),
    "sample": ("µs a processed sample", _sample),
}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, low and high of ``values``."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratio(values: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Return the ratio of the medians, and the lowest and highest ratio within one round.

    Both sides of a round ran next to each other, so what slowed the machine for a while is in both.
    """
    rounds = [a / b for a, b in zip(values, reference, strict=True)]
    return {
        "median": statistics.median(values) / statistics.median(reference), "low": min(rounds), "high": max(rounds)
    }  # fmt: skip


def summarise(measure: str, reference: str, rounds: Sequence[Mapping[str, Result]]) -> dict[str, Any]:
    """Return for each side: ``wall`` and ``cpu`` (spread), ``ratio`` and ``cpu_ratio`` to the reference, memory (MB).

    Args:
        measure: key of :data:`MEASURES`.
        reference: the side that ratios are to.
        rounds: for each round, side -> result.
    """
    _, value = MEASURES[measure]
    found = {}
    for side in rounds[0]:
        mine = {clock: [value(r[side], clock) for r in rounds] for clock in ("wall", "cpu")}
        base = {clock: [value(r[reference], clock) for r in rounds] for clock in ("wall", "cpu")}
        memory = [r[side]["memory"] for r in rounds]
        found[side] = {
            "wall": spread(mine["wall"]), "cpu": spread(mine["cpu"]),
            "ratio": ratio(mine["wall"], base["wall"]), "cpu_ratio": ratio(mine["cpu"], base["cpu"]),
            "memory": {name: statistics.median(m[name] for m in memory) for name in memory[0]},
        }  # fmt: skip
    return found


def reached(target: tuple[str, float] | None, value: float) -> str:
    """Say whether a ratio is what was aimed at."""
    if target is None:
        return ""
    sign, limit = target
    met = value >= limit if sign == ">=" else value <= limit
    return f"{sign} {limit:g}: {'yes' if met else 'NO'}"


def number(x: float) -> str:
    """Three significant digits, thousands separated."""
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.3g}"


def table(
    title: str, measure: str, reference: str, target: tuple[str, float] | None, found: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return one cell's Markdown table; the target is for the first side."""
    unit = MEASURES[measure][0]
    lines = [
        f"### {title}", "",
        f"| | {unit} | by CPU time | ratio to {reference} | by CPU time | target | main MB | all MB | shared once |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for position, (side, s) in enumerate(found.items()):
        shown = [_range(s[name]) for name in ("wall", "cpu", "ratio", "cpu_ratio")]
        if side == reference:
            shown[2:] = ["1", "1"]
        aim = reached(target, s["ratio"]["median"]) if position == 0 else ""
        memory = [number(s["memory"][name]) for name in ("main", "all", "proportional")]
        lines.append("| " + " | ".join([side, *shown, aim, *memory]) + " |")
    return "\n".join(lines)


def _range(s: Mapping[str, float]) -> str:
    if s["low"] == s["high"]:
        return number(s["median"])
    return f"{number(s['median'])} ({number(s['low'])} to {number(s['high'])})"
