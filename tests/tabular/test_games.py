"""The four environments with countable observations: their rules by hand, and slots that do not touch one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.tabular import Blocker, Digital, Landmarks, Navigation
from oamarl.envs.tabular.base import FiniteEnv, Views, from_each, lacking_one
from oamarl.utils.errors import UserError

EVERY: list[Any] = [Digital, Navigation, Blocker, Landmarks]


def begun(env: FiniteEnv, *seeds: int) -> Arrays:
    out = Arrays.allocate(env.info, len(seeds))
    env.reset(np.arange(len(seeds)), np.array(seeds), out)
    return out


def step(env: FiniteEnv, out: Arrays, *actions: int) -> None:
    env.step(np.array([actions]), np.array([True]), out)


def blocker_at(agents: list[list[int]], blockers: list[int], **args: int) -> tuple[Blocker, Arrays]:
    env = Blocker(1, n_agents=len(agents), n_blockers=len(blockers), **args)
    out = begun(env, 0)
    env.agents[0], env.blockers[0] = agents, blockers
    return env, out


# -- what they share -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_slots_are_played_alone(make: Any) -> None:
    """Three slots together are what each is alone, to the bit; codes stay below their counts."""
    rng = np.random.default_rng(5)
    together, alone = make(3), [make(1) for _ in range(3)]
    shown, each = begun(together, 11, 12, 13), [begun(env, 11 + b) for b, env in enumerate(alone)]
    info, active = together.info, np.ones(3, bool)
    for _ in range(info.episode_limit):
        actions = rng.integers(0, info.n_actions, (3, info.n_agents))
        actions = np.where(shown.alive, actions, 0)
        together.step(actions, active, shown)
        for b in np.flatnonzero(active):
            alone[b].step(actions[b : b + 1], np.array([True]), each[b])
            for name, x in shown.named().items():
                assert (x[b] == each[b].named()[name][0]).all(), name
        assert (together.codes() == np.concatenate([env.codes() for env in alone])).all()
        assert ((together.codes() >= 0) & (together.codes() < together.views.counts())).all()
        active &= ~(shown.terminated | shown.truncated)
    assert not active.any()


def test_numbers_of_what_is_seen() -> None:
    """Sizes (2, 3, 4), the middle one unseen by the second agent: (1, 2, 3) is 23 to the first and 7 to the second."""
    views = Views((2, 3, 4), np.array([[True, True, True], [True, False, True]]), 0)
    assert views.strides().tolist() == [[12, 4, 1], [4, 0, 1]]
    assert views.counts().tolist() == [24, 8]
    assert (views.strides() @ [1, 2, 3]).tolist() == [23, 7]


def test_each_sees_itself_first() -> None:
    assert from_each(np.array([[5, 6, 7]])).tolist() == [[[5, 6, 7], [6, 7, 5], [7, 5, 6]]]
    assert lacking_one(3, 1, 3).tolist() == [[True, False, True], [True, True, False], [True, False, True]]
    assert lacking_one(2, 2, 2).all(), "there is nothing but its own"


@pytest.mark.parametrize("make", EVERY)
def test_arguments_out_of_range(make: Any) -> None:
    with pytest.raises(UserError, match=r"env_args\.n_agents=0 is out of range: at least [12] is allowed"):
        make(1, n_agents=0)
    with pytest.raises(UserError, match=r"env_args\.time_limit=0 is out of range"):
        make(1, time_limit=0)


# -- each one's rules ------------------------------------------------------------------------------------------


def test_digital() -> None:
    env = Digital(1, n_agents=3, n_states=4)
    assert np.allclose(env.transitions.sum(-1), 1)
    assert env.mean_reward.shape == (3, 4, 2)
    assert (env.transitions == Digital(1, n_agents=5, n_states=4).transitions).all(), "more agents, the same process"
    assert (env.transitions != Digital(1, n_agents=3, n_states=4, game_seed=1).transitions).all()
    n = 4000
    many = Digital(n, n_agents=3, n_states=4)
    out = begun(many, *range(n))
    many.at[:, :, 0] = 2
    many.step(np.ones((n, 3), np.int64), np.ones(n, bool), out)
    noise = out.reward - many.mean_reward[:, 2, 1]
    assert (np.abs(noise) <= 0.5 + 1e-6).all()
    assert np.abs(noise.mean(0)).max() < 0.02
    shares = np.bincount(many.at.ravel(), minlength=4) / (3 * n)
    assert np.abs(shares - env.transitions[2, 1]).max() < 0.02
    assert not out.terminated.any()


def test_navigation() -> None:
    env = Navigation(1, n_agents=2, size=3)
    out = begun(env, 3)
    (landmark,) = env.landmarks
    x, y = divmod(int(landmark), 3)
    assert not np.isin(env.codes(), env.landmarks).any(), "nobody begins on a landmark"
    beside = (x - 1, y) if x else (x + 1, y)
    env.at[0] = [beside, [0, 0] if (x, y) != (0, 0) and beside != (0, 0) else [2, 2]]
    other = env.at[0, 1].copy()
    towards, wall = (0 if x else 2), (2 if other[0] == 0 else 0)
    step(env, out, towards, wall)
    assert out.reward[0].tolist() == pytest.approx([1.0, -0.05])
    assert (env.at[0, 1] == other).all(), "a wall"
    assert out.alive[0].tolist() == [False, True]
    assert out.agent_terminated[0].tolist() == [True, False]
    assert out.avail[0].sum(-1).tolist() == [1, 4]
    assert not out.terminated[0]
    step(env, out, 0, wall)
    assert env.at[0, 0].tolist() == [x, y], "it has ended"
    assert out.reward[0].tolist() == pytest.approx([0.0, -0.05])
    env.at[0, 1] = beside
    step(env, out, 0, towards)
    assert out.terminated[0]
    assert out.reward[0].tolist() == pytest.approx([0.0, 1.0])


def test_navigation_is_its_model() -> None:
    env = Navigation(1, n_agents=1, size=4, n_landmarks=2)
    out = begun(env, 0)
    transitions, reward = env.model()
    for state in set(range(16)) - set(env.landmarks.tolist()):
        for action in range(4):
            env.reset(np.array([0]), np.array([0]), out)
            env.at[0, 0] = divmod(state, 4)
            step(env, out, action)
            assert reward[0, state, action] == pytest.approx(float(out.reward[0, 0]))
            after = np.zeros(16)
            after[env.codes()[0, 0]] = not out.terminated[0]
            assert (transitions[state, action] == after).all()


def test_landmarks() -> None:
    env = Landmarks(1, n_agents=3, cells=7)
    assert env.landmarks.tolist() == [0, 3, 6]
    out = begun(env, 0)
    env.at[0] = from_each(np.array([[1, 3, 5]]))[0]
    step(env, out, 1, 1, 1)  # all stay
    assert out.reward[0].tolist() == pytest.approx([-2 / 3] * 3)
    assert env.at[0].tolist() == [[1, 3, 5], [3, 5, 1], [5, 1, 3]]
    # agents 0 and 2 lack the next agent, agent 1 the one after it
    assert env.codes()[0].tolist() == [1 * 7 + 5, 3 * 7 + 5, 5 * 7 + 3]
    hot = out.obs[0].reshape(3, 3, 7)
    assert hot.sum(-1).tolist() == [[1, 0, 1], [1, 1, 0], [1, 0, 1]]
    step(env, out, 0, 1, 2)
    assert out.reward[0].tolist() == [0.0] * 3
    assert out.terminated[0]
    out = begun(env, 0)
    for _ in range(25):
        assert not out.truncated[0]
        env.at[0] = 0
        step(env, out, 0, 0, 0)
    assert out.truncated[0]
    assert not out.terminated[0]


def test_a_blocker_keeps_one_agent_out() -> None:
    """It was below the agent before the agent moved, and follows it sideways."""
    env, out = blocker_at([[1, 1]], [1], width=3, height=3)
    step(env, out, 1)
    assert env.agents[0].tolist() == [[1, 1]]
    assert out.reward[0].tolist() == [-1]
    step(env, out, 0)
    assert env.agents[0].tolist() == [[2, 1]]
    assert env.blockers[0].tolist() == [1], "it goes by where the agent was"
    step(env, out, 1)
    assert env.blockers[0].tolist() == [2]
    assert env.agents[0].tolist() == [[2, 1]]
    assert not out.terminated[0]


def test_two_agents_pass_a_blocker() -> None:
    env, out = blocker_at([[0, 1], [2, 1]], [0], width=3, height=3)
    step(env, out, 1, 1)
    assert env.agents[0].tolist() == [[0, 1], [2, 2]], "one was barred, the other has passed"
    assert out.reward[0].tolist() == [1, 1]
    assert out.terminated[0]
    assert (env.codes()[0] < env.views.counts()).all()


def test_blockers_follow_the_lowest_then_the_nearest_in_their_zone() -> None:
    env, out = blocker_at([[3, 0], [0, 1], [2, 1]], [2], width=4, height=3)
    step(env, out, 3, 3, 3)
    assert env.blockers[0].tolist() == [2], "agent 2 is as low as agent 1, and nearer"
    env, out = blocker_at([[0, 0], [3, 1]], [1], width=4, height=3)
    step(env, out, 3, 3)
    assert env.blockers[0].tolist() == [2], "agent 1 is lower"
    # zones are columns 0-1 and 2-3: without an agent in its zone a blocker stays
    env, out = blocker_at([[0, 0], [0, 1]], [1, 2], width=4, height=3)
    step(env, out, 3, 3)
    assert env.blockers[0].tolist() == [0, 2]
    assert env.at[0, 0].tolist() == [0, 0, 0, 0, 0, 2]
    assert env.at[0, 1].tolist() == [0, 0, 0, 0, 0, 2]
