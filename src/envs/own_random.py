"""Global random generators per slot, for environments that draw from numpy's or Python's GLOBAL ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Arrays, Env


def global_state() -> tuple[Any, Any]:
    """Return the state of both global generators."""
    return np.random.get_state(), random.getstate()


def set_global_state(state: tuple[Any, Any]) -> None:
    """Put a state of :func:`global_state` back."""
    np.random.set_state(state[0])
    random.setstate(state[1])


def seed_global(seed: int) -> None:
    """Seed both global generators with ``seed`` [0, 2**31)."""
    np.random.seed(seed)
    random.seed(seed)


class OwnRandom:
    """Wrapper of an environment whose global draws then depend on its episode's seed alone.

    The generators are swapped around every call, so that slots which share a process do not share draws. That costs
    about as much as a small environment's step, and is therefore done only where it is asked for.
    """

    def __init__(self, make: Callable[[], Env]) -> None:
        """Build the environment; what it draws meanwhile is the same for every instance."""
        self._state = global_state()
        self.env = self._within(make, 0)
        self.info = self.env.info
        if (draw := getattr(self.env, "render", None)) is not None:  # drawn only where the environment can be
            self.render = lambda: self._within(draw)

    def _within(self, call: Callable[[], Any], seed: int | None = None) -> Any:
        outer = global_state()
        try:
            if seed is None:
                set_global_state(self._state)
            else:
                seed_global(seed)
            return call()
        finally:
            self._state = global_state()
            set_global_state(outer)

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``, which seeds the global generators too."""
        self._within(lambda: self.env.reset(seed, out), seed)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N] with this slot's generators in place."""
        self._within(lambda: self.env.step(actions, out))

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
