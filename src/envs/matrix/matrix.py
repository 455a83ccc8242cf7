"""Games with one common payoff: climbing, penalty, Proposition 1 and figure 1 of the HATRPO paper, and QMIX's two-step
game.

Small enough to enumerate: what a method can and cannot reach in them is known in closed form.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..base import Arrays, EnvInfo

TABLES = ("climbing", "penalty", "prop1", "two_step")
#: the game of figure 1 has numbers for actions, and the payoff a1 a2
FIGURE_1 = "figure1"
GAMES = (*TABLES, FIGURE_1)

#: Claus and Boutilier's climbing game: the best cell (0, 0) sits beside the worst ones.
_CLIMBING = ((11.0, -30.0, 0.0), (-30.0, 7.0, 6.0), (0.0, 0.0, 5.0))
#: of the first step, which pays nothing, and of the two games of which the first agent chooses one there
_TWO_STEP = (((0.0, 0.0), (0.0, 0.0)), ((7.0, 7.0), (7.0, 7.0)), ((0.0, 1.0), (1.0, 8.0)))
#: the payoff is a table with 2 ** n_agents entries
_MOST_AGENTS = 16


def payoff(key: str, k: float = -100.0, n_agents: int = 2) -> np.ndarray:
    """Return the game's payoff, one axis an agent (A = 3, or 2 in ``prop1`` and ``two_step``), float64.

    | key | payoff |
    |---|---|
    | climbing | [[11, -30, 0], [-30, 7, 6], [0, 0, 5]] |
    | penalty | [[10, 0, k], [0, 2, 0], [k, 0, 10]] |
    | prop1 | 1 for the joint actions (0^(n/2), 1^(n/2)) and (1^(n/2), 0^(n/2)), otherwise 0 |
    | two_step | of its second step where agent 0's first action was 1: [[0, 1], [1, 8]]; after 0 all pay 7 |

    ``prop1``: one policy shared by all n agents reaches at most 2 / 2^n of the best (HATRPO paper, Proposition 1).
    ``two_step``: a sum of the agents' values does not show that the second game is the better one (Rashid et al. 2018,
    section 5).

    Raises:
        UserError: unknown game, or a number of agents that it does not have.
    """
    assert key != FIGURE_1, "it has no table"
    if key not in GAMES:
        raise UserError(f"env_args.key='{key}' is not a known matrix game: use {one_of(GAMES)}{nearest(key, GAMES)}")
    if key != "prop1":
        _two_agents(key, n_agents)
        penalty = ((10.0, 0.0, k), (0.0, 2.0, 0.0), (k, 0.0, 10.0))
        return np.array({"climbing": _CLIMBING, "penalty": penalty, "two_step": _TWO_STEP[2]}[key])
    if n_agents < 2 or n_agents % 2 or n_agents > _MOST_AGENTS:
        raise UserError(
            f"env_args.n_agents={n_agents} is not allowed: 'prop1' takes an even number from 2 to {_MOST_AGENTS}."
        )
    table = np.zeros((2,) * n_agents)
    half = n_agents // 2
    table[(0,) * half + (1,) * half] = table[(1,) * half + (0,) * half] = 1.0
    return table


def _two_agents(key: str, n_agents: int) -> None:
    if n_agents != 2:
        raise UserError(f"env_args.n_agents={n_agents} is not allowed: the game '{key}' has exactly 2 agents.")


class Matrix:
    """B matrix games, stepped together; every entry of the reward is the one team reward."""

    native = True

    def __init__(
        self, n_slots: int, key: str = "climbing", k: float = -100.0, n_agents: int = 2, steps: int = 1
    ) -> None:
        """Build ``n_slots`` games.

        Args:
            n_slots: B.
            key: ``climbing``, ``penalty``, ``prop1``, ``two_step`` or ``figure1``: two agents whose actions are numbers
                a1 and a2, and the payoff a1 a2 (HATRPO paper, figure 1).
            k: payoff of the two bad cells of ``penalty``, at most 0.
            n_agents: agents of ``prop1``, an even number.
            steps: how often the game is played in an episode; its end is a termination.

        Raises:
            UserError: an unknown game, or numbers that it does not allow.
        """
        if steps < 1:
            raise UserError(f"env_args.steps={steps} is out of range: at least 1 is allowed.")
        if not k <= 0:
            raise UserError(f"env_args.k={k} is out of range: at most 0 is allowed.")
        self._continuous, self._two_step, self.steps = key == FIGURE_1, key == "two_step", steps
        if self._continuous:
            _two_agents(key, n_agents)
        self.payoff = np.zeros((0, 0)) if self._continuous else payoff(key, k, n_agents)  # without a table: empty
        n, a = self.payoff.ndim, 1 if self._continuous else self.payoff.shape[0]
        tables = np.array(_TWO_STEP) if self._two_step else self.payoff[None]
        states = len(tables)
        self._flat = tables.astype(np.float32).reshape(states, -1)
        self._weights = a ** np.arange(n - 1, -1, -1)  # joint action -> index into the flat table
        self._time = np.zeros(n_slots, np.int64)  # rounds played
        self._state = np.zeros(n_slots, np.int64)
        # last joint action, for pictures
        self._played = np.full((n_slots, n), -1, np.float32 if self._continuous else np.int64)
        bounds = ((1.0,),) * n if self._continuous else ()
        # what is seen, and the state: which table is played, one-hot
        self.info = EnvInfo(
            name=key,
            n_agents=n,
            obs_size=states,
            state_size=states,
            n_actions=a,
            episode_limit=steps * (2 if self._two_step else 1),
            obs_sizes=(states,) * n,
            action_sizes=(a,) * n,
            team_reward=True,
            action_low=tuple((-x,) for (x,) in bounds),
            action_high=bounds,
            clip_actions=not self._continuous,  # the paper's policies are Gaussians on all numbers
        )

    def optimum(self) -> float:
        """Return the best return of an episode: the largest payoff, played every time; ``figure1`` has none."""
        if self._continuous:
            return math.inf
        return float(self.payoff.max() * self.steps)

    def best_actions(self) -> list[tuple[int, ...]]:
        """Return every joint action with the largest payoff (of the second step of ``two_step``)."""
        ranges: list[Any] = [range(s) for s in self.payoff.shape]
        return [joint for joint in itertools.product(*ranges) if self.payoff[joint] == self.payoff.max()]

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k]; ``seeds`` change nothing."""
        self._time[slots] = self._state[slots] = 0
        self._played[slots] = -1
        self._show(slots, out)
        for field in (out.avail, out.alive):
            field[slots] = 1
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated):
            field[slots] = 0

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Pay the joint ``actions`` [B, N] ([B, N, 1] in ``figure1``) of the active slots."""
        rows = np.flatnonzero(active)
        joint = actions[rows, :, 0] if self._continuous else actions[rows]
        state = self._state[rows]
        first = (state == 0) & self._two_step
        self._state[rows] = np.where(first, 1 + joint[:, 0], 0)
        self._time[rows] += ~first
        self._played[rows] = joint
        done = self._time[rows] >= self.steps
        pay = joint.prod(1) if self._continuous else self._flat[state, joint @ self._weights]
        out.reward[rows] = pay[:, None]
        self._show(rows, out)
        out.terminated[rows] = done
        out.agent_terminated[rows] = done[:, None]

    def _show(self, rows: np.ndarray, out: Arrays) -> None:
        """Write what is seen in slots ``rows`` [k]."""
        seen = np.eye(self._flat.shape[0], dtype=np.float32)[self._state[rows]]
        out.obs[rows], out.state[rows] = seen[:, None], seen

    def render(self, slot: int) -> np.ndarray:
        """Return a picture of one slot's last joint action, uint8 [H, W, 3]; see :mod:`oamarl.envs.matrix.picture`."""
        from .picture import product_picture, rgb_picture

        if self._continuous:
            return product_picture(self._played[slot] if self._time[slot] else None)
        return rgb_picture(self.payoff, self._played[slot])

    def close(self) -> None:
        """Nothing to release."""
