"""What a game tells of one moment: one vector of float32, by which an engine's process answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: what follows observations, state and rewards: the change of the goal difference, goals of the own team so far,
#: and whether the episode is over by a rule, or by its time
_FLAGS = 4


@dataclass(frozen=True)
class Sizes:
    """Sizes of a moment: N agents, O numbers that each observes, S of the state."""

    n_agents: int
    obs: int
    state: int

    @property
    def numbers(self) -> int:
        """Length of the vector."""
        return self.n_agents * (self.obs + 1) + self.state + _FLAGS


class Moment:
    """Views of the vector of a moment.

    | attribute | shape |
    |---|---|
    | obs | [N, O] |
    | state | [S] |
    | reward | [N] |
    | score_reward, goals, terminated, truncated | numbers |
    """

    def __init__(self, vector: np.ndarray, sizes: Sizes) -> None:
        """Use ``vector`` [sizes.numbers] float32 itself."""
        n, obs = sizes.n_agents, sizes.n_agents * sizes.obs
        self.vector = vector
        self.obs = vector[:obs].reshape(n, sizes.obs)
        self.state = vector[obs : obs + sizes.state]
        self.reward = vector[obs + sizes.state : obs + sizes.state + n]
        self.flags = vector[-_FLAGS:]

    @classmethod
    def empty(cls, sizes: Sizes) -> Moment:
        """Return one of zeros."""
        return cls(np.zeros(sizes.numbers, np.float32), sizes)

    @property
    def score_reward(self) -> float:
        """Change of the goal difference in this step."""
        return float(self.flags[0])

    @property
    def goals(self) -> float:
        """Goals of the own team in this episode."""
        return float(self.flags[1])

    @property
    def terminated(self) -> bool:
        """Whether a rule ended the episode."""
        return bool(self.flags[2])

    @property
    def truncated(self) -> bool:
        """Whether the game's time is up."""
        return bool(self.flags[3])
