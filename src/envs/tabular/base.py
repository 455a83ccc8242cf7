"""What environments with countable observations have in common: states of a few coordinates, each with a few values.

Every agent sees the state from its own place (itself first, then the others in cyclic order), so that a state and an
action mean the same to all agents, and it may lack some of the coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, EnvInfo


@dataclass(frozen=True)
class Views:
    """What each of N agents sees of a state of D coordinates.

    | field | meaning |
    |---|---|
    | sizes | [D] number of values of each coordinate; coordinate d is a whole number from 0 to sizes[d] - 1 |
    | seen | [N, D] bool: agent i sees coordinate d (the observation matrices of the policy reciprocity paper) |
    | level | adjacency level that suits the environment: states at this L1 distance or less are taken for alike |
    """

    sizes: tuple[int, ...]
    seen: np.ndarray
    level: int

    def strides(self) -> np.ndarray:
        """Return [N, D] int64: an agent's observation has the number sum_d strides[i, d] x_d; 0 where it sees none."""
        seen = self.seen.astype(np.int64)
        own = np.where(self.seen, np.asarray(self.sizes, np.int64), 1)
        after = np.cumprod(own[:, ::-1], axis=1)[:, ::-1]
        return seen * np.concatenate([after[:, 1:], np.ones((len(seen), 1), np.int64)], axis=1)

    def most(self) -> int:
        """Return the largest of :meth:`counts`, of any size."""
        return max(math.prod(z for z, seen in zip(self.sizes, row, strict=True) if seen) for row in self.seen)

    def counts(self) -> np.ndarray:
        """Return [N] int64: how many observations each agent can have."""
        counts: np.ndarray = np.where(self.seen, np.asarray(self.sizes, np.int64), 1).prod(1)
        return counts


class FiniteEnv:
    """B slots of an environment whose state, as an agent sees it, is D whole numbers.

    A subclass sets ``at`` [B, N, D] int64, the state as each agent sees it, in :meth:`_begin` and :meth:`_move`.
    Observations are the coordinates one-hot, zeros for those that the agent lacks; the state is all agents' complete
    ones. What is random in an episode is drawn at its start from its seed: ``draws`` [B, limit + 1, draws].
    """

    native = True
    #: observations can be counted, so that tables can be learned
    finite: ClassVar[bool] = True

    def __init__(
        self, n_slots: int, name: str, views: Views, n_actions: int, limit: int, draws: int, *, team_reward: bool
    ) -> None:
        """Declare the sizes.

        Args:
            n_slots: B.
            name: of the environment.
            views: who sees what.
            n_actions: A.
            limit: steps after which an episode is cut.
            draws: uniform random numbers at the start, and at each step.
            team_reward: every agent's reward is the team's.
        """
        n, d = views.seen.shape
        self.views, self.limit = views, limit
        #: whether observations and states are written; tables read the codes alone
        self.observes = True
        self.at = np.zeros((n_slots, n, d), np.int64)
        self.time = np.zeros(n_slots, np.int64)
        self.ended = np.zeros((n_slots, n), bool)
        self.draws = np.zeros((n_slots, limit + 1, draws))
        self._strides = views.strides()
        self._eye = [np.eye(size, dtype=np.float32) for size in views.sizes]
        self._mask = np.repeat(views.seen, views.sizes, axis=1).astype(np.float32)  # [N, O]
        width = sum(views.sizes)
        self.info = EnvInfo(
            name=name, n_agents=n, obs_size=width, state_size=n * width, n_actions=n_actions, episode_limit=limit,
            obs_sizes=(width,) * n, action_sizes=(n_actions,) * n, team_reward=team_reward,
        )  # fmt: skip

    def codes(self) -> np.ndarray:
        """Return [B, N] int64: the number of what each agent sees now, below ``views.counts()``."""
        return (self.at * self._strides).sum(-1)

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k]."""
        for slot, seed in zip(slots, seeds, strict=True):
            self.draws[slot] = np.random.default_rng(int(seed)).random(self.draws.shape[1:])
        self.time[slots] = 0
        self.ended[slots] = False
        self._begin(slots, self.draws[slots, 0])
        for field in (out.avail, out.alive):
            field[slots] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0
        self._show(slots, out)

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [B, N] in the slots that are ``active`` [B]."""
        rows = np.flatnonzero(active)
        self.time[rows] += 1
        reward, over = self._move(rows, actions[rows].astype(np.int64), self.draws[rows, self.time[rows]])
        self.ended[rows] |= over[:, None]
        out.reward[rows] = reward
        out.terminated[rows] = over
        out.truncated[rows] = (self.time[rows] >= self.limit) & ~over
        out.agent_terminated[rows] = self.ended[rows]
        # an agent that has ended while others play on has one action left, which does nothing
        out.alive[rows] = np.where(over[:, None], out.alive[rows], ~self.ended[rows])
        out.avail[rows] = out.alive[rows][..., None]
        out.avail[rows, :, 0] = True
        self._show(rows, out)

    def _show(self, rows: np.ndarray, out: Arrays) -> None:
        if not self.observes:
            return
        at = self.at[rows]
        hot = np.concatenate([eye[at[..., d]] for d, eye in enumerate(self._eye)], axis=-1)
        out.obs[rows] = hot * self._mask
        out.state[rows] = hot.reshape(len(rows), self.info.state_size)

    def _begin(self, slots: np.ndarray, draws: np.ndarray) -> None:
        """Set ``at`` of ``slots`` [k] from ``draws`` [k, draws]."""
        raise NotImplementedError

    def _move(self, rows: np.ndarray, actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Apply ``actions`` [k, N]: set ``at`` of ``rows`` [k], and ``ended`` of agents that end alone.

        Returns:
            rewards [k, N] or [k, 1], and [k] bool: the episode is over.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to release."""


def whole(draws: np.ndarray, size: int) -> np.ndarray:
    """Return whole numbers 0 ... size - 1 of uniform numbers in [0, 1)."""
    return (draws * size).astype(np.int64)


def at_least(**given: tuple[int, int]) -> None:
    """Refuse arguments below their least value.

    Args:
        given: name of the argument -> (its value, the least that is allowed).

    Raises:
        UserError: naming the first that is below.
    """
    for name, (value, least) in given.items():
        if value < least:
            raise UserError(f"env_args.{name}={value} is out of range: at least {least} is allowed.")


def finite(**given: float) -> None:
    """Refuse arguments that are infinite or no number.

    Args:
        given: name of the argument -> its value.

    Raises:
        UserError: naming the first one.
    """
    for name, value in given.items():
        if not np.isfinite(value):
            raise UserError(f"env_args.{name}={value} is not allowed: a finite number is needed.")


def from_each(x: np.ndarray) -> np.ndarray:
    """Return all agents' values [k, N, ...] as each sees them, [k, N, N, ...]: its own first, then in cyclic order."""
    n = x.shape[1]
    order = (np.arange(n)[:, None] + np.arange(n)) % n
    return x[:, order]


def lacking_one(n_agents: int, own: int, total: int) -> np.ndarray:
    """Return [N, D] bool of agents that each lack one coordinate of ``total``, never one of their ``own`` first ones.

    Agent i lacks coordinate own + i mod (total - own): neighbours lack different ones, where there are several.
    """
    seen = np.ones((n_agents, total), bool)
    if total > own:
        seen[np.arange(n_agents), own + np.arange(n_agents) % (total - own)] = False
    return seen
