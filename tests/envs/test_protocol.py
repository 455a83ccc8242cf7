"""Environments that keep to another API than Gymnasium's and PettingZoo's get a diagnosis."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from oamarl.envs.base import Arrays
from oamarl.envs.gymma.gymnasium import Gymma
from oamarl.envs.gymma.pettingzoo import PettingZoo
from oamarl.envs.gymma.protocol import of_reset, of_step, refuse_old_reset
from oamarl.utils.errors import UserError

BOX = spaces.Box(-1, 1, (3,))
SEEN = (np.zeros(3, np.float32),) * 2


class Team:
    """Two agents; what is asked of it is changed by each test."""

    observation_space: Any = spaces.Tuple([BOX, BOX])
    action_space: Any = spaces.Tuple([spaces.Discrete(2)] * 2)
    first: Any = (SEEN, {})
    then: Any = (SEEN, [1.0, 2.0], False, False, {})

    @property
    def unwrapped(self) -> Team:
        return self

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.first

    def step(self, actions: Any) -> Any:
        return self.then


def played(**given: Any) -> Arrays:
    env = Gymma(type("Changed", (Team,), given)(), "team", 5, False)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    env.step(np.zeros(env.info.n_agents, np.int64), out)
    return out


def test_plain_lists_of_spaces_have_one_an_agent() -> None:
    """As MPE's first package, HARL and on-policy keep them."""
    out = played(observation_space=[BOX, BOX], action_space=[spaces.Discrete(2)] * 2)
    assert out.reward.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"reset": lambda self: SEEN}, r"^The environment 'team' has the old gym API: its reset\(\) takes no seed\. "),
        ({"then": (SEEN, [0.0, 0.0], False, {})}, "has the old gym API: it gives a tuple of 4 in step"),
        ({"then": {"reward": 1}}, "'team' gives a dict in step, and .observations, reward, terminated"),
        ({"then": None}, "'team' gives a NoneType in step"),
        ({"first": SEEN[0]}, "'team' gives a ndarray in reset, and .observations, info. is expected"),
        ({"first": [SEEN, {}]}, "'team' gives a list of 2 in reset"),
        (
            {"observation_space": spaces.Box(-1, 1, (2, 3)), "action_space": spaces.MultiDiscrete([2, 2]),
             "first": (np.zeros((2, 3)), {}), "then": (np.zeros((2, 3)), [0.0, 0.0], False, False, {})},
            "gives 2 rewards, and its spaces are of one agent .Box and MultiDiscrete.: an environment of several",
        ),
    ],
)  # fmt: skip
def test_another_api_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        played(**given)
    assert "\n" not in str(caught.value)


def test_what_takes_a_seed_passes() -> None:
    for reset in (lambda seed=None: None, lambda **given: None, lambda *, seed, options: None):
        refuse_old_reset(type("One", (), {"reset": staticmethod(reset)})(), "one")
    refuse_old_reset(object(), "none")
    assert of_reset((1, {}), "x") == (1, {})
    assert of_step((1, 2, 3, 4, 5), "x") == (1, 2, 3, 4, 5)


class Zoo:
    possible_agents = ("red", "blue")
    agents: Any = possible_agents
    extra: Any = MappingProxyType({})

    def observation_space(self, agent: str) -> Any:
        return BOX

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return dict.fromkeys(self.possible_agents, SEEN[0]), {a: {} for a in self.possible_agents}

    def step(self, actions: Any) -> Any:
        given = [dict.fromkeys(self.possible_agents, value) for value in (SEEN[0], 0.0, False, False, {})]
        for k, names in self.extra.items():
            given[k] = given[k] | dict.fromkeys(names, given[k]["red"])
        return tuple(given)


def played_zoo(**given: Any) -> None:
    env = PettingZoo(type("Changed", (Zoo,), given)(), "zoo", 5, None, False)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    env.step(np.zeros(2, np.int64), out)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"extra": {1: ["bleu"]}}, "'zoo' rewards agent 'bleu', which is not among .*blue; did you mean 'blue'"),
        ({"extra": {0: [7]}}, "'zoo' shows an observation of agent '7', which is not among its possible_agents"),
        ({"agents": ["red", "green"]}, "'zoo' plays with agent 'green'"),
        ({"step": lambda self, actions: ({}, {}, {}, {})}, "has the old gym API: it gives a tuple of 4 in step"),
        ({"reset": lambda self: {}}, "takes no seed"),
    ],
)  # fmt: skip
def test_unknown_agents_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        played_zoo(**given)
