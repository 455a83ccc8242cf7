"""Google Research Football, against a stand-in with its interface, and against itself where it is installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.build import EnvError, check_env_args, make_env
from oamarl.envs.football import football, match, rules, views
from oamarl.envs.football.scenarios import SCENARIOS, Scenario
from oamarl.envs.vector import make
from oamarl.envs.vector.make import make_vec
from oamarl.settings import without_non_learning
from oamarl.utils.errors import UserError
from oamarl.utils.schema import yamls
from oamarl.utils.schema.layers import shipped

from conftest import PATIENCE
from run_tools import settings, train

ROOT = Path(__file__).resolve().parents[3]
STANDINS = ROOT / "tests" / "helpers" / "standins"
IDLE, RIGHT, SHOT, SLIDE, DRIBBLE = 0, 5, 12, 16, 17
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The stand-in is installed; returns what makes an engine fail: ``standin("crash-3")``, in step 3."""
    monkeypatch.syspath_prepend(str(STANDINS))
    folder = tmp_path / "events"
    folder.mkdir()
    monkeypatch.setenv("OAMARL_STANDIN_FOOTBALL", str(folder))

    def event(name: str) -> Path:
        path = folder / name
        path.touch()
        return path

    return event


class Played:
    """One environment and what it shows."""

    def __init__(self, **args: Any) -> None:
        self.env: Any = make_env("gfootball", args)
        self.info = self.env.info
        self.out = Arrays.allocate(self.info, 1).slot(0)

    def reset(self, seed: int = 1) -> Arrays:
        self.env.reset(seed, self.out)
        return self.out

    def step(self, action: int = IDLE) -> Arrays:
        self.env.step(np.array([action] + [IDLE] * (self.info.n_agents - 1)), self.out)
        return self.out

    def seen(self) -> tuple[bytes, ...]:
        return tuple(x.tobytes() for name, x in self.out.named().items() if name != "metrics")

    def episode(self, seed: int = 1, actions: tuple[int, ...] = (RIGHT,) * 4 + (SHOT,)) -> list[tuple[bytes, ...]]:
        self.reset(seed)
        moments = [self.seen()]
        for action in actions:
            self.step(action)
            moments.append(self.seen())
        return moments


@contextmanager
def played(**args: Any) -> Iterator[Played]:
    one = Played(**args)
    try:
        yield one
    finally:
        one.env.close()


