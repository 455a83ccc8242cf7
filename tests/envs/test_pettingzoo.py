"""PettingZoo environments: who is there, how each agent ends, what is padded and masked, and EPyMARL's ids."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import make_info
from oamarl.envs.gymma import gymma
from oamarl.envs.gymma.pettingzoo import PettingZoo
from oamarl.envs.vector.make import make_vec
from oamarl.utils.errors import UserError

LEAVING = "toy_zoo:Leaving"
FIELDS = ("obs", "state", "avail", "reward", "terminated", "truncated", "agent_terminated", "alive")


def start(key: str = LEAVING, time_limit: int | None = 9, seed: int = 0, **more: Any) -> tuple[PettingZoo, Arrays]:
    env = gymma(key, time_limit, **more)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(seed, out)
    assert isinstance(env, PettingZoo)
    return env, out


def test_sizes_masks_and_actions_of_unlike_agents() -> None:
    env, out = start()
    i = env.info
    assert (i.obs_sizes, i.action_sizes) == ((2, 3, 5), (3, 4, 2))
    assert (i.n_agents, i.obs_size, i.n_actions, i.state_size, i.episode_limit) == (3, 5, 4, 4, 9)
    # from the info, from inside the observation, and from nowhere
    assert out.avail.tolist() == [[False, True, True, False], [True, False, False, True], [True, True, False, False]]
    env.step(np.array([2, 3, 1]), out)
    acted = env._env.acted[-1]
    assert (acted["a"], acted["b"].tolist(), acted["c"]) == (2, [1, 1], 2)
    assert out.obs.tolist() == [[1.5, 1.5, 0, 0, 0], [-1, -1, -1, 0, 0], [0, 1, 0, 0, 0]]
    assert out.state.tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="agent c has no action 2"):
        env.step(np.array([0, 0, 2]), out)


def test_agents_that_leave_early() -> None:
    env, out = start()
    shown = []
    while not (out.terminated or out.truncated):
        env.step(np.zeros(3, np.int64) + out.avail.argmax(-1), out)
        shown.append(
            (out.alive.tolist(), out.agent_terminated.tolist(), out.reward.tolist(), out.avail.sum(-1).tolist())
        )
    none = [False, False, False]
    assert shown == [
        ([True, True, True], none, [1, 1, 1], [2, 2, 2]),
        ([False, True, True], [True, False, False], [2, 2, 2], [1, 2, 2]),  # a ended by the rules
        ([False, False, True], [True, False, False], [0, 3, 3], [1, 1, 2]),  # b was cut off: not terminated
        ([False, False, True], [True, False, False], [0, 0, 4], [1, 1, 2]),
        (none, [True, False, True], [0, 0, 5], [1, 1, 1]),
    ]
    # one of them was cut off: the episode is a truncation; the last observations and state stay
    assert (bool(out.terminated), bool(out.truncated)) == (False, True)
    assert out.obs[0, 0] == 2.5
    assert out.obs[1, 0] == -3
    assert out.state[0] == 4
    assert [sorted(a) for a in env._env.acted] == [["a", "b", "c"], ["a", "b", "c"], ["b", "c"], ["c"], ["c"]]
    env.reset(1, out)
    assert out.alive.all()
    assert not any(f.any() for f in (out.agent_terminated, out.terminated, out.truncated, out.reward))


@pytest.mark.parametrize(
    ("how", "time_limit", "steps", "flags"),
    [
        (("terminated", "terminated", "terminated"), 9, 5, (True, False)),
        (("gone", "terminated", "gone"), 9, 5, (True, False)),  # not in the agents any more, and no flag said why
        (("truncated", "truncated", "truncated"), 9, 5, (False, True)),
        (("terminated", "terminated", "terminated"), 5, 5, (True, False)),  # the limit and a real end at one step
        (("terminated", "terminated", "terminated"), 4, 4, (False, True)),
    ],
)
def test_how_an_episode_ends(how: tuple, time_limit: int, steps: int, flags: tuple) -> None:
    plan = {a: [t, h] for a, t, h in zip("abc", (2, 3, 5), how, strict=True)}
    env, out = start(time_limit=time_limit, plan=plan)
    for _ in range(steps):
        assert not out.terminated | out.truncated
        env.step(out.avail.argmax(-1), out)
    assert (bool(out.terminated), bool(out.truncated)) == flags


def test_an_agent_that_comes_later() -> None:
    env, out = start(comes=2)
    assert out.alive.tolist() == [True, False, True]
    assert out.avail[1].tolist() == [True, False, False, False]
    assert not out.obs[1].any()
    env.step(out.avail.argmax(-1), out)
    env.step(out.avail.argmax(-1), out)
    assert out.alive.tolist() == [False, True, True]
    assert out.obs[1, 0] == -2
    # it never came: it does not make the episode a truncation
    env, out = start(comes=100)
    while not (out.terminated or out.truncated):
        env.step(out.avail.argmax(-1), out)
    assert (bool(out.terminated), out.agent_terminated.tolist()) == (True, [True, False, True])


def test_without_a_state_of_its_own() -> None:
    env, out = start(own_state=False)
    assert env.info.state_size == 15
    assert (out.state == out.obs.ravel()).all()


def test_continuous_actions_of_mpe() -> None:
    """Five numbers between 0 and 1 for each agent; -1 is 0 there."""
    pytest.importorskip("mpe2")
    vec = make_vec("gymma", {"key": "pz-mpe-simple-spread-v3", "continuous_actions": True}, 1)
    try:
        info = vec.info
        assert (info.n_agents, info.action_sizes) == (3, (5, 5, 5))
        assert (info.action_low[0], info.action_high[0]) == ((-1.0,) * 5, (1.0,) * 5)
        vec.reset(np.array([0]), np.array([3]))
        before = vec.arrays.obs[0, :, :2].copy()  # velocities, 0 at first
        vec.step(np.full((1, 3, 5), -1.0, np.float32), np.array([True]))
        assert (np.abs(vec.arrays.obs[0, :, :2] - before) < 1e-4).all(), "no force"
        moved = np.full((1, 3, 5), -1.0, np.float32)
        moved[..., 1] = 1.0
        vec.step(moved, np.array([True]))
        assert (np.abs(vec.arrays.obs[0, :, :2] - before).max(1) > 0.1).all()
    finally:
        vec.close()


@pytest.mark.parametrize(
    ("key", "args", "says"),
    [
        ("toy_zoo:Turns", {"time_limit": 3}, "act in turn"),
        ("toy_zoo:Nobody", {"time_limit": 3}, "does not say its possible_agents"),
        ("toy_zoo:Thing", {}, "neither a Gymnasium nor a PettingZoo"),
        ("toy_zoo:Levaing", {}, "did you mean 'toy_zoo:Leaving'"),
        (LEAVING, {}, "set env_args.time_limit"),
        (LEAVING, {"time_limit": 3, "plans": 1}, "env_args.plans is not an argument.*did you mean 'plan'"),
        ("pz-mpe-simple-sprad-v3", {}, "did you mean 'pz-mpe-simple-spread-v3'"),
        ("pz-mpe-simple-spread-v2", {}, "did you mean 'pz-mpe-simple-spread-v3'"),
        ("pz-nothing-here-v1", {}, "no family 'nothing' here: use .*mpe"),
        ("pz-mpe", {}, "not of the form pz-<family>-<name>"),
        ("mpe2.simple_spred_v3:parallel_env", {}, "did you mean 'simple_spread_v3'"),
    ],
)
def test_mistakes_are_told(key: str, args: dict, says: str) -> None:
    pytest.importorskip("mpe2")
    with pytest.raises(UserError, match=says) as caught:
        make_vec("gymma", {"key": key, **args}, 1)
    assert "\n" not in str(caught.value)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in ("mpe2", "pettingzoo") else found(n))
    with pytest.raises(UserError, match="run `pip install pettingzoo mpe2`"):
        make_info("gymma", {"key": "pz-mpe-simple-spread-v3"})


@pytest.mark.parametrize(
    ("key", "n", "obs", "actions"),
    [
        ("pz-mpe-simple-spread-v3", 3, (18, 18, 18), (5, 5, 5)),
        ("pz-mpe-simple-speaker-listener-v4", 2, (3, 11), (3, 5)),
        ("mpe2.simple_tag_v3:parallel_env", 4, (16, 16, 16, 14), (5, 5, 5, 5)),
        ("mpe2.simple_tag_v3:env", 4, (16, 16, 16, 14), (5, 5, 5, 5)),  # agents in turn, converted
    ],
)
def test_real_ones(key: str, n: int, obs: tuple, actions: tuple) -> None:
    pytest.importorskip("mpe2")
    env, out = start(key, 100)
    i = env.info
    assert (i.n_agents, i.obs_sizes, i.action_sizes, i.episode_limit, i.state_size) == (n, obs, actions, 25, sum(obs))
    for t in range(25):
        assert not out.terminated | out.truncated, t
        env.step(np.ones(n, np.int64), out)
    assert (bool(out.terminated), bool(out.truncated)) == (False, True)
    assert not out.agent_terminated.any()
    first = out.obs.copy()
    env.reset(0, out)
    for _ in range(25):
        env.step(np.ones(n, np.int64), out)
    assert (out.obs == first).all()
    env.close()


@pytest.mark.parametrize(
    ("key", "module", "n", "obs", "actions"),
    [
        ("pz-sisl-pursuit-v5", "scipy", 8, (7, 7, 3), 5),
        ("pz-sisl-multiwalker-v9", "Box2D", 3, None, 4),
        ("pz-butterfly-knights-archers-zombies-v11", "pymunk", 4, (27, 5), 6),
    ],
)
def test_families_beyond_mpe(key: str, module: str, n: int, obs: tuple | None, actions: int) -> None:
    pytest.importorskip("pettingzoo.env_registry")  # 1.27
    pytest.importorskip(module)
    pytest.importorskip("pygame")
    env, out = start(key, 3)
    assert (env.info.n_agents, env.info.obs_shape, env.info.n_actions) == (n, obs, actions)
    assert env.info.continuous == (module == "Box2D")
    seen = []
    for seed in (3, 4, 3):
        env.reset(seed, out)
        for _ in range(3):
            env.step(np.ones((n, 4), np.float32) / 2 if env.info.continuous else np.ones(n, np.int64), out)
        assert (bool(out.terminated), bool(out.truncated)) == (False, True)
        seen.append(np.append(out.obs, out.state))
    assert (seen[0] == seen[2]).all()
    env.close()


@pytest.mark.parametrize("family", ["sisl", "butterfly"])
def test_a_family_says_what_installs_it(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pettingzoo.env_registry")
    key, module = {
        "sisl": ("pz-sisl-multiwalker-v9", "Box2D"), "butterfly": ("pz-butterfly-pistonball-v6", "pymunk"),
    }[family]  # fmt: skip
    for name in [n for n in sys.modules if n.startswith(f"pettingzoo.{family}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    says = rf"module '{module}', which is missing: run `pip install 'pettingzoo\[{family}\]'`"
    with pytest.raises(UserError, match=says):
        make_info("gymma", {"key": key})


def played(backend: str, workers: int, key: str, n: int = 3, **args: Any) -> list[np.ndarray]:
    vec = make_vec("gymma", {"key": key, "time_limit": 6, **args}, n, backend=backend, workers=workers)
    rng, a, shown = np.random.default_rng(0), vec.arrays, []
    try:
        for episode in range(2):
            vec.reset(np.arange(n), np.arange(n) + 10 * episode)
            while (active := ~(a.terminated | a.truncated)).any():
                scores = rng.random(a.avail.shape)
                vec.step(np.where(a.avail, scores, -1).argmax(-1), active)
                shown += [getattr(a, f).copy() for f in FIELDS]
    finally:
        vec.close()
    return shown


def test_backends_are_equal_also_with_global_generators() -> None:
    key = "toy_zoo:Dicey"
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    alone = played("serial", 1, key, global_random=True)
    for other in (played("serial", 1, key, global_random=True), played("process", 2, key, global_random=True)):
        for x, y in zip(alone, other, strict=True):
            np.testing.assert_array_equal(x, y)
    assert np.random.get_state()[1].tolist() == before  # no other draws were disturbed
    rewards = alone[FIELDS.index("reward")]
    assert len(np.unique(rewards[rewards != 0])) == np.count_nonzero(rewards)
    # without it, slots share draws, and the numbers go their own ways
    assert any((x != y).any() for x, y in zip(played("serial", 1, key), played("serial", 1, key), strict=True))
