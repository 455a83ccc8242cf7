"""Overcooked: a soup cooked by hand, the episode's ends, the same numbers for any backend, and mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oamarl.envs.build import make_info
from oamarl.envs.vector.base import NativeVec
from oamarl.envs.vector.make import make_vec
from oamarl.utils.errors import UserError

pytest.importorskip("jaxmarl")
UP, DOWN, RIGHT, LEFT, STAY, INTERACT = range(6)
#: cramped_room: cook 0 at row 1, column 1 beside the onions, cook 1 at row 1, column 3; the pot above column 2
FETCH_ONION = [LEFT, INTERACT, RIGHT, UP, INTERACT, LEFT]
LIMIT = 60


@pytest.fixture(scope="module")
def vec() -> Any:
    """Two kitchens, compiled once."""
    made = make_vec("overcooked", {"time_limit": LIMIT}, 2)
    assert isinstance(made, NativeVec)
    yield made
    made.close()


def begin(vec: NativeVec, seed: int = 0) -> None:
    vec.reset(np.arange(2), np.array([seed, seed]))


def cook(vec: NativeVec, actions: list[int]) -> list[float]:
    """Let cook 0 of both kitchens act and cook 1 stay; return the team's rewards in the first kitchen."""
    rewards = []
    for action in actions:
        vec.step(np.array([[action, STAY]] * 2), np.ones(2, bool))
        rewards.append(float(vec.arrays.reward[0, 0]))
    return rewards


def test_a_soup_by_hand(vec: NativeVec) -> None:
    begin(vec)
    for _ in range(3):
        assert sum(cook(vec, FETCH_ONION)) == 3  # an onion in the pot
    # a plate from below column 1 while it cooks, to the pot, and to the counter below column 3
    assert sum(cook(vec, [DOWN, DOWN, INTERACT])) == 3
    cook(vec, [STAY] * 17)
    assert sum(cook(vec, [UP, RIGHT, UP, INTERACT])) == 5
    rewards = cook(vec, [DOWN, RIGHT, DOWN, INTERACT])
    assert rewards[-1] == 20
    assert vec.arrays.metrics[0].tolist() == [1]
    assert (vec.arrays.reward[0] == 20).all()  # the team's


def test_what_is_seen(vec: NativeVec) -> None:
    begin(vec)
    info, out = vec.info, vec.arrays
    assert (info.n_agents, info.obs_shape, info.obs_size, info.n_actions) == (2, (4, 5, 26), 520, 6)
    views = out.obs[0].reshape(2, 4, 5, 26)
    assert np.argwhere(views[0, ..., 0]).tolist() == [[1, 1]]  # each cook sees itself first
    assert np.argwhere(views[1, ..., 0]).tolist() == [[1, 3]]
    assert (views[0, ..., 0] == views[1, ..., 1]).all()
    assert np.argwhere(views[0, ..., 10]).tolist() == [[0, 2]]  # the pot
    assert (out.state[0] == out.obs[0, 0]).all()
    assert not views[..., 25].any()
    cook(vec, [STAY] * (LIMIT - 39))
    assert out.obs[0].reshape(2, 4, 5, 26)[..., 25].all()  # less than 40 steps are left


def test_the_horizon_truncates(vec: NativeVec) -> None:
    begin(vec)
    cook(vec, [STAY] * (LIMIT - 1))
    assert not vec.arrays.truncated.any()
    cook(vec, [STAY])
    assert vec.arrays.truncated.all()
    assert not vec.arrays.terminated.any()


def test_slots_are_apart(vec: NativeVec) -> None:
    begin(vec)
    before = vec.arrays.obs.copy()
    vec.step(np.array([[RIGHT, STAY]] * 2), np.array([True, False]))
    assert (vec.arrays.obs[0] != before[0]).any()
    assert (vec.arrays.obs[1] == before[1]).all()
    vec.reset(np.array([0]), np.array([0]))
    assert (vec.arrays.obs == before).all()
    vec.reset(np.array([0]), np.array([1]))
    assert (vec.arrays.obs[0] != before[0]).any()  # the cooks look elsewhere


def test_one_slot_has_the_same_numbers(vec: NativeVec) -> None:
    rng = np.random.default_rng(0)
    vec.reset(np.arange(2), np.array([5, 9]))
    alone = make_vec("overcooked", {"time_limit": LIMIT}, 1, backend="serial")
    alone.reset(np.arange(1), np.array([9]))
    for _ in range(LIMIT):
        actions = rng.integers(0, 6, (2, 2))
        vec.step(actions, np.ones(2, bool))
        alone.step(actions[1:], np.ones(1, bool))
        for x, y in zip(vec.arrays.named().values(), alone.arrays.named().values(), strict=True):
            assert (x[1] == y[0]).all()
    alone.close()


def test_picture(vec: NativeVec) -> None:
    begin(vec)
    image = vec._env.render(0)
    assert (image.shape, image.dtype) == ((4 * 48, 5 * 48, 3), np.uint8)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("asymm_advantages", (5, 9, 26)), ("coord_ring", (5, 5, 26)),
        ("forced_coord", (5, 5, 26)), ("counter_circuit", (5, 8, 26)),
    ],
)  # fmt: skip
def test_every_layout_is_built(layout: str, shape: tuple) -> None:
    assert make_info("overcooked", {"layout": layout}).obs_shape == shape


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"layout": "cramped_rom"}, "did you mean 'cramped_room'"),
        ({"time_limit": 0}, "time_limit=0"),
        ({"shaped_reward": -1.0}, "shaped_reward=-1.0"),
        ({"device": "tpu"}, "env_args.device='tpu' is not known"),
        ({"layot": "x"}, "did you mean 'layout'"),
    ],
)
def test_mistakes_are_told(args: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_vec("overcooked", args, 1)
