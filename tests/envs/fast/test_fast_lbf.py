"""LBF's own code and the quick one side by side: everything that can be seen must be equal, bit by bit."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lbforaging")

import gymnasium
from lbforaging.foraging import environment as stock
from lbforaging.foraging.environment import Action, ForagingEnv

from oamarl.envs.base import Arrays
from oamarl.envs.fast import lbf as quick_lbf
from oamarl.envs.fast import quicken as quick
from oamarl.envs.fast.lbf import QuickForaging, quicken
from oamarl.envs.gymma import gymma
from oamarl.settings import learned
from oamarl.training.resume import check_same
from oamarl.utils.errors import UserError

PLAIN = "Foraging-8x8-2p-3f-v3"


def made(key: str, **kwargs: Any) -> Any:
    return ForagingEnv(**{**gymnasium.spec(key).kwargs, **kwargs})


def typed(value: Any) -> Any:
    """A value with its types, for comparison."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.flags.writeable, value.flags.c_contiguous, value.tobytes())
    if isinstance(value, (list, tuple)):
        return (type(value), [typed(v) for v in value])
    return (type(value), value)


def state(env: Any, look: bool) -> dict[str, Any]:
    """Everything that a user or a renderer may read of an environment; ``look`` also lists the legal actions."""
    seen = {
        name: typed(vars(env).get(name, "missing"))
        for name in ("field", "current_step", "_game_over", "_food_spawned", "_max_episode_steps", "penalty", "sight")
    }
    for i, player in enumerate(env.players):
        seen |= {(i, name): typed(value) for name, value in vars(player).items()}
    seen["random"] = env.np_random.bit_generator.state
    seen["shapes"] = (env.field_size, env.rows, env.cols, typed(env.game_over), env.n_agents)
    if look:
        known = {p: i for i, p in enumerate(env.players)}
        seen["valid"] = [(known.get(p), a) for p, a in (env._valid_actions or {}).items()]
        seen["joint"] = env.get_valid_actions() if env._valid_actions and len(env.players) < 4 else None
    return seen


class Sides:
    """The stock environment and the quick one; whatever is done to one is done to the other."""

    def __init__(self, key: str = PLAIN, **kwargs: Any) -> None:
        self.stock, self.quick = made(key, **kwargs), made(key, **kwargs)
        assert quicken(self.quick)
        assert type(self.quick) is QuickForaging
        assert type(self.stock) is ForagingEnv
        self.do(lambda env: env.seed(1), look=True)  # draws of before the first seed

    @property
    def is_quick(self) -> bool:
        return self.quick._quick is not None

    def compare(self, look: bool = True) -> None:
        mine, theirs = state(self.quick, look), state(self.stock, look)
        assert mine == theirs

    def do(self, what: Callable[[Any], Any], look: bool = False) -> Any:
        results: list[Any] = []
        for env in (self.stock, self.quick):
            try:
                results.append(typed(what(env)))
            except Exception as error:
                results.append((type(error), str(error)))
        assert results[0] == results[1]
        self.compare(look)
        return results[0]

    def reset(self, seed: int | None = None, look: bool = False) -> Any:
        return self.do(lambda env: env.reset(seed=seed), look)

    def step(self, actions: Any, look: bool = False) -> Any:
        return self.do(lambda env: env.step(actions), look)


def steered(env: Any, rng: random.Random) -> list[int]:
    """Actions that lead to food and load it, into one another, into edges, or nowhere."""
    found = []
    rows, cols = np.nonzero(env.field)
    for player in env.players:
        y, x = player.position
        aim = rng.random()
        if aim < 0.25 or not len(rows):
            found.append(rng.randrange(6))
            continue
        if aim < 0.75:  # the nearest food, so that several come together there
            k = int(np.argmin(abs(rows - y) + abs(cols - x)))
            dy, dx = int(rows[k] - y), int(cols[k] - x)
            if abs(dy) + abs(dx) == 1:
                found.append(5)
                continue
        else:
            other = rng.choice(env.players).position
            dy, dx = int(other[0] - y), int(other[1] - x)
        vertical = dy and (not dx or rng.random() < 0.5)
        found.append((1 if dy < 0 else 2) if vertical else (3 if dx < 0 else 4 if dx else 0))
    return found


