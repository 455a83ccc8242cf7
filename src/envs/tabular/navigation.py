"""Navigation: every agent walks on a grid to a landmark, and sees its own cell."""

from __future__ import annotations

import numpy as np

from ...utils.errors import UserError
from .base import FiniteEnv, Views, at_least, finite, whole

#: right, down, left, up, as steps in (column, row)
MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


class Navigation(FiniteEnv):
    """B slots of N agents on a square grid; agents do not hinder one another.

    An agent that enters a landmark's cell is rewarded and has ended; the episode ends when all have. Agents start
    on cells without a landmark, drawn for each episode.
    """

    def __init__(
        self, n_slots: int, n_agents: int = 4, size: int = 8, n_landmarks: int = 1, game_seed: int = 0,
        goal_reward: float = 1.0, step_reward: float = -0.05, time_limit: int = 60,
    ) -> None:  # fmt: skip
        """Place the landmarks.

        Args:
            n_slots: B.
            n_agents: N.
            size: cells on a side of the grid; an agent has size * size states.
            n_landmarks: cells that end an agent's way, drawn from game_seed.
            game_seed: the landmarks are drawn from it; the same for all runs.
            goal_reward: for reaching a landmark.
            step_reward: of every step before.
            time_limit: steps after which an episode is cut.

        Raises:
            UserError: an argument is out of range.
        """
        at_least(n_agents=(n_agents, 1), size=(size, 2), n_landmarks=(n_landmarks, 1), game_seed=(game_seed, 0),
                 time_limit=(time_limit, 1))  # fmt: skip
        finite(goal_reward=goal_reward, step_reward=step_reward)
        if n_landmarks >= size * size:
            raise UserError(
                f"env_args.n_landmarks={n_landmarks} leaves no cell to begin at on a grid of {size} x {size} cells: at "
                f"most {size * size - 1} are allowed."
            )
        cells = np.random.default_rng(game_seed).permutation(size * size)
        self.landmarks, self._free = np.sort(cells[:n_landmarks]), np.sort(cells[n_landmarks:])
        self.goal_reward, self.step_reward = goal_reward, step_reward
        views = Views((size, size), np.ones((n_agents, 2), bool), level=1)
        super().__init__(n_slots, "navigation", views, len(MOVES), time_limit, n_agents, team_reward=False)

    def model(self) -> tuple[np.ndarray, np.ndarray]:
        """Return transitions [S, A, S], nothing after a landmark is reached, and mean rewards [N, S, A].

        State x * size + y is the cell in column x and row y; from those of landmarks, where no agent acts, nothing
        follows.
        """
        size = self.views.sizes[0]
        cells = np.stack(np.divmod(np.arange(size * size), size), -1)
        after = np.clip(cells[:, None] + MOVES, 0, size - 1) @ np.array([size, 1])
        goal = np.isin(after, self.landmarks)
        transitions = np.zeros((size * size, len(MOVES), size * size))
        np.put_along_axis(transitions, after[..., None], np.where(goal, 0.0, 1.0)[..., None], -1)
        reward = np.where(goal, self.goal_reward, self.step_reward)
        transitions[self.landmarks], reward[self.landmarks] = 0.0, 0.0
        return transitions, np.repeat(reward[None], self.info.n_agents, 0)

    def _begin(self, slots: np.ndarray, draws: np.ndarray) -> None:
        cells = self._free[whole(draws, len(self._free))]
        self.at[slots] = np.stack(np.divmod(cells, self.views.sizes[0]), -1)

    def _move(self, rows: np.ndarray, actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size, walks = self.views.sizes[0], ~self.ended[rows]
        moved = np.clip(self.at[rows] + MOVES[actions] * walks[..., None], 0, size - 1)
        self.at[rows] = moved
        goal = np.isin(moved @ np.array([size, 1]), self.landmarks)
        self.ended[rows] = goal
        over = np.asarray(goal.all(1))
        return np.where(walks, np.where(goal, self.goal_reward, self.step_reward), 0.0), over
