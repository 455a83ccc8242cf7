"""Environments with one fault each, for the tests of `oamarl check-env`; `broken_envs:Broken` with its `fault`."""

from __future__ import annotations

import os
import random
from typing import Any, ClassVar

import numpy as np

from oamarl.components.experience import Field
from oamarl.envs.base import Arrays, EnvInfo


class Broken:
    """Two agents, three numbers to see, two or three actions, six steps; sound but for its ``fault``."""

    shared: ClassVar[list[float]] = [0.0]
    last: ClassVar[Any] = None

    def __init__(self, fault: str = "", thing: Any = None) -> None:
        self.fault = fault
        self.steps = 0
        if fault == "build":
            raise RuntimeError("no display")
        sizes: Any = (3, 2) if fault != "sizes" else (3, 4)
        limit = 0 if fault == "no limit" else 6
        self.info = EnvInfo("broken", 2, 3, 6, 3, limit, sizes, (2, 3), metrics=("score",))

    def reset(self, seed: int, out: Arrays) -> None:
        if self.fault == "reset raises":
            raise KeyError("seed")
        self.rng = np.random.default_rng(None if self.fault == "no seed" else 5 if self.fault == "one seed" else seed)
        self.before = self.rng.random() if self.steps == 0 or self.fault != "leftover" else 0.5
        self.half = self.fault == "half" and 0 < self.steps < 6
        self.steps, self.seed = 0, seed
        if self.fault not in ("nobody alive", "keeps alive"):
            out.alive[...] = True
        if self.fault == "over":
            out.terminated[...] = True
        self.look(out)
        if self.fault == "other's rows" and type(self).last is not None and type(self).last is not out:
            type(self).last.obs[0, 0] = 7
        type(self).last = out

    def look(self, out: Arrays) -> None:
        fault = self.fault
        see = np.zeros((2, 3))
        see[0], see[1, :2] = self.rng.standard_normal(3), self.rng.standard_normal(2)
        see[0, 0] += self.before + self.half
        if fault == "global numpy":
            see[0, 0] = np.random.rand()
        if fault == "global random":
            see[0, 0] = random.random()
        if fault == "global unused":
            np.random.rand()
        if fault == "process":
            see[0, 0] = os.getpid()
        if fault == "shared":
            self.shared[0] += self.seed + self.steps
            see[0, 0] = self.shared[0] = 0.0 if self.steps == 0 else self.shared[0]
        if fault == "not a number":
            see[0, 1] = np.nan if self.steps == 3 else 0
        if fault == "padding":
            see[1, 2] = 1
        if fault == "rebinds":
            out.obs = see.astype(np.float32)
        elif fault == "broadcast":
            out.obs[...] = see[:, :1]
        elif fault != "obs unwritten":
            out.obs[...] = see
        if fault == "shape":
            out.obs[...] = np.zeros((2, 4))
        out.state[...] = np.inf if fault == "infinite" else out.obs.ravel()
        out.avail[...] = [[True, True, False], [True, True, True]]
        if fault == "padded action":
            out.avail[0, 2] = True
        if fault == "no action" and self.steps == 2:
            out.avail[1] = False
        if fault == "mask":
            out.avail[[0, 1, 1], [0, 0, 1]] = np.random.default_rng().random(3) < 0.5  # equal by chance: once in 2^21

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        fault = self.fault
        self.steps += 1
        if fault == "step raises" and self.steps == 4:
            raise ZeroDivisionError("the fourth step")
        if fault == "actions":
            actions[:] = 0
        self.look(out)
        out.reward[...] = [1.0, -1.0]
        if fault == "reward shape":
            out.reward[...] = np.zeros((2, 2))
        if fault == "one reward":
            out.reward[...] = 1.0
        if fault == "reward nan":
            out.reward[1] = np.nan
        out.metrics[0] = np.inf if fault == "metrics" else self.steps
        end = self.steps >= (99 if fault == "endless" else 6)
        out.terminated[...] = end and fault == "clock"
        out.truncated[...] = end and fault != "clock"
        if fault == "flag":
            out.truncated[...] = 0.5 if end else 0
        dead = {"back": self.steps in (2, 3), "dead and alive": self.steps >= 2, "late reward": self.steps >= 2}
        out.agent_terminated[...] = [dead.get(fault, fault == "dead mask" and self.steps >= 2), False]
        if fault in ("back", "late reward", "dead mask"):
            out.alive[0] = not out.agent_terminated[0]
            if out.agent_terminated[0] and fault != "dead mask":
                out.avail[0] = [True, False, False]
        if fault == "gone":
            out.alive[...] = False
            out.avail[...] = [True, False, False]

    def close(self) -> None:
        if self.fault == "close":
            raise OSError("the game does not end")


class Strays(Broken):
    """It counts its steps on the class: all instances share one clock."""

    time: ClassVar[int] = 0

    def reset(self, seed: int, out: Arrays) -> None:
        type(self).time = 0
        super().reset(seed, out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        type(self).time += 1
        super().step(actions, out)
        out.truncated[...] = type(self).time >= 6
        out.metrics[0] = type(self).time


class BrokenBatch:
    """Steps all its slots itself; one agent, episodes of 4 to 7 steps; sound but for its ``fault``."""

    native = True

    def __init__(self, n_slots: int, fault: str = "") -> None:
        self.fault, self.n_slots = fault, n_slots
        self.info = EnvInfo("batch", 1, 2, 2, 2, 8, (2,), (2,), extra=(Field("wind", (1,), "float32", "before"),))
        self.rngs = [np.random.default_rng(0)] * n_slots
        self.time, self.end = np.zeros((2, n_slots), np.int64)

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        if self.fault == "rebinds" and self.n_slots > 1:
            out.obs = out.obs.copy()
        for b, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            first = b if self.fault == "order" else 0
            self.rngs[b] = np.random.default_rng([seed, first])
            self.time[b], self.end[b] = 0, 4 + seed % 4
            self.look(b, out)
        if self.fault == "clock" and self.n_slots > 1:
            self.time[:] = self.time.max()  # one clock for all
        if self.fault == "reset":
            out.obs[0] += 1
        out.avail[slots] = out.alive[slots] = True

    def look(self, b: int, out: Arrays) -> None:
        out.obs[b] = out.state[b] = self.rngs[b].random() + self.time[b]
        if self.fault != "unwritten":
            out.extra["wind"][b] = (b if self.fault == "extra" else 0) + self.time[b]

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        for b in range(self.n_slots):
            if active[b]:
                self.time[b] += 1
                self.look(b, out)
            elif self.fault == "idle":
                out.reward[b] += 1
        out.truncated[active] = (self.time >= self.end)[active]

    def close(self) -> None:
        pass