def play(sides: Sides, seed: int, episodes: int, steps: int = 60) -> None:
    rng = random.Random(seed)
    sides.quick._stock_step = lambda actions: pytest.fail("the stock code steps")
    for episode in range(episodes):
        sides.reset(None if episode % 3 == 2 else rng.randrange(2**31), look=episode % 2 == 0)
        assert sides.is_quick
        for t in range(rng.choice([7, steps])):  # some are left in the middle
            actions: Any = (
                steered(sides.stock, rng) if rng.random() < 0.9 else [rng.randrange(6) for _ in sides.stock.players]
            )
            actions = rng.choice([list, tuple, np.array])(actions)
            before = sides.stock.current_step
            sides.step(actions, look=t % 5 == episode % 5)
            assert sides.stock.current_step == before + 1
            assert sides.is_quick


KINDS: list[tuple[str, dict[str, Any]]] = [
    (PLAIN, {}),
    ("Foraging-5x5-2p-1f-v3", {}),
    ("Foraging-5x5-9p-4f-v3", {}),  # crowded: chains, swaps, queues
    ("Foraging-2s-5x5-9p-4f-coop-v3", {}),
    ("Foraging-8x8-2p-2f-coop-v3", {}),
    ("Foraging-2s-8x8-2p-2f-coop-v3", {}),
    ("Foraging-2s-8x8-2p-3f-v3", {}),
    ("Foraging-10x10-3p-3f-v3", {}),
    ("Foraging-2s-10x10-3p-3f-v3", {}),
    ("Foraging-15x15-4p-4f-v3", {}),
    ("Foraging-2s-19x19-8p-4f-v3", {}),
    ("Foraging-6x6-4p-4f-v3", {"penalty": 0.1}),
    ("Foraging-6x6-4p-4f-v3", {"penalty": 1, "normalize_reward": False}),
    ("Foraging-2s-6x6-4p-4f-v3", {"observe_agent_levels": False}),
    ("Foraging-6x6-4p-4f-v3", {"observe_agent_levels": False, "sight": 5}),
    ("Foraging-6x6-3p-3f-v3", {"sight": 1}),
    ("Foraging-6x6-3p-3f-v3", {"sight": 0}),
    ("Foraging-6x6-3p-3f-v3", {"sight": 4}),
    ("Foraging-7x7-3p-3f-v3", {"max_food_level": 1}),
    ("Foraging-7x7-3p-2f-v3", {"min_food_level": [1, 3], "max_food_level": [2, 5]}),
    ("Foraging-7x7-3p-2f-v3", {"min_player_level": [1, 2, 3], "max_player_level": [1, 4, 3]}),
    ("Foraging-7x7-3p-3f-v3", {"min_food_level": 0, "max_food_level": 1, "min_player_level": 0}),
    ("Foraging-7x7-3p-3f-v3", {"max_episode_steps": 5}),
    ("Foraging-5x5-2p-4f-v3", {"max_num_food": 9}),  # more than there is room for
    ("Foraging-5x5-1p-1f-v3".replace("1p", "2p"), {"players": 1}),
    ("Foraging-8x8-2p-1f-v3", {"max_num_food": 0}),
    ("Foraging-8x8-3p-3f-v3", {"field_size": (4, 9), "sight": 1}),
    ("Foraging-8x8-3p-3f-v3", {"field_size": (7, 8), "sight": 3}),
]


@pytest.mark.parametrize(("key", "kwargs"), KINDS)
def test_play_is_equal(key: str, kwargs: dict) -> None:
    play(Sides(key, **kwargs), seed=len(key), episodes=6)


@pytest.mark.parametrize("seed", range(3))
def test_registered_kinds_are_equal(seed: int) -> None:
    keys = [key for key in gymnasium.registry if key.startswith("Foraging") and "grid" not in key]
    assert len(keys) > 1000
    for key in random.Random(seed).sample(keys, 8):
        play(Sides(key), seed, episodes=2, steps=25)


