"""Multi-Agent MuJoCo: splits, views, rewards and ends against Gymnasium's tasks and Gymnasium-Robotics."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import EnvError, make_env
from oamarl.envs.mamujoco import start
from oamarl.envs.mamujoco.robots import ROBOTS, find_robot, find_split
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vector.playing import within_bounds
from oamarl.utils.errors import UserError

SPLITS = [
    *(("Ant", conf) for conf in ("2x4", "2x4d", "4x2", "8x1", "1x8")),
    *(("HalfCheetah", conf) for conf in ("2x3", "3x2", "6x1", "4|2")),
    *(("Walker2d", conf) for conf in ("2x3", "3x2", "6x1")),
    *((robot, conf) for robot in ("Humanoid", "HumanoidStandup") for conf in ("17x1", "9|8")),
    *(("ManySegmentSwimmer", conf) for conf in ("10x2", "2x3")),
    ("Swimmer", "2x1"),
    ("Hopper", "3x1"),
]


@pytest.fixture
def mujoco() -> Iterator[Any]:
    """MuJoCo, and the package with which Gymnasium's tasks need it; its warnings make no files."""
    pytest.importorskip("imageio")
    module: Any = pytest.importorskip("mujoco")
    before = module.get_mju_user_warning()
    module.set_mju_user_warning(lambda text: None)
    yield module
    module.set_mju_user_warning(before)


def built(seed: int = 3, **args: Any) -> tuple[Any, Arrays]:
    env: Any = make_env("mamujoco", args)
    out = Arrays.allocate(env.info, 1).slot(0)
    env.reset(seed, out)
    return env, out


def drawn(env: Any, rng: np.random.Generator, bound: float = 1.2) -> np.ndarray:
    """Actions of all agents, some of them beyond their bounds."""
    actions = rng.uniform(-bound, bound, (env.info.n_agents, env.info.n_actions)).astype(np.float32)
    return np.where(np.arange(env.info.n_actions) < np.array(env.info.action_sizes)[:, None], actions, 0)


@pytest.mark.parametrize(
    ("robot", "conf", "split"),
    [
        ("HalfCheetah", "2x3", ((0, 1, 2), (3, 4, 5))),
        ("HalfCheetah", "3x2", ((0, 1), (2, 3), (4, 5))),
        ("HalfCheetah", "4|2", ((0, 1, 2, 3), (4, 5))),
        ("Hopper", None, ((0,), (1,), (2,))),
        ("Walker2d", "2x3", ((2, 1, 0), (5, 4, 3))),
        ("Walker2d", "3x2", ((0, 1), (2, 3), (4, 5))),
        # hips and ankles: 4, 1, 2, 3
        ("Ant", "2x4", ((2, 3, 4, 5), (6, 7, 0, 1))),
        ("Ant", "2x4d", ((2, 3, 0, 1), (4, 5, 6, 7))),
        ("Ant", None, ((2, 3), (4, 5), (6, 7), (0, 1))),
        ("Ant", "8x1", tuple((i,) for i in range(8))),
        # abdomen y, z, x; right hip x, z, y, knee; left ones; arms
        ("Humanoid", "9|8", ((2, 0, 1, 11, 12, 13, 14, 15, 16), (3, 5, 4, 6, 7, 9, 8, 10))),
        ("HumanoidStandup", None, tuple((i,) for i in range(17))),
        ("ManySegmentSwimmer", "2x3", ((0, 1, 2), (3, 4, 5))),
    ],
)
def test_who_moves_what(robot: str, conf: str | None, split: Any) -> None:
    assert find_split(robot, conf)[1] == split
    assert find_split(robot, conf)[0] == (conf or ROBOTS[robot].usual)
    assert sorted(j for joints in split for j in joints) == list(range(sum(map(len, split))))


