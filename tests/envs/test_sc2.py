"""StarCraft environments, against a stand-in with SMAC's interface, and against the packages themselves where they are.

The stand-in's game is a process that hears no signal, so that one which is left behind is seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import EnvError, check_env_args, make_env, make_info
from oamarl.envs.starcraft import sc2v2
from oamarl.envs.starcraft import setup as starcraft_setup
from oamarl.envs.vector.make import make_vec
from oamarl.storage.records import read_metrics
from oamarl.utils.errors import UserError
from oamarl.utils.schema import yamls
from oamarl.utils.schema.layers import CONFIGS, shipped

from conftest import PATIENCE, Program
from run_tools import latest, train

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ROOT / "tests" / "helpers"
STANDINS = HELPERS / "standins"
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
ATTACK, STOP, DEAD = [1, 6, 6], [1, 1, 1], [0, 1, 1]


def real(package: str) -> bool:
    """Whether a StarCraft package itself is installed."""
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec('{package}') is None)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No StarCraft package is loaded before or after."""

    def forget() -> None:
        for name in [n for n in sys.modules if n.split(".")[0] in ("smac", "smacv2", "smaclite")]:
            del sys.modules[name]

    forget()
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")  # put back afterwards
    yield
    forget()


@pytest.fixture
def smac(forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """The stand-in is there; returns what reads its log: ``smac("launch")`` gives the calls of that name."""
    log = tmp_path / "calls.jsonl"
    monkeypatch.syspath_prepend(str(STANDINS))
    monkeypatch.setenv("STANDIN_LOG", str(log))
    monkeypatch.setattr("oamarl.envs.starcraft.starcraft._seen", False)

    def calls(*names: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [c for c in found if not names or c["call"] in names]

    return calls


class Played:
    """One environment and what it shows."""

    def __init__(self, env: str = "sc2", **args: Any) -> None:
        self.env = make_env(env, args)
        self.info = self.env.info
        self.out = Arrays.allocate(self.info, 1).slot(0)

    def reset(self, seed: int = 1) -> Arrays:
        self.env.reset(seed, self.out)
        return self.out

    def step(self, *actions: int) -> Arrays:
        self.env.step(np.array(actions), self.out)
        return self.out

    def time_out(self, seed: int = 1) -> Arrays:
        self.reset(seed)
        for t in range(8):
            self.step(*(STOP if t < 2 else DEAD))
        return self.out


@contextmanager
def played(env: str = "sc2", **args: Any) -> Iterator[Played]:
    one = Played(env, **args)
    try:
        yield one
    finally:
        one.env.close()


# -- what the game is given and gives ----------------------------------------------------------------------------


def test_every_argument_of_the_yaml_reaches_smac(smac: Callable[..., list]) -> None:
    given = yamls.load(shipped("envs")["sc2"], "sc2")["env_args"]
    with played(**given, window_size_x=640) as one:
        one.reset(77)
    asked, made = (c["arguments"] for c in smac("construct"))
    ours = {"recycle_episodes", "save_replay"}
    assert {k: made[k] for k in given if k not in ours} == {k: v for k, v in given.items() if k not in ours}
    assert made["window_size_x"] == 640
    assert (asked["seed"], made["seed"]) == (None, 77)
    # the game must always tell a time-out; what it means here is ours to say
    with played(continuing_episode=False):
        assert smac("construct")[-1]["arguments"]["continuing_episode"] is True


def test_the_yaml_has_the_keys_of_the_vocabulary() -> None:
    """EPyMARL's sc2.yaml, key by key."""
    theirs = """continuing_episode difficulty game_version map_name move_amount obs_all_health obs_instead_of_state
    obs_last_action obs_own_health obs_pathing_grid obs_terrain_height obs_timestep_number reward_death_value
    reward_defeat reward_negative_scale reward_only_positive reward_scale reward_scale_rate reward_sparse reward_win
    replay_dir replay_prefix state_last_action state_timestep_number step_mul heuristic_ai heuristic_rest debug"""
    given = yamls.load(shipped("envs")["sc2"], "sc2")["env_args"]
    assert set(theirs.split()) <= set(given)
    for name in ("sc2", "sc2v2", "smaclite"):
        values = yamls.load(shipped("envs")[name], name)
        check_env_args(values["env"], values["env_args"])
    assert list((CONFIGS / "envs").glob("smacv2_configs/*.yaml"))


def test_the_order_of_calls(smac: Callable[..., list]) -> None:
    with played() as one:
        assert [c["call"] for c in smac()] == ["construct", "close"]  # sizes alone start no game
        one.time_out()
        one.reset()
    calls = [c["call"] for c in smac()][2:]
    assert calls == ["construct", "launch", "reset", *["step"] * 8, "reset", "close"]


def test_dead_agents_a_win_and_the_teams_reward(smac: Callable[..., list]) -> None:
    with played() as one:
        info = one.info
        assert (info.n_agents, info.obs_size, info.state_size, info.n_actions, info.episode_limit) == (3, 4, 5, 9, 8)
        assert info.team_reward
        out = one.reset()
        assert out.alive.all()
        assert not out.avail[:, 0].any()
        one.step(*STOP)
        out = one.step(*STOP)
        assert out.alive.tolist() == [False, True, True]
        assert out.avail[0].tolist() == [True] + [False] * 8
        assert out.reward.tolist() == [0.25] * 3
        assert not out.agent_terminated.any()
        one.step(0, 6, 6)
        out = one.step(0, 6, 6)
        assert (bool(out.terminated), bool(out.truncated)) == (True, False)
        assert out.agent_terminated.all()
        assert dict(zip(info.metrics, out.metrics.tolist(), strict=True)) == {
            "battle_won": 1, "dead_allies": 1, "dead_enemies": 3, "episode_limit": 0,
        }  # fmt: skip
        assert out.reward.tolist() == [20.0] * 3


@pytest.mark.parametrize(("continuing", "flags"), [(True, (False, True)), (False, (True, False))])
def test_a_time_out_is_told_from_a_defeat(
    continuing: bool, flags: tuple[bool, bool], smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    with played(continuing_episode=continuing) as one:
        out = one.time_out()
        assert (bool(out.terminated), bool(out.truncated)) == flags
        assert out.metrics[3] == 1
    monkeypatch.setenv("STANDIN_FAULT", "defeat")
    with played(continuing_episode=continuing) as one:
        out = one.time_out()  # lost in the very step at which the time is up
        assert (bool(out.terminated), bool(out.truncated)) == (True, False)
        assert out.metrics.tolist() == [0, 3, 0, 0]


def test_a_picture(smac: Callable[..., list]) -> None:
    with played() as one:
        one.reset()
        assert one.env.render().shape == (4, 6, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"map_nam": "3m"}, "did you mean 'map_name'?"),
        ({"reward_sparce": True}, "did you mean 'reward_sparse'?"),
        ({"difficulty": "B"}, "use 1, 2, 3, 4, 5, 6, 7, 8, 9 or A"),
        ({"step_mul": 0}, "env_args.step_mul=0 is out of range"),
        ({"move_amount": -2}, "env_args.move_amount=-2.0 is out of range: more than 0 is allowed"),
        ({"move_amount": float("inf")}, "a finite number is expected"),
        ({"reward_scale_rate": 0}, "env_args.reward_scale_rate=0.0 is out of range: more than 0"),
        ({"reward_win": -1}, "env_args.reward_win=-1.0 is out of range: at least 0"),
        ({"reward_defeat": float("nan")}, "a finite number is expected"),
        ({"game_version": 4.1}, "parts, as in env_args.game_version=4.10.0"),
        ({"recycle_episodes": 0}, "env_args.recycle_episodes=0 is out of range"),
        ({"reward_win": "much"}, "wrong type: float"),
        ({"replay_prefix": "a/b"}, "holds a '/'"),
        ({"map_name": "3s5zvs3s6z"}, "did you mean '3s5z_vs_3s6z'?"),
        ({"map_name": None}, "needs env_args.map_name: use one of 3m, 3s5z_vs_3s6z, MMM2"),
    ],
)
def test_a_mistake_is_told_before_a_game_is_made(args: dict[str, Any], said: str, smac: Callable[..., list]) -> None:
    with pytest.raises(UserError) as caught:
        make_env("sc2", args)
    assert said in str(caught.value)
    assert not smac()