# -- what play does not lead to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "actions",
    [
        [6, 0], [0, -1], [0, 7.5], [None, 0], ["1", 0], [0], [0, 1, 2], [], 3, None, [[1], [2]], [1.0, True],
        [Action.EAST, 2], np.array([[1], [2]]), np.array([1.0, 2.0]), np.array([1, 2], np.uint8), (np.int32(4), 3),
        {1: 0, 2: 0},
    ],
    ids=repr,
)  # fmt: skip
def test_odd_actions_are_treated_alike(actions: Any) -> None:
    sides = Sides()
    sides.reset(1)
    sides.step([1, 2])
    sides.step(actions, look=True)
    sides.step([2, 1], look=True)
    sides.do(lambda env: env.step(iter([4, 3, 9])))
    sides.reset(2)
    sides.step([3, 4])
    assert sides.is_quick


def test_a_step_before_the_first_reset() -> None:
    sides = Sides()
    for env in (sides.stock, sides.quick):
        with pytest.raises(AttributeError, match="no attribute 'current_step'"):
            env.step([0, 0])
    sides.reset(1)
    assert sides.is_quick


def put(player: int, position: Any) -> Callable[[Any], None]:
    return lambda env: setattr(env.players[player], "position", position)


def food(cells: dict[tuple[int, int], int]) -> Callable[[Any], None]:
    def change(env: Any) -> None:
        env.field[:] = 0
        for cell, level in cells.items():
            env.field[cell] = level

    return change


def at(row: int, col: int) -> tuple[np.int64, np.int64]:
    return np.int64(row), np.int64(col)


