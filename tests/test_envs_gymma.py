"""Gymnasium environments with list-like agents: padding, limits, and every mistake in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from oamarl.components.errors import UserError
from oamarl.envs.base import Arrays
from oamarl.envs.gymma import Gymma
from oamarl.envs.vec import make_info, make_vec

import toy_gym

LBF = "lbforaging:Foraging-8x8-2p-3f-v3"
RAGGED = "toy_gym:ToyRagged-v0"


def start(env: Gymma, seed: int = 0) -> Arrays:
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(seed, out)
    return out


def test_ragged_agents_are_padded() -> None:
    env = Gymma(RAGGED)
    info = env.info
    assert (info.obs_sizes, info.action_sizes, info.obs_size, info.n_actions) == ((4, 3), (2, 3), 4, 3)
    assert info.agents_match().tolist() == [[True, False], [False, True]]
    out = start(env)
    assert out.avail.tolist() == [[True, True, False], [True, True, True]]
    env.step(np.array([1, 2]), out)
    assert toy_gym.RaggedGym.seen[-1] == [1, 3]  # the second agent's actions start at 1
    assert out.obs.tolist() == [pytest.approx([0.1] * 4), [0, 1, 0, 0]]
    assert out.state.tolist() == pytest.approx([0.1] * 4 + [0, 1, 0, 0])
    assert out.reward.tolist() == [1.5, 2.0]
    with pytest.raises(ValueError, match="agent 0 has no action 2"):
        env.step(np.array([2, 0]), out)


def test_agents_that_end_early() -> None:
    env = Gymma(RAGGED)
    out = start(env)
    for t in range(1, 5):
        env.step(np.array([0, 0]), out)
        assert out.agent_terminated.tolist() == [t >= 2, t >= 4]
        assert out.alive.tolist() == [t < 2, t < 4]
        assert out.avail[0].sum() == (2 if t < 2 else 1)
        assert (bool(out.terminated), bool(out.truncated)) == (t == 4, False)
    env.reset(1, out)
    assert out.alive.all()
    assert not out.agent_terminated.any()
    assert out.avail[0].sum() == 2


@pytest.mark.parametrize(
    ("time_limit", "ends", "limit", "flags"),
    [
        (None, (99, 99), 8, (False, True)),  # the environment's own limit, reported by it as a termination
        (3, (99, 99), 3, (False, True)),
        (20, (99, 99), 8, (False, True)),
        (4, (2, 4), 4, (True, False)),  # the limit and a real end at one step
        (3, (2, 4), 3, (False, True)),
    ],
)
def test_time_limit_is_a_truncation(time_limit: int | None, ends: tuple, limit: int, flags: tuple) -> None:
    env = Gymma(RAGGED, time_limit, ends=ends)
    assert env.info.episode_limit == limit
    out = start(env)
    for t in range(1, limit + 1):
        env.step(np.array([0, 0]), out)
        assert bool(out.terminated | out.truncated) == (t == limit)
    assert (bool(out.terminated), bool(out.truncated)) == flags


@pytest.mark.parametrize(("key", "limit"), [(LBF, 50), ("rware:rware-tiny-2ag-v2", 500)])
def test_real_environments_end_by_truncation(key: str, limit: int) -> None:
    env = Gymma(key)
    assert env.info.episode_limit == limit
    out = start(env)
    for _ in range(limit):
        assert not (out.terminated | out.truncated)
        env.step(np.zeros(env.info.n_agents, np.int64), out)
    assert (bool(out.terminated), bool(out.truncated)) == (False, True)


def test_lbf_terminates_when_the_field_is_empty() -> None:
    env = Gymma(LBF)
    out = start(env)
    env._env.unwrapped.field[:] = 0
    env.step(np.zeros(2, np.int64), out)
    assert (bool(out.terminated), bool(out.truncated)) == (True, False)
    assert out.agent_terminated.all()


def test_episodes_depend_on_the_seed_alone() -> None:
    env = Gymma(LBF)
    first, other = start(env, 5), start(env, 6)
    assert (first.obs != other.obs).any()
    env.step(np.array([1, 2]), other)
    again = start(env, 5)
    assert (first.obs == again.obs).all()
    assert (first.state == first.obs.ravel()).all()
    assert first.obs.dtype == np.float32


def test_lbf_beyond_the_registered_ids() -> None:
    import gymnasium

    info = make_info("gymma", {"key": "lbforaging:Foraging-2s-15x15-4p-5f-coop-v3"})
    made = gymnasium.spec("Foraging-2s-15x15-4p-5f-coop-v3").kwargs
    close = gymnasium.spec("Foraging-2s-15x15-4p-4f-coop-v3").kwargs
    assert made == {**close, "max_num_food": 5}
    assert (info.n_agents, info.obs_size) == (4, 27)
    full = make_info("gymma", {"key": "lbforaging:Foraging-15x15-4p-5f-v3"})
    assert full.n_agents == 4
    made = gymnasium.spec("Foraging-15x15-4p-5f-v3").kwargs
    assert made == {**gymnasium.spec("Foraging-15x15-4p-4f-v3").kwargs, "max_num_food": 5}


def test_further_arguments_reach_the_environment() -> None:
    env = Gymma(LBF, max_num_food=1)
    start(env)
    assert (env._env.unwrapped.field > 0).sum() == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "needs env_args.key"),
        ({"key": None}, "str is expected"),
        ({"key": "lbforagin:Foraging-8x8-2p-3f-v3"}, "'lbforagin', which is missing; did you mean 'lbforaging'"),
        ({"key": "no_such_module_here:X-v0"}, "missing: install the package"),
        ({"key": "lbforaging:Foraging-8x8-2p-3f-v4"}, "did you mean 'lbforaging:Foraging-8x8-2p-3f-v3'"),
        ({"key": "Foraging-8x8-2p-3f-v9"}, "did you mean 'lbforaging:Foraging-8x8-2p-3f-v3'"),
        ({"key": "rware:rware-tiny-4ags-v2"}, "did you mean 'rware:rware-tiny-4ag-v2'"),
        ({"key": "toy_gym:ToyOne-v0"}, "not multi-agent"),
        ({"key": "rware:rware-tiny-4ag-v2", "msg_bits": 2}, "only Discrete is supported"),
        ({"key": LBF, "time_limt": 50}, "did you mean 'time_limit'"),
        ({"key": LBF, "playrs": 3}, "did you mean 'players'"),
        ({"key": LBF, "max_episode_steps": 3}, "env_args.time_limit"),
        ({"key": LBF, "players": "many"}, "could not be made"),
        ({"key": LBF, "time_limit": 0}, "at least 1"),
        ({"key": LBF, "pretrained_wrapper": "PretrainedTag"}, "only null"),
    ],
)
def test_mistakes_are_told(args: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_vec("gymma", args, 1)


def test_a_missing_known_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rware", None)
    with pytest.raises(UserError, match="pip install rware"):
        make_info("gymma", {"key": "rware:rware-tiny-4ag-v2"})


def test_an_observation_of_another_size_is_told() -> None:
    env = Gymma(RAGGED, size=6)
    with pytest.raises(ValueError, match="agent 0 sees 6 numbers"):
        start(env)
