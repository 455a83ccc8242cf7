"""An environment whose agents are of kinds: here, and not in a test, since workers of the environment load it alone."""

from __future__ import annotations

import numpy as np

from oamarl.envs.base import Arrays, EnvInfo


class Kinds:
    """Agents on a line of their own, seen as a one-hot of 5 places; action 1 goes right, 2 left, 0 stays.

    Agents of kind 1 go the other way (``what="moves"``), or have reward for standing at the other end (``rewards``);
    with ``alike`` kinds change nothing.
    """

    def __init__(self, kinds: str = "0011", what: str = "moves", limit: int = 10, broken: int | None = None) -> None:
        self.kinds, self.what, self.limit, self.broken = np.array([int(k) for k in kinds]), what, limit, broken
        n = len(kinds)
        self.info = EnvInfo("kinds", n, 5, 5 * n, 3, limit, (5,) * n, (3,) * n)

    def reset(self, seed: int, out: Arrays) -> None:
        self.at, self.time, self.seed = np.random.default_rng(seed).integers(5, size=len(self.kinds)), 0, seed
        for x in (out.reward, out.terminated, out.truncated, out.agent_terminated):
            x[...] = 0
        out.alive[...] = out.avail[...] = True
        self.look(out)

    def look(self, out: Arrays) -> None:
        out.obs[...] = np.eye(5)[self.at]
        out.state[...] = out.obs.ravel()

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        self.time += 1
        way = np.where((self.kinds == 1) & (self.what == "moves"), -1, 1)
        self.at = (self.at + way * np.array([0, 1, -1])[actions]).clip(0, 4)
        goal = np.where((self.kinds == 1) & (self.what == "rewards"), 0, 4)
        out.reward[...] = self.at == goal
        out.truncated[...] = self.time == self.limit
        self.look(out)
        if self.time == self.broken:
            out.reward[0] = np.nan

    def close(self) -> None:
        pass


class Unlike(Kinds):
    """Agents 0 and 2 see one number less, and have an action less."""

    def __init__(self, kinds: str = "0101", what: str = "moves", limit: int = 10) -> None:
        super().__init__(kinds, what, limit)
        self.small = np.array([0, 2])
        n = len(kinds)
        obs, actions = [5] * n, [3] * n
        for i in self.small:
            obs[i], actions[i] = 4, 2
        self.info = EnvInfo("unlike", n, 5, 5 * n, 3, limit, tuple(obs), tuple(actions))

    def look(self, out: Arrays) -> None:
        out.obs[...] = np.eye(5)[self.at]
        out.obs[self.small, 4] = 0
        out.avail[self.small, 2] = False
        out.state[...] = out.obs.ravel()