def together(*changes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda env: [change(env) for change in changes] and None


CHANGES: dict[str, Callable[[Any], Any]] = {
    "no food": food({}),
    "one more": lambda env: env.field.__setitem__((0, 0), 2),  # at the edge; more than are declared, perhaps
    "food of its own": food({(3, 3): 1, (5, 5): 2}),
    "too much food": food({(1, 1): 1, (1, 5): 2, (4, 3): 1, (6, 6): 1}),
    "less than no food": food({(3, 3): -1, (5, 5): 2}),
    "food on either side": together(food({(3, 3): 1, (3, 5): 1}), put(0, at(3, 4))),
    "food on either side, above": together(food({(0, 4): 1, (2, 4): 1}), put(0, at(1, 4))),
    "too strong food": food({(3, 3): 99}),
    "another array": lambda env: setattr(env, "field", env.field.copy()),
    "another type": lambda env: setattr(env, "field", env.field.astype(np.int64)),
    "a player elsewhere": put(0, at(7, 7)),
    "plain numbers": put(0, (7, 6)),
    "a list": put(1, [7, 6]),
    "an array": put(1, np.array([7, 6])),
    "nowhere": put(1, None),
    "before the first row": put(0, at(-1, 3)),
    "outside": put(1, at(8, 0)),
    "on top of one another": together(put(0, at(4, 6)), put(1, at(4, 6)), food({(2, 2): 1})),
    "in food": together(food({(3, 3): 1, (5, 5): 2}), put(0, at(3, 3))),
    "stronger": lambda env: setattr(env.players[0], "level", np.int64(2)),
    "too strong": lambda env: setattr(env.players[0], "level", np.int64(7)),
    "half a level": lambda env: setattr(env.players[0], "level", 1.5),
    "nearer sight": lambda env: setattr(env, "sight", 1),
    "half a sight": lambda env: setattr(env, "sight", 1.5),
    "other bounds": lambda env: setattr(env, "observation_space", made("Foraging-5x5-2p-3f-v3").observation_space),
    "less food declared": lambda env: setattr(env, "max_num_food", 2),
    "an action forbidden": lambda env: env._valid_actions[env.players[0]].clear(),
    "one player less": lambda env: setattr(env, "players", env.players[-1:]),
    "players swapped": lambda env: env.players.reverse(),
    "later": lambda env: setattr(env, "current_step", 49),
    "listed again": lambda env: env.test_gen_valid_moves(),
    "seen again": lambda env: env.test_make_gym_obs(),
    "other draws": lambda env: env.seed(77),
    "own rewards": lambda env: [setattr(p, "reward", 5.0) for p in env.players] and None,
    "own penalty": lambda env: setattr(env, "penalty", 0.25),
    "stronger in future": lambda env: setattr(env, "max_player_level", np.array([3, 3])),
    "stronger food in future": lambda env: setattr(env, "max_food_level", np.array([9, 9, 9])),
    "nothing to draw": lambda env: setattr(env, "min_player_level", np.array([3, 3])),
    "levels of another kind": lambda env: setattr(env, "min_food_level", np.array([1.0, 1.0, 1.0])),
    "levels that are none": lambda env: setattr(env, "min_player_level", 1),
    "a window": lambda env: setattr(env, "render_mode", "human"),
    "a larger field": lambda env: setattr(env, "field", np.zeros((9, 9), np.int32)),
    "a tiny field": lambda env: setattr(env, "field", np.zeros((1, 1), np.int32)),
}


def apart(env: Any, rng: random.Random) -> list[int]:
    """Steered actions of which one loads at a time: the order of several hangs on where their objects lie in memory."""
    try:
        first, second = steered(env, rng)
    except (TypeError, ValueError):  # someone is nowhere, or missing
        first, second = rng.randrange(6), rng.randrange(6)
    return [first, second if first != 5 else 0][:: 1 if first == 5 else rng.choice([1, 1, -1])]


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_from_outside_count_alike(change: str, looks: bool) -> None:
    sides = Sides()
    for env in (sides.stock, sides.quick):
        env.render = lambda *_: None  # there may be no screen
    rng = random.Random(len(change))
    for seed in (1, 2, 3):
        sides.reset(seed, look=looks)
        for _ in range(seed * 2):
            sides.step(steered(sides.stock, rng) if sides.is_quick else [0, 5], look=looks)
        legal = sides.stock._valid_actions[sides.stock.players[0]][-1].value
        sides.do(CHANGES[change], look=looks)
        for actions in ([legal, 0], [5, 0], [5, 0], [1, 4]):
            sides.step(actions, look=looks)
        for t in range(8):
            sides.step(apart(sides.stock, rng), look=looks and t % 2 == 0)
    sides.do(lambda env: env.reset(seed=9, options={"a": 1}))
    sides.do(lambda env: env.reset(seed=-1))
    sides.step([0, 0])


def test_no_room_for_a_player() -> None:
    sides = Sides("Foraging-5x5-2p-1f-v3", field_size=(3, 3), players=10, max_num_food=0)
    assert sides.reset(1, look=True)[0] is TypeError
    for env in (sides.stock, sides.quick):
        env.players = env.players[:9]
        env.min_player_level, env.max_player_level = env.min_player_level[:9], env.max_player_level[:9]
    sides.reset(2)
    sides.step([0] * 9)


def test_it_is_quick_again_after_a_change() -> None:
    sides = Sides()
    sides.reset(1)
    sides.do(food({(3, 3): 1, (5, 5): 2}))
    sides.step([0, 0])
    assert sides.is_quick


@pytest.mark.parametrize("coop", ["", "-coop"])
def test_food_is_loaded_alone_and_together(coop: str) -> None:
    """Both players around one food, of each strength, with the other one loading, away, or merely standing by."""
    outcomes = set()
    sides = Sides(f"Foraging-8x8-2p-3f{coop}-v3", penalty=0.5)
    for level in (1, 2, 3, 4):
        for where in (at(3, 4), at(2, 3), at(6, 6)):
            for actions in ([5, 5], [5, 0], [0, 5], [5, 1], [2, 5]):
                sides.reset(level)
                sides.do(together(food({(3, 3): level, (6, 1): 1}), put(0, at(4, 3)), put(1, where)))
                sides.step([0, 0])
                assert sides.is_quick
                sides.step(actions, look=True)
                outcomes.add(tuple(p.reward for p in sides.stock.players))
    assert len(outcomes) > 6


@pytest.mark.parametrize(
    ("cells", "actions", "goals"),
    [
        ([(2, 2), (2, 3), (7, 1)], [4, 3, 0], [(2, 3), (2, 2), (7, 1)]),  # they swap
        ([(2, 2), (2, 4), (7, 1)], [4, 3, 0], [(2, 2), (2, 4), (7, 1)]),  # both want the cell between them
        ([(2, 2), (2, 3), (2, 4)], [4, 4, 0], [(2, 3), (2, 3), (2, 4)]),  # a queue: the last moves on top of the second
        ([(2, 2), (2, 3), (2, 4)], [4, 4, 4], [(2, 3), (2, 4), (2, 5)]),  # a queue that moves
        ([(2, 2), (2, 3), (2, 5)], [4, 4, 3], [(2, 3), (2, 3), (2, 5)]),  # the same behind a tie
        ([(2, 2), (2, 3), (3, 3)], [4, 2, 3], [(2, 3), (3, 3), (3, 2)]),  # a turn
        ([(0, 0), (0, 1), (7, 7)], [1, 3, 4], [(0, 0), (0, 1), (7, 7)]),  # edges
        ([(4, 5), (5, 4), (1, 1)], [2, 4, 0], [(4, 5), (5, 4), (1, 1)]),  # into food
    ],
)
def test_who_moves(cells: list, actions: list, goals: list) -> None:
    sides = Sides("Foraging-8x8-3p-3f-v3")
    sides.reset(4)
    sides.do(together(food({(5, 5): 1}), *(put(i, at(*cell)) for i, cell in enumerate(cells))))
    sides.step([0, 0, 0])
    assert sides.is_quick
    sides.step(actions, look=True)
    assert sides.is_quick
    assert [p.position for p in sides.quick.players] == goals
    sides.step(actions, look=True)


# -- where it is used, and what stays ------------------------------------------------------------------------------


def test_unknown_sources_keep_their_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_lbf, "KNOWN", {"0" * 64: "another release"})
    env = made(PLAIN)
    assert not quicken(env)
    assert type(env) is ForagingEnv


