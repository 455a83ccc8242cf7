"""What is kept and checked about slots, by whoever steps them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...utils.errors import UserError
from ...utils.said import BACK, Say, say_once
from ..base import Arrays, EnvInfo
from ..build import Unsound

#: the rule about ends
FOR_GOOD = "an agent's end is for good"


def goes_on(info: EnvInfo) -> str:
    """Return what is wrong with an episode that is not over at its limit."""
    return f"the episode goes on, and info.episode_limit={info.episode_limit}"


class Watch:
    """Seeds and steps of S slots' episodes, and an eye on their ends and their legal actions.

    Args:
        info: of the environment.
        arrays: what the slots show.
        seeds, steps: [S] int64, written here: each slot's episode seed (-1 before the first) and steps in it.
        first: number of the first slot in the whole run.
        say: takes what is worth a warning.
    """

    def __init__(
        self, info: EnvInfo, arrays: Arrays, seeds: np.ndarray, steps: np.ndarray, first: int = 0, say: Say = say_once
    ) -> None:
        self.info, self.arrays, self.seeds, self.steps, self.first, self._say = info, arrays, seeds, steps, first, say
        self._legal = b""  # the newest avail in which every agent had a legal action
        self._flags = b""  # the newest flags of agents
        self._began = np.zeros(len(seeds), bool)
        # agents of the present episodes that have ended, and those among them that were not alive then
        self._ended, self._down = np.zeros((2, *arrays.alive.shape), bool)
        self._calls = 0  # that may come before a slot can be at its limit
        self._said: set[str] = set()

    def begin(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Note that episodes begin, and clear what the last ones have left."""
        out = self.arrays
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0
        self.seeds[slots], self.steps[slots] = seeds, 0
        self._ended[slots] = self._down[slots] = False
        self._began[slots] = True

    def check(self) -> None:
        """Look at what the slots show after a reset or a step.

        Raises:
            UserError: an agent has no legal action.
            Unsound: an episode is not over at the environment's limit.
        """
        self._calls -= 1
        if self._calls <= 0:
            self._look_at_the_clock()
        self._look_at_ends()
        self._look_at_actions()

    def _where(self, slot: int) -> str:
        return f"after step {self.steps[slot]} (slot {self.first + slot}, episode seed {self.seeds[slot]})"

    def _look_at_the_clock(self) -> None:
        """Stop where an episode is longer than the environment says that one can be: arrays have its length."""
        out, limit = self.arrays, self.info.episode_limit
        going = self._began & ~(out.terminated | out.truncated)
        late = np.flatnonzero(going & (self.steps >= limit)).tolist()
        if late:
            where = self._where(late[0])
            raise Unsound(f"The environment '{self.info.name}' outlives its limit: {where} {goes_on(self.info)}.")
        # no slot makes more than one step a call
        self._calls = limit - int(self.steps[going].max(initial=0))

    def _look_at_ends(self) -> None:
        """Warn where an agent's end is taken back."""
        out = self.arrays
        flags = out.agent_terminated.tobytes() + out.alive.tobytes()
        if flags == self._flags:
            return
        self._flags = flags
        over = out.terminated | out.truncated
        back = (self._ended & ~out.agent_terminated) | (self._down & out.alive & ~over[:, None])
        if back.any():
            slot, agent = np.argwhere(back)[0].tolist()
            self.back(slot, agent, "is alive again" if out.agent_terminated[slot, agent] else "is no longer terminated")
        self._ended = out.agent_terminated.copy()
        self._down = self._ended & ~out.alive

    def back(self, slot: int, agent: Any, how: str) -> None:
        """Say that an agent's end was taken back."""
        if BACK not in self._said:
            self.say(
                BACK,
                f"The environment '{self.info.name}' takes an agent's end back: {self._where(slot)} agent {agent} "
                f"{how}: {FOR_GOOD}.",
            )

    def say(self, kind: str, text: str) -> None:
        """Warn, once of each kind."""
        if kind not in self._said:
            self._said.add(kind)
            self._say(kind, text)

    def _look_at_actions(self) -> None:
        """Name the first agent without a legal action; slots without an episode, or at its very end, need none."""
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
                f"The environment '{self.info.name}' leaves agent {agent} without a legal action after step "
                f"{self.steps[slot]} (slot {self.first + slot}, episode seed {self.seeds[slot]}): also an agent that "
                "has ended needs one."
            )
