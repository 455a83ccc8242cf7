"""Steps of the tasks without contact forces, by the rules of Gymnasium's own code and with the same numbers to the bit.

About a third of a cheetah's step in Gymnasium is neither physics nor rules: infos, copies, forces that nobody reads.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rules:
    """The rules of a task.

    | field | meaning |
    |---|---|
    | cost | weight of the squared actions |
    | skipped | numbers at the beginning of qpos that are not observed |
    | clip | velocities are observed within 10 |
    | alive | reward of a step on which the robot is up; in v4 also of the one on which it falls |
    | height, angle | the torso's least and greatest height and angle; outside them it has fallen |
    | within | all positions and velocities but the first two must be smaller; None: any are allowed |
    """

    cost: float
    skipped: int = 1
    clip: bool = False
    alive: float | None = None
    height: tuple[float, float] = (-np.inf, np.inf)
    angle: tuple[float, float] = (-np.inf, np.inf)
    within: float | None = None


RULES: dict[str, Rules] = {
    "HalfCheetah": Rules(0.1),
    "Hopper": Rules(1e-3, clip=True, alive=1.0, height=(0.7, np.inf), angle=(-0.2, 0.2), within=100.0),
    "Walker2d": Rules(1e-3, clip=True, alive=1.0, height=(0.8, 2.0), angle=(-1.0, 1.0)),
    "Swimmer": Rules(1e-4, skipped=2),
}


class QuickStep:
    """The steps of one Gymnasium environment of a task in :data:`RULES`; resets and pictures remain its own.

    Args:
        task: the task's name.
        version: ``v5`` or ``v4``.
        env: Gymnasium's environment.
    """

    def __init__(self, task: str, version: str, env: Any) -> None:
        mujoco: Any = importlib.import_module("mujoco")
        self._advance, self._model, self._data = mujoco.mj_step, env.model, env.data
        self.rules, self._frames, self._dt = RULES[task], int(env.frame_skip), float(env.dt)
        self._reward_of_a_fall = (self.rules.alive or 0.0) if version == "v4" else 0.0
        self._ctrl, self._qpos, self._qvel = env.data.ctrl, env.data.qpos, env.data.qvel
        n = self._qpos.size - self.rules.skipped
        self._seen = np.zeros(n + self._qvel.size)
        self._positions, self._velocities = self._seen[:n], self._seen[n:]
        self._shown = self._qpos[self.rules.skipped :]

    def __call__(self, asked: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Advance the physics with the motors at ``asked``.

        Returns:
            the observation [S] float64 (overwritten by the next step), the reward, and whether the robot fell.
        """
        rules, qpos = self.rules, self._qpos
        before = qpos.item(0)
        self._ctrl[:] = asked
        self._advance(self._model, self._data, self._frames)
        self._positions[:] = self._shown
        if rules.clip:
            np.maximum(self._qvel, -10.0, out=self._velocities)
            np.minimum(self._velocities, 10.0, out=self._velocities)
        else:
            self._velocities[:] = self._qvel
        reward = (qpos.item(0) - before) / self._dt
        fell = False
        if rules.alive is not None:
            fell = not self._up()
            reward += self._reward_of_a_fall if fell else rules.alive
        return self._seen, reward - rules.cost * float(np.add.reduce(asked * asked)), fell

    def _up(self) -> bool:
        """Return whether the robot has not fallen; NaN is a fall."""
        rules = self.rules
        if not (rules.height[0] < self._qpos.item(1) < rules.height[1]):
            return False
        if not (rules.angle[0] < self._qpos.item(2) < rules.angle[1]):
            return False
        if rules.within is None:
            return True
        # absolute values of positions and velocities; the first two positions do not count
        largest = max(np.maximum.reduce(abs(self._qpos[2:])), np.maximum.reduce(abs(self._qvel)))
        return bool(largest < rules.within)