def test_no_source_keeps_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "__file__", "/nowhere/environment.pyc")
    assert not quicken(made(PLAIN))


def test_replaced_methods_keep_their_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    env = made(PLAIN)
    env.step = lambda actions: actions
    assert not quicken(env)
    monkeypatch.setattr(ForagingEnv, "adjacent_food", lambda self, row, col: 0)
    assert not quicken(made(PLAIN))


def test_derived_classes_keep_their_own_code() -> None:
    class Other(ForagingEnv):
        pass

    env = Other(**gymnasium.spec(PLAIN).kwargs)
    assert not quicken(env)
    assert type(env) is Other


@pytest.mark.parametrize(
    "kwargs",
    [{"render_mode": "human"}, {"field_size": (9, 5)}, {"field_size": (60, 60)}, {"sight": 2.5}, {"sight": -1}],
)
def test_kinds_that_are_left_to_the_stock_code(kwargs: dict) -> None:
    env = made(PLAIN, **kwargs)
    assert not quicken(env)
    assert type(env) is ForagingEnv


def test_a_picture_shows_the_same() -> None:
    """What the package's viewer reads, and when it is asked (it needs a screen itself)."""

    class Viewer:
        def render(self, env: Any, return_rgb_array: bool) -> Any:
            players = [(p.position, p.level, p.score) for p in env.players]
            return env.field.copy(), players, env.rows, env.cols, return_rgb_array

    sides = Sides()
    for env in (sides.stock, sides.quick):
        env.viewer, env._rendering_initialized = Viewer(), True
        vars(env).pop("viewer_", None)
    rng = random.Random(3)
    sides.reset(3)
    for _ in range(40):
        sides.step(steered(sides.stock, rng))
        pictures = [typed(env.viewer.render(env, True)) for env in (sides.stock, sides.quick)]
        assert pictures[0] == pictures[1]
        assert typed(sides.quick.render()) == typed(sides.stock.render())


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("steps", [None, 0, 5])
def test_copies_go_on_alike(copied: Callable[[Any], Any], steps: int | None) -> None:
    sides, rng = Sides("Foraging-5x5-3p-3f-v3"), random.Random(5)
    if steps is not None:
        sides.reset(11)
        for _ in range(steps):
            sides.step(steered(sides.stock, rng))
    twins = copy.copy(sides)
    twins.stock, twins.quick = copied(sides.stock), copied(sides.quick)
    assert type(twins.quick) is QuickForaging
    twins.compare()
    for both in (sides, twins, sides, twins):
        if steps is None:
            both.reset(12)
        both.step(steered(both.stock, rng))
        both.step(steered(both.stock, rng), look=True)
    sides.compare()
    twins.reset(3)
    assert twins.is_quick


