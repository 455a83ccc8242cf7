"""Digital: one random Markov decision process, walked by every agent for itself, with rewards of its own.

After section 5 of Zhang et al. (2018), Fully decentralized multi-agent reinforcement learning with networked agents.
There the agents share one state, and the transitions depend on their joint action: with 20 agents that no table holds.
Here every agent walks its own copy of one process, as QD-learning (Kar, Moura and Poor, 2013) and the adjacency of
*different* agents' states need it.
"""

from __future__ import annotations

import numpy as np

from .base import FiniteEnv, Views, at_least, whole


class Digital(FiniteEnv):
    """B slots of N agents, each in one of S states (digits).

    ``transitions`` [S, A, S]: numbers drawn uniformly from [0, 1], plus 1e-5, each row divided by its sum.
    ``mean_reward`` [N, S, A]: drawn uniformly from [0, 4]; a reward is its mean plus a uniform number in [-0.5, 0.5].
    """

    def __init__(
        self, n_slots: int, n_agents: int = 20, n_states: int = 20, n_actions: int = 2, game_seed: int = 0,
        time_limit: int = 100,
    ) -> None:  # fmt: skip
        """Draw the process.

        Args:
            n_slots: B.
            n_agents: N.
            n_states: S, the digits.
            n_actions: A.
            game_seed: the process and the mean rewards are drawn from it; the same for all runs.
            time_limit: steps after which an episode is cut (the process itself never ends).

        Raises:
            UserError: an argument is out of range.
        """
        at_least(n_agents=(n_agents, 1), n_states=(n_states, 1), n_actions=(n_actions, 1), game_seed=(game_seed, 0),
                 time_limit=(time_limit, 1))  # fmt: skip
        game = np.random.default_rng(game_seed)
        raw = game.random((n_states, n_actions, n_states)) + 1e-5
        self.transitions = raw / raw.sum(-1, keepdims=True)
        self.mean_reward = game.uniform(0.0, 4.0, (n_agents, n_states, n_actions))
        self._below = np.cumsum(self.transitions, -1)[..., :-1]
        views = Views((n_states,), np.ones((n_agents, 1), bool), level=1)
        super().__init__(n_slots, "digital", views, n_actions, time_limit, 2 * n_agents, team_reward=False)

    def model(self) -> tuple[np.ndarray, np.ndarray]:
        """Return transitions [S, A, S] (of all agents alike) and mean rewards [N, S, A]."""
        return self.transitions, self.mean_reward

    def _begin(self, slots: np.ndarray, draws: np.ndarray) -> None:
        self.at[slots, :, 0] = whole(draws[:, : self.info.n_agents], self.views.sizes[0])

    def _move(self, rows: np.ndarray, actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, now = self.info.n_agents, self.at[rows, :, 0]
        reward = self.mean_reward[np.arange(n), now, actions] + draws[:, n:] - 0.5
        self.at[rows, :, 0] = (draws[:, :n, None] >= self._below[now, actions]).sum(-1)
        return reward, np.zeros(len(rows), bool)
