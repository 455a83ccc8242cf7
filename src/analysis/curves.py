"""Curves of runs: a metric against an axis, a run's score, and several runs as one line with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..storage.tested_actions import GREEDY, TEST, greedy_name, is_plain
from ..utils.errors import UserError, nearest
from .reliable import Statistic, interval
from .runs import Run

#: axis -> (metric that counts it, how it is named)
AXES = {
    "steps": ("", "environment steps"),
    "samples": ("processed_samples", "processed samples"),
    "updates": ("updates", "updates"),
    "time": ("wall_clock", "wall-clock time"),
}
#: points of a line
GRID = 200
#: share of training at the end that a final score is the mean of
TENTH = 0.1


def metric_of(run: Run, metric: str) -> str | None:
    """Return the name under which a run has a metric, None where it lacks it.

    Runs whose agents have rewards of their own log the team's return as ``total_return_mean``.
    """
    for name in (metric, metric.replace("return_mean", "total_return_mean")):
        if name in run.curves:
            return name
    return None


def with_metric(runs: Sequence[Run], metric: str) -> tuple[list[Run], list[Run]]:
    """Return the runs that have a metric, and those that have not.

    Raises:
        UserError: none has it.
    """
    have = [run for run in runs if metric_of(run, metric)]
    if not have and (kin := of_other_actions(runs, metric)):
        raise UserError(f"No run has the metric '{metric}': {kin}.")
    if not have:
        names = sorted({name for run in runs for name in run.curves})
        told = f"; there are {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}" if names else ""
        raise UserError(f"No run has the metric '{metric}'{nearest(metric, names) or told or ': nothing is logged.'}")
    return have, [run for run in runs if run not in have]


def of_other_actions(runs: Sequence[Run], metric: str) -> str:
    """Return how many runs have a test's metric of the other kind of actions, as a clause; "" where none has."""
    other = greedy_name(metric) if is_plain(metric) else TEST + metric.removeprefix(GREEDY)
    if not metric.startswith(TEST):
        return ""
    found = [(run, name) for run in runs if (name := metric_of(run, other))]
    if not found:
        return ""
    run, name = found[0]
    some = "all" if len(found) == len(runs) else f"{len(found)} of them"
    return f"{some} have '{name}' ({run.actions(name)})"


def kinds(runs: Iterable[Run], metric: str) -> list[str]:
    """Return how the actions behind a metric were chosen in these runs, in words, each once."""
    return sorted({how for run in runs if (name := metric_of(run, metric)) and (how := run.actions(name))})


