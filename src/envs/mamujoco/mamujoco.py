"""Multi-Agent MuJoCo (Peng et al. 2021): agents that share out the joints of one robot, in Gymnasium's MuJoCo tasks.

What agents see is, by default, what they see in the HATRPO paper and HARL: the task's whole observation and their own
number, standardised over that vector. docs/mamujoco.md has robots, splits and what differs from the papers.
"""

from __future__ import annotations

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..base import Arrays, EnvInfo
from .quick import RULES, QuickStep
from .robots import find_robot, find_split
from .start import draw, start
from .views import Views

OBSERVE = ("full", "obsk")


class Mamujoco:
    """One robot; every entry of the reward is the task's one reward.

    An episode ends by the task's own rules (a fall: ``terminated``) or at ``time_limit`` (``truncated``).

    Actions are in units of the motors' range, [-1, 1] each, and reach the task as they are drawn: MuJoCo clips what a
    motor does, and the task's cost of control counts what was asked of it.
    """

    def __init__(
        self,
        scenario: str = "HalfCheetah",
        agent_conf: str | None = None,
        observe: str = "full",
        agent_obsk: int = 1,
        standardise: bool | None = None,
        task_version: str = "v5",
        time_limit: int = 1000,
        quick: bool = True,
        render_mode: str | None = None,
    ) -> None:
        """Build the robot.

        Args:
            scenario: the robot.
            agent_conf: the split of its joints: agents times joints (``2x3``), or numbers of joints (``9|8``); None:
                the robot's usual one.
            observe: ``full``: every agent sees the task's whole observation and its own number, one-hot; ``obsk``: its
                own joints and those near them.
            agent_obsk: links that an agent sees beyond its own joints, with ``obsk``.
            standardise: observations and state have mean 0 and deviation 1 over their own numbers; None: with ``full``.
            task_version: Gymnasium's version of the task, ``v5`` or ``v4``.
            time_limit: steps until an episode is cut.
            quick: let code of ours step the cheetah, the hopper, the walker and the swimmers, by the same rules to the
                bit; False: Gymnasium's own.
            render_mode: set where pictures will be asked for.

        Raises:
            UserError: an unknown robot, split, version or value, or MuJoCo missing.
        """
        if observe not in OBSERVE:
            raise UserError(
                f"env_args.observe='{observe}' is not known: use {one_of(OBSERVE)}{nearest(observe, OBSERVE)}"
            )
        for name, value, low in (("agent_obsk", agent_obsk, 0), ("time_limit", time_limit, 1)):
            if value < low:
                raise UserError(f"env_args.{name}={value} is out of range: at least {low} is allowed.")
        robot, entry = find_robot(scenario)
        conf, self.split = find_split(robot, agent_conf)
        sizes = tuple(len(joints) for joints in self.split)
        n, width = len(sizes), max(sizes)
        self._env = env = start(entry, task_version, sum(sizes), render_mode)
        self._quick = QuickStep(entry.task, task_version, env) if quick and entry.task in RULES else None
        self._views = None if observe == "full" else Views(robot, env.model, env.data, self.split, agent_obsk)
        self._standardise = observe == "full" if standardise is None else standardise
        state, self._limit, self._time = int(env.observation_space.shape[0]), time_limit, 0
        obs_sizes = (state + n,) * n if self._views is None else self._views.sizes
        self._eye = np.eye(n)
        self._legal = np.arange(width) < np.array(sizes)[:, None]
        # joint -> place of its action among all agents' [N D], and the motor's range
        self._places = np.zeros(sum(sizes), np.int64)
        for i, joints in enumerate(self.split):
            self._places[list(joints)] = i * width + np.arange(len(joints))
        low, high = env.model.actuator_ctrlrange.T
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._units = bool((low == -1).all() and (high == 1).all())  # actions are what motors get
        self._qpos = env.data.qpos
        self.info = EnvInfo(
            name=f"{robot}-{task_version} {conf}",
            n_agents=n,
            obs_size=max(obs_sizes),
            state_size=state,
            n_actions=width,
            episode_limit=time_limit,
            obs_sizes=obs_sizes,
            action_sizes=sizes,
            metrics=("x_position",),
            team_reward=True,
            action_low=tuple((-1.0,) * size for size in sizes),
            action_high=tuple((1.0,) * size for size in sizes),
            clip_actions=False,
        )

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        seen, _ = self._env.reset(seed=seed)
        self._time = 0
        out.obs[...] = 0
        out.avail[...] = self._legal
        out.alive[...] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[...] = 0
        self._see(seen, out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N, D]."""
        asked = actions.ravel()[self._places].astype(np.float64)
        if not self._units:
            asked = self._middle + self._half * asked
        if self._quick is not None:
            seen, reward, fell = self._quick(asked)
        else:
            seen, reward, fell, _, _ = self._env.step(asked)
        self._time += 1
        self._see(seen, out)
        out.reward[...] = reward
        out.metrics[0] = self._qpos[0]
        if fell:
            out.terminated[...] = out.agent_terminated[...] = True
        elif self._time >= self._limit:
            out.truncated[...] = True

    def _see(self, seen: np.ndarray, out: Arrays) -> None:
        """Write observations and state; ``seen`` [S] float64 is the task's observation."""
        size, n = self.info.state_size, self.info.n_agents
        mean, squares, obs = 0.0, 0.0, out.obs
        if self._standardise:
            mean = float(np.add.reduce(seen)) / size
            apart = seen - mean
            squares = float(apart.dot(apart))
            out.state[...] = apart * (1.0 / _norm(squares / size))
        else:
            out.state[...] = seen
        if self._views is not None:
            self._views.write(obs, self._standardise)
            return
        m, std = 0.0, 1.0
        if self._standardise:
            # one 1 and n - 1 zeros follow for every agent: mean and deviation are the same for all
            m = (mean * size + 1.0) / (size + n)
            squares += size * (mean - m) ** 2 + (n - 1) * m * m + (1.0 - m) ** 2
            std = _norm(squares / (size + n))
            seen = (seen - m) * (1.0 / std)
        obs[:, :size] = seen
        obs[:, size:] = self._eye * (1.0 / std) - m / std

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3].

        Raises:
            UserError: there is no OpenGL that draws without a display.
        """
        picture: np.ndarray = draw(self._env)
        return picture

    def close(self) -> None:
        """Release the robot."""
        self._env.close()


def _norm(variance: float) -> float:
    """Return the standard deviation; 1 where all numbers are alike."""
    return float(variance) ** 0.5 if variance > 0 else 1.0
