"""Tabular Q-learning of N agents, with the consensus term of policy reciprocity (eq. 1, 5 and 6).

At a step in which agent i was in s, took a, was rewarded with r and came to s'::

    Q_i(s, a) <- Q_i(s, a) + alpha_t (r + gamma max_a' Q_i(s', a') - Q_i(s, a))
                           + beta_t mean_{j in N_i} (Q~_j(s, a) - Q_i(s, a))

    Q~_j(s, a) = (1 - kappa) mean_{s' same as s} Q_j(s', a) + kappa mean_{s' adjacent to s} Q_j(s', a)

The first line is independent Q-learning (eq. 1). The second is QD-learning's consensus term (Kar, Moura and Poor, 2013)
over each state's adjacency space; their beta_t is this one divided by the number of partners. The published text lost
equations 5 and 6: this is our reading of them, and not a reproduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..envs.tabular.base import Views
from ..utils.errors import UserError
from .adjacency import find, partners
from .config import TabularConfig

#: values that tables hold at most
_MOST = 100_000_000


@dataclass(frozen=True)
class Selector:
    """How tables are acted with in tests; ``greedy_in_tests``: sampled tests have no random actions either."""

    greedy_in_tests: bool


class Tables:
    """The values Q [N, S, A] of all agents, and how often each was updated.

    Args:
        config: the keys.
        views: who sees what.
        n_actions: A.
        teams: B, of teams that learn beside one another and share nothing, such as one for each of several seeds; then
            everything here has a leading axis [B]. None: one team, without that axis.

    Raises:
        UserError: there are too many values, or too many adjacent states.
    """

    def __init__(self, config: TabularConfig, views: Views, n_actions: int, teams: int | None = None) -> None:
        self.config = config
        n, states = len(views.seen), views.most()
        if n * states * n_actions > _MOST:
            raise UserError(
                f"The tables of {n} agents with {states:,} states and {n_actions} actions would hold more than "
                f"{_MOST:,} values: use fewer agents or states."
            )
        lead = () if teams is None else (teams,)
        self.q = np.zeros((*lead, n, states, n_actions))
        self.visits = np.zeros_like(self.q)
        self._agents = np.arange(n)
        self.selector = Selector(config.exploration == "epsilon_greedy" and config.evaluation_epsilon == 0)
        #: indices of the leading axis, beside [N] and beside [N, N, K]
        self._team = tuple(np.arange(b)[:, None] for b in lead)
        self._team_of_pairs = tuple(np.arange(b)[:, None, None, None] for b in lead)
        self.reciprocal = config.pr_beta > 0
        if self.reciprocal:
            adjacency = find(views, views.level if config.pr_eps is None else config.pr_eps)
            self._partners = partners(adjacency, config.pr_agents)
            self._states, self._weights = adjacency.states, adjacency.weights(config.pr_kappa)
            self._kinds = adjacency.kind[:, None], adjacency.kind
            self._others = self._agents[None, :, None]

    def pull(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return [N]: mean over the partners j of Q~_j(s_i, a_i) - Q_i(s_i, a_i); 0 without partners.

        Args:
            states: [N] each agent's state.
            actions: [N] its action.
        """
        places = (*self._kinds, states[..., None])
        values = self.q[(*self._team_of_pairs, self._others, self._states[places], actions[..., None, None])]
        theirs = (self._weights[places] * values).sum(-1)  # of [N, N, K]
        own = self.q[(*self._team, self._agents, states, actions)]
        pulled: np.ndarray = (self._partners * (theirs - own[..., None])).sum(-1)
        return pulled

    def update(
        self, states: np.ndarray, actions: np.ndarray, rewards: np.ndarray, after: np.ndarray, ended: np.ndarray,
        acting: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """Learn from one step of every agent that is acting; all differences are of the tables before.

        Args:
            states, actions, rewards, after: [N] s, a, r and s'.
            ended: [N] bool, nothing follows s'.
            acting: [N] bool, the agent took a decision.

        Returns:
            [N] temporal differences, 0 for agents that are not acting.
        """
        c, place = self.config, (*self._team, self._agents, states, actions)
        target = rewards + c.gamma * np.where(ended, 0.0, self.q[(*self._team, self._agents, after)].max(-1))
        difference = np.where(acting, target - self.q[place], 0.0)
        count = self.visits[place] + 1.0
        new = self.q[place] + c.lr / count**c.lr_power * difference
        if self.reciprocal:
            new += np.where(acting, c.pr_beta / count**c.pr_beta_power * self.pull(states, actions), 0.0)
        self.q[place] = new
        self.visits[place] += acting
        return difference

    def parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what is learned."""
        yield "tables", self.q

    def state_dict(self) -> dict[str, Any]:
        """Return the values, to act with."""
        return {"q": self.q}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take values back.

        Raises:
            ValueError: they have another shape.
        """
        q = np.asarray(state["q"]).astype(np.float64)
        if q.shape != self.q.shape:
            raise ValueError(f"tables of shape {q.shape}, and {self.q.shape} is expected")
        self.q[...] = q


def greedy(q: np.ndarray, epsilon: np.ndarray | float) -> np.ndarray:
    """Return epsilon-greedy policies [..., A] of values [..., A]: equal shares for all of the best actions."""
    best = q == q.max(-1, keepdims=True)
    policy: np.ndarray = (1.0 - epsilon) * best / best.sum(-1, keepdims=True) + epsilon / q.shape[-1]
    return policy


def boltzmann(q: np.ndarray, temperature: float) -> np.ndarray:
    """Return policies [..., A] in proportion to exp(Q / temperature)."""
    weight = np.exp((q - q.max(-1, keepdims=True)) / temperature)
    policy: np.ndarray = weight / weight.sum(-1, keepdims=True)
    return policy


def sample(policy: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return actions [...] of policies [..., A] by uniform numbers [...] in [0, 1)."""
    chosen: np.ndarray = (uniform[..., None] >= np.cumsum(policy, -1)[..., :-1]).sum(-1)
    return chosen
