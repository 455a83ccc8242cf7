"""Environments that keep to another API than Gymnasium's and PettingZoo's get a diagnosis."""

from __future__ import annotations

import re
from collections import OrderedDict
from types import MappingProxyType, SimpleNamespace
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


class Other:
    """Nothing that Gymnasium knows."""


#: as the package gym has it, which need not be installed
OLD = type("Discrete", (), {"__module__": "gym.spaces.discrete"})


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


def test_an_array_of_spaces_has_one_an_agent() -> None:
    each = np.empty(2, object)
    each[:] = [BOX, BOX]
    assert played(observation_space=each).reward.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("info", [None, [None, {}], np.array([{}, {}]), SimpleNamespace(level=1), "none", ["a", "b"]])
def test_any_info_that_is_no_observation_is_taken(info: Any) -> None:
    assert played(first=(SEEN, info)).reward.tolist() == [1.0, 2.0]


def test_who_is_cut_off_alone_stays_so() -> None:
    """Agent 0 at step 2 and agent 1 at step 3, each told once: then the episode is over, and agent 0 sat step 3 out."""
    env = Gymma(Team(), "team", 9, False)
    told: list[tuple[int, str]] = []
    env.listener = SimpleNamespace(end_taken_back=lambda *given: told.append(given), infos=lambda infos: None)
    out = Arrays.allocate(env.info, 1).slot(0)
    for _ in range(2):  # the second episode knows nothing of the first
        env.reset(0, out)
        for cut in ([False, False], [True, False], [False, True]):
            assert not out.terminated
            assert not out.truncated
            env._env.then = (SEEN, [1.0, 2.0], False, cut, {})
            env.step(np.zeros(2, np.int64), out)
            if cut[0]:
                assert out.alive.tolist() == [False, True]
                assert out.avail.tolist() == [[True, False], [True, True]]
        assert bool(out.truncated)
        assert not out.terminated
        assert not out.agent_terminated.any()
    assert told == [(0, "truncated")] * 2


@pytest.mark.parametrize("last", [[True, True], True])
def test_who_is_cut_off_has_not_ended(last: Any) -> None:
    """Agent 0 is cut off, then both are said to have ended: by the rules agent 1 alone has, or the game as a whole."""
    env = Gymma(Team(), "team", 9, False)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    told: list[tuple[int, str]] = []
    env.listener = SimpleNamespace(end_taken_back=lambda *given: told.append(given), infos=lambda infos: None)
    for ended, cut in (([False, False], [True, False]), (last, [False, False])):
        env._env.then = (SEEN, [1.0, 2.0], ended, cut, {})
        env.step(np.zeros(2, np.int64), out)
    assert out.agent_terminated.tolist() == [False, True]
    assert (bool(out.terminated), bool(out.truncated)) == (last is True, last is not True)
    assert not told


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"reset": lambda self: SEEN}, r"^The environment 'team' has the old gym API: its reset\(\) takes no seed\. "),
        ({"then": (SEEN, [0.0, 0.0], False, {})}, "has the old gym API: it gives a tuple of 4 in step"),
        ({"then": {"reward": 1}}, "'team' gives a dict in step, and .observations, reward, terminated"),
        ({"then": None}, "'team' gives a NoneType in step"),
        ({"first": SEEN[0]}, "'team' gives a ndarray in reset, and .observations, info. is expected"),
        ({"first": [SEEN, {}]}, "'team' gives a list of 2 in reset"),
        ({"first": SEEN}, r"'team' gives a tuple of 2 and no info in it .ndarray. in reset, and .observations"),
        ({"observation_space": {0: BOX, 1: BOX}}, "its observation_space is a dict; an environment of several agents"),
        ({"observation_space": lambda agent: BOX}, "is a function, as in PettingZoo, whose environments also have"),
        ({"action_space": [Other()] * 2}, "entry 0 of its action_space is a Other, and a space of gymnasium.spaces"),
        ({"action_space": [OLD()] * 2}, "is a Discrete of the package gym, and .* is needed, which has Discrete too"),
        ({"action_space": Other()}, "the action space of agent 0 is a Other"),
        (
            {"observation_space": BOX, "action_space": spaces.Discrete(2),
             "first": (np.zeros(3), {}), "then": (np.zeros(3), 1.0, [False] * 2, [False] * 2, {})},
            "gives 2 end flags, and its spaces are of one agent .Box and Discrete.: an environment of several",
        ),
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


