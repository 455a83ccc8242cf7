"""Multi-Agent MuJoCo (Peng et al. 2021): agents that share out the joints of one robot, in Gymnasium's MuJoCo tasks.

What agents see is, by default, what they see in the HATRPO paper and HARL: the task's whole observation and their own
number, standardised over that vector. docs/mamujoco.md has robots, splits and what differs from the papers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..base import Arrays, EnvInfo
from ..pictures import check_mode
from .robots import find_robot, find_split
from .start import draw, start
from .together import RULES, Body, Together
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
        check_mode(render_mode)
        robot, entry = find_robot(scenario)
        conf, self.split = find_split(robot, agent_conf)
        sizes = tuple(len(joints) for joints in self.split)
        n, width = len(sizes), max(sizes)
        task = start(entry, task_version, sum(sizes), render_mode)
        views = None if observe == "full" else Views(robot, task.model, task.data, self.split, agent_obsk)
        state = int(task.observation_space.shape[0])
        obs_sizes = (state + n,) * n if views is None else views.sizes
        self._legal = np.arange(width) < np.array(sizes)[:, None]
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

        rules = RULES.get(entry.task) if quick else None
        by_itself = observe == "full" if standardise is None else standardise
        self.body = Body(task, task_version, rules, self.info, self.split, views, by_itself)
        self._alone, self._active = Together([self.body]), np.ones(1, bool)
        self._out: Arrays | None = None
        self._view: Arrays

    @staticmethod
    def together(envs: Sequence[Mamujoco]) -> Together:
        """Return what steps several of one process in one call."""
        return Together([env.body for env in envs])

    def _rows(self, out: Arrays) -> Arrays:
        if out is not self._out:  # a slot's views are the same ones at every step
            self._out, self._view = out, Arrays.of({name: x[None] for name, x in out.named().items()})
        return self._view

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        seen, _ = self.body.task.reset(seed=seed)
        self.body.time = 0
        out.obs[...] = 0
        out.avail[...] = self._legal
        out.alive[...] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[...] = 0
        self._alone.show(seen[None], slice(None), self._rows(out))

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N, D]."""
        for _ in self._alone.step(actions[None], self._active, self._rows(out)):
            pass

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3].

        Raises:
            UserError: there is no OpenGL that draws without a display.
        """
        picture: np.ndarray = draw(self.body.task)
        return picture

    def close(self) -> None:
        """Release the robot."""
        self.body.task.close()
