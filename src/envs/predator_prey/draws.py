"""Uniform random numbers of an episode by counter: number t, i of a seed is the same however many slots are drawn."""

from __future__ import annotations

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """Return the finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 15) of uint64 numbers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seeds: np.ndarray, times: np.ndarray, n: int) -> np.ndarray:
    """Return the n draws of each episode at one time, [k, n] float64 in [0, 1).

    Args:
        seeds: [k] int64 of episodes.
        times: [k] int64, 0 or more; each time has draws of its own, up to 2**20 of them.
        n: draws an episode.
    """
    streams = _mix(_mix(seeds.astype(np.uint64) + _STEP) + times.astype(np.uint64) * _STEP)
    numbers = _mix(streams[:, None] + np.arange(1, n + 1, dtype=np.uint64) * _STEP)
    draws: np.ndarray = (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return draws
