"""Parallel environments in PettingZoo's form, for tests; they need nothing of PettingZoo's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from gymnasium import spaces


class Leaving:
    """Three agents of unlike sizes. ``plan[agent]`` is (step, how): it leaves there, terminated, truncated or gone.

    Agent b comes at step ``comes`` only. Reward of an agent at step t: t. Masks come in infos for a, in the observation
    for b, and not at all for c.
    """

    metadata = {"name": "leaving"}  # noqa: RUF012
    possible_agents = ["a", "b", "c"]  # noqa: RUF012

    def __init__(self, plan: dict[str, list[Any]] | None = None, comes: int = 0, own_state: bool = True) -> None:
        self.plan = plan or {"a": [2, "terminated"], "b": [3, "truncated"], "c": [5, "terminated"]}
        self.comes, self.own_state = comes, own_state
        self.acted: list[dict[str, Any]] = []
        self.agents: list[str] = []

    @property
    def unwrapped(self) -> Leaving:
        return self

    def observation_space(self, agent: str) -> spaces.Space:
        if agent == "b":
            return spaces.Dict(
                {"observation": spaces.Box(-9, 9, (3,), np.float32), "action_mask": spaces.Box(0, 1, (4,), np.int8)}
            )
        return spaces.Box(-9, 9, (2,), np.float32) if agent == "a" else spaces.Discrete(5)

    def action_space(self, agent: str) -> spaces.Space:
        return {"a": spaces.Discrete(3), "b": spaces.MultiDiscrete([2, 2]), "c": spaces.Discrete(2, start=1)}[agent]

    def _look(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        t = self.time
        every = {
            "a": np.full(2, t + 0.5, np.float32),
            "b": {"observation": np.full(3, -t, np.float32), "action_mask": np.array([1, 0, 0, 1], np.int8)},
            "c": t % 5,
        }
        infos = {agent: {"action_mask": np.array([0, 1, 1], np.int8)} if agent == "a" else {} for agent in agents}
        return {a: every[a] for a in agents}, infos

    def state(self) -> np.ndarray:
        if not self.own_state:
            raise NotImplementedError
        if not self.agents:
            raise RuntimeError("nobody is left to have a state")
        return np.full((2, 2), self.time, np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        self.time = 0
        self.agents = [a for a in self.possible_agents if a != "b" or not self.comes]
        return self._look(self.agents)

    def step(self, actions: dict[str, Any]) -> tuple[dict, ...]:
        self.acted.append(actions)
        assert sorted(actions) == self.agents
        self.time += 1
        there = list(self.agents)
        if self.time == self.comes:
            there = sorted([*there, "b"])
        leaves = {a: self.plan[a][1] for a in there if self.time >= self.plan[a][0]}
        there = [a for a in there if leaves.get(a) != "gone"]
        observations, infos = self._look(there)
        self.agents = [a for a in there if a not in leaves]
        return (
            observations,
            {a: float(self.time) for a in there},
            {a: leaves.get(a) == "terminated" for a in there},
            {a: leaves.get(a) == "truncated" for a in there},
            infos,
        )

    def close(self) -> None:
        pass


class Dicey(Leaving):
    """Rewards from the GLOBAL generators of numpy and Python."""

    def step(self, actions: dict[str, Any]) -> tuple[dict, ...]:
        observations, rewards, *rest = super().step(actions)
        return observations, {a: np.random.rand() + random.random() for a in rewards}, *rest


class Turns:
    """Agents in turn, and nothing says that they could act at once."""

    metadata = {"is_parallelizable": False}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012
    render_mode = None

    @property
    def unwrapped(self) -> Turns:
        return self

    def agent_iter(self) -> None: ...


class Nobody(Leaving):
    """It does not say who may come."""

    possible_agents = []  # noqa: RUF012


class Thing:
    """No environment at all."""


class Telling(Leaving):
    """Infos tell each agent's step as ``age``, and of c alone ``goals``; one dict for ever, as environments have it."""

    def step(self, actions: dict[str, Any]) -> tuple[dict, ...]:
        *rest, infos = super().step(actions)
        for agent in infos:
            infos[agent] |= {"age": self.time} | ({"goals": 3} if agent == "c" else {})
        self.kept = getattr(self, "kept", {})
        self.kept.clear()
        self.kept.update(infos)
        return *rest, self.kept


class Returning(Leaving):
    """Agent a is back among the agents two steps after its end."""

    def step(self, actions: dict[str, Any]) -> tuple[dict, ...]:
        if "a" in self.agents and self.time >= 4:
            self.agents.remove("a")
            self.acted.append(actions)
            out = super().step({k: v for k, v in actions.items() if k != "a"})
        else:
            out = super().step(actions)
        if self.time >= 4 and self.agents:
            self.agents = ["a", *self.agents]
            out[0]["a"] = np.full(2, self.time + 0.5, np.float32)
        return out
