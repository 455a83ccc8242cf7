"""HARL beside this project: its environment's stand-in, its command line, and the clock in its runner."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
    pytest.mark.usefixtures("sides"),
]
needs_mujoco = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mujoco", "imageio")), reason="needs mujoco"
)


def stand_in(scenario: str, split: str, limit: int = 1000) -> Any:
    from harl_mamujoco import MujocoMulti

    return MujocoMulti({"scenario": scenario, "agent_conf": split, "episode_limit": limit, "agent_obsk": 0})


@needs_mujoco
def test_the_stand_in_has_the_numbers_of_our_environment() -> None:
    from oamarl.envs.base import Arrays
    from oamarl.envs.mamujoco import Mamujoco

    theirs, ours = stand_in("HalfCheetah-v2", "2x3"), Mamujoco("HalfCheetah", "2x3")
    out = Arrays.allocate(ours.info, 1).slot(0)
    theirs.seed(7)
    obs, states, legal = theirs.reset()
    ours.reset(int(np.random.default_rng(7).integers(2**31)), out)
    assert legal is None
    actions = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    for action in actions:
        assert np.array_equal(obs, out.obs)
        assert np.array_equal(states, np.stack([out.state, out.state]))
        obs, states, rewards, done, infos, legal = theirs.step(action)
        ours.step(action, out)
        assert np.array_equal(rewards, out.reward[:, None])
        assert (done, infos, legal) == ([False, False], [{}, {}], None)
    theirs.close()
    ours.close()


@needs_mujoco
def test_spaces_are_those_that_harl_reads() -> None:
    env = stand_in("Hopper", "3x1")
    assert env.n_agents == 3
    assert [s.shape for s in env.observation_space] == [(14,)] * 3
    assert [s.shape for s in env.share_observation_space] == [(11,)] * 3
    assert [s.shape for s in env.action_space] == [(1,)] * 3
    assert env.action_space[0] == env.action_space[1]
    assert env.action_space[0] != env.observation_space[0]
    assert {type(s).__name__ for s in (*env.action_space, *env.observation_space)} == {"Box"}
    env.close()


@needs_mujoco
def test_only_an_end_by_the_limit_is_a_bad_transition() -> None:
    limited = stand_in("HalfCheetah", "2x3", limit=2)
    limited.seed(0)
    limited.reset()
    still = np.zeros((2, 3), np.float32)
    assert limited.step(still)[3:5] == ([False, False], [{}, {}])
    assert limited.step(still)[3:5] == ([True, True], [{"bad_transition": True}] * 2)
    falling = stand_in("Hopper", "3x1")
    falling.seed(0)
    falling.reset()
    for _ in range(200):
        _, _, _, done, infos, _ = falling.step(np.ones((3, 1), np.float32))
        if done[0]:
            break
    assert infos[0] == {"bad_transition": False}


def test_command_line_is_the_tuned_file_and_what_is_changed(tmp_path: Path) -> None:
    from peers.harl import theirs
    from run_harl import command_line

    side = theirs("happo", "hopper", 1)
    spec = {**side.spec, "folder": str(tmp_path / "harl"), "out": str(tmp_path / "out.json")}
    words = command_line(spec)
    assert words[:2] == ["--load_config", f"{tmp_path}/harl/tuned_configs/mamujoco/Hopper-v2-3x1/happo/config.json"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert (side.name, given["--torch_threads"]) == ("HARL, 1 thread", "1")
    assert (given["--scenario"], given["--agent_conf"]) == ("Hopper", "3x1")
    assert (given["--hidden_sizes"], given["--use_eval"]) == ("[128, 128]", "False")
    assert given["--log_dir"] == f"{tmp_path}/results"


def test_both_sides_play_and_learn_alike() -> None:
    """HARL's tuned values are not in this repository: these are what our settings were made from."""
    from peers.harl import harl_cells

    from oamarl.parts import resolve
    from oamarl.utils.schema.command_line import parse

    assert [len(cell.sides) for cell in harl_cells()] == [3] * 4
    for cell in harl_cells():
        ours, theirs = cell.sides[0], cell.sides[1].spec["given"]
        values = resolve(parse(ours.spec["words"])[0]).values
        env = values["env_args"]
        assert (env["scenario"], env["agent_conf"]) == (theirs["scenario"], theirs["agent_conf"])
        assert theirs["hidden_sizes"] == [values["hidden_dim"]] * 2
        assert (values["batch_size_run"], values["rollout_length"], values["test_nepisode"]) == (20, 200, 0)
        assert values["t_max"] == theirs["num_env_steps"]


def test_their_runner_carries_the_clock(tmp_path: Path) -> None:
    from clock import Clock
    from run_harl import clocked

    class Runner:
        num_agents = 2
        algo_args = {"train": {"episode_length": 200, "n_rollout_threads": 20}, "device": {"torch_threads": 1}}  # noqa: RUF012
        prepared = trained = 0

        def prep_rollout(self) -> None:
            self.prepared += 1

        def train(self) -> Any:
            self.trained += 1
            return [{"loss": 1.0}] * 2, {"loss": 2.0}

    seen: list[int] = []
    spec = {"kind": "run", "out": str(tmp_path / "out.json")}
    spec |= {"seconds": 60.0, "warm_seconds": 0.0, "warm_iterations": 1, "min_iterations": 2}
    clock = Clock(spec)
    clock.iteration = seen.append  # type: ignore[method-assign]
    clocked(Runner, clock)
    runner = Runner()
    for _ in range(3):
        runner.prep_rollout()
        assert runner.train() == ([{"loss": 1.0}] * 2, {"loss": 2.0})
    assert (seen, runner.prepared, runner.trained) == ([0, 4000, 8000], 3, 3)
    clock.spec["kind"] = "collect"
    assert runner.train() == ([{}, {}], {})
    assert runner.trained == 3


def test_harl_comes_from_a_checkout(tmp_path: Path) -> None:
    from peers import install

    with pytest.raises(install.SetupError, match="--harl"):
        install.harl(None, tmp_path)
    other = tmp_path / "other"
    (other / "examples").mkdir(parents=True)
    (other / "examples" / "train.py").write_text("")
    install.copy_tree(other, tmp_path / "copy", "HARL", "examples/train.py", install.HARL_PATHS)
    assert (tmp_path / "copy" / "examples" / "train.py").is_file()
    with pytest.raises(install.SetupError, match="no checkout of HARL"):
        install.copy_tree(tmp_path / "nothing", tmp_path / "next", "HARL", "examples/train.py")
