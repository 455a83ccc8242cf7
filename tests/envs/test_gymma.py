"""Gymnasium environments with list-like agents: padding, limits, and every mistake in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import make_info
from oamarl.envs.gymma.build import _LIFTED, gymma
from oamarl.envs.gymma.gymnasium import Gymma
from oamarl.envs.vector.make import make_vec
from oamarl.utils.errors import UserError

import toy_envs
import toy_gym
from run_tools import train

LBF = "lbforaging:Foraging-8x8-2p-3f-v3"
RAGGED = "toy_gym:ToyRagged-v0"


def start(env: Gymma, seed: int = 0) -> Arrays:
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(seed, out)
    return out


def test_ragged_agents_are_padded() -> None:
    env = gymma(RAGGED)
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
    env = gymma(RAGGED)
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
def test_time_limit_is_a_truncation(
    monkeypatch: pytest.MonkeyPatch, time_limit: int | None, ends: tuple, limit: int, flags: tuple
) -> None:
    """Packages that are known to pass their limit for a termination, as LBF and RWARE do."""
    monkeypatch.setattr("oamarl.envs.gymma.build._LIFTED", _LIFTED | {"toy_gym"})
    env = gymma(RAGGED, time_limit, ends=ends)
    assert env.info.episode_limit == limit
    out = start(env)
    for t in range(1, limit + 1):
        env.step(np.array([0, 0]), out)
        assert bool(out.terminated | out.truncated) == (t == limit)
    assert (bool(out.terminated), bool(out.truncated)) == flags


@pytest.mark.parametrize(("key", "limit"), [(LBF, 50), ("rware:rware-tiny-2ag-v2", 500)])
def test_real_environments_end_by_truncation(key: str, limit: int) -> None:
    env = gymma(key)
    assert env.info.episode_limit == limit
    out = start(env)
    for _ in range(limit):
        assert not (out.terminated | out.truncated)
        env.step(np.zeros(env.info.n_agents, np.int64), out)
    assert (bool(out.terminated), bool(out.truncated)) == (False, True)


def test_lbf_terminates_when_the_field_is_empty() -> None:
    env = gymma(LBF)
    out = start(env)
    env._env.unwrapped.field[:] = 0
    env.step(np.zeros(2, np.int64), out)
    assert (bool(out.terminated), bool(out.truncated)) == (True, False)
    assert out.agent_terminated.all()


def test_episodes_depend_on_the_seed_alone() -> None:
    env = gymma(LBF)
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
    env = gymma(LBF, max_num_food=1)
    start(env)
    assert (env._env.unwrapped.field > 0).sum() == 1


def test_continuous_actions_are_laid_out_over_the_environments_range() -> None:
    """-1 and 1 are the bounds; where a side is open, numbers are the environment's own."""
    env = gymma("toy_gym:ToyBoxes-v0")
    out = start(env)
    inf, info = float("inf"), env.info
    assert (info.continuous, info.n_actions, info.action_sizes) == (True, 3, (2, 3))
    assert info.action_low == ((-1.0, -1.0), (-1.0, 0.0, -inf))
    assert info.action_high == ((1.0, 1.0), (1.0, inf, inf))
    assert out.avail.tolist() == [[True, True, False], [True, True, True]]
    env.step(np.array([[-1.0, 0.5, 9.0], [1.0, 3.0, -7.5]], np.float32), out)
    first, second = env._env.unwrapped.taken
    assert (first.tolist(), first.dtype) == ([[-2.0], [4.0]], np.float64)
    assert (second.tolist(), second.dtype) == ([0.5, 3.0, -7.5], np.float32)
    env.step(np.zeros((2, 3), np.float32), out)
    assert out.alive.tolist() == [True, False]
    assert out.avail.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("algorithm", ["mappo", "oatrpo"])