def on_axis(run: Run, metric: str, axis: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return positions [K] and values [K] of a metric along an axis of :data:`AXES` (time in seconds).

    None where the run did not record the axis. Between two recorded points, a counter is assumed to grow evenly with
    the steps; with the total alone (a curve file), evenly from 0.
    """
    name = metric_of(run, metric)
    if name is None:
        return None
    steps, values, times = run.curves[name]
    if axis == "steps":
        return steps.astype(np.float64), values
    counter = AXES[axis][0]
    if counter in run.curves:
        at, count, _ = run.curves[counter]
    elif counter in run.totals:
        at, count = np.array([run.steps]), np.array([run.totals[counter]])
    elif axis == "time" and np.isfinite(times).all():
        return times - _began(run), values
    else:
        return None
    if at[0] > 0:
        at, count = np.r_[0, at], np.r_[0.0, count]
    return np.interp(steps, at, count), values


def _began(run: Run) -> float:
    """Return when the run logged for the first time (seconds since 1970)."""
    return min(float(times[0]) for _, _, times in run.curves.values() if len(times) and np.isfinite(times[0]))


def final(run: Run, metric: str) -> float:
    """Return the mean of a metric's points in the last 10 % of the steps over which it was logged."""
    steps, values, _ = run.curves[metric_of(run, metric) or metric]
    return float(values[steps > (1 - TENTH) * steps[-1]].mean()) if steps[-1] > 0 else float(values[-1])


def best(run: Run, metric: str) -> float:
    """Return the largest mean of a metric over any consecutive 10 % of its points."""
    values = run.curves[metric_of(run, metric) or metric][1]
    k = max(1, len(values) // 10)
    return float(np.convolve(values, np.ones(k) / k, "valid").max())


def area(run: Run, metric: str, axis: str = "steps", until: float | None = None) -> float:
    """Return the mean of a metric along an axis from its first point on (the area under the curve, by the trapezoidal
    rule, divided by its length); NaN where the run did not record the axis.

    Args:
        until: where the stretch ends; None: at the last point.
    """
    found = on_axis(run, metric, axis)
    if found is None:
        return math.nan
    x, y = found
    end = x[-1] if until is None else min(until, x[-1])
    if end <= x[0]:
        return float(y[0])
    inside = x < end
    x, y = np.r_[x[inside], end], np.r_[y[inside], np.interp(end, x, y)]
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / (2.0 * (end - x[0])))


SCORES = {"final": final, "best": best, "area": area}


def smoothed(values: np.ndarray, share: float) -> np.ndarray:
    """Return values [..., G] averaged over a centred window of ``share`` of them; it is narrower near the ends."""
    size = values.shape[-1]
    half = round(share * size / 2)
    if half < 1:
        return values
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, -1)], -1)
    reach = np.minimum(np.minimum(half, np.arange(size)), size - 1 - np.arange(size))  # as far on both sides
    low, high = np.arange(size) - reach, np.arange(size) + reach + 1
    return (total[..., high] - total[..., low]) / (high - low)


@dataclass(frozen=True)
class Line:
    """Several runs of one label and task as one line.

    | field | shape | meaning |
    |---|---|---|
    | label, task | | what it is called, and where it was played |
    | x, centre | [G] | positions, and mean or interquartile mean over runs |
    | low, high | [G] | bounds of the 95 % bootstrap interval; None with one run |
    | runs | | how many |
    """

    label: str
    task: str
    x: np.ndarray
    centre: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    runs: int


#: positions [K] and values [K] of a run
Piece = tuple[np.ndarray, np.ndarray]


def stretches(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Return runs in groups within which all cover a common stretch; one group wherever all of them do.

    Runs of one point cover no stretch: they are a group with others of the same position alone. Groups are in order of
    where they begin, each of as many of the remaining runs as share something with the first.
    """
    left = sorted(pieces, key=lambda piece: (piece[0][0], piece[0][-1]))
    found: list[list[Piece]] = []
    while left:
        first, *rest = left
        own, left = [first], []
        start, end = first[0][0], first[0][-1]
        for piece in rest:
            x = piece[0]
            low, high = max(start, x[0]), min(end, x[-1])
            if low < high or (low == high and x[0] == x[-1] and own[0][0][0] == own[0][0][-1]):
                own.append(piece)
                start, end = low, high
            else:
                left.append(piece)
        found.append(own)
    return found


def line(
    label: str, task: str, groups: Mapping[str, Sequence[Piece]], statistic: Statistic,
    smooth: float = 0.0,
) -> Line | None:  # fmt: skip
    """Return runs as one line over the stretch that all of them cover; None where there is no such stretch.

    Args:
        groups: task -> (positions, values) of each run.
        statistic: of :mod:`reliable`.
        smooth: see :func:`smoothed`; applied to each run before runs are combined.
    """
    pieces = [piece for runs in groups.values() for piece in runs]
    start, end = max(x[0] for x, _ in pieces), min(x[-1] for x, _ in pieces)
    if end < start:
        return None
    grid = np.linspace(start, end, GRID) if end > start else np.array([start])
    tasks = [smoothed(np.stack([np.interp(grid, x, y) for x, y in runs]), smooth) for runs in groups.values()]
    bounds = interval(tasks, statistic)
    low, high = bounds if bounds is not None else (None, None)
    return Line(label, task, grid, statistic(tasks), low, high, len(pieces))
