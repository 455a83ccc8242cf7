"""Copies of an environment of one agent: what each sees, ends, and that each is the environment itself."""

from __future__ import annotations

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.gymma import gymma
from oamarl.utils.errors import UserError

import toy_gym  # noqa: F401


def start(env: object, seed: int = 3) -> Arrays:
    out = Arrays.allocate(env.info, 1).slot(0)  # type: ignore[attr-defined]
    env.reset(seed, out)  # type: ignore[attr-defined]
    return out


def test_each_copy_is_the_environment_itself() -> None:
    """With the same seed and actions; and the copies' seeds differ, and follow from the episode's."""
    env, one = gymma("CartPole-v1", copies=3), gymma("CartPole-v1")
    out = start(env)
    assert (env.info.n_agents, env.info.state_size, env.info.action_sizes) == (3, 12, (2, 2, 2))
    assert len({tuple(row) for row in out.obs.tolist()}) == 3
    assert np.array_equal(start(env).obs, out.obs)
    own = start(one, int(np.random.SeedSequence(3).generate_state(3)[1]))
    for t in range(20):
        assert np.array_equal(out.obs[1], own.obs[0])
        assert np.array_equal(out.state, out.obs.ravel())
        env.step(np.array([0, t % 2, 1]), out)
        one.step(np.array([t % 2]), own)


def test_one_that_has_ended_waits_for_the_others() -> None:
    """Pushed one way only, a cart's pole falls after about ten steps; balanced by turns it stays longer."""
    env = gymma("CartPole-v1", copies=2)
    out = start(env)
    fallen = None
    for t in range(60):
        env.step(np.array([0, t % 2]), out)
        if fallen is not None:
            assert out.reward.tolist() == [0.0, 1.0]
            assert np.array_equal(out.obs[0], fallen)
            assert out.avail.tolist() == [[True, False], [True, True]] or out.agent_terminated[1]
        elif out.agent_terminated[0]:
            fallen = out.obs[0].copy()
            assert out.alive.tolist() == [False, True]
            assert not out.terminated
        if out.terminated:
            break
    assert fallen is not None
    assert out.agent_terminated.all()
    assert not out.truncated


def test_a_limit_truncates_all() -> None:
    env = gymma("CartPole-v1", time_limit=12, copies=2)
    out = start(env)
    for t in range(12):
        assert not out.truncated
        env.step(np.array([0, t % 2]), out)
    assert bool(out.truncated)
    assert not out.terminated
    assert out.agent_terminated.tolist() == [True, False]


@pytest.mark.parametrize("key", ["toy_gym:ToyRagged-v0", "matrixgames:climbing-nostate-v0"])
def test_several_agents_are_not_copied(key: str) -> None:
    with pytest.raises(UserError, match=r"copies=2 repeats an environment of one agent.*has 2"):
        gymma(key, copies=2)
    with pytest.raises(UserError, match="copies=0"):
        gymma(key, copies=0)
