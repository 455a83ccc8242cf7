"""A game of any number of agents that costs next to nothing: what is measured with it is this project's own work."""

from __future__ import annotations

import numpy as np

from oamarl.envs.base import Arrays, EnvInfo

SEEN = 8  # numbers that an agent observes


class Crowd:
    """B slots of N agents with two actions; the team is paid the share of agents that choose the first one.

    Args:
        n_slots: B.
        n_agents: N.
        steps: of an episode.
    """

    native = True

    def __init__(self, n_slots: int, n_agents: int = 4, steps: int = 25) -> None:
        self._time, self.steps = np.zeros(n_slots, np.int64), steps
        self.info = EnvInfo(
            name="crowd", n_agents=n_agents, obs_size=SEEN, state_size=SEEN, n_actions=2, episode_limit=steps,
            obs_sizes=(SEEN,) * n_agents, action_sizes=(2,) * n_agents, team_reward=True,
        )  # fmt: skip
        # what agents see differs and stays the same
        self._obs = np.sin(np.arange(n_agents * SEEN, dtype=np.float32)).reshape(n_agents, SEEN)

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k]; ``seeds`` change nothing."""
        self._time[slots] = 0
        out.obs[slots], out.state[slots] = self._obs, self._obs.mean(0)
        for field in (out.avail, out.alive):
            field[slots] = 1

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Pay the actions [B, N] of the active slots."""
        rows = np.flatnonzero(active)
        self._time[rows] += 1
        over = self._time[rows] >= self.steps
        out.reward[rows] = (actions[rows] == 0).mean(1)[:, None]
        out.terminated[rows], out.agent_terminated[rows] = over, over[:, None]

    def close(self) -> None:
        """Nothing to release."""