def shown(raws: list[dict[str, Any]], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Observations and state of a moment."""
    obs, state = np.zeros((len(raws), views.SIZES[kind]), np.float32), np.zeros(views.state_size(len(raws)), np.float32)
    views.write(raws, kind, obs, state)
    return obs, state


def raw(**changed: Any) -> dict[str, Any]:
    """A moment of a game of two players against one."""
    return {
        "left_team": np.array([[-1.0, 0.0], [0.5, 0.1]]), "left_team_direction": np.array([[0.0, 0.0], [0.01, 0.02]]),
        "left_team_active": np.array([True, True]), "left_team_roles": np.array([0, 5]),
        "right_team": np.array([[1.0, 0.05]]), "right_team_direction": np.array([[-0.01, 0.0]]),
        "right_team_active": np.array([True]), "right_team_roles": np.array([0]),
        "ball": np.array([0.6, 0.1, 0.2]), "ball_direction": np.array([0.03, 0.0, 0.01]), "ball_owned_team": 0,
        "ball_owned_player": 1, "game_mode": 0, "score": [0, 0], "active": 1, "sticky_actions": np.eye(10)[4],
    } | changed  # fmt: skip


# -- scenarios and arguments -------------------------------------------------------------------------------------


def test_the_papers_scenarios_have_the_papers_agents(standin: Any) -> None:
    agents = {
        "academy_pass_and_shoot_with_keeper": 2, "academy_3_vs_1_with_keeper": 3, "academy_counterattack_easy": 4,
        "academy_counterattack_hard": 4,
    }  # fmt: skip
    for name, n in agents.items():
        info = make_env("gfootball", {"map_name": name}).info
        assert (info.n_agents, info.obs_size, info.state_size) == (n, 115, 115 + 11 * (n - 1))
        assert (info.n_actions, info.episode_limit, info.team_reward) == (19, 401, True)


def test_scenarios_are_those_of_the_page() -> None:
    """Agents, players of the left team (the keeper of `5_vs_5` has none), and steps."""
    found, page = {}, (ROOT / "docs" / "football.md").read_text(encoding="utf-8")
    for names, agents, players, steps in re.findall(
        r"^\| (`[^|]*`) \| (\d+)(?: \(paper\))? \| (\d+) against[^|]*\| ([\d,]+) \|$", page, re.M
    ):
        for name in re.findall(r"`(\w+)`", names):
            controlled = int(players) - (name == "5_vs_5")
            found[name] = Scenario(int(agents), controlled, int(steps.replace(",", "")))
    assert found == SCENARIOS


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"map_name": "academy_3_vs_2_with_keeper"}, "did you mean 'academy_3_vs_1_with_keeper'?"),
        ({"map_name": "qqq"}, "is not a scenario of Google Research Football 2.10.2: use one of academy_pass"),
        ({"map_name": "academy_run_and_pass_with_keeper"}, "no longer in Google Research Football 2.10.2: use academy"),
        ({"map_name": "3_vs_1_with_keeper"}, "lacks 'academy_': use academy_3_vs_1_with_keeper."),
        ({"render_mode": "human"}, "env_args.render_mode='human' is not allowed: leave it out"),
        ({"n_agents": 5}, "env_args.n_agents=5 is out of range: academy_3_vs_1_with_keeper has 4 players"),
        ({"n_agents": 0}, "so 1 to 4 are allowed"),
        ({"map_name": "1_vs_1_easy", "n_agents": 2}, "1_vs_1_easy has 1 player that agents can control, so 1 is"),
        ({"rewards": "checkpoints"}, "use scoring or scoring,checkpoints; did you mean 'scoring,checkpoints'?"),
        ({"team_reward": "mean"}, "env_args.team_reward='mean' is not known: use first, sum or own"),
        ({"representation": "simple116"}, "did you mean 'simple115'?"),
        ({"video": "tv"}, "use game or field"),
        ({"time_limit": 0}, "env_args.time_limit=0 is out of range: at least 1 is allowed."),
        ({"engine_timeout": 0.0}, "seconds above 0 are allowed"),
    ],
)
def test_bad_values_are_one_sentence(standin: Any, args: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        make_env("gfootball", args)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(football.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'gfootball' is not installed: run `oamarl install football`\.$"):
        make_env("gfootball", {})


def test_a_broken_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gfootball", "gfootball_engine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "gfootball" / "env").mkdir()
    (tmp_path / "gfootball" / "env" / "__init__.py").write_text("import a_library_that_is_gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with played() as one, pytest.raises(UserError, match="needs the Python package 'a_library_that_is_gone'"):
        one.reset()


def test_the_yaml_has_every_argument() -> None:
    values = yamls.load(shipped("envs")["gfootball"], "gfootball")
    check_env_args(values["env"], values["env_args"])
    import inspect

    takes = set(inspect.signature(football.Football.__init__).parameters) - {"self", "render_mode"}
    assert set(values["env_args"]) == takes
    defaults = {n: p.default for n, p in inspect.signature(football.Football.__init__).parameters.items() if n in takes}
    assert values["env_args"] == defaults


# -- what agents see ---------------------------------------------------------------------------------------------


def test_simple115_by_hand() -> None:
    teams = [
        [-1, 0, 0.5, 0.1] + [-1] * 18, [0, 0, 0.01, 0.02] + [-1] * 18, [1, 0.05] + [-1] * 20, [-0.01, 0] + [-1] * 20
    ]  # fmt: skip
    ball, owner, active, mode = [0.6, 0.1, 0.2, 0.03, 0, 0.01], [0, 1, 0], [0, 1] + [0] * 9, [1] + [0] * 6
    fixed = np.array([*(x for team in teams for x in team), *ball, *owner, *active, *mode], np.float32)
    assert shown([raw()], "simple115v2")[0].tolist() == [fixed.tolist()]
    # the older form puts the teams one after another, whatever their number of players
    packed = [-1, 0, 0.5, 0.1, 0, 0, 0.01, 0.02, 1, 0.05, -0.01, 0]
    loose = np.array([*packed, *[-1] * 76, *ball, *owner, *active, *mode], np.float32)
    assert shown([raw()], "simple115")[0].tolist() == [loose.tolist()]
    other = raw(active=-1, ball_owned_team=-1, game_mode=6)
    row = shown([other], "simple115v2")[0][0]
    assert row[94:97].tolist() == [1, 0, 0]
    assert row[97:108].tolist() == [0] * 11
    assert row[108:].tolist() == [0] * 6 + [1]


def test_the_state_has_every_agents_player() -> None:
    obs, state = shown([raw(), raw(active=0)], "simple115v2")
    assert state.shape == (115 + 11,)
    assert state[:97].tolist() == obs[0, :97].tolist()
    assert state[97:119].reshape(2, 11).argmax(1).tolist() == [1, 0]
    assert state[119:].tolist() == obs[0, 108:].tolist()


def test_compact_by_hand() -> None:
    row = shown([raw()], "compact")[0][0]
    assert row.shape == (66,)
    near = [0.0] * 4
    wanted = [
        0.5, 0.1, 0.01, 0.02, *np.eye(10)[4], 0.5, -0.1, 0.1, 0.0, 0.2, 0.03, 0.0, 0.01, 0, 0, 0, 1,
        -1.5, -0.1, 0.0, 0.0, *near * 3, 0.5, -0.05, -0.01, 0.0, *near * 3, -0.05, 1, 0, 0, 0, 0, 0, 0,
    ]  # fmt: skip
    np.testing.assert_allclose(row, wanted, atol=1e-7)
    # a team-mate's ball, and one who was sent off
    other = views.compact(raw(ball_owned_player=0, left_team_active=np.array([False, True])))
    assert other[22:26].tolist() == [0, 1, 0, 0]
    assert other[26:30].tolist() == near
    alone = views.compact(raw(right_team_active=np.array([False])))
    assert not alone[42:59].any(), "no opponent is left, their keeper neither"
    assert not views.compact(raw(active=-1)).any()


# -- rewards and ends --------------------------------------------------------------------------------------------


def test_checkpoints_by_hand() -> None:
    """Ten rings from 0.99 to 0.19 around the goal, 0.1 each, once; at a goal the rest."""
    reward = rules.Rewards(2, checkpoints=True)
    far = [raw(ball=np.array([0.0, 0.0, 0.0])), raw(ball=np.array([0.0, 0.0, 0.0]), active=0)]
    assert reward(0, far).tolist() == [0, 0]  # a distance of 1 is beyond the first
    near = [r | {"ball": np.array([0.5, 0.0, 0.0])} for r in far]  # 0.5: rings 0.99, 0.901, ... 0.546
    np.testing.assert_allclose(reward(0, near), [0.6, 0], atol=1e-6)  # the second agent has not the ball
    assert reward(0, near).tolist() == [0, 0]
    np.testing.assert_allclose(reward(1, near), [1.4, 2.0], atol=1e-6)
    assert reward(-1, [r | {"ball_owned_team": 1} for r in near]).tolist() == [-1, -1]
    reward.reset()
    np.testing.assert_allclose(reward(0, near), [0.6, 0], atol=1e-6)
    assert rules.Rewards(2, checkpoints=False)(1, near).tolist() == [1, 1]


def test_team_rewards() -> None:
    each = np.array([0.5, 0.25], np.float32)
    kinds = {"first": [0.5, 0.5], "sum": [0.75, 0.75], "own": [0.5, 0.25]}
    assert {kind: rules.team_rewards(each, kind).tolist() for kind in rules.TEAM_REWARDS} == kinds


class Flags:
    end_episode_on_score = end_episode_on_out_of_play = end_episode_on_possession_change = True


def test_ends_by_rule() -> None:
    ends = rules.Ends(Flags)
    assert not ends.by_rule(raw(game_mode=4))  # out of play from the start
    assert not ends.by_rule(raw())
    assert ends.by_rule(raw(game_mode=4))
    ends.reset()
    assert [ends.by_rule(raw(ball_owned_team=team)) for team in (-1, 0, -1, 0, -1, 1)] == [False] * 5 + [True]
    assert ends.by_rule(raw(ball_owned_team=1, score=[0, 1]))
    none = type("None_", (), dict.fromkeys(vars(Flags), False) | {k: False for k in dir(Flags) if k.startswith("end")})
    assert not rules.Ends(none).by_rule(raw(score=[1, 0]))


# -- episodes ----------------------------------------------------------------------------------------------------


def test_an_episode_of_a_goal(standin: Any) -> None:
    with played(team_reward="sum", rewards="scoring") as one:
        out = one.reset(5)
        assert out.avail.all()
        assert out.alive.all()
        for _ in range(4):
            out = one.step(RIGHT)
            assert not out.terminated
        out = one.step(SHOT)
        assert (bool(out.terminated), bool(out.truncated), out.agent_terminated.tolist()) == (True, False, [True] * 3)
        assert out.reward.tolist() == [3, 3, 3]
        assert out.metrics.tolist() == [1, 1, 0]
        out = one.reset(6)
        assert (out.metrics.tolist(), bool(out.terminated), out.reward.tolist()) == ([0, 0, 0], False, [0, 0, 0])
        assert one.step(DRIBBLE).metrics.tolist() == [-1, 0, 0]  # the opponents score


@pytest.mark.parametrize("action", [SHOT, SLIDE])
def test_the_ball_lost_is_an_end(standin: Any, action: int) -> None:
    with played() as one:
        one.reset()
        one.step()
        out = one.step(action)
        assert (bool(out.terminated), bool(out.truncated)) == (True, False)
        assert out.metrics.tolist() == [0, 0, 0]


def test_time_up_is_a_truncation(standin: Any) -> None:
    with played(time_limit=3) as one:
        assert one.info.episode_limit == 3
        one.reset()
        assert not one.step().truncated
        one.step()
        out = one.step()
        assert (bool(out.terminated), bool(out.truncated)) == (False, True)
        one.reset()
        one.step()
        one.step()
        out = one.step(SLIDE)  # an end by a rule in the last step is one
        assert (bool(out.terminated), bool(out.truncated)) == (True, False)
    with played() as one:
        one.reset()
        steps = [one.step() for _ in range(31)]  # the stand-in's own time: 30 steps
        assert (bool(steps[-1].terminated), bool(steps[-1].truncated)) == (False, True)


def test_players_change_hands(standin: Any) -> None:
    with played(n_agents=2) as one:
        hands = [one.reset().obs[:, 97:108].argmax(1).tolist()]
        hands += [one.step().obs[:, 97:108].argmax(1).tolist() for _ in range(5)]
        assert hands[0] == [0, 1]
        assert hands[5] == [1, 2]
        assert one.out.state[97:119].reshape(2, 11).argmax(1).tolist() == [1, 2]


def test_an_episode_depends_on_its_seed_alone(standin: Any) -> None:
    with played() as one, played() as other:
        first = one.episode(7)
        assert one.episode(8) != first
        assert one.episode(9) != first
        assert one.episode(7) == first
        other.reset(3)
        assert other.episode(7) == first


def test_seeds_take_both_sides_and_both_first_movers() -> None:
    found = [match._seeded(seed) for seed in range(4)]
    assert len({(x["reverse_team_processing"], x["episode_number"]) for x in found}) == 4
    assert [x["game_engine_random_seed"] for x in found] == [0, 1, 2, 3]


def test_engines_of_a_worker_are_forked_from_one_game(standin: Callable[[str], Path]) -> None:
    vec = make_vec("gfootball", {"n_agents": 2}, 3, backend="process", workers=1)
    try:
        vec.reset(np.arange(3), np.arange(3))
        assert len((standin("none").parent / "built").read_text().split()) == 1
    finally:
        vec.close()


def test_serial_and_workers_agree(standin: Any) -> None:
    def collected(backend: str, **options: Any) -> list[bytes]:
        vec = make_vec("gfootball", {"n_agents": 2}, 4, backend=backend, **options)
        try:
            vec.reset(np.arange(4), np.arange(4) + 10)
            moments: list[bytes] = []
            for action in (RIGHT, RIGHT, IDLE, RIGHT):
                vec.step(np.full((4, 2), action), np.ones(4, bool))
                moments += [x.tobytes() for x in vec.arrays.named().values()]
            assert vec.worker_restarts == 0
            return moments
        finally:
            vec.close()

    serial = collected("serial")
    assert collected("process", workers=1) == serial
    assert collected("process", workers=2) == serial


def test_pictures(standin: Any) -> None:
    with played(render_mode="rgb_array", video="field") as one:
        one.reset()
        before = one.env.render()
        assert (before.shape, before.dtype) == ((60, 80, 3), np.uint8)
        one.step(RIGHT)
        assert (one.env.render() != before).any()
    with played(render_mode="rgb_array") as one:
        one.reset()
        assert one.env.render().shape == (72, 128, 3)


# -- engines that fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("crash-3", "ended unexpectedly (signal SIGSEGV)"),
        ("crash-0", "ended unexpectedly (signal SIGSEGV)"),
        ("hang-3", "gave no answer within 0.5 seconds, and was killed"),
        ("raise-3", "failed: ValueError: the ball is gone"),
    ],
)
def test_an_engine_that_fails_is_replaced_and_nothing_is_lost(
    standin: Callable[[str], Path], capfd: pytest.CaptureFixture[str], event: str, said: str
) -> None:
    with played() as one:
        whole = one.episode()
    with played(engine_timeout=0.5 if "hang" in event else 60.0) as one:
        if event != "crash-0":
            one.reset(99)  # the engine is there before
        path = standin(event)
        assert one.episode() == whole
        assert not path.exists()
        assert one.out.metrics.tolist() == [1, 1, 1]
        text = capfd.readouterr().err
        assert said in text
        assert "A new one is started, and the episode is played again up to there." in text
        assert one.episode() == whole
        assert one.out.metrics.tolist() == [1, 1, 0]


def test_one_engine_of_a_worker_is_replaced_alone(standin: Callable[[str], Path]) -> None:
    vec = make_vec("gfootball", {"n_agents": 2}, 3, backend="process", workers=1)
    try:
        vec.reset(np.arange(3), np.arange(3))
        standin("crash-2")  # whichever comes first
        for _ in range(4):
            vec.step(np.full((3, 2), RIGHT), np.ones(3, bool))
        assert vec.worker_restarts == 0
        assert vec.arrays.metrics[:, 2].tolist() == [1, 0, 0]
        assert vec.steps.tolist() == [4, 4, 4]
    finally:
        vec.close()


def test_an_episode_in_which_every_engine_fails_is_the_workers_matter(standin: Callable[[str], Path]) -> None:
    with played() as one:
        one.reset()
        standin("always-1")
        with pytest.raises(Exception, match="SIGSEGV"):
            one.step()
    vec = make_vec("gfootball", {"n_agents": 2}, 2, backend="process", workers=1, on_worker_death="restart")
    try:
        (path,) = Path(os.environ["OAMARL_STANDIN_FOOTBALL"]).glob("always-*")
        vec.reset(np.arange(2), np.arange(2))
        vec.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
        assert vec.lost.all()
        assert vec.worker_restarts == 1
        path.unlink()
        vec.reset(np.arange(2), np.arange(2))
        vec.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
        assert not vec.lost.any()
    finally:
        vec.close()
    serial = make_vec("gfootball", {}, 1, backend="serial")
    serial.reset(np.arange(1), np.arange(1))
    standin("always-1")
    with pytest.raises(EnvError, match=r"EngineFailed: ended unexpectedly \(signal SIGSEGV\)"):
        serial.step(np.zeros((1, 3), np.int64), np.ones(1, bool))
    serial.close()


def test_too_many_failures_in_an_episode(standin: Callable[[str], Path]) -> None:
    with played() as one:
        one.reset()
        for step in range(1, 4):
            standin(f"crash-{step}")
            one.step()
        assert one.out.metrics[2] == 3
        standin("crash-4")
        with pytest.raises(Exception, match="SIGSEGV"):
            one.step()
        assert one.reset(2).metrics.tolist() == [0, 0, 0]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@needs_proc
@pytest.mark.parametrize("backend", ["serial", "process"])
def test_no_engine_outlives_the_program(standin: Callable[[str], Path], backend: str, tmp_path: Path) -> None:
    """Killed while its engines hang, which read no pipe."""
    program = f"""
import sys; sys.path[:0] = [{str(STANDINS)!r}, {str(ROOT / "tests")!r}]
import conftest, numpy as np
from oamarl.envs.vector import make
from oamarl.envs.vector.make import make_vec
if __name__ == "__main__":
    vec = make_vec("gfootball", {{}}, 2, backend={backend!r}, workers=1)
    vec.reset(np.arange(2), np.arange(2))
    print("ready", flush=True)
    sys.stdin.readline()
    vec.step(np.zeros((2, 3), np.int64), np.ones(2, bool))
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdin is not None
        assert run.stdout.readline() == b"ready\n"
        engines = engines_below(run.pid)
        assert len(engines) == 3  # and the process from which they are forked
        event = standin("hang-1")
        run.stdin.write(b"\n")
        run.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while event.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    while any(map(alive, engines)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, engines))


