"""Scores of runs on a scale, and comparisons of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from ...analysis import reliable
from ...analysis.curves import SCORES, Line, area, on_axis
from ...utils.errors import UserError
from .data import Groups

#: label -> task -> scores [n]
Scores = dict[str, dict[str, np.ndarray]]


def scores(groups: Groups, metric: str, score: str) -> Scores:
    """Return the score of every run."""
    return {
        label: {task: np.array([SCORES[score](run, metric) for run in runs]) for task, runs in tasks.items()}
        for label, tasks in groups.items()
    }


def scale(how: str, raw: Scores) -> tuple[dict[str, tuple[float, float]], str]:
    """Return what counts as 0 and as 1 on each task, and how the scale is called ("" for scores as they are).

    Args:
        how: ``none``, ``minmax`` (worst and best run of all), ``LOW:HIGH``, or ``auto``: none with one task, else
            minmax.

    Raises:
        UserError: it is none of these.
    """
    tasks = sorted({task for own in raw.values() for task in own})
    if how == "auto":
        how = "none" if len(tasks) == 1 else "minmax"
    if how == "none":
        return dict.fromkeys(tasks, (0.0, 1.0)), ""
    if how == "minmax":
        every = {task: np.concatenate([own[task] for own in raw.values() if task in own]) for task in tasks}
        ends = {task: (float(x.min()), float(x.max())) for task, x in every.items()}
        return {task: (a, b if b > a else a + 1.0) for task, (a, b) in ends.items()}, "worst run 0, best run 1"
    try:
        low, high = (float(part) for part in how.split(":"))
        if not low < high < np.inf:
            raise ValueError
    except ValueError:
        raise UserError(f"--normalise takes auto, none, minmax or LOW:HIGH such as 0:20, and not '{how}'.") from None
    return dict.fromkeys(tasks, (low, high)), f"{low:g} is 0, {high:g} is 1"


def common(raw: Scores, notices: list[str]) -> Scores:
    """Return the scores on the tasks that every label has.

    Raises:
        UserError: there is no such task.
    """
    everywhere = set.intersection(*(set(own) for own in raw.values()))
    left = sorted({task for own in raw.values() for task in own} - everywhere)
    if not everywhere:
        raise UserError("No task was played by all of them: choose some with --filter name=... or task=....")
    if left:
        notices.append(f"Only tasks that all played can be compared; left out: {', '.join(left)}.")
    return {label: {task: own[task] for task in sorted(everywhere)} for label, own in raw.items()}


def normalised(raw: Scores, scales: Mapping[str, tuple[float, float]]) -> dict[str, list[np.ndarray]]:
    """Return label -> tasks of :mod:`reliable`, [n, 1] each, on the scale."""
    return {
        label: [((x - scales[task][0]) / (scales[task][1] - scales[task][0]))[:, None] for task, x in own.items()]
        for label, own in raw.items()
    }


Bar = tuple[float, "float | None", "float | None"]


def estimate(tasks: reliable.Tasks, of: reliable.Statistic) -> Bar:
    """Return a statistic of scores [n, 1] with its bounds (None where unknown)."""
    bounds = reliable.interval(tasks, of)
    value = float(of(tasks)[0])
    return (value, None, None) if bounds is None else (value, float(bounds[0][0]), float(bounds[1][0]))


def aggregates(ready: Mapping[str, list[np.ndarray]], target: float) -> dict[str, dict[str, Bar]]:
    """Return statistic -> label -> value and bounds."""
    kinds = {"IQM": reliable.iqm, "median": reliable.median, "mean": reliable.mean,
             f"optimality gap to {target:.4g}": reliable.optimality_gap(target)}  # fmt: skip
    return {name: {label: estimate(x, of) for label, x in ready.items()} for name, of in kinds.items()}


def profiles(ready: Mapping[str, list[np.ndarray]]) -> list[Line]:
    """Return each label's performance profile, over the range of all scores."""
    every = np.concatenate([x for tasks in ready.values() for x in tasks])
    low, high = float(every.min()), float(every.max())
    room = 0.03 * (high - low) or 0.5
    taus = np.linspace(low - room, high + room, 401)
    found = []
    for label, tasks in ready.items():
        above = reliable.profile(tasks, taus)
        low_high = reliable.interval(above, reliable.mean)
        bottom, top = low_high if low_high is not None else (None, None)
        found.append(Line(label, "", taus, reliable.mean(above), bottom, top, sum(map(len, tasks))))
    return found


def equal_cost(groups: Groups, metric: str) -> Scores:
    """Return the area under each run's curve against processed samples, up to where the first run of the task ends: the
    same number of rows evaluated in updates for all. Runs that do not record them are left out."""
    found: Scores = {}
    ends: dict[str, float] = {}
    reached = {
        (label, task): [(run, x[-1]) for run in runs if (at := on_axis(run, metric, "samples")) and len(x := at[0])]
        for label, tasks in groups.items()
        for task, runs in tasks.items()
    }
    for (_, task), runs in reached.items():
        ends[task] = min([ends.get(task, np.inf), *(end for _, end in runs)])
    for (label, task), runs in reached.items():
        if runs:
            own = found.setdefault(label, {})
            own[task] = np.array([area(run, metric, "samples", ends[task]) for run, _ in runs])
    return found


def differences(raw: Scores) -> dict[tuple[str, str], reliable.Difference]:
    """Return, for every two labels that played a task in common, by how much the first scores higher, which is the one
    with the higher mean."""
    found = {}
    for x, y in itertools.combinations(raw, 2):
        tasks = [task for task in raw[x] if task in raw[y]]
        if tasks:
            xs, ys = ([raw[label][task][:, None] for task in tasks] for label in (x, y))
            apart = reliable.difference(xs, ys)
            found.update({(x, y): apart} if apart.value >= 0 else {(y, x): apart.reversed()})
    return dict(sorted(found.items()))


def pairs(raw: Scores, notices: list[str]) -> dict[tuple[str, str], Bar]:
    """Return, for every two labels, the probability that a run of the first scores higher than one of the second.

    The first of a pair is the one that is more likely to.

    Raises:
        UserError: no two labels played the same task.
    """
    found: dict[tuple[str, str], Bar] = {}
    for x, y in itertools.combinations(raw, 2):
        tasks = [task for task in raw[x] if task in raw[y]]
        if not tasks:
            notices.append(f"{x} and {y} played no task in common.")
            continue
        xs, ys = ([raw[label][task][:, None] for task in tasks] for label in (x, y))
        value, low, high = reliable.improvement(xs, ys)
        if value >= 0.5:
            found[x, y] = (value, low, high)
        else:
            found[y, x] = (1 - value, None if high is None else 1 - high, None if low is None else 1 - low)
    if not found:
        raise UserError("A probability of improvement needs two algorithms that played the same task.")
    return dict(sorted(found.items()))
