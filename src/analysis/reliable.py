"""Statistics of few runs: interquartile mean, stratified bootstrap, profiles, differences, probability of improvement.

Definitions of Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice* (2021).

``Tasks`` is a list with one array [n, G] a task: n runs (seeds), G numbers of each (points of a curve, thresholds,
or one score). Statistics reduce it to [G]. Tasks may have different numbers of runs; a task counts as much as any
other, except in the interquartile mean, which goes over all runs together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: resamples of the bootstrap, and the share of them between the bounds
RESAMPLES, LEVEL = 2000, 0.95
#: of the permutation test
PERMUTATIONS = 9999
_CHUNK = 1 << 22  # numbers held at once

Tasks = Sequence[np.ndarray]
#: reduces arrays [..., n, G] to [..., G]
Statistic = Callable[[Tasks], np.ndarray]


def mean(tasks: Tasks) -> np.ndarray:
    """Return the mean over tasks of the mean over runs."""
    return np.mean([x.mean(-2) for x in tasks], axis=0)


def median(tasks: Tasks) -> np.ndarray:
    """Return the median over tasks of the mean over runs (of one task: its mean)."""
    return np.median([x.mean(-2) for x in tasks], axis=0)


def iqm(tasks: Tasks) -> np.ndarray:
    """Return the interquartile mean: of all runs, a quarter (rounded down) is left out at either end."""
    together = np.concatenate(list(tasks), axis=-2)
    n = together.shape[-2]
    if n >= 4:
        together.sort(axis=-2)  # in place: a bootstrap's arrays are large
    return together[..., n // 4 : n - n // 4, :].mean(-2)


def optimality_gap(target: float) -> Statistic:
    """Return the statistic: how far runs stay below ``target`` on average, those above it counting as there."""

    def gap(tasks: Tasks) -> np.ndarray:
        return target - mean([np.minimum(x, target) for x in tasks])

    return gap


def interval(
    tasks: Tasks, statistic: Statistic, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the percentile bootstrap bounds [G], [G] of a statistic, with runs resampled within each task.

    None where no task has two runs. The same numbers give the same bounds.
    """
    if max((len(x) for x in tasks), default=0) < 2:
        return None
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // sum(x.size for x in tasks))
    parts = []
    for k in range(0, resamples, at_once):
        r = min(at_once, resamples - k)
        parts.append(statistic([x[rng.integers(0, len(x), (r, len(x)))] for x in tasks]))
    low, high = np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def profile(tasks: Tasks, thresholds: np.ndarray) -> list[np.ndarray]:
    """Return, for scores [n, 1] a task, indicators [n, T] of a score above each threshold: their mean is the profile.

    Args:
        thresholds: [T].
    """
    return [(x > thresholds).astype(np.float64) for x in tasks]


def _probability(xs: Tasks, ys: Tasks) -> np.ndarray:
    """Return [...]: the mean over tasks of P(x > y) + P(x = y) / 2 for x [..., n, 1], y [..., m, 1]."""
    each = []
    for x, y in zip(xs, ys, strict=True):
        difference = x[..., :, None, 0] - y[..., None, :, 0]
        each.append((0.5 + 0.5 * np.sign(difference)).mean((-1, -2)))
    return np.mean(each, axis=0)


def improvement(
    xs: Tasks, ys: Tasks, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float | None, float | None]:
    """Return the probability that a run of X scores higher than one of Y, averaged over tasks, with its bounds.

    Args:
        xs, ys: scores [n, 1] and [m, 1] of the same tasks, in the same order.

    Returns:
        probability, low, high; bounds are None where neither has two runs in any task.
    """
    value = float(_probability(xs, ys))
    if max(len(x) for x in [*xs, *ys]) < 2:
        return value, None, None
    rng = np.random.default_rng(seed)

    def drawn(tasks: Tasks, r: int) -> list[np.ndarray]:
        return [x[rng.integers(0, len(x), (r, len(x)))] for x in tasks]

    at_once = max(1, _CHUNK // sum(len(x) * len(y) for x, y in zip(xs, ys, strict=True)))
    sizes = [min(at_once, resamples - k) for k in range(0, resamples, at_once)]
    parts = [_probability(drawn(xs, r), drawn(ys, r)) for r in sizes]
    low, high = np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2])
    return value, float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """By how much runs of X score higher than runs of Y: the mean over tasks of the difference of means.

    ``low``, ``high``: 95 % stratified bootstrap bounds, and ``p``: of a two-sided permutation test of no difference;
    None where neither has two runs in any task.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def shows(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def reversed(self) -> Difference:
        """The same of Y over X."""
        return Difference(-self.value, None if self.high is None else -self.high,
                          None if self.low is None else -self.low, self.p)  # fmt: skip


def difference(xs: Tasks, ys: Tasks, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Difference:
    """Return the difference of mean scores of X and Y with its bounds and the p-value of a permutation test.

    The bootstrap resamples runs within each task and label. The test exchanges labels within each task: p is the share
    of (1 + permutations) whose absolute difference is at least the one found, itself counted (Phipson & Smyth 2010), so
    that it is never 0.

    Args:
        xs, ys: scores [n, 1] and [m, 1] of the same tasks, in the same order.
    """
    value = float((mean(xs) - mean(ys))[0])
    if max(len(x) for x in [*xs, *ys]) < 2:
        return Difference(value)
    rng = np.random.default_rng(seed)

    def drawn(tasks: Tasks) -> np.ndarray:
        return np.mean([x[rng.integers(0, len(x), (resamples, len(x))), 0].mean(1) for x in tasks], axis=0)

    low, high = np.quantile(drawn(xs) - drawn(ys), [(1 - level) / 2, (1 + level) / 2])
    permuted = np.zeros(PERMUTATIONS)
    for x, y in zip(xs, ys, strict=True):
        both = np.concatenate([x, y])[:, 0]
        shuffled = rng.permuted(np.broadcast_to(both, (PERMUTATIONS, len(both))), axis=1)
        permuted += shuffled[:, : len(x)].mean(1) - shuffled[:, len(x) :].mean(1)
    reached = np.abs(permuted / len(xs)) >= abs(value) * (1 - 1e-9)
    return Difference(value, float(low), float(high), (1 + int(reached.sum())) / (1 + PERMUTATIONS))


def exact(successes: int, runs: int, others: int, of: int) -> float:
    """Return the p-value of Fisher's exact test, two-sided: do two kinds of runs succeed alike often?

    Args:
        successes, runs: of the first kind.
        others, of: of the second kind.
    """
    total = successes + others
    ways = [math.comb(runs, k) * math.comb(of, total - k) for k in range(max(0, total - of), min(runs, total) + 1)]
    seen = math.comb(runs, successes) * math.comb(of, others)
    return sum(w for w in ways if w <= seen) / sum(ways)


def overlap(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    """Whether two intervals share a point; an unknown one may be anywhere."""
    return a is None or b is None or (a[0] <= b[1] and b[0] <= a[1])
