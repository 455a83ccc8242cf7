"""Throughput of an environment under random play: the upper bound of any runner's steps a second."""

from __future__ import annotations

import time

import numpy as np

from .playing import Stepper

#: Pre-drawn actions: drawing them must cost next to nothing beside a fast environment.
_DRAWS = 64


def random_throughput(stepper: Stepper, seconds: float, seed: int) -> tuple[int, float]:
    """Step every slot with uniformly drawn legal actions; an ended episode is followed by another.

    Returns:
        the steps made, of all slots, and the seconds they took: at least ``seconds``, and at least one step.
    """
    out, rng, steps, drawn = stepper.arrays, np.random.default_rng(seed), 0, 0
    draws = rng.random((_DRAWS, *out.avail.shape), np.float32) + np.float32(1e-6)  # above an illegal action's 0
    everywhere = np.ones(len(out.avail), bool)

    def reset(slots: np.ndarray) -> None:
        stepper.reset(slots, rng.integers(2**31, size=len(slots)))

    reset(np.arange(len(everywhere)))
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds or not steps:
        stepper.step((draws[drawn % _DRAWS] * out.avail).argmax(-1), everywhere)
        drawn += 1
        steps += len(everywhere) - int(stepper.lost.sum())
        over = np.flatnonzero(out.terminated | out.truncated | stepper.lost)
        if len(over):
            reset(over)
    return steps, now - began
