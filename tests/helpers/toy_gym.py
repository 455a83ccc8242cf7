"""Gymnasium environments with list-like agents, for tests of gymma; registered on import."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import gymnasium
import numpy as np

from faulty_envs import in_worker


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


class Corridor(gymnasium.Env):
    """One agent: Dict observation, combined actions, a mask in the info, a Gymnasium time limit of 7."""

    observation_space = gymnasium.spaces.Dict(
        {"at": gymnasium.spaces.Discrete(4), "noise": gymnasium.spaces.Box(-9, 9, (2,))}
    )
    action_space = gymnasium.spaces.MultiDiscrete([2, 3], start=[0, -1])
    seen: ClassVar[list[Any]] = []

    def __init__(self, mask: str = "parts") -> None:
        self.mask = mask

    def _look(self) -> tuple[Any, dict[str, Any]]:
        parts = (np.array([1, 0], np.int8), np.array([1, 1, 0], np.int8))
        mask = {"parts": parts, "whole": np.array([1, 1, 0, 0, 0, 0]), "short": np.ones(5), "none": None}[self.mask]
        noise = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"at": self.at, "noise": noise}, {} if mask is None else {"action_mask": mask}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.at = 0
        return self._look()

    def step(self, action: Any) -> tuple[Any, ...]:
        type(self).seen.append(action)
        self.at = min(self.at + int(action[0]), 3)
        look, info = self._look()
        return look, float(self.at), self.at == 3, False, info


class Lookalike:
    """Two agents and four steps, with the methods and spaces alone that are needed: no class of Gymnasium's."""

    observation_space = gymnasium.spaces.Tuple([gymnasium.spaces.Box(0, 1, (3,), np.float32)] * 2)
    action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)] * 2)

    def _look(self) -> tuple[Any, ...]:
        return (np.full(3, self.time / 4, np.float32),) * 2

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.time = 0
        return self._look(), {}

    def step(self, actions: Any) -> tuple[Any, list[float], bool, bool, dict]:
        self.time += 1
        return self._look(), [1.0, 1.0], self.time == 4, False, {}


class OneReward(RaggedGym):
    """Several agents and one number for them all; each is cut off at its own time."""

    def step(self, action: Any) -> tuple[Any, ...]:
        look, _, _, _, info = super().step(action)
        return look, 2.5, [False, False], [self.time >= 2, self.time >= 3], info


class Clock(RaggedGym):
    """Its limit is in what it shows: nobody may take it away."""

    def _look(self) -> tuple[Any, ...]:
        return np.full((2, 2), self.time / self.max_steps), self.time % 3


class Boxes(gymnasium.Env):
    """Two agents with continuous actions: 2 x 1 numbers of -2 to 6, and three: one bounded, one below alone, one free.

    ``taken`` are the last actions; agent 1 ends after two steps.
    """

    observation_space = gymnasium.spaces.Tuple([gymnasium.spaces.Box(-1, 1, (1,))] * 2)
    action_space = gymnasium.spaces.Tuple([
        gymnasium.spaces.Box(-2, 6, (2, 1), np.float64),
        gymnasium.spaces.Box(np.array([0, 0, -np.inf], np.float32), np.array([0.5, np.inf, np.inf], np.float32)),
    ])  # fmt: skip

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.time = 0
        return (np.zeros(1, np.float32), np.zeros(1, np.float32)), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        self.time += 1
        self.taken = action
        assert all(space.contains(a) for space, a in zip(self.action_space, action, strict=True))
        return (np.zeros(1, np.float32),) * 2, [0.0, 0.0], [False, self.time >= 2], False, {}


class Mixed(Boxes):
    action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(3)])


class WholeNumbers(OneAgent):
    action_space = gymnasium.spaces.Box(0, 5, (2,), np.int64)


class Many(OneAgent):
    action_space = gymnasium.spaces.MultiDiscrete([100, 100])


gymnasium.register("ToyCorridor-v0", entry_point=Corridor, max_episode_steps=7)
gymnasium.register("ToyOneReward-v0", entry_point=OneReward)
gymnasium.register("ToyClock-v0", entry_point=Clock)
gymnasium.register("ToyBoxes-v0", entry_point=Boxes, max_episode_steps=7)
gymnasium.register("ToyMixed-v0", entry_point=Mixed, max_episode_steps=7)
gymnasium.register("ToyWholeNumbers-v0", entry_point=WholeNumbers, max_episode_steps=7)
gymnasium.register("ToyMany-v0", entry_point=Many, max_episode_steps=7)


class Outside(gymnasium.Env):
    """Four agents, each of which sees something that its space does not allow."""

    _box = gymnasium.spaces.Box(-1, 1, (2,))
    observation_space = gymnasium.spaces.Tuple(
        [gymnasium.spaces.Box(-1, 1, (2, 2)), gymnasium.spaces.MultiBinary(3), _box, _box]
    )
    action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)] * 4)

    def _look(self) -> tuple[Any, ...]:
        noise = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return noise, np.array([0, 1, 2]), np.array([0, 5], np.float32), np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        return self._look(), [0.0] * 4, False, False, {}


gymnasium.register("ToyOutside-v0", entry_point=Outside, max_episode_steps=5)


class Telling(RaggedGym):
    """An episode of ``2 + seed % 4`` steps whose last info tells things; ``won`` only where the seed is odd.

    ``dies``: seeds in whose first step the process ends, if it is a worker.
    """

    def __init__(self, crowd: int = 0, dies: list | None = None, per_agent: bool = False) -> None:
        super().__init__(ends=(99, 99), max_steps=99)
        self.crowd, self.dies, self.per_agent = crowd, dies or [], per_agent

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.number = int(seed or 0)
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, ...]:
        if self.number in self.dies and in_worker():
            os._exit(5)
        look, rewards, _, _, _ = super().step(action)
        over = self.time >= 2 + self.number % 4
        info: dict[str, Any] = {"score": np.float32(self.time), "lost": not over}  # only the last is looked at
        if over:
            info = {"score": np.int64(self.number % 7), "lost": self.number % 2 == 0, "map": "small", "path": [1, 2],
                    "episode": {"r": 1.0, "l": 3}, "return": 5, "time left/s": 0.5}  # fmt: skip
            info |= {"won": True} if self.number % 2 else {}
            info |= {f"k{i}": i for i in range(self.crowd)}
        told: Any = [info, {"score": 1.0}] if self.per_agent else info
        return look, rewards, over, False, told


class Respawning(RaggedGym):
    """The second agent's flag is set at its second step alone; six steps."""

    def step(self, action: Any) -> tuple[Any, ...]:
        look, rewards, _, _, info = super().step(action)
        return look, rewards, [False, self.time == 2], self.time >= 6, info


gymnasium.register("ToyTelling-v0", entry_point=Telling, max_episode_steps=50)
gymnasium.register("ToyRespawning-v0", entry_point=Respawning, max_episode_steps=50)
