"""Robots of one kind, advanced one after another and judged and shown together.

Tasks without contact forces are judged by the rules of Gymnasium's own code, with the same numbers to the bit: about a
third of a cheetah's step in Gymnasium is neither physics nor rules (infos, copies, forces that nobody reads).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import Arrays, EnvInfo
from .robots import Split
from .views import Views


@dataclass(frozen=True)
class Rules:
    """The rules of a task.

    | field | meaning |
    |---|---|
    | cost | weight of the squared actions |
    | skipped | numbers at the beginning of qpos that are not observed |
    | clip | velocities are observed within 10 |
    | alive | reward of a step after which the robot is up (in v4 of every step); None: it cannot fall |
    | height, angle | the torso's least and greatest height and angle; outside them it has fallen |
    | within | all positions and velocities but the first two positions are smaller, or it has fallen |
    """

    cost: float
    skipped: int = 1
    clip: bool = False
    alive: float | None = None
    height: tuple[float, float] = (-np.inf, np.inf)
    angle: tuple[float, float] = (-np.inf, np.inf)
    within: float = np.inf


RULES: dict[str, Rules] = {
    "HalfCheetah": Rules(0.1),
    "Hopper": Rules(1e-3, clip=True, alive=1.0, height=(0.7, np.inf), angle=(-0.2, 0.2), within=100.0),
    "Walker2d": Rules(1e-3, clip=True, alive=1.0, height=(0.8, 2.0), angle=(-1.0, 1.0)),
    "Swimmer": Rules(1e-4, skipped=2),
}


@dataclass
class Body:
    """One robot of one environment.

    | field | meaning |
    |---|---|
    | task | Gymnasium's environment |
    | version | of the task |
    | rules | of the task; None: Gymnasium's own code steps it |
    | info, split | the environment's sizes, and the agents' joints |
    | views | what agents see of single joints; None: they see the whole robot |
    | standardise | observations and state over their own numbers |
    | time | steps in this episode |
    """

    task: Any
    version: str
    rules: Rules | None
    info: EnvInfo
    split: Split
    views: Views | None
    standardise: bool
    time: int = 0


class Together:
    """S robots of one kind.

    Args:
        robots: of environments with the same arguments.
    """

    def __init__(self, robots: Sequence[Body]) -> None:
        self._robots, self._rules = robots, robots[0].rules
        self._tasks = [robot.task for robot in robots]
        task, first, n = self._tasks[0], robots[0], len(robots)
        self._info, self._standardise, self._observes = first.info, first.standardise, first.views is None
        mujoco: Any = importlib.import_module("mujoco")
        self._advance, self._frames, self._dt = mujoco.mj_step, int(task.frame_skip), float(task.dt)
        # one model for all: less for the processor's caches to hold
        self._model, self._parts = task.model, [(t.data, t.data.ctrl, t.data.qpos, t.data.qvel) for t in self._tasks]
        self._qpos, self._qvel = np.zeros((n, task.model.nq)), np.zeros((n, task.model.nv))
        self._seen = np.zeros((n, self._info.state_size))
        self._before, self._reward = np.zeros((2, n))
        self._fell, self._late = np.zeros((2, n), bool)
        self._eye = np.eye(self._info.n_agents)
        # joint -> place of its action among all agents' [N D], and the motors' range
        width = self._info.n_actions
        self._places = np.zeros(sum(self._info.action_sizes), np.int64)
        for i, joints in enumerate(first.split):
            self._places[list(joints)] = i * width + np.arange(len(joints))
        low, high = task.model.actuator_ctrlrange.T
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._units = bool((low == -1).all() and (high == 1).all())  # actions are what motors get

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> Iterator[int]:
        """Apply ``actions`` [S, N, D] to the robots where ``active`` [S]; yield each one's number before its turn.

        ``out`` is written when all have had theirs.
        """
        rows = np.flatnonzero(active)
        asked = actions.reshape(len(actions), -1)[:, self._places].astype(np.float64)
        if not self._units:
            asked = self._middle + self._half * asked
        advance, model, frames = self._advance, self._model, self._frames
        for i in rows.tolist():
            yield i
            robot = self._robots[i]
            robot.time += 1
            self._late[i] = robot.time >= self._info.episode_limit
            data, ctrl, qpos, qvel = self._parts[i]
            if self._rules is None:
                self._seen[i], self._reward[i], self._fell[i], _, _ = self._tasks[i].step(asked[i])
            else:
                self._before[i] = qpos.item(0)
                ctrl[:] = asked[i]
                advance(model, data, frames)
                self._qvel[i] = qvel
            self._qpos[i] = qpos
        at = slice(None) if len(rows) == len(active) else rows
        if self._rules is not None:
            self._judge(self._rules, at, asked[at])
        self.show(self._seen[at], at, out)
        fell = self._fell[at]
        out.reward[at] = self._reward[at, None]
        out.metrics[at, 0] = self._qpos[at, 0]
        out.terminated[at] = fell
        out.agent_terminated[at] = fell[:, None]
        out.truncated[at] = self._late[at] & ~fell

    def _judge(self, rules: Rules, at: Any, asked: np.ndarray) -> None:
        """Find what robots ``at`` observe, their rewards and who fell, after motors were at ``asked`` [k, joints]."""
        qpos, qvel, skipped = self._qpos[at], self._qvel[at], rules.skipped
        n = qpos.shape[1] - skipped
        self._seen[at, :n] = qpos[:, skipped:]
        self._seen[at, n:] = np.minimum(np.maximum(qvel, -10.0), 10.0) if rules.clip else qvel
        reward = (qpos[:, 0] - self._before[at]) / self._dt
        if rules.alive is not None:
            height, angle = qpos[:, 1], qpos[:, 2]
            up = (rules.height[0] < height) & (height < rules.height[1])  # NaN is a fall
            up &= (rules.angle[0] < angle) & (angle < rules.angle[1])
            if rules.within < np.inf:
                up &= (np.abs(qpos[:, 2:]) < rules.within).all(1) & (np.abs(qvel) < rules.within).all(1)
            self._fell[at] = ~up
            reward += rules.alive if self._robots[0].version == "v4" else np.where(up, rules.alive, 0.0)
        self._reward[at] = reward - rules.cost * np.add.reduce(asked * asked, axis=1)

    def show(self, seen: np.ndarray, at: Any, out: Arrays) -> None:
        """Write observations and state of robots ``at``; ``seen`` [k, S] float64 is what the task observes."""
        size, n = seen.shape[1], len(self._eye)
        mean, squares = np.zeros(len(seen)), np.zeros(len(seen))
        if self._standardise:
            mean = np.add.reduce(seen, axis=1) / size
            apart = seen - mean[:, None]
            squares = np.add.reduce(apart * apart, axis=1)
            out.state[at] = apart / _norm(squares / size)[:, None]
        else:
            out.state[at] = seen
        if not self._observes:
            for i in np.arange(len(self._robots))[at].tolist():
                views = self._robots[i].views
                assert views is not None
                views.write(out.obs[i], self._standardise)
            return
        m, std = np.zeros(len(seen)), np.ones(len(seen))
        if self._standardise:
            # one 1 and n - 1 zeros follow for every agent: mean and deviation are the same for all
            m = (mean * size + 1.0) / (size + n)
            squares = squares + size * (mean - m) ** 2 + (n - 1) * m * m + (1.0 - m) ** 2
            std = _norm(squares / (size + n))
            seen = (seen - m[:, None]) / std[:, None]
        out.obs[at, :, :size] = seen[:, None]
        out.obs[at, :, size:] = (self._eye - m[:, None, None]) / std[:, None, None]


def _norm(variance: np.ndarray) -> np.ndarray:
    """Return standard deviations; 1 where all numbers are alike."""
    return np.sqrt(np.where(variance > 0, variance, 1.0))
