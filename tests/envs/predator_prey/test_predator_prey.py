"""Sparse predator-prey against steps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from oamarl.envs.predator_prey.draws import uniform
from oamarl.envs.predator_prey.predator_prey import PredatorPrey
from oamarl.envs.predator_prey.prey import DRAWS, flee, place
from oamarl.envs.vector.base import NativeVec
from oamarl.envs.vector.make import make_vec
from oamarl.utils.errors import UserError

NOP, LEFT, RIGHT, DOWN, UP = range(5)
FAR = [[-0.9, -0.9], [-0.9, -0.8], [-0.9, -0.7]]


def make(n_slots: int = 1, **args: object) -> tuple[NativeVec, PredatorPrey]:
    vec = make_vec("predator_prey", args, n_slots)
    assert isinstance(vec, NativeVec)
    vec.reset(np.arange(n_slots), np.arange(n_slots))
    game = vec._env
    assert isinstance(game, PredatorPrey)
    return vec, game


def put(game: PredatorPrey, predators: list[list[float]], prey: tuple[float, float]) -> None:
    game.positions[0], game.velocities[0] = predators, 0.0
    game.prey[0], game.prey_velocity[0] = prey, 0.0


def step(vec: NativeVec, *actions: int) -> None:
    vec.step(np.array([actions]), np.ones(1, bool))


def test_predators_move_as_particles_do() -> None:
    vec, game = make(prey_speed=0.0)
    put(game, [[0.0, 0.0], [0.5, 0.0], [-0.5, 0.5]], (0.9, 0.9))
    step(vec, RIGHT, UP, NOP)
    assert game.velocities[0] == pytest.approx(np.array([[0.3, 0], [0, 0.3], [0, 0]]))  # 3 per second squared, 0.1 s
    assert game.positions[0] == pytest.approx(np.array([[0.03, 0], [0.5, 0.03], [-0.5, 0.5]]))
    step(vec, RIGHT, LEFT, DOWN)
    assert game.velocities[0] == pytest.approx(np.array([[0.525, 0], [-0.3, 0.225], [0, -0.3]]))
    for _ in range(5):
        step(vec, RIGHT, NOP, NOP)
    assert game.velocities[0, 0] == pytest.approx([1.0, 0.0])  # 1.2 without a largest speed
    game.velocities[0, 0] = 0.8, 0.8
    step(vec, RIGHT, NOP, NOP)
    assert np.linalg.norm(game.velocities[0, 0]) == pytest.approx(1.0)
    assert game.velocities[0, 0, 0] / game.velocities[0, 0, 1] == pytest.approx(0.9 / 0.6)


def test_a_capture_needs_two_and_pays_those_who_are_adjacent() -> None:
    vec, game = make(prey_speed=0.0, capture_radius=0.25)
    put(game, [[0.0, 0.2], [0.9, 0.9], [-0.9, 0.9]], (0.0, 0.0))
    step(vec, NOP, NOP, NOP)
    assert vec.arrays.reward[0].tolist() == [0, 0, 0]
    assert not vec.arrays.terminated[0]
    put(game, [[0.0, 0.2], [0.9, 0.9], [-0.25, 0.0]], (0.0, 0.0))
    step(vec, NOP, NOP, NOP)
    assert vec.arrays.reward[0].tolist() == [1, 0, 1]
    assert (bool(vec.arrays.terminated[0]), bool(vec.arrays.truncated[0])) == (True, False)
    assert vec.arrays.agent_terminated[0].all()
    assert vec.arrays.metrics[0].tolist() == [1]


def test_every_number_of_the_reward() -> None:
    vec, game = make(
        prey_speed=0.0, capture_radius=0.25, n_adjacent=1, capture_reward=5.0, outside_penalty=0.5, step_reward=-0.125
    )
    put(game, [[0.0, 0.2], [1.01, 0.0], [0.0, -1.0]], (0.0, 0.0))
    step(vec, NOP, NOP, NOP)
    assert vec.arrays.reward[0].tolist() == [4.875, -0.625, -0.125]  # the edge itself is inside


def test_the_episode_goes_on_after_a_capture() -> None:
    vec, game = make(prey_speed=0.0, captures=2, time_limit=2)
    put(game, [[0.0, 0.1], [0.1, 0.0], [-0.9, -0.9]], (0.0, 0.0))
    step(vec, NOP, NOP, NOP)
    assert vec.arrays.metrics[0].tolist() == [1]
    assert not vec.arrays.terminated[0]
    assert (game.prey[0] != 0).all()
    game.prey[0] = 0.0
    step(vec, NOP, NOP, NOP)
    assert vec.arrays.metrics[0].tolist() == [2]
    assert (bool(vec.arrays.terminated[0]), bool(vec.arrays.truncated[0])) == (True, False)  # at the very limit
    vec, game = make(prey_speed=0.0, captures=None, time_limit=2)
    for _ in range(2):
        put(game, [[0.0, 0.1], [0.1, 0.0], [-0.9, -0.9]], (0.0, 0.0))
        step(vec, NOP, NOP, NOP)
    assert (bool(vec.arrays.terminated[0]), bool(vec.arrays.truncated[0])) == (False, True)
    assert vec.arrays.metrics[0].tolist() == [2]


def test_the_prey_flees() -> None:
    draws, west = np.full((1, DRAWS), 0.5), np.array([[[-0.5, 0.0], [-0.9, 0.9]]])
    assert flee(np.zeros((1, 2)), west, draws, 0.1, 1.0, 1.0)[0].tolist() == [0.1, 0.0]
    # at the wall it slides along, away from the nearest; in a corner it stays
    assert flee(np.array([[1.0, 0.1]]), west, draws, 0.1, 1.0, 1.0)[0] == pytest.approx([1.0, 0.2])
    assert flee(np.array([[1.0, 1.0]]), west[:, :1], draws, 0.1, 1.0, 1.0)[0].tolist() == [1.0, 1.0]
    # unskilled: one of nine places at random; 0.5 is the fifth, (0, -1)
    assert flee(np.zeros((1, 2)), west, draws, 0.1, 0.5, 1.0)[0].tolist() == [0.0, -0.1]


def test_the_prey_starts_at_the_safer_place() -> None:
    predators = np.array([[[-1.0, -1.0], [1.0, -1.0]]])
    draws = np.array([[0.5, 0.0, 0.5, 0.75]])  # (0, -1) and (0, 0.5) on a map from -1 to 1
    assert place(predators, draws, 1.0)[0].tolist() == [0.0, 0.5]
    assert place(-predators, draws, 1.0)[0].tolist() == [0.0, -1.0]


def test_what_is_seen() -> None:
    vec, game = make(size=4.0, prey_speed=0.0, n_agents=2, speed=2.0)
    put(game, [[1.0, 0.0], [0.0, -1.0]], (-2.0, 2.0))
    step(vec, UP, NOP)
    obs = vec.arrays.obs[0]  # own velocity and place, the other predator, the prey, its velocity
    assert obs[0] == pytest.approx([0, 0.15, 0.5, 0.015, -0.5, -0.515, -1.5, 0.985, 0, 0])
    assert obs[1] == pytest.approx([0, 0, 0, -0.5, 0.5, 0.515, -1, 1.5, 0, 0])
    assert vec.arrays.state[0] == pytest.approx([0.5, 0.015, 0, 0.15, 0, -0.5, 0, 0, -1, 1, 0, 0])
    assert make(n_agents=1, n_adjacent=1)[0].info.obs_size == 8


def test_draws_depend_on_seed_and_time_alone() -> None:
    seeds, times = np.arange(1000), np.arange(1000) % 7
    many = uniform(seeds, times, 6)
    assert (many[123] == uniform(seeds[123:124], times[123:124], 6)[0]).all()
    assert len(np.unique(many)) == many.size
    assert many.min() >= 0
    assert many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=0.02)  # 6,000 draws: five standard errors
    assert abs(np.corrcoef(many, rowvar=False) - np.eye(6)).max() < 0.15


def test_slots_differ_and_seeds_repeat() -> None:
    vec, game = make(3)
    assert len(np.unique(game.positions)) == 18
    vec.reset(np.array([2]), np.array([0]))
    assert (vec.arrays.obs[2] == vec.arrays.obs[0]).all()


def test_random_play_rarely_captures() -> None:
    n = 1000
    vec = make(n)[0]
    rng = np.random.default_rng(0)
    active = np.ones(n, bool)
    while active.any():
        vec.step(rng.integers(0, 5, (n, 3)), active)
        active &= ~(vec.arrays.terminated | vec.arrays.truncated)
    captures = vec.arrays.metrics.sum()
    assert 1 <= captures <= 20  # about one episode in 200


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"n_agents": 0}, "n_agents=0 is out of range: a number from 1 on"),
        ({"n_adjacent": 4}, "n_adjacent=4 is out of range: 1 to 3 is allowed"),
        ({"size": 0.0}, "size=0.0 is out of range: a number above 0"),
        ({"capture_radius": -1.0}, "capture_radius=-1.0"),
        ({"prey_skill": 1.5}, "prey_skill=1.5 is out of range: 0 to 1"),
        ({"prey_speed": float("inf")}, "prey_speed=inf"),
        ({"captures": 0}, "captures=0"),
        ({"time_limit": 0}, "time_limit=0"),
        ({"outside_penalty": -0.1}, "outside_penalty=-0.1"),
        ({"damping": float("nan")}, "damping=nan"),
        ({"prey_spede": 1.0}, "did you mean 'prey_speed'"),
    ],
)
def test_mistakes_are_told(args: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_vec("predator_prey", args, 1)


def test_picture() -> None:
    game = make()[1]
    image = game.render(0)
    assert (image.shape, image.dtype) == ((360, 360, 3), np.uint8)
    put(game, [[0.0, 0.1], [0.1, 0.0], [0.9, 0.9]], (0.0, 0.0))
    assert (game.render(0) == (255, 224, 130)).all(-1).any()  # a capture
