"""This project's Multi-Agent MuJoCo as HARL's: stands in for ``harl.envs.mamujoco.multiagent_mujoco.mujoco_multi``."""

from __future__ import annotations

from typing import Any

import numpy as np


class Box:
    """What HARL reads of a gym space: the name of its class, its shape and its bounds."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high, self.shape = low, high, low.shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self.shape == other.shape

    __hash__ = None


class MujocoMulti:
    """One robot, with what HARL's runner and workers ask of an environment.

    Args:
        env_args: ``scenario``, ``agent_conf`` and ``episode_limit``; HARL's ``-v2`` behind the scenario is dropped.
    """

    def __init__(self, env_args: dict[str, Any]) -> None:
        from oamarl.envs.base import Arrays
        from oamarl.envs.mamujoco import Mamujoco

        scenario = env_args["scenario"].removesuffix("-v2")
        self._env = Mamujoco(scenario, env_args["agent_conf"], time_limit=env_args["episode_limit"])
        info = self._env.info
        self._out = Arrays.allocate(info, 1).slot(0)
        self._rng = np.random.default_rng(0)
        self.n_agents = info.n_agents
        self.observation_space = [_box(info.obs_size, 10.0) for _ in range(info.n_agents)]
        self.share_observation_space = [_box(info.state_size, 10.0) for _ in range(info.n_agents)]
        self.action_space = tuple(_box(size, 1.0) for size in info.action_sizes)

    def seed(self, seed: int) -> None:
        """Draw the seeds of the following episodes from ``seed``."""
        self._rng = np.random.default_rng(seed)

    def reset(self) -> tuple[np.ndarray, np.ndarray, None]:
        """Start an episode; returns observations [N, O], each agent's copy of the state [N, S] and no legal actions."""
        self._env.reset(int(self._rng.integers(2**31)), self._out)
        return self._out.obs.copy(), self._states(), None

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """Apply ``actions`` [N, D].

        Returns:
            observations [N, O], states [N, S], rewards [N][1], ends [N], infos [N] (``bad_transition``: whether
            the end is the time limit's) and no legal actions.
        """
        out = self._out
        self._env.step(actions, out)
        done = bool(out.terminated) or bool(out.truncated)
        info = {"bad_transition": bool(out.truncated)} if done else {}
        return (
            out.obs.copy(), self._states(), out.reward[:, None].copy(), [done] * self.n_agents,
            [info] * self.n_agents, None,
        )  # fmt: skip

    def close(self) -> None:
        """Release the robot."""
        self._env.close()

    def _states(self) -> np.ndarray:
        return np.repeat(self._out.state[None], self.n_agents, axis=0)


def _box(size: int, bound: float) -> Box:
    return Box(np.full(size, -bound, np.float32), np.full(size, bound, np.float32))