def test_observations_are_their_own() -> None:
    env = made(PLAIN)
    assert quicken(env)
    env.reset(seed=1)
    first = env.step([0, 0])[0]
    kept = [o.copy() for o in first]
    first[1][:] = 9
    second = env.step([0, 0])[0]
    assert all((a == b).all() for a, b in zip(second, kept, strict=True))
    assert (first[0] == kept[0]).all()


# -- through the adapter -------------------------------------------------------------------------------------------


def episodes(env: Any, n: int) -> list[bytes]:
    out = Arrays.allocate(env.info, 1).slot(0)
    rng, seen = np.random.default_rng(0), []
    for seed in range(n):
        env.reset(seed, out)
        done = False
        while not done:
            seen.append(b"".join(value.tobytes() for value in out.named().values()))
            env.step(rng.integers(0, env.info.n_actions, env.info.n_agents), out)
            done = bool(out.terminated | out.truncated)
        seen.append(b"".join(value.tobytes() for value in out.named().values()))
    return seen


@pytest.mark.parametrize(
    ("key", "kwargs"),
    [
        ("lbforaging:Foraging-8x8-2p-3f-v3", {}),
        ("lbforaging:Foraging-2s-6x6-4p-3f-coop-v3", {"time_limit": 20}),
        ("lbforaging:Foraging-5x5-2p-1f-v3", {"players": 1}),
        ("rware:rware-tiny-2ag-v2", {"time_limit": 60}),
        ("rware:rware-tiny-3ag-v2", {"time_limit": 60, "msg_bits": 1}),
    ],
)
def test_quick_reaches_the_environment(key: str, kwargs: dict) -> None:
    pytest.importorskip(key.partition(":")[0])
    usual, quick, plain = gymma(key, **kwargs), gymma(key, quick=True, **kwargs), gymma(key, quick=False, **kwargs)
    stock_class = type(plain._env.unwrapped)
    assert not plain._sure
    for env in (usual, quick):
        assert type(env._env.unwrapped).__bases__ == (stock_class,)
        assert env._sure
        assert env.info == plain.info
    assert episodes(usual, 5) == episodes(quick, 5) == episodes(plain, 5)


def test_the_adapter_still_notices_what_is_wrong() -> None:
    env = gymma("lbforaging:Foraging-8x8-2p-3f-v3")
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(0, out)
    with pytest.raises(ValueError, match="agent 1 has no action 6"):
        env.step(np.array([0, 6]), out)
    shared = gymma("lbforaging:Foraging-8x8-2p-3f-v3", team_reward=True)
    shared.reset(0, out)
    with pytest.raises(ValueError, match="2 rewards came, and env_args"):
        shared.step(np.array([0, 0]), out)


def test_other_packages_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not quick.quicken(gymnasium.make("CartPole-v1"))
    env = made(PLAIN)
    monkeypatch.delitem(sys.modules, "oamarl.envs.fast.lbf")
    monkeypatch.delattr(stock, "ForagingEnv")  # a release without the known names
    assert not quick.quicken(env)


def test_how_it_is_stepped_makes_no_other_experiment() -> None:
    def config(env: str = "gymma", **args: Any) -> dict[str, Any]:
        return {"env": env, "env_args": {"key": "k", **args}, "lr": 1}

    assert learned(config(quick=True)) == learned(config(quick=False)) == learned(config()) == config()
    assert learned(config(time_limit=3)) != learned(config())
    assert learned(config("my.module:Env", quick=True)) != learned(config("my.module:Env"))
    check_same(config(quick=True), config(), Path("there"))
    with pytest.raises(UserError, match="env_args"):
        check_same(config(time_limit=3), config(), Path("there"))