@pytest.mark.parametrize(
    ("robot", "conf", "says"),
    [
        ("Hoper", None, "did you mean 'Hopper'?"),
        ("Ant-v2", None, "use env_args.scenario=Ant (and env_args.task_version=v5 or v4)"),
        ("Hopper", "2x3", "is not a split of the 3 joints of Hopper: use 1x3 or 3x1, or sizes that add up to 3"),
        ("Ant", "2x5", "use 2x4, 2x4d, 4x2, 1x8 or 8x1"),
        ("Walker2d", "2 x 3", "did you mean '2x3'?"),
        ("Swimmer", "10x2", "scenario=ManySegmentSwimmer has as many joints as its split"),
        ("ManySegmentSwimmer", "60x2", "of 2 to 100 joints in all"),
    ],
)
def test_what_there_is_not(robot: str, conf: str | None, says: str) -> None:
    with pytest.raises(UserError) as error:
        find_split(find_robot(robot)[0], conf)
    assert says in str(error.value)


def test_walker_is_what_papers_call_walker2d() -> None:
    assert find_robot("Walker") == ("Walker2d", ROBOTS["Walker2d"])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"observe": "obks"}, "env_args.observe='obks' is not known: use full or obsk; did you mean 'obsk'?"),
        ({"agent_obsk": -1}, "env_args.agent_obsk=-1 is out of range: at least 0 is allowed."),
        ({"time_limit": 0}, "env_args.time_limit=0 is out of range: at least 1 is allowed."),
        ({"task_version": "v3"}, "env_args.task_version='v3' is not known: use v5 or v4"),
        (
            {"scenario": "ManySegmentSwimmer", "task_version": "v4"},
            "env_args.task_version=v4 has no ManySegmentSwimmer",
        ),
    ],
)
def test_wrong_values(args: dict, says: str) -> None:
    with pytest.raises(UserError) as error:
        make_env("mamujoco", args)
    assert says in str(error.value)


def test_without_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(start, "importlib", types.SimpleNamespace(import_module=missing))
    with pytest.raises(UserError) as error:
        make_env("mamujoco", {})
    assert str(error.value) == (
        "mamujoco needs the Python package 'mujoco', which is not installed: run `pip install -e '.[mamujoco]'`."
    )


@pytest.mark.parametrize(("scenario", "conf"), SPLITS)
@pytest.mark.parametrize("observe", ["full", "obsk"])
@pytest.mark.usefixtures("mujoco")
def test_every_split_is_stepped(scenario: str, conf: str, observe: str) -> None:
    env, out = built(scenario=scenario, agent_conf=conf, observe=observe)
    info, rng = env.info, np.random.default_rng(0)
    assert info.n_agents == len(env.split) == len(info.action_sizes)
    assert (out.avail.sum(1) == info.action_sizes).all()
    for _ in range(3):
        env.step(drawn(env, rng), out)
        assert np.isfinite(out.obs).all()
        assert np.isfinite(out.state).all()
        for row, size in zip(out.obs, info.obs_sizes, strict=True):
            assert (row[size:] == 0).all()
    assert (out.reward == out.reward[0]).all()
    env.close()


@pytest.mark.usefixtures("mujoco")
def test_the_view_of_the_papers() -> None:
    """The whole observation and the agent's one-hot number, less the mean, divided by the standard deviation."""
    env, out = built(scenario="Hopper")
    raw, plain = built(scenario="Hopper", standardise=False)
    for _ in range(3):
        state = plain.state.astype(np.float64)
        assert out.state == pytest.approx((state - state.mean()) / state.std(), rel=1e-4, abs=1e-5)
        for i in range(3):
            own = np.concatenate([state, np.eye(3)[i]])
            assert plain.obs[i] == pytest.approx(own)
            assert out.obs[i] == pytest.approx((own - own.mean()) / own.std(), rel=1e-4, abs=1e-5)
        for one, shown in ((env, out), (raw, plain)):
            one.step(np.full((3, 1), 0.3, np.float32), shown)


