"""Environments in their vectorised form: every backend shows the numbers of one instance alone, slot by slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...components.experience import action_shape
from ...modules.acting import random_actions
from ..vector.base import VecEnv
from .player import Step, difference, in_out
from .report import Report

#: slots of each backend, and the steps that they make at most
SLOTS, MOST_STEPS = 3, 200
#: the slot whose first episode is broken off, and the step after which that happens at the latest
_BROKEN, _AFTER = 1, 10


class BatchedPlay:
    """Plays two episodes in each of three slots of a backend and compares them with the same episodes played alone.

    Slots are reset one after another, one of them in the middle of its episode; one whose episode is over waits for a
    step before the next begins. Rows of other slots must not change by a reset, nor the row of a slot that waits.

    Args:
        vec: of :data:`SLOTS` slots.
        backend: how findings name it.
        reference: seed -> the steps of its episode, with actions drawn by ``default_rng(seed)``.
        seeds: of the slots' first episodes; the second is that of the next slot.
        report: takes what is found.
    """

    def __init__(
        self, vec: VecEnv, backend: str, reference: Mapping[int, list[Step]], seeds: Sequence[int], report: Report
    ) -> None:
        self.vec, self.backend, self.reference, self.report = vec, backend, reference, report
        self._waiting = [[*seeds[b:], *seeds[:b]][:2] for b in range(SLOTS)]
        self._seeds, self._t = [0] * SLOTS, [0] * SLOTS  # of each slot's episode, and its steps so far
        self._rngs: list[np.random.Generator] = [np.random.default_rng(0)] * SLOTS
        self._break_at = min(_AFTER, (len(reference[seeds[_BROKEN]]) - 1) // 2)

    def run(self) -> None:
        """Play until all episodes are over, or :data:`MOST_STEPS` steps, or the first difference."""
        arrays = self.vec.arrays.named()
        if not all(self._restart(b) for b in range(SLOTS)):
            return
        for _ in range(MOST_STEPS):
            over = self._over()
            active = ~over
            if active.any() and not self._step(active):
                return
            for b in range(SLOTS):
                broken = b == _BROKEN and self._break_at == self._t[b] > 0 and len(self._waiting[b]) == 1
                # an episode that has just ended is shown for one more step
                if (over[b] or (broken and not self._over()[b])) and self._waiting[b] and not self._restart(b):
                    return
            if self._over().all() and not any(self._waiting):
                break
        for name, array in self.vec.arrays.named().items():
            if array is not arrays[name]:
                self.report.find(
                    "rebinds", f"backend={self.backend}: {in_out(name)} is bound to another array: write into it."
                )

    def _over(self) -> np.ndarray:
        """Return which slots' episodes are over, [B] bool."""
        return self.vec.arrays.terminated | self.vec.arrays.truncated

    def _restart(self, b: int) -> bool:
        """Start the slot's next episode; return whether all is as it should be."""
        seed = self._waiting[b].pop(0)
        before = self._rows()
        self.vec.reset(np.array([b]), np.array([seed]))
        self._seeds[b], self._t[b], self._rngs[b] = seed, 0, np.random.default_rng(seed)
        if not self._unchanged(before, [i for i in range(SLOTS) if i != b]):
            self.report.find("rows", f"backend={self.backend}: reset of slot {b} changes rows of other slots.")
            return False
        return self._as_alone(b)

    def _step(self, active: np.ndarray) -> bool:
        """Step the active slots; return whether all is as it should be."""
        a, info = self.vec.arrays, self.vec.info
        shape, dtype = action_shape(info)
        actions = np.zeros((SLOTS, *shape), dtype)
        for b in np.flatnonzero(active).tolist():
            actions[b] = random_actions(info, a.avail[b], self._rngs[b])
            self._t[b] += 1
        before, given = self._rows(), actions.copy()
        self.vec.step(actions, active)
        if not np.array_equal(actions, given):
            self.report.find("actions", f"backend={self.backend} changes the actions that it was given: copy them.")
        if not self._unchanged(before, np.flatnonzero(~active).tolist()):
            self.report.find("rows", f"backend={self.backend}: a step changes rows of slots that are not active.")
            return False
        return all(self._as_alone(b) for b in np.flatnonzero(active).tolist())

    def _rows(self) -> Step:
        return {name: np.array(x) for name, x in self.vec.arrays.named().items()}

    def _unchanged(self, before: Step, slots: list[int]) -> bool:
        now = self._rows()
        return not difference([{n: x[slots] for n, x in before.items()}], [{n: x[slots] for n, x in now.items()}])

    def _as_alone(self, b: int) -> bool:
        """Compare what slot ``b`` shows with the same moment of its episode played alone."""
        seed, t = self._seeds[b], self._t[b]
        wanted = self.reference[seed]
        if t >= len(wanted):  # it would have been over: that differs at the step before
            return True
        now = {name: np.array(x[b]) for name, x in self.vec.arrays.named().items()}
        differs = difference([wanted[t]], [now])
        if differs:
            self.report.differs(
                "backend",
                f"backend={self.backend} gives other numbers than one instance alone: {differs.split()[0]} differs "
                f"{f'after step {t}' if t else 'at reset'} (seed {seed}).",
            )
        return not differs