def engines_below(pid: int) -> list[int]:
    """Processes below one that run an engine, or start them."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            below.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        for child in below.get(todo.pop(), []):
            todo.append(child)
            if b"football.nursery" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


@needs_proc
def test_closed_engines_end(standin: Any) -> None:
    vec = make_vec("gfootball", {}, 2, backend="serial")
    vec.reset(np.arange(2), np.arange(2))
    engines = engines_below(os.getpid())
    assert len(engines) == 3
    vec.close()
    assert not any(map(alive, engines))


@needs_proc
def test_engines_that_end_with_the_process_they_are_forked_from(
    standin: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with played() as one, played() as other:
        whole = one.episode(4)
        one.reset(4)
        other.reset(4)
        nursery = one.env._engine._nursery.process.pid
        os.kill(nursery, signal.SIGKILL)
        moments = [one.seen()]
        for action in (RIGHT,) * 4 + (SHOT,):
            one.step(action)
            other.step(action)
            moments.append(one.seen())
        assert moments == whole
        assert other.seen() == one.seen()
        assert one.out.metrics[2] == other.out.metrics[2] == 1
        assert "ended unexpectedly (with the process that starts engines)" in capfd.readouterr().err


# -- memory, and whole runs --------------------------------------------------------------------------------------


def test_engines_need_free_memory(standin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = make_env("gfootball", {}).info
    monkeypatch.setattr(make, "free_memory", lambda: 6 * info.memory)
    said = (
        r"7 environments of 'academy_3_vs_1_with_keeper' take 0\.\d GB of memory \(\d+ MB each\), and 0\.\d GB are free"
    )
    with pytest.raises(UserError, match=said):
        make_vec("gfootball", {}, 7, backend="serial")
    make_vec("gfootball", {}, 6, backend="serial").close()
    settings("happo", "gfootball", batch_size_run=6).check(info)
    with pytest.raises(UserError, match="lower batch_size_run"):
        settings("happo", "gfootball", batch_size_run=7).check(info)
    # segments are tested in environments of their own
    with pytest.raises(UserError, match="8 environments"):
        settings("happo", "gfootball", batch_size_run=4, batch_size=None, runner="rollout").check(info)


def test_a_resumed_run_may_have_another_patience(standin: Any) -> None:
    one, other = (settings("happo", "gfootball", {"engine_timeout": seconds}).values for seconds in (60.0, 5.0))
    assert one != other
    assert without_non_learning(one) == without_non_learning(other)


def test_a_run_reports_scores_apart_from_shaped_rewards(standin: Any, tmp_path: Path) -> None:
    run = train(tmp_path, "oappo", "gfootball", {"n_agents": 2}, t_max=300, batch_size_run=2)
    for prefix in ("", "test_", "test_greedy_"):
        assert 0 <= run.last(f"{prefix}scored_mean") <= 1
        assert -1 <= run.last(f"{prefix}score_reward_mean") <= 1
        assert run.last(f"{prefix}engine_restarts_mean") == 0