@pytest.mark.parametrize(
    ("scenario", "version"), [("Hopper", "v5"), ("HalfCheetah", "v4"), ("Humanoid", "v5"), ("Ant", "v4")]
)
@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.usefixtures("mujoco")
def test_the_tasks_own_rewards_and_ends(scenario: str, version: str) -> None:
    """Bit for bit those of Gymnasium's single agent, also for actions beyond the motors' range."""
    gymnasium = importlib.import_module("gymnasium")
    env, out = built(scenario=scenario, task_version=version, time_limit=60)
    single = gymnasium.make(f"{scenario}-{version}").unwrapped
    single.reset(seed=3)
    high, rng = single.model.actuator_ctrlrange[:, 1], np.random.default_rng(1)
    for step in range(1, 61):
        actions = drawn(env, rng)
        asked = np.zeros(len(high))
        for i, joints in enumerate(env.split):
            asked[list(joints)] = actions[i, : len(joints)]
        seen, reward, fell, _, _ = single.step(asked * high)
        env.step(actions, out)
        assert out.reward.tolist() == [np.float32(reward)] * env.info.n_agents
        assert (bool(out.terminated), bool(out.truncated)) == (bool(fell), step == 60 and not fell)
        assert out.metrics[0] == np.float32(single.data.qpos[0])
        mean, std = seen.mean(), seen.std()
        assert out.state == pytest.approx((seen - mean) / std, rel=1e-4, abs=1e-5)
        if fell:
            assert out.agent_terminated.all()
            break
    assert out.terminated | out.truncated


@pytest.mark.parametrize(
    ("scenario", "version"),
    [(name, v) for name in ("HalfCheetah", "Hopper", "Walker2d", "Swimmer") for v in ("v5", "v4")]
    + [("ManySegmentSwimmer", "v5")],
)
@pytest.mark.usefixtures("mujoco")
def test_quick_steps_are_gymnasiums(scenario: str, version: str) -> None:
    """All fields, bit for bit, over several episodes."""
    both = [built(scenario=scenario, task_version=version, quick=q, time_limit=80) for q in (True, False)]
    assert [env.body.rules is None for env, _ in both] == [False, True]
    rng, ends = np.random.default_rng(2), set()
    for seed in range(4):
        for env, out in both:
            env.reset(seed, out)
        while not (both[0][1].terminated | both[0][1].truncated):
            actions = drawn(both[0][0], rng, 1.2 if seed else 0.3)
            for env, out in both:
                env.step(actions, out)
            for name, ours in both[0][1].named().items():
                assert (ours == both[1][1].named()[name]).all(), name
        ends.add(bool(both[0][1].terminated))
    assert ends == ({True} if scenario in ("Hopper", "Walker2d") else {False})


@pytest.mark.usefixtures("mujoco")
def test_actions_beyond_the_bounds_are_the_tasks_matter() -> None:
    """MuJoCo clips what a motor does, and the cost counts what was asked: 0.1 (3^2 - 1^2) for each of 6 motors."""
    shown = []
    for size in (1.0, 3.0):
        env, out = built()
        actions = np.full((2, 3), size, np.float32)
        assert (within_bounds(env.info)(actions) == actions).all()
        env.step(actions, out)
        shown.append((out.obs.copy(), float(out.reward[0])))
    assert (shown[0][0] == shown[1][0]).all()
    assert shown[0][1] - shown[1][1] == pytest.approx(6 * 0.1 * 8, rel=1e-5)


@pytest.mark.parametrize(("scenario", "observe"), [("Hopper", "full"), ("Hopper", "obsk"), ("Ant", "full")])
@pytest.mark.usefixtures("mujoco")
def test_robots_together_are_as_each_by_itself(scenario: str, observe: str) -> None:
    """Bit for bit, also where only some of them are stepped and episodes end at different times."""
    args = {"scenario": scenario, "observe": observe, "time_limit": 12}
    vec = make_vec("mamujoco", args, 3, backend="serial")
    alone = [built(seed=0, **args) for _ in range(3)]
    rng, seeds = np.random.default_rng(0), np.array([4, 5, 6])
    vec.reset(np.arange(3), seeds)
    for (env, out), seed in zip(alone, seeds.tolist(), strict=True):
        env.reset(seed, out)
    for t in range(20):
        active = np.array([True, t % 3 > 0, t % 4 > 0]) if t > 3 else np.ones(3, bool)
        actions = np.stack([drawn(env, rng) for env, _ in alone])
        vec.step(actions, active)
        for i, (env, out) in enumerate(alone):
            if active[i]:
                env.step(actions[i], out)
            for name, ours in vec.arrays.slot(i).named().items():
                assert (ours == out.named()[name]).all(), name
        over = np.flatnonzero(vec.arrays.terminated | vec.arrays.truncated)
        vec.reset(over, over + t)
        for i in over.tolist():
            alone[i][0].reset(i + t, alone[i][1])
    vec.close()


