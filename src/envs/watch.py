"""What is kept and checked about slots, by whoever steps them."""

from __future__ import annotations

import numpy as np

from ..components.errors import UserError
from .base import Arrays


class Watch:
    """Seeds and steps of S slots' episodes, and an eye on their legal actions.

    Args:
        name: of the environment.
        arrays: what the slots show.
        seeds, steps: [S] int64, written here: each slot's episode seed (-1 before the first) and steps in it.
        first: number of the first slot in the whole run.
    """

    def __init__(self, name: str, arrays: Arrays, seeds: np.ndarray, steps: np.ndarray, first: int = 0) -> None:
        self.name, self.arrays, self.seeds, self.steps, self.first = name, arrays, seeds, steps, first
        self._legal = b""  # the newest avail in which every agent had a legal action

    def begin(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Note that episodes begin, and clear what the last ones have left."""
        out = self.arrays
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0
        self.seeds[slots], self.steps[slots] = seeds, 0

    def check(self) -> None:
        """Name the first agent without a legal action; slots without an episode, or at its very end, need none.

        Raises:
            UserError: there is one.
        """
        avail = self.arrays.avail
        shown = avail.tobytes()
        if shown == self._legal:  # ten times as quick as a look, and most environments' actions are always legal
            return
        if avail.any(-1).all():
            self._legal = shown
            return
        playing = (self.seeds >= 0) & ~self.arrays.terminated
        stuck = np.argwhere(~avail.any(-1) & playing[:, None])
        if len(stuck):
            slot, agent = stuck[0].tolist()
            raise UserError(
                f"The environment '{self.name}' leaves agent {agent} without a legal action after step "
                f"{self.steps[slot]} (slot {self.first + slot}, episode seed {self.seeds[slot]}): also an agent that "
                "has ended needs one."
            )