def test_a_pendulum_is_played(algorithm: str, tmp_path: Path) -> None:
    run = train(tmp_path, algorithm, "gymma", {"key": "Pendulum-v1"}, t_max=800, test_nepisode=0)
    assert -2500 < run.last("return_mean") < -300


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "env_args.key is needed, such as"),
        ({"key": None}, "env_args.key is needed, such as"),
        ({"key": "lbforagin:Foraging-8x8-2p-3f-v3"}, "'lbforagin', which is missing; did you mean 'lbforaging'"),
        ({"key": "no_such_module_here:X-v0"}, "missing: install the package"),
        ({"key": "lbforaging:Foraging-8x8-2p-3f-v4"}, "did you mean 'lbforaging:Foraging-8x8-2p-3f-v3'"),
        ({"key": "Foraging-8x8-2p-3f-v9"}, "did you mean 'lbforaging:Foraging-8x8-2p-3f-v3'"),
        ({"key": "rware:rware-tiny-4ags-v2"}, "did you mean 'rware:rware-tiny-4ag-v2'"),
        ({"key": "toy_gym:ToyOne-v0"}, "no step limit of its own: set env_args.time_limit"),
        (
            {"key": "toy_gym:ToyMixed-v0"},
            "agent 0 has continuous actions .Box. and agent 1 Discrete; the agents' actions",
        ),
        ({"key": "toy_gym:ToyWholeNumbers-v0"}, "a Box of floating-point numbers, at least one, is needed"),
        ({"key": "toy_gym:ToyMany-v0"}, "10000 combinations, and at most 4096"),
        ({"key": "HalfCheetah-v99"}, "did you mean 'HalfCheetah-v5'"),
        ({"key": "toy_gym:RagedGym"}, "did you mean 'toy_gym:RaggedGym'"),
        ({"key": LBF, "time_limt": 50}, "did you mean 'time_limit'"),
        ({"key": LBF, "playrs": 3}, "did you mean 'players'"),
        ({"key": LBF, "max_episode_steps": 3}, "env_args.time_limit"),
        ({"key": LBF, "players": "many"}, "int is expected"),
        ({"key": LBF, "players": 0}, "could not be made"),
        ({"key": LBF, "time_limit": 0}, "at least 1"),
        ({"key": LBF, "pretrained_wrapper": "PretrainedTag"}, "only null"),
        ({"key": "matrixgames:climbing-nostate"}, "did you mean 'matrixgames:climbing-nostate-v0'"),
        ({"key": "matrixgames:penalty-25-nostate-v1"}, "did you mean 'matrixgames:penalty-25-nostate-v0'"),
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
    env = gymma(RAGGED, size=6)
    with pytest.raises(ValueError, match="agent 0 sees 6 numbers"):
        start(env)


def test_one_agent_with_combined_actions_and_masks() -> None:
    env = gymma("toy_gym:ToyCorridor-v0", 100)
    info = env.info
    assert (info.n_agents, info.obs_sizes, info.action_sizes, info.episode_limit) == (1, (6,), (6,), 7)
    out = start(env)
    assert out.obs[0, :4].tolist() == [1, 0, 0, 0]
    assert out.avail.tolist() == [[True, True, False, False, False, False]]  # the first choice 0, the second 0 or 1
    env.step(np.array([4]), out)
    assert toy_gym.Corridor.seen[-1].tolist() == [1, 0]  # the last choice counts fastest; the second starts at -1
    assert (out.obs[0, :4].tolist(), out.reward.tolist()) == ([0, 1, 0, 0], [1.0])
    env.step(np.array([3]), out)
    env.step(np.array([5]), out)
    assert (bool(out.terminated), out.agent_terminated.tolist(), out.alive.tolist()) == (True, [True], [False])


@pytest.mark.parametrize(("mask", "legal"), [("whole", [0, 1]), ("none", [0, 1, 2, 3, 4, 5])])
def test_other_masks(mask: str, legal: list[int]) -> None:
    out = start(gymma("toy_gym:ToyCorridor-v0", mask=mask))
    assert np.flatnonzero(out.avail[0]).tolist() == legal


