"""Agents on a line of cells who must meet: each step costs, and the first cell that holds them all ends the episode."""

from __future__ import annotations

import numpy as np

from oamarl.envs.base import Arrays, EnvInfo
from oamarl.utils.errors import UserError

LEFT, STAY, RIGHT = range(3)


class Rendezvous:
    """The arguments of the constructor are the environment's `env_args`; their types and names are checked."""

    def __init__(self, n_agents: int = 2, cells: int = 7, time_limit: int = 20) -> None:
        """Make a game.

        Args:
            n_agents: N, at least 2.
            cells: length of the line.
            time_limit: steps until an episode is cut.

        Raises:
            UserError: numbers with which there is no game; the program shows the sentence alone.
        """
        if n_agents < 2 or cells < 2 or time_limit < 1:
            raise UserError(
                "rendezvous needs env_args.n_agents and cells of at least 2, and a time_limit of at least 1."
            )
        self.cells = cells
        self.info = EnvInfo(
            name="rendezvous",
            n_agents=n_agents,
            obs_size=2 * cells,  # own cell, and how many agents stand in each cell
            state_size=n_agents * cells,
            n_actions=3,
            episode_limit=time_limit,
            obs_sizes=(2 * cells,) * n_agents,
            action_sizes=(3,) * n_agents,
            metrics=("met",),  # logged as met_mean
        )
        self.at = np.zeros(n_agents, np.int64)
        self.time = 0

    def reset(self, seed: int, out: Arrays) -> None:
        """Start an episode that depends on `seed` alone: a generator of its own, made anew each time."""
        n = self.info.n_agents
        rng = np.random.default_rng(seed)
        self.at = rng.integers(self.cells, size=n)
        self.at[0], self.at[1] = rng.choice(self.cells, 2, replace=False)  # never together at the start
        self.time = 0
        out.alive[...] = True
        self._look(out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Move; write every field of `out` (the arrays of this slot; they are read before the next call)."""
        self.at = self.at + actions - STAY
        self.time += 1
        met = bool((self.at == self.at[0]).all())
        out.reward[...] = np.full(self.info.n_agents, 1.0 if met else -0.1)  # one entry an agent
        out.terminated[...] = met  # by the rules
        out.truncated[...] = self.time >= self.info.episode_limit  # by the clock; both set means terminated
        out.agent_terminated[...] = met
        out.metrics[0] = met
        self._look(out)

    def _look(self, out: Arrays) -> None:
        n, here = self.info.n_agents, np.arange(self.cells)
        own = self.at[:, None] == here  # [N, cells]
        out.obs[:, : self.cells] = own
        out.obs[:, self.cells :] = own.sum(0) / n
        out.state[...] = own.ravel()
        out.avail[...] = True
        out.avail[:, LEFT] = self.at > 0
        out.avail[:, RIGHT] = self.at < self.cells - 1

    def close(self) -> None:
        """Release what the environment holds: nothing here."""
