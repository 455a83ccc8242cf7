"""Landmarks: N agents on a line cover N landmarks together, and each agent does not see one of the others."""

from __future__ import annotations

import numpy as np

from .base import FiniteEnv, Views, at_least, from_each, lacking_one, whole

#: left, stay, right
MOVES = np.array([-1, 0, 1])


class Landmarks(FiniteEnv):
    """B slots of N agents on a line of cells, with N landmarks spread evenly over it.

    The team's reward of a step is minus the share of landmarks without an agent; the episode ends when all are covered.
    The state, as an agent sees it, is its own cell and the others' in cyclic order, less one: agent i does not see the
    (1 + i mod (N - 1))-th agent after it, so that it has cells ** (N - 1) states.
    """

    def __init__(self, n_slots: int, n_agents: int = 3, cells: int = 7, time_limit: int = 25) -> None:
        """Place the landmarks.

        Args:
            n_slots: B.
            n_agents: N, and the number of landmarks.
            cells: of the line.
            time_limit: steps after which an episode is cut.

        Raises:
            UserError: an argument is out of range.
        """
        at_least(n_agents=(n_agents, 2), cells=(cells, n_agents), time_limit=(time_limit, 1))
        self.landmarks = np.round(np.linspace(0, cells - 1, n_agents)).astype(np.int64)
        views = Views((cells,) * n_agents, lacking_one(n_agents, 1, n_agents), level=0)
        super().__init__(n_slots, "landmarks", views, len(MOVES), time_limit, n_agents, team_reward=True)

    def _begin(self, slots: np.ndarray, draws: np.ndarray) -> None:
        self.at[slots] = from_each(whole(draws, self.views.sizes[0]))

    def _move(self, rows: np.ndarray, actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.clip(self.at[rows, :, 0] + MOVES[actions], 0, self.views.sizes[0] - 1)
        self.at[rows] = from_each(place)
        covered = (place[:, :, None] == self.landmarks).any(1).mean(1)
        return (covered - 1.0)[:, None], covered == 1.0