def test_a_mask_of_another_size_is_told() -> None:
    with pytest.raises(ValueError, match="agent 0 has 6 actions, and its action mask 5 entries"):
        start(gymma("toy_gym:ToyCorridor-v0", mask="short"))


def test_a_class_that_nobody_registered() -> None:
    env = gymma("toy_gym:Corridor", 4)
    out = start(env)
    for _ in range(4):
        env.step(np.array([0]), out)
    assert (bool(out.terminated), bool(out.truncated), env.info.episode_limit) == (False, True, 4)


def test_one_reward_for_all_and_agents_cut_one_by_one() -> None:
    env = gymma("toy_gym:ToyOneReward-v0", team_reward=True)
    out = start(env)
    for t in range(1, 4):
        env.step(np.array([0, 0]), out)
        assert out.reward.tolist() == [2.5, 2.5]
        assert bool(out.truncated) == (t == 3)
    assert env.info.team_reward
    assert not out.agent_terminated.any()
    plain = gymma("toy_gym:ToyOneReward-v0")
    out = start(plain)
    with pytest.raises(ValueError, match=r"1 rewards came for 2 agents; env_args\.team_reward=True"):
        plain.step(np.array([0, 0]), out)


def test_the_limit_of_other_packages_is_left_alone() -> None:
    env = gymma("toy_gym:ToyClock-v0", 100)
    out = start(env)
    env.step(np.array([0, 0]), out)
    assert out.obs[0, 0] == pytest.approx(1 / 8)
    assert gymma("toy_gym:ToyClock-v0").info.episode_limit == 8


def test_lbf_forgets_the_episode_before() -> None:
    """LBF itself keeps its players away from where the last episode's stood."""
    env = gymma(LBF)
    first = start(env, 5).obs.copy()
    players = env._env.unwrapped.players
    start(env, 6)
    players[1].position = tuple(int(x) for x in first[0, -6:-4])  # where the first player of seed 5 starts
    assert (start(env, 5).obs == first).all()


def test_a_gymnasium_class_as_env_is_told_where_to_go() -> None:
    with pytest.raises(UserError, match=r"use --env-config=gymma with env_args\.key=toy_gym:Corridor"):
        make_info("toy_gym:Corridor", {})
    with pytest.raises(UserError, match="makes a Thing without an EnvInfo"):
        make_info("toy_zoo:Thing", {})


def test_classes_that_only_look_like_gymnasiums_are_played(tmp_path: Path) -> None:
    """They derive from nothing, so that they have neither `unwrapped` nor close()."""
    run = train(tmp_path, "ippo", "gymma", {"key": "toy_gym:Lookalike", "time_limit": 9}, t_max=40, epochs=1)
    assert run.last("ep_length_mean") == 4
    assert run.last("return_mean") == 8


@pytest.mark.parametrize("lacking", ["close", "reset", "step"])
def test_an_environment_of_ones_own_that_lacks_a_method(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_envs.Ragged, lacking, None, raising=False)
    with pytest.raises(UserError, match=rf"an environment \(Ragged\) without {lacking}: reset\(seed, out\)"):
        make_info("toy_envs:Ragged", {})


@pytest.mark.parametrize(
    ("key", "shape", "more"),
    [
        ("rware:rware-tiny-2ag-v2", (5, 3, 3), {"observation_type": "IMAGE"}),
        ("rware:rware-tiny-2ag-v2", None, {}),
        (RAGGED, None, {}),
        ("toy_gym:ToyOne-v0", None, {"time_limit": 3}),
    ],
)
def test_observations_that_are_images_have_a_shape(key: str, shape: tuple[int, ...] | None, more: dict) -> None:
    info = make_info("gymma", {"key": key, **more})
    assert info.obs_shape == shape
    assert shape is None or np.prod(shape) == info.obs_size
