"""Gymnasium environments with list-like agents, for tests of gymma; registered on import."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np


class RaggedGym(gymnasium.Env):
    """Agents of unlike sizes: float64 observations, a Discrete observation, actions that start at 1."""

    observation_space = gymnasium.spaces.Tuple(
        [gymnasium.spaces.Box(-1, 1, (2, 2), np.float64), gymnasium.spaces.Discrete(3)]
    )
    action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(3, start=1)])
    seen: ClassVar[list[Any]] = []

    def __init__(self, ends: tuple[int, int] = (2, 4), size: int = 4, max_steps: int = 8) -> None:
        self.ends, self.size, self.max_steps = ends, size, max_steps

    def _look(self) -> tuple[Any, ...]:
        return np.full((2, self.size // 2), self.time / 10), self.time % 3

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.time = 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        type(self).seen.append(action)
        self.time += 1
        out_of_time = self.time >= self.max_steps
        return self._look(), [np.float64(1.5), 2], [self.time >= e or out_of_time for e in self.ends], False, {}


class OneAgent(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)


gymnasium.register("ToyRagged-v0", entry_point=RaggedGym)
gymnasium.register("ToyOne-v0", entry_point=OneAgent)
