"""Matrix games: every payoff, their optimum, and what one shared policy can reach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oamarl.envs.matrix.matrix import Matrix, payoff
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vector.playing import within_bounds
from oamarl.utils.errors import UserError


@pytest.mark.parametrize("args", [{"key": "climbing"}, {"key": "penalty", "k": -25}, {"key": "prop1", "n_agents": 4}])
def test_every_joint_action_pays_its_table(args: dict) -> None:
    table = payoff(args["key"], args.get("k", -100.0), args.get("n_agents", 2))
    joint = np.array(list(itertools.product(*[range(s) for s in table.shape])))
    vec = make_vec("matrix", args, len(joint))
    vec.reset(np.arange(len(joint)), np.arange(len(joint)))
    assert vec.info.team_reward
    vec.step(joint, np.ones(len(joint), bool))
    assert (vec.arrays.reward == table[tuple(joint.T)][:, None].astype(np.float32)).all()
    assert vec.arrays.terminated.all()
    assert not vec.arrays.truncated.any()


def test_known_cells() -> None:
    climbing, penalty = payoff("climbing"), payoff("penalty", -25)
    assert (climbing[0, 0], climbing[0, 1], climbing[1, 0], climbing[1, 1], climbing[1, 2]) == (11, -30, -30, 7, 6)
    assert (penalty[0, 0], penalty[2, 2], penalty[1, 1], penalty[0, 2], penalty[2, 0]) == (10, 10, 2, -25, -25)
    assert Matrix(1, "climbing", steps=3).optimum() == 33
    assert Matrix(1, "penalty").optimum() == 10


@pytest.mark.parametrize("choice", [0, 1])
def test_the_two_step_game(choice: int) -> None:
    """The first agent's first action chooses the table of the second step; two rounds are four steps."""
    joint = np.array(list(itertools.product(range(2), repeat=2)))
    vec = make_vec("matrix", {"key": "two_step", "steps": 2}, 4)
    vec.reset(np.arange(4), np.arange(4))
    assert (vec.arrays.obs == [1, 0, 0]).all()
    for _ in range(2):
        vec.step(np.array([[choice, 0], [choice, 1]] * 2), np.ones(4, bool))
        assert (vec.arrays.reward == 0).all()
        assert not vec.arrays.terminated.any()
        assert (vec.arrays.obs == np.eye(3)[1 + choice]).all()
        assert (vec.arrays.state == np.eye(3)[1 + choice]).all()
        vec.step(joint, np.ones(4, bool))
        assert vec.arrays.reward[:, 0].tolist() == ([7, 7, 7, 7] if choice == 0 else [0, 1, 1, 8])
    assert vec.arrays.terminated.all()
    assert vec.info.episode_limit == 4
    assert Matrix(1, "two_step", steps=2).optimum() == 16


def test_figure_1() -> None:
    """The payoff is the product of two numbers of any size."""
    vec = make_vec("matrix", {"key": "figure1"}, 3)
    assert vec.info.continuous
    assert vec.info.action_sizes == (1, 1)
    vec.reset(np.arange(3), np.arange(3))
    assert (vec.arrays.obs == 1).all()
    assert (vec.arrays.state == 1).all()
    actions = np.array([[[-0.25], [0.25]], [[2.0], [-3.0]], [[1.5], [2.0]]], np.float32)
    assert (within_bounds(vec.info)(actions) == actions).all()
    vec.step(actions, np.ones(3, bool))
    assert vec.arrays.reward.tolist() == [[-0.0625] * 2, [-6.0] * 2, [3.0] * 2]
    assert vec.arrays.terminated.all()
    game = Matrix(1, "figure1")
    assert game.optimum() == np.inf
    assert game.best_actions() == []


@pytest.mark.parametrize("n", [2, 4, 6])
def test_proposition_1(n: int) -> None:
    game = Matrix(1, "prop1", n_agents=n)
    half = n // 2
    assert game.optimum() == 1
    assert game.best_actions() == [(0,) * half + (1,) * half, (1,) * half + (0,) * half]
    joint = np.array(list(itertools.product(range(2), repeat=n)))
    shared = [  # the expected payoff when every agent plays 1 with probability p
        (game.payoff[tuple(joint.T)] * np.where(joint == 1, p, 1 - p).prod(1)).sum() for p in np.linspace(0, 1, 101)
    ]
    assert max(shared) == pytest.approx(2 / 2**n)


def test_repeated_play_and_inactive_slots() -> None:
    vec = make_vec("matrix", {"key": "climbing", "steps": 2}, 2)
    vec.reset(np.arange(2), np.arange(2))
    vec.step(np.zeros((2, 2), int), np.array([True, False]))
    vec.step(np.ones((2, 2), int), np.ones(2, bool))
    assert vec.arrays.reward[:, 0].tolist() == [7, 7]
    assert vec.arrays.terminated.tolist() == [True, False]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"key": "climb"}, "did you mean 'climbing'"),
        ({"n_agents": 3}, "exactly 2"),
        ({"key": "prop1", "n_agents": 3}, "even number"),
        ({"k": 5}, "at most 0"),
        ({"k": float("nan")}, "at most 0"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_mistakes_are_told(args: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_vec("matrix", args, 1)
