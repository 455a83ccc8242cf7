"""Descriptions of a sample of episodes: mean with its bootstrap interval, spread, median."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Resamples of the bootstrap.
RESAMPLES = 2000
_CHUNK = 1 << 20  # drawn numbers held at once


def bootstrap_interval(values: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of the mean, or None for fewer than two values.

    Args:
        values: [E].
        level: share of the resampled means between the bounds.
        seed: of the resamples; the same values give the same interval.
    """
    n = len(values)
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // n)
    means = [values[rng.integers(0, n, (min(at_once, RESAMPLES - k), n))].mean(1) for k in range(0, RESAMPLES, at_once)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def describe(values: Sequence[float] | np.ndarray) -> dict[str, float | list[float] | None]:
    """Return mean, ci95 (bounds of the 95 % bootstrap interval of the mean), std (of the sample itself, divided by
    E), min, median and max of ``values`` [E].

    Raises:
        ValueError: no values.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample):
        raise ValueError("nothing to describe")
    interval = bootstrap_interval(sample)
    return {
        "mean": float(sample.mean()),
        "ci95": None if interval is None else list(interval),
        "std": float(sample.std()),
        "min": float(sample.min()),
        "median": float(np.median(sample)),
        "max": float(sample.max()),
    }