# -- masks, rewards and spaces as environments have them ---------------------------------------------------------------

UNLIKE = spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)])
LEGAL = [[True, False, True], [False, True, False]]


@pytest.mark.parametrize(
    "info",
    [
        {"action_mask": ([1, 0, 1], [0, 1])},
        OrderedDict(action_mask=[np.array([1, 0, 1]), np.array([0, 1])]),
        MappingProxyType({"action_mask": np.array([[1, 0, 1], [0, 1, 0]])}),  # stacked: what is padded is 0
        [{"action_mask": [1, 0, 1]}, {"action_mask": [0, 1]}],
    ],
    ids=["dict", "ordered", "stacked", "list"],
)
def test_masks_come_in_any_mapping_or_in_one_for_each_agent(info: Any) -> None:
    team = Team()
    team.action_space, team.first = UNLIKE, (SEEN, info)
    env = Gymma(team, "team", 5, False)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    assert out.avail.tolist() == LEGAL


def test_a_list_of_infos_may_have_a_mask_for_one_agent_alone() -> None:
    team = Team()
    team.action_space, team.first = UNLIKE, (SEEN, [{}, {"action_mask": [0, 1]}])
    env = Gymma(team, "team", 5, False)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    assert out.avail.tolist() == [[True, True, True], [False, True, False]]


def test_a_mask_that_allows_what_is_padded_is_told() -> None:
    team = Team()
    team.action_space, team.first = UNLIKE, (SEEN, {"action_mask": [[1, 0, 1], [0, 1, 1]]})
    env = Gymma(team, "team", 5, False)
    with pytest.raises(ValueError, match="agent 1 has 2 actions, and its action mask 3 entries"):
        env.reset(0, Arrays.allocate(env.info, 1).slot(0))


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (None, "the reward is None, and numbers are needed"),
        ({0: 1.0, 1: 2.0}, "the reward is {0: 1.0, 1: 2.0}, and numbers"),
        ([None, "x"], "numbers are needed"),
        ([1e300, 1.0], "beyond what float32 holds"),
    ],
)
def test_rewards_that_are_no_numbers_are_told(reward: Any, says: str) -> None:
    team = Team()
    team.then = (SEEN, reward, False, False, {})
    env = Gymma(team, "team", 5, False)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    with pytest.raises(ValueError, match=re.escape(says)):
        env.step(np.zeros(2, np.int64), out)


@pytest.mark.parametrize("seen", [-1, 7])
def test_an_observation_outside_a_numbered_space_is_told(seen: int) -> None:
    team = Team()
    team.observation_space, team.first = spaces.Tuple([spaces.Discrete(7)] * 2), ((0, seen), {})
    env = Gymma(team, "team", 5, False)
    with pytest.raises(ValueError, match=f"agent 1 sees {seen}, which is not in its observation space"):
        env.reset(0, Arrays.allocate(env.info, 1).slot(0))


class Pair:
    """Two agents as PettingZoo has them, with spaces in mappings, no ``unwrapped``, and a dict of a state."""

    possible_agents = agents = ("a", "b")
    action_space = None

    def __init__(self) -> None:
        self.observation_space = {"a": BOX, "b": BOX}
        self.action_spaces: Any = {"a": spaces.Discrete(2), "b": spaces.Discrete(2)}
        self.shown: Any = {"board": 1}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return dict.fromkeys("ab", np.zeros(3, np.float32)), {"a": {}, "b": {}}

    def state(self) -> Any:
        return self.shown


def test_spaces_in_mappings_and_a_state_that_is_no_array() -> None:
    env = PettingZoo(Pair(), "pair", 5, None, False)
    assert (env.info.n_actions, env.info.obs_sizes, env.info.state_size) == (2, (3, 3), 6)
    pair = Pair()
    pair.shown = [object()]
    with pytest.raises(UserError, match=r"its state\(\) gives a list that is no array of numbers"):
        PettingZoo(pair, "pair", 5, None, False)
    pair = Pair()
    pair.action_spaces = None
    with pytest.raises(UserError, match="an agent has no space"):
        PettingZoo(pair, "pair", 5, None, False)
