"""Adapter from environments that step all their slots themselves to the interface of a single one."""

from __future__ import annotations

import numpy as np

from .base import Arrays, BatchedEnv


class OneSlot:
    """Adapter of a batched environment with one slot to the interface of a single one."""

    def __init__(self, env: BatchedEnv) -> None:
        self.env = env
        self.info = env.info
        self._slot = np.zeros(1, np.int64)
        self._active = np.ones(1, bool)
        self._out: Arrays | None = None
        self._view: Arrays

    def _rows(self, out: Arrays) -> Arrays:
        if out is not self._out:  # a slot's views are the same ones at every step
            self._out, self._view = out, Arrays.of({name: x[None] for name, x in out.named().items()})
        return self._view

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        self.env.reset(self._slot, np.array([seed], np.int64), self._rows(out))

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N]."""
        self.env.step(actions[None], self._active, self._rows(out))

    def close(self) -> None:
        """Close it."""
        self.env.close()