@pytest.mark.usefixtures("mujoco")
def test_a_failure_names_its_slot() -> None:
    vec: Any = make_vec("mamujoco", {"scenario": "Hopper"}, 3, backend="serial")
    vec.reset(np.arange(3), np.array([4, 5, 6]))
    together = vec._slots._together
    advance, calls = together._advance, []

    def fail(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 5:
            raise ZeroDivisionError("it broke")
        advance(*given)

    together._advance = fail
    vec.step(np.zeros((3, 3, 1), np.float32), np.ones(3, bool))
    with pytest.raises(EnvError, match=r"failed in step 2 .slot 1, episode seed 5.: ZeroDivisionError: it broke"):
        vec.step(np.zeros((3, 3, 1), np.float32), np.ones(3, bool))
    vec.close()


@pytest.mark.usefixtures("mujoco")
def test_a_swimmer_of_two_joints_is_gymnasiums() -> None:
    """But for its joints' names."""
    tree = start.many_segments(start.assets() / "swimmer.xml", 2)
    joints = [j.get("name") for j in tree.iter("joint") if j.get("name")]
    assert joints == ["slider1", "slider2", "free_body_rot", "rot0", "rot1"]
    rewards = []
    for scenario in ("Swimmer", "ManySegmentSwimmer"):
        env, out = built(scenario=scenario, agent_conf="2x1")
        env.step(np.array([[0.5], [-0.7]], np.float32), out)
        rewards.append((out.reward.tolist(), out.obs.tolist()))
    assert rewards[0] == rewards[1]


def test_no_headless_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(UserError, match=r"MuJoCo cannot draw here .MUJOCO_GL=egl: .*libegl1"):
        start.draw(types.SimpleNamespace(render=fail))


@pytest.mark.parametrize(
    ("scenario", "conf"),
    [
        ("Ant", "2x4"), ("Ant", "2x4d"), ("Ant", "4x2"), ("HalfCheetah", "2x3"), ("HalfCheetah", "6x1"),
        ("Hopper", "3x1"), ("Walker2d", "2x3"), ("ManySegmentSwimmer", "10x2"), ("Humanoid", "9|8"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.usefixtures("mujoco")
def test_gymnasium_robotics_gives_the_same(scenario: str, conf: str, reach: int) -> None:
    """Joints, rewards, ends and views; of the humanoids its abdomen_y shows abdomen_z's numbers and the reverse."""
    theirs = pytest.importorskip("gymnasium_robotics").mamujoco_v1.parallel_env(scenario, conf, agent_obsk=reach)
    env, out = built(scenario=scenario, agent_conf=conf, observe="obsk", agent_obsk=reach, standardise=False)
    assert env.split == tuple(tuple(node.act_ids for node in part) for part in theirs.agent_action_partitions)
    observations, _ = theirs.reset(seed=3)
    high, rng = theirs.single_agent_env.unwrapped.model.actuator_ctrlrange[0, 1], np.random.default_rng(1)
    for _ in range(30):
        for i, size in enumerate(env.info.obs_sizes):
            given, ours = observations[f"agent_{i}"].astype(np.float32), out.obs[i, :size]
            if scenario == "Humanoid":
                given, ours = np.sort(given), np.sort(ours)
            assert (given == ours).all()
        actions = drawn(env, rng)
        moves = {f"agent_{i}": actions[i, :n].astype(np.float64) * high for i, n in enumerate(env.info.action_sizes)}
        observations, rewards, fell, _, _ = theirs.step(moves)
        env.step(actions, out)
        assert out.reward[0] == np.float32(rewards["agent_0"])
        assert bool(out.terminated) == bool(fell["agent_0"])
        if out.terminated:
            break