def test_mistakes_in_smacv2s_arguments(smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    health = {"dist_type": "per_agent_uniform", "lower_bound": [0.0], "upper_bound": [0.5], "observe": True}
    drawn = {"n_units": 5, "n_enemies": 5, "health": health}
    for args, said in (
        ({"prob_obs_enemy": 2}, "at most 1"), ({"min_attack_range": -1}, "at least 0"),
        ({"conic_fov": True, "num_fov_actions": 0}, "at least 1"), ({"kill_unit_step_mul": 0}, "at least 1"),
        ({"map_name": "3m", "capability_config": drawn, "kill_unit_step_mul": 8}, "less than step_mul"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            make_env("sc2v2", {"map_name": "zerg_5_vs_5", **args})
    assert not smac()
    make_env("sc2", {"reward_scale": False, "reward_scale_rate": 0, "reward_win": -1}).close()


# -- seeds, and games that are started anew ----------------------------------------------------------------------


def test_a_game_has_the_seed_of_its_first_episode(smac: Callable[..., list]) -> None:
    with played(recycle_episodes=2) as one:
        first = [one.time_out(seed).state[0] for seed in (5, 6, 7)]
    assert [c["seed"] for c in smac("launch")] == [5, 7]
    with played(recycle_episodes=1) as one:  # then an episode is its seed's, whatever came before
        assert [one.time_out(seed).state[0] for seed in (7, 5)] == [first[2], first[0]]
    assert len({c["game"] for c in smac("launch")}) == 4


def test_a_game_ends_before_it_would_fail(smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    """Game steps are counted over all of its episodes; an episode that might not fit goes to a new game."""
    monkeypatch.setattr("oamarl.envs.starcraft.starcraft.GAME_STEPS", 4 * (8 * 8 + 64) - 1)
    with played() as one:
        for seed in range(7):
            one.time_out(seed)
    assert [c["seed"] for c in smac("launch")] == [0, 3, 6]


@needs_proc
@pytest.mark.parametrize(
    ("env", "args"),
    [("sc2", {}), ("sc2v2", {"map_name": "zerg_5_vs_5"}), ("sc2v2", {"map_name": "zerg_5_vs_5", "time_limit": 3})],
)
def test_a_reset_in_the_middle_of_an_episode(
    env: str, args: dict[str, Any], smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One game at a time, and one scale of rewards, whether or not SMAC has ever seen an episode end."""
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    with played(env, **args) as one:
        for seed in (1, 2, 3):  # none of them ends
            one.reset(seed)
            assert one.step(*STOP).reward.tolist() == [0.25] * 3
            assert sum(alive(c["game"]) for c in smac("launch")) == 1
        one.step(*STOP)
        while not (one.out.terminated | one.out.truncated):
            one.step(*DEAD)
        assert bool(one.out.truncated)
        for seed in (4, 5):
            one.reset(seed)
            assert one.step(*STOP).reward.tolist() == [0.25] * 3
    launches = smac("launch")
    assert [c["seed"] for c in launches] == [1, 2, 3]
    assert {c["max_reward"] for c in smac("reset")} == {1}
    assert gone([c["game"] for c in launches])


def test_a_time_limit_is_an_end_that_smac_sees(smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    with played("sc2v2", map_name="zerg_5_vs_5", time_limit=2) as one:
        for seed in range(4):
            one.reset(seed)
            one.step(*STOP)
            out = one.step(*STOP)
            assert (bool(out.terminated), bool(out.truncated), out.metrics[3]) == (False, True, 1)
    assert len(smac("launch")) == 1


def test_a_game_that_was_put_away_holds_nothing(smac: Callable[..., list]) -> None:
    with played(recycle_episodes=1) as one:
        one.reset(1)
        one.env._game._obs = bytearray(10)  # type: ignore[attr-defined]
        game = one.env._game  # type: ignore[attr-defined]
        one.time_out(2)
        one.reset(3)
        assert game._obs is None


# -- replays -----------------------------------------------------------------------------------------------------


def test_one_replay_an_episode(smac: Callable[..., list], tmp_path: Path) -> None:
    with (
        played(save_replay=True, replay_dir=str(tmp_path / "r")) as a,
        played(save_replay=True, replay_dir=str(tmp_path / "r")) as b,
    ):
        for one, seed in ((a, 1), (b, 2), (a, 3)):
            one.time_out(seed)
    order = [c["call"] for c in smac("launch", "save_replay")]
    assert order == ["launch", "save_replay"] * 3
    prefixes = [c["prefix"] for c in smac("save_replay")]
    assert prefixes[0] == prefixes[2] != prefixes[1]
    assert all(p.startswith("3m_") for p in prefixes)
    assert len(list((tmp_path / "r").iterdir())) >= 2


# -- games that die, hang and leak -------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while any(alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(alive(p) for p in pids)


@pytest.mark.parametrize(("fault", "when"), [("died@2", "in step 2"), ("deathbed@2", "between two episodes")])
def test_an_episode_that_smac_would_tell_as_a_defeat_is_an_error(
    fault: str, when: str, smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", fault)
    with played() as one:
        one.time_out()
        with pytest.raises(RuntimeError, match=f"StarCraft II ended unexpectedly {when}"):
            one.time_out()


@needs_proc
def test_what_a_killed_game_has_left_is_removed(
    smac: Callable[..., list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed worker's are removed by the next one, others' when they end; never those of a running one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("STANDIN_FAULT", "crash@1")
    vec = make_vec("sc2", {}, 1, backend="process", workers=1)
    vec.reset(np.array([0]), np.array([3]))
    vec.step(np.array([STOP]), np.ones(1, bool))
    with pytest.raises(EnvError):
        vec.step(np.array([STOP]), np.ones(1, bool))
    vec.close()
    (left,) = (Path(c["folder"]) for c in smac("launch"))
    assert left.parent.parent == tmp_path
    assert left.is_dir()
    monkeypatch.delenv("STANDIN_FAULT")
    vecs = [make_vec("sc2", {}, 1, backend="process", workers=1) for _ in range(2)]
    for vec in vecs:
        vec.reset(np.array([0]), np.array([3]))
    assert not left.exists()
    assert all(Path(c["folder"]).is_dir() for c in smac("launch")[1:])
    for vec in vecs:
        vec.close()
    assert not list(tmp_path.glob("oamarl-sc2-*"))


@needs_proc
@pytest.mark.parametrize("fault", ["crash@2", "hang@2", "died@2"])
def test_a_worker_whose_game_dies_is_started_again(
    fault: str, smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", fault)
    limit = 10.0 if "hang" in fault else None  # a step of the stand-in takes nothing
    vec = make_vec("sc2", {}, 1, backend="process", workers=1, on_worker_death="restart", step_timeout=limit)
    try:
        everywhere, finished, lost = np.ones(1, bool), 0, 0
        vec.reset(np.array([0]), np.array([3]))
        while finished < 2:
            actions = np.array([[0 if not a else 1 for a in vec.arrays.alive[0]]])
            vec.step(actions, everywhere)
            over = vec.arrays.terminated | vec.arrays.truncated
            lost += int(vec.lost[0])
            finished += int(over[0])
            if vec.lost[0] or over[0]:
                vec.reset(np.array([0]), np.array([4 + finished]))
        assert (vec.worker_restarts, lost) == (1, 1)
    finally:
        vec.close()
    games = [c["game"] for c in smac("launch")]
    assert len(games) == 2
    assert gone(games)


def test_a_dead_game_ends_a_run_that_was_not_told_to_go_on(
    smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "died@1")
    vec = make_vec("sc2", {}, 1, backend="serial")
    try:
        vec.reset(np.array([0]), np.array([3]))
        vec.step(np.array([STOP]), np.ones(1, bool))
        with pytest.raises(EnvError, match=r"in step 2 \(slot 0, episode seed 3\).*StarCraft II ended unexpectedly"):
            vec.step(np.array([STOP]), np.ones(1, bool))
    finally:
        vec.close()


# -- the whole program -------------------------------------------------------------------------------------------


def words(folder: Path, *more: str) -> list[str]:
    return latest([
        "--config=oappo", "--env-config=sc2", "with", "env_args.map_name=3s5z_vs_3s6z", "seed=1", "use_cuda=False",
        "batch_size_run=2", "workers=1", "hidden_dim=8", "epochs=1", "t_max=60", "test_nepisode=2", "test_interval=30",
        "log_interval=1", f"local_results_path={folder}", *more,
    ])  # fmt: skip


def surroundings(tmp_path: Path, fault: str = "") -> dict[str, str]:
    return {"PYTHONPATH": str(STANDINS), "STANDIN_LOG": str(tmp_path / "calls.jsonl"), "STANDIN_FAULT": fault}


def launched(tmp_path: Path) -> list[int]:
    calls = map(json.loads, (tmp_path / "calls.jsonl").read_text().splitlines())
    return [c["game"] for c in calls if c["call"] == "launch"]


@needs_proc
@pytest.mark.slow
def test_training_through_a_crash_then_evaluation_with_replays(program: Program, tmp_path: Path) -> None:
    done = program(*words(tmp_path / "r"), env=surroundings(tmp_path, "crash@3"), timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (folder,) = (p.parent for p in (tmp_path / "r").glob("sacred/oappo/3s5z_vs_3s6z/*/run.json"))
    seen = {name: value for p in read_metrics(folder) for name, value in p["metrics"].items()}
    assert {"battle_won_mean", "test_battle_won_mean", "dead_allies_mean", "episode_limit_mean"} <= set(seen)
    assert seen["worker_restarts"] >= 1
    assert gone(launched(tmp_path))
    again = words(tmp_path / "e", "evaluate=True", "save_replay=True", f"checkpoint_path={folder}")
    done = program(*again, env=surroundings(tmp_path), timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (replays,) = (tmp_path / "e").glob("sacred/oappo/*/*/replays")
    assert len(list(replays.iterdir())) == 2
    assert gone(launched(tmp_path))


def test_networks_are_shared_selectively(smac: Callable[..., list[dict[str, Any]]], tmp_path: Path) -> None:
    """The games of random play are closed before those of training are begun; dead agents' steps are left out."""
    run = train(tmp_path, "seps", "sc2", {"map_name": "3m"}, t_max=80, batch_size_run=2, seps_steps=10)
    assert len(run.loop.mac.index) == 3
    assert run.points[0]["metrics"]["test_return_mean"] is not None
    assert run.points[0]["t"] >= 10
    assert run.last("agent_steps") < 3 * run.loop.runner.t_env


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_game_outlives_the_program(how: signal.Signals, tmp_path: Path) -> None:
    argv = [
        sys.executable,
        str(ROOT / "src/main.py"),
        *words(tmp_path / "r", "t_max=1000000", "stop_seconds=1"),
    ]
    process = subprocess.Popen(
        argv, env={**os.environ, **surroundings(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "calls.jsonl").exists() or len(launched(tmp_path)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        games = launched(tmp_path)
        assert all(alive(p) for p in games)
        process.send_signal(how)
        process.wait(PATIENCE)
        assert gone(games)
    finally:
        process.kill()
        process.wait()


def end_when_a_game_hangs(tmp_path: Path, how: signal.Signals, *command: str) -> tuple[int, str]:
    """Send ``how`` to the program when its first game hangs in step 2; returns its exit status and stderr."""
    (tmp_path / "calls.jsonl").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src/main.py"), *command],
        env={**os.environ, **surroundings(tmp_path, "hang@1")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # as from a terminal, also where the tests run under nohup: an ignored signal stays ignored
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "calls.jsonl").exists() or (tmp_path / "calls.jsonl").read_text().count('"step"') < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        games = launched(tmp_path)
        assert games
        assert all(alive(p) for p in games)
        process.send_signal(how)
        out, err = process.communicate(timeout=PATIENCE)
        print(out)  # shown where the test fails
        assert gone(games)
        return process.returncode, err
    finally:
        process.kill()
        process.wait()


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_no_game_outlives_check_env(how: signal.Signals, tmp_path: Path) -> None:
    status, err = end_when_a_game_hangs(tmp_path, how, "check-env", "sc2")
    if how == signal.SIGKILL:  # Linux itself ends the game
        assert (status, err) == (-how, "")
        return
    assert (status, err) == (128 + how, f"Ended by {how.name}: the run stops here.\n")


@pytest.mark.parametrize("more", [(), ("with", "env_args.recycle_episodes=1")])
def test_check_env_finds_nothing_wrong(program: Program, more: tuple[str, ...], tmp_path: Path) -> None:
    done = program("check-env", "sc2", *more, env=surroundings(tmp_path))
    noted = "leaves something behind: seed 0 then gives another episode" in done.stdout
    assert (done.returncode, noted) == (0, not more), done.stdout
    assert ("env_args.recycle_episodes=1 gives each episode a game of its own" in done.stdout) == (not more)
    assert f"0 wrong, {0 if more else 1} to note." in done.stdout
    if Path("/proc").exists():
        assert gone(launched(tmp_path))


@needs_proc
@pytest.mark.slow
def test_no_game_outlives_an_evaluation(smac: Callable[..., list], tmp_path: Path) -> None:
    sizes = {"t_max": 20, "batch_size_run": 1, "workers": 1, "hidden_dim": 8, "epochs": 1, "test_nepisode": 1}
    run = str(train(tmp_path, "ippo", "sc2", {"map_name": "3m"}, backend="process", **sizes).folder)
    for how in (signal.SIGTERM, signal.SIGKILL):  # in a worker, as the run had it
        status, _ = end_when_a_game_hangs(tmp_path, how, "evaluate", run, "--episodes", "1")
        assert status == (143 if how == signal.SIGTERM else -how)
    status, err = end_when_a_game_hangs(tmp_path, signal.SIGTERM, "evaluate", run, "--backend", "serial")
    assert (status, err) == (143, "Ended by SIGTERM: the run stops here.\n")


# -- what is missing ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(real("smac"), reason="smac is installed")
def test_the_missions_command_without_smac(program: Program, tmp_path: Path) -> None:
    done = program("--config=mappo", "--env-config=sc2", "with", "env_args.map_name=3s5z_vs_3s6z", "lr=0.001", "seed=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "run `oamarl install sc2`" in done.stderr
    command = "python src/main.py --config=mappo --env-config=smax with env_args.map_name=3s5z_vs_3s6z lr=0.001 seed=3"
    assert f"the same map without the game: `{command}`" in done.stderr


@pytest.mark.skipif(not real("smac"), reason="smac itself is not installed")
def test_smacs_own_error_for_a_missing_game(program: Program, tmp_path: Path) -> None:
    done = program("--config=oappo", "--env-config=sc2", env={"SC2PATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"StarCraft II is not installed in {tmp_path} (SC2PATH)" in done.stderr
    (tmp_path / "Versions/Base75689").mkdir(parents=True)
    done = program("--config=oappo", "--env-config=sc2", env={"SC2PATH": str(tmp_path)})
    assert f"The map file {tmp_path}/Maps/SMAC_Maps/3m.SC2Map is missing" in done.stderr
    done = program(
        "--config=oappo", "--env-config=sc2", "with", "env_args.game_version=4.6.2", env={"SC2PATH": str(tmp_path)}
    )
    assert "it has 4.10.0, latest" in done.stderr


def test_a_missing_game_is_one_sentence(smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "missing")
    monkeypatch.setenv("SC2PATH", "/nowhere/StarCraftII")
    with played() as one, pytest.raises(UserError) as caught:
        one.reset()
    assert "StarCraft II is not installed in /nowhere/StarCraftII (SC2PATH): run `oamarl install sc2`" in str(
        caught.value
    )


def test_a_game_that_ends_at_once_is_one_sentence(
    smac: Callable[..., list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first start, and not in a worker that takes the place of another one."""
    game = tmp_path / "Versions/Base75689/SC2_x64"
    game.parent.mkdir(parents=True)
    game.touch()
    monkeypatch.setenv("STANDIN_FAULT", "refused@0")
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    vec = make_vec("sc2", {}, 1, backend="process", workers=1, on_worker_death="restart")
    with pytest.raises(UserError) as caught:
        vec.reset(np.array([0]), np.array([3]))
    vec.close()
    assert f"in {tmp_path} (SC2PATH) cannot be started: ConnectError: Failed to connect" in str(caught.value)
    assert f"Is it up?: start {game} by hand to see why; the same map without the game: `" in str(caught.value)
    assert len(smac("refused")) == 1


@needs_proc
def test_a_game_that_cannot_be_started_later_is_a_fault(
    smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "refused@2")
    with played() as one:
        one.reset(1)
        with pytest.raises(Exception, match=r"Failed to connect") as caught:
            one.reset(2)
        assert not isinstance(caught.value, UserError)
    vec = make_vec("sc2", {}, 1, backend="process", workers=1, on_worker_death="restart")
    monkeypatch.setenv("STANDIN_FAULT", "refused@4")
    vec = make_vec("sc2", {}, 1, backend="process", workers=1, on_worker_death="restart")
    try:
        vec.reset(np.array([0]), np.array([3]))
        os.kill(smac("launch")[-1]["pid"], signal.SIGKILL)
        vec.step(np.array([STOP]), np.ones(1, bool))
        assert (vec.worker_restarts, vec.lost.tolist()) == (1, [True])
        vec.reset(np.array([0]), np.array([3]))
        vec.step(np.array([STOP]), np.ones(1, bool))
        assert (vec.worker_restarts, vec.lost.tolist(), len(smac("refused"))) == (2, [True], 2)
        vec.reset(np.array([0]), np.array([3]))
        vec.step(np.array([STOP]), np.ones(1, bool))
        assert vec.lost.tolist() == [False]
    finally:
        vec.close()


@needs_proc
def test_a_temporary_folder_that_somebody_has_removed(
    smac: Callable[..., list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    vec = make_vec("sc2", {"recycle_episodes": 1}, 1, backend="process", workers=1)
    try:
        for _ in range(2):
            vec.reset(np.array([0]), np.array([3]))
            (own,) = tmp_path.glob("oamarl-sc2-*")
            shutil.rmtree(own)
            for t in range(8):
                vec.step(np.array([STOP if t < 2 else DEAD]), np.ones(1, bool))
        vec.reset(np.array([0]), np.array([3]))
        assert Path(smac("launch")[-1]["folder"]).is_dir()
    finally:
        vec.close()
    assert not list(tmp_path.glob("oamarl-sc2-*"))


def test_another_package_of_that_name(forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smac").mkdir()
    (tmp_path / "smac/__init__.py").write_text("class Scenario: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UserError, match=r"'smac' is not StarCraft's .* `pip uninstall smac`, then `oamarl install sc2`"
    ):
        make_env("sc2", {})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("import no_such_module_here", "needs the package 'no_such_module_here', which 'smac' uses"),
        ("raise TypeError('Descriptors cannot be created directly.')", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python"),
        ("raise ValueError('all is lost')", "importing 'smac.env' fails: ValueError: all is lost"),
    ],
)
def test_a_package_that_cannot_be_imported(
    error: str, said: str, forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smac/env").mkdir(parents=True)
    (tmp_path / "smac/__init__.py").write_text("")
    (tmp_path / "smac/env/__init__.py").write_text(error + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError) as caught:
        make_env("sc2", {})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("3s5z_vs_3s6z", "3s5z_vs_3s6z"), ("MMM2", "10m_vs_11m"), ("8m_vs_9m", "8m_vs_9m"), ("corridor", "corridor"),
        ("3s5zvs3s6z", "3s5z_vs_3s6z"), ("mmm", "10m_vs_11m"), ("protoss_5_vs_5", "smacv2_5_units"), ("qqqq", "3m"),
        ("terran_10_vs_11", "smacv2_10_units"), ("zerg_20_vs_23", "smacv2_20_units"), ("10gen_zerg", "smacv2_5_units"),
    ],
)  # fmt: skip
def test_the_nearest_map_without_the_game(asked: str, nearest: str) -> None:
    assert starcraft_setup.smax_map(asked) == nearest


SMAX = "--config=mappo --env-config=smax with env_args.map_name=3m"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("oamarl --config=mappo --env-config=sc2", f"oamarl {SMAX}"),
        ("SRC/__main__.py train --config mappo --env-config sc2 with seed=1",
         "python -m oamarl train --config mappo --env-config=smax with env_args.map_name=3m seed=1"),
        ("SRC/main.py --config=mappo --env-config=sc2", f"python src/main.py {SMAX}"),
        ("oamarl --config=mappo --env-config=sc2 with env_args.map_name=3m env_args.reward_sparse=True "
         "env_args.difficulty=A env_args.time_limit=100 backend=serial lr=0.1",
         f"oamarl {SMAX} env_args.reward_sparse=True env_args.time_limit=100 lr=0.1"),
        ("oamarl bench --seconds=5 --config=mappo --env-config=sc2 with workers=2",
         "oamarl bench --seconds=5 --config=mappo --env-config=smax with env_args.map_name=3m workers=2"),
        ("oamarl check-env sc2 --episodes=5", "oamarl check-env smax --episodes=5 with env_args.map_name=3m"),
        ("oamarl check-env --env-config=sc2 with env_args.difficulty=A",
         "oamarl check-env smax with env_args.map_name=3m"),
        ("oamarl evaluate latest --env-args save_replay=True", ""),
        ("oamarl --config=mappo --env-config=sc2 with evaluate=True checkpoint_path=x", ""),
        ("oamarl showcase latest", ""),
        ("oamarl sweep --jobs 2 experiments/smac.yaml", "oamarl sweep --jobs 2 experiments/smac-smax.yaml"),
        ("oamarl sweep experiments/maze-black-red.yaml", ""),
        ("mine.py --lr 3", "oamarl --config=oappo --env-config=smax with env_args.map_name=3m"),
    ],
)  # fmt: skip
def test_the_command_without_the_game(typed: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ROOT / "src"
    monkeypatch.chdir(source.parent)
    monkeypatch.setattr(sys, "argv", typed.replace("SRC", str(source)).split())
    assert starcraft_setup.smax_command("3m") == said
    assert starcraft_setup.otherwise("3m").endswith(f": `{said}`" if said else "")


@pytest.mark.skipif(real("smac"), reason="smac is installed")
def test_a_sweep_without_smac_begins_nothing(program: Program, tmp_path: Path) -> None:
    done = program("sweep", "experiments/smac.yaml", f"--results={tmp_path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "which is not installed: run `oamarl install sc2`; what of it can be played without" in done.stderr
    assert "`python src/main.py sweep experiments/smac-smax.yaml --results=" in done.stderr
    assert not list(tmp_path.iterdir())
    done = program("sweep", "experiments/smac.yaml", "--dry-run", f"--results={tmp_path}")
    assert done.returncode == 0


def test_the_command_of_a_worker(smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "missing")
    monkeypatch.setattr(sys, "argv", ["oamarl", "--config=mappo", "--env-config=sc2", "with", "seed=5"])
    vec = make_vec("sc2", {}, 1, backend="process", workers=1)
    with pytest.raises(UserError, match=f"`oamarl {SMAX} seed=5`"):
        vec.reset(np.array([0]), np.array([3]))
    vec.close()


# -- SMACv2 ------------------------------------------------------------------------------------------------------


def test_scenarios_by_name() -> None:
    for race, first in (("protoss", "stalker"), ("terran", "marine"), ("zerg", "zergling")):
        own, drawn = sc2v2.scenario(f"{race}_10_vs_11")
        assert own == f"10gen_{race}"
        assert (drawn["n_units"], drawn["n_enemies"]) == (10, 11)
        assert drawn["team_gen"]["unit_types"][0] == first
        assert sum(drawn["team_gen"]["weights"]) == pytest.approx(1)
        assert drawn["start_positions"]["dist_type"] == "surrounded_and_reflect"
        assert sc2v2.scenario(f"sc2_gen_{race}") == sc2v2.scenario(f"{race}_5_vs_5")
    for wrong, said in (
        (None, "protoss_5_vs_5"), ("protos_5_vs_5", "did you mean 'protoss_5_vs_5'?"), ("3m", "with any numbers"),
        ("zerg_0_vs_5", "no units"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            sc2v2.scenario(wrong)


def test_what_smacv2_draws_depends_on_the_episodes_seed_alone(
    smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    with played("sc2v2", map_name="zerg_5_vs_5") as a, played("sc2v2", map_name="zerg_5_vs_5") as b:
        first = {seed: float(a.reset(seed).state[0]) for seed in (1, 2, 3)}
        assert len(set(first.values())) == 3
        assert {seed: float(b.reset(seed).state[0]) for seed in (3, 1, 2)} == first
        np.random.seed(0)
        before = np.random.get_state()[1].tolist()
        a.reset(1)
        assert np.random.get_state()[1].tolist() == before


def own_drawn(**other: Any) -> dict[str, Any]:
    """A capability_config of one's own: with other numbers, and ``team=`` other keys of team_gen."""
    team = {"dist_type": "weighted_teams", "unit_types": ["marine", "medivac"], "weights": [0.6, 0.4], "observe": True}
    positions = {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32}
    drawn = {"n_units": 5, "n_enemies": 5, "team_gen": team | other.pop("team", {}), "start_positions": positions}
    return {k: v for k, v in (drawn | other).items() if v != "left out"}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"n_units": 0}, "n_units=0 is not allowed: a whole number, at least 1"),
        ({"n_units": "5"}, "n_units='5' is not allowed"), ({"n_enemies": True}, "n_enemies=True"),
        ({"n_enemies": "left out"}, "n_enemies=null"), ({"team_gen": None}, "team_gen=null is not allowed: a mapping"),
        ({"team_gen": "left out"}, "lacks team_gen"), ({"team_gn": {}}, "did you mean 'team_gen'?"),
        ({"team": {"dist_type": "weighted"}}, "use weighted_teams or all_teams"),
        ({"team": {"weights": [0.5, 0.6]}}, "their sum must be 1, and is 1.1"),
        ({"team": {"weights": [1.0]}}, "one for each of the 2 unit_types"),
        ({"team": {"weights": [1.5, -0.5]}}, "from 0 to 1"), ({"team": {"weights": None}}, "lacks weights"),
        ({"team": {"observe": None}}, "lacks observe"), ({"team": {"unit_types": "marine"}}, "a list is expected"),
        ({"team": {"unit_types": ["marine", "zealot"]}}, "'zealot' is no unit of this map, which has marine, marauder"),
        ({"team": {"exception_unit_types": ["marine", "medivac"]}}, "no other unit is left"),
        ({"team": {"weights": [0, 1], "exception_unit_types": ["medivac"]}}, "no other unit is left"),
        ({"team": {"dist_type": "all_teams"}, "n_enemies": 6}, "all_teams gives both sides n_units=5"),
        ({"start_positions": {"dist_type": "surrounded", "map_x": 32}}, "lacks map_y"),
        ({"start_positions": {"dist_type": "surrounded", "map_x": "a", "map_y": 3}}, "map_x='a'"),
        ({"attack": {"dist_type": "per_agent_uniform", "lower_bound": [0, 0], "upper_bound": [1], "observe": True}},
         "as many numbers as lower_bound"),
        ({"enemy_mask": {"dist_type": "mask", "mask_probability": 2}}, "from 0 to 1"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_drawn(
    other: dict[str, Any], said: str, smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    with pytest.raises(UserError) as caught:
        make_env("sc2v2", {"map_name": "10gen_terran", "capability_config": own_drawn(**other)})
    assert said in str(caught.value)
    assert not smac()


def test_configurations_that_can_be_drawn(smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    uniform = {"dist_type": "per_agent_uniform", "lower_bound": [0.0], "upper_bound": [1.0], "observe": True}
    for other in ({}, {"team": {"dist_type": "all_teams", "weights": None}}, {"attack": uniform, "health": uniform}):
        make_env("sc2v2", {"map_name": "10gen_terran", "capability_config": own_drawn(**other)}).close()
    for race in ("protoss", "terran", "zerg"):
        own_map, drawn = sc2v2.scenario(f"{race}_10_vs_11")
        make_env("sc2v2", {"map_name": own_map, "capability_config": drawn}).close()


def test_smacv2_with_a_time_limit_and_a_configuration_of_ones_own(
    smac: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oamarl.envs.starcraft.sc2v2.known_maps", lambda _: [])
    own = own_drawn(n_units=3, n_enemies=4)
    args = {"map_name": "10gen_terran", "capability_config": own, "time_limit": 3}
    assert make_info("sc2v2", args).episode_limit == 3
    with played("sc2v2", **args) as one:
        one.reset()
        one.step(*STOP)
        one.step(*STOP)
        out = one.step(*DEAD)
        assert (bool(out.terminated), bool(out.truncated)) == (False, True)
    assert own == own_drawn(n_units=3, n_enemies=4)  # what SMACv2 writes into is its own
    assert smac("construct")[-1]["arguments"]["map_name"] == "10gen_terran"


# -- SMAClite ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lite(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with SMAClite's interface: one step wins where agent 1 attacks."""

    class Game:
        n_agents, n_actions, obs_size, state_size = 2, 8, 3, 4

        def __init__(self, map_info: Any = None, map_file: Any = None, seed: Any = None, **options: Any) -> None:
            if map_file is not None:
                raise FileNotFoundError(2, "No such file", map_file)
            self.last_actions = np.zeros(16)

        def reset(self, seed: int) -> Any:
            self.drawn = float(np.random.default_rng(seed).random())
            return self.get_obs(), {}

        def get_obs(self) -> Any:
            return (np.full(3, self.drawn), np.zeros(3))

        def get_state(self) -> Any:
            return np.append(self.last_actions[:3], self.drawn)

        def get_avail_actions(self) -> Any:
            return [np.eye(8)[0], np.array([0, *[1] * 7])]

        def step(self, actions: list[int]) -> Any:
            assert all(type(a) is int for a in actions)
            self.last_actions = np.ones(16)
            won = actions[1] >= 6
            return self.get_obs(), 3.0, won, False, {"battle_won": won}

        def close(self) -> None:
            pass

    class Preset:
        def __init__(self, name: str) -> None:
            self.value = self
            self.name = name

    for name in ("smaclite", "smaclite.env", "smaclite.env.maps", "smaclite.env.maps.map"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["smaclite.env"].SMACliteEnv = Game  # type: ignore[attr-defined]
    sys.modules["smaclite.env.maps.map"].MapPreset = [Preset("2s3z"), Preset("MMM2")]  # type: ignore[attr-defined]


def test_smaclite_wins_and_times_out(lite: None) -> None:
    with played("smaclite", map_name="mmm2", time_limit=2) as one:
        out = one.reset(5)
        start = out.state.copy()
        assert out.alive.tolist() == [False, True]
        out = one.step(0, 6)
        assert (bool(out.terminated), bool(out.truncated), out.metrics.tolist()) == (True, False, [1, 0])
        assert one.reset(5).state.tolist() == start.tolist()  # the last episode's actions are forgotten
        one.step(0, 1)
        out = one.step(0, 1)
        assert (bool(out.terminated), bool(out.truncated), out.metrics.tolist()) == (False, True, [0, 1])
        assert out.reward.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"map_name": "2s3zz"}, "did you mean '2s3z'?"), ({}, "needs env_args.map_name: use one of 2s3z, MMM2"),
        ({"map_name": "2s3z", "time_limit": 0}, "out of range"), ({"map_file": "x.json"}, "cannot be played"),
    ],
)  # fmt: skip
def test_smaclite_mistakes(args: dict[str, Any], said: str, lite: None) -> None:
    with pytest.raises(UserError) as caught:
        make_env("smaclite", args)
    assert said in str(caught.value)


@pytest.mark.skipif(not real("smaclite"), reason="smaclite itself is not installed")
def test_smaclite_itself(program: Program) -> None:
    done = program("check-env", "smaclite", "with", "env_args.map_name=2s3z", "env_args.time_limit=30")
    assert done.returncode == 0, done.stdout
    assert "5 agents, observations [80, 80, 80, 80, 80], actions [11, 11, 11, 11, 11], state 120" in done.stdout
