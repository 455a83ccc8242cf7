"""Blocker: agents reach the bottom row together, past blockers that a single agent cannot pass.

After the task of Sallans and Hinton (2004) and Heess, Silver and Teh (2013), with rules that are written out here.
"""

from __future__ import annotations

import numpy as np

from .base import FiniteEnv, Views, at_least, from_each, lacking_one, whole

#: right, down, left, up, as steps in (column, row)
MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


class Blocker(FiniteEnv):
    """B slots of N agents and K blockers on a grid of ``width`` columns and ``height`` rows, the bottom row among them.

    - Agents start in the top row and may share cells. Blockers stay in the bottom row, blocker k in its zone, columns
      k * width // K to (k + 1) * width // K - 1.
    - In each step every blocker first moves one cell towards the column of one agent in its zone: the lowest one, of
      several the nearest, of those the first; without an agent in its zone it stays. It goes by where agents were.
    - Then agents move; a move into a blocker's cell, or off the grid, leaves the agent where it was.
    - The team's reward is 1 at the step in which an agent enters the bottom row, which ends the episode, and -1 at any
      other.

    The state, as an agent sees it, is (own column, own row, the others' in cyclic order, the blockers' columns), less
    one coordinate that is not its own: see :func:`~oamarl.envs.tabular.base.lacking_one`.
    """

    def __init__(
        self, n_slots: int, n_agents: int = 3, n_blockers: int = 1, width: int = 4, height: int = 3,
        time_limit: int = 40,
    ) -> None:  # fmt: skip
        """Set up the grid.

        Args:
            n_slots: B.
            n_agents: N.
            n_blockers: K, each with a zone of its own.
            width: columns of the grid.
            height: rows of the grid.
            time_limit: steps after which an episode is cut.

        Raises:
            UserError: an argument is out of range.
        """
        at_least(n_agents=(n_agents, 1), n_blockers=(n_blockers, 1), width=(width, n_blockers), height=(height, 2),
                 time_limit=(time_limit, 1))  # fmt: skip
        self.width, self.height = width, height
        self._low = np.arange(n_blockers) * width // n_blockers
        self._high = np.arange(1, n_blockers + 1) * width // n_blockers - 1
        self.agents = np.zeros((n_slots, n_agents, 2), np.int64)
        self.blockers = np.zeros((n_slots, n_blockers), np.int64)
        sizes = (width, height - 1) * n_agents + (width,) * n_blockers
        views = Views(sizes, lacking_one(n_agents, 2, len(sizes)), level=0)
        super().__init__(n_slots, "blocker", views, len(MOVES), time_limit, n_agents + n_blockers, team_reward=True)

    def _begin(self, slots: np.ndarray, draws: np.ndarray) -> None:
        n = self.info.n_agents
        self.agents[slots, :, 0], self.agents[slots, :, 1] = whole(draws[:, :n], self.width), 0
        self.blockers[slots] = self._low + (draws[:, n:] * (self._high - self._low + 1)).astype(np.int64)
        self._look(slots)

    def _look(self, rows: np.ndarray) -> None:
        k, n = len(rows), self.info.n_agents
        agents = np.minimum(self.agents[rows], [self.width - 1, self.height - 2])  # the bottom row is no state
        self.at[rows, :, : 2 * n] = from_each(agents).reshape(k, n, 2 * n)
        self.at[rows, :, 2 * n :] = self.blockers[rows][:, None]

    def _block(self, rows: np.ndarray) -> None:
        """Move the blockers of ``rows``."""
        column, row = self.agents[rows, None, :, 0], self.agents[rows, None, :, 1]  # [k, 1, N]
        blocker = self.blockers[rows][:, :, None]
        inside = (column >= self._low[:, None]) & (column <= self._high[:, None])  # [k, K, N]
        # lowest first, then nearest; argmin takes the first of equals
        rank = (self.height - row) * self.width + np.abs(column - blocker)
        rank = np.where(inside, rank, 2 * self.height * self.width)
        chosen = rank.argmin(-1)
        goal = np.take_along_axis(np.broadcast_to(column, rank.shape), chosen[..., None], -1)[..., 0]
        self.blockers[rows] += np.where(inside.any(-1), np.sign(goal - blocker[..., 0]), 0)

    def _move(self, rows: np.ndarray, actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._block(rows)
        now = self.agents[rows]
        moved = np.clip(now + MOVES[actions], 0, [self.width - 1, self.height - 1])
        bottom = moved[..., 1] == self.height - 1
        barred = bottom & (moved[..., :1] == self.blockers[rows][:, None]).any(-1)
        self.agents[rows] = np.where(barred[..., None], now, moved)
        over = (bottom & ~barred).any(1)
        self._look(rows)
        return np.where(over, 1.0, -1.0)[:, None], over
