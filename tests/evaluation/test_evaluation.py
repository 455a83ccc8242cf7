"""Evaluation: closed-form returns, equal numbers for any slots, the command line, videos, and teams as a library."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oamarl
from oamarl import main as program_module
from oamarl.components.seeding import episode_seed
from oamarl.envs.build import make_info
from oamarl.envs.rendering import Watched
from oamarl.envs.vector.make import make_vec
from oamarl.evaluation.play import Plan, evaluate, logged_metrics, play, report, statistics
from oamarl.evaluation.statistics import bootstrap_interval, describe
from oamarl.evaluation.team import Team
from oamarl.storage import checkpoints
from oamarl.utils.errors import UserError
from oamarl.utils.video import Video, check_target

from evaluation_tools import Constant, same, stepping
from run_tools import train

DOC = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
MIXED, RAGGED = "toy_envs:MixedLength", "toy_envs:Ragged"
PIL = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def maze_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command line's, a second long."""
    results = tmp_path_factory.mktemp("results")
    words = ["--config=oappo", "--env-config=maze", "with", f"local_results_path={results}", "seed=3", "t_max=400"]
    words += ["env_args.time_limit=10", "hidden_dim=8", "test_nepisode=2", "epochs=1", "use_rnn=True", "head_gain=1.0"]
    assert program_module.main(words) == 0
    return results / "sacred/oappo/black_red/1"


def call(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    code = program_module.main([str(w) for w in words])
    return code, *capsys.readouterr()


def contents(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- numbers -------------------------------------------------------------------------------------------------------


def test_returns_in_closed_form() -> None:
    """Agent i earns t * (i + 1) + action / 10 at step t, six steps long."""
    team: Any = Constant(RAGGED, {}, [1, 3])
    for reward, expected in (("sum", 63.0 + 6 * 0.4), ("mean", 31.5 + 6 * 0.2)):
        plan = Plan(RAGGED, {}, 5, 0, slots=2, stepping=stepping(), reward_scalarisation=reward)
        episodes = evaluate(team, plan)
        assert [e.number for e in episodes] == list(range(5))
        for e in episodes:
            assert e.returns == pytest.approx([21 + 0.6, 42 + 1.8], rel=1e-6)
            assert (e.length, e.terminated) == (6, False)
        found = statistics(episodes, plan, team.info)
        assert found["return"]["mean"] == pytest.approx(expected, rel=1e-6)
        assert [a["max"] for a in found["agents"]] == pytest.approx([21.6, 43.8], rel=1e-6)
        assert found["metrics"]["reward_sum"]["mean"] == pytest.approx(63 + 2.4, rel=1e-6)
        assert logged_metrics(episodes, plan, team.info)["test_greedy_return_mean"] == pytest.approx(expected, rel=1e-6)
    individual = Plan(RAGGED, {}, 2, 0, stepping=stepping(), common_reward=False)
    logged = logged_metrics(evaluate(team, individual), individual, team.info)
    assert logged["test_greedy_agent_1_return_mean"] == pytest.approx(43.8, rel=1e-6)
    assert logged["test_greedy_total_return_mean"] == pytest.approx(65.4, rel=1e-6)


def test_one_team_reward_is_not_added_up() -> None:
    team: Any = Constant("matrix", {"steps": 3}, [0, 0])
    plan = Plan("matrix", {"steps": 3}, 4, 0, slots=3)
    found = statistics(evaluate(team, plan), plan, team.info)
    assert found["return"]["mean"] == 33.0
    assert found["agents"] == []


def test_exactly_the_episodes_and_seeds_asked_for() -> None:
    team: Any = Constant(MIXED, {}, [0, 0])
    for slots in (1, 3, 16):
        episodes = evaluate(team, Plan(MIXED, {}, 7, 5, slots=slots, stepping=stepping()))
        assert [e.number for e in episodes] == list(range(7))
        assert [e.seed for e in episodes] == [episode_seed(5, "evaluate", 0, k) for k in range(7)]
        assert [e.length for e in episodes] == [1 + e.seed % 6 for e in episodes]
        assert [e.terminated for e in episodes] == [e.seed % 2 == 0 for e in episodes]
    others = {episode_seed(5, purpose, 0, k) for purpose in ("train", "test") for k in range(7)}
    assert not others & {e.seed for e in episodes}


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Team:
    run = train(
        tmp_path_factory.mktemp("mixed"), "mappo", MIXED, t_max=30, use_rnn=True, sharing="separate", head_gain=1
    )
    return oamarl.load(run.folder)


@pytest.mark.parametrize(
    ("slots", "backend"), [(1, "serial"), (2, "serial"), (5, "serial"), (40, "serial"), (3, "process")]
)
def test_slots_and_backends_change_no_number(sampler: Team, slots: int, backend: str) -> None:
    plan = Plan(MIXED, {}, 11, 2, greedy=False, slots=3, stepping=stepping())
    reference = evaluate(sampler, plan)
    same(reference, evaluate(sampler, Plan(MIXED, {}, 11, 2, greedy=False, slots=slots, stepping=stepping(backend))))
    same(reference[:4], evaluate(sampler, Plan(MIXED, {}, 4, 2, greedy=False, slots=slots, stepping=stepping())))


def test_the_seed_and_sampling_matter(sampler: Team) -> None:
    def returns(seed: int, greedy: bool) -> list[float]:
        plan = Plan(MIXED, {}, 6, seed, greedy=greedy, stepping=stepping())
        return [float(e.returns.sum()) for e in evaluate(sampler, plan)]

    assert returns(1, False) == returns(1, False)
    assert returns(1, False) != returns(2, False)
    assert returns(1, False) != returns(1, True)


def test_every_episode_has_its_own_noise(tmp_path: Path) -> None:
    """Nothing is random in a matrix game but the actions."""
    run = train(tmp_path, "ippo", "matrix", {"steps": 4}, t_max=20, backend="auto")
    plan = Plan("matrix", {"steps": 4}, 12, 0, greedy=False, slots=5)
    assert len({float(e.returns[0]) for e in evaluate(oamarl.load(run.folder), plan)}) > 3


def test_an_episode_whose_worker_died_is_played_again(sampler: Team) -> None:
    """A vectorised environment that loses slots: the numbers are those of one that does not."""
    plan = Plan(MIXED, {}, 9, 2, greedy=False, stepping=stepping())

    class Losing:
        def __init__(self) -> None:
            self.inner, self.count = make_vec(MIXED, {}, 3, backend="serial"), 0
            self.n_slots, self.arrays, self.lost = 3, self.inner.arrays, np.zeros(3, bool)
            self.info, self.info_metrics, self.seeds = self.inner.info, self.inner.info_metrics, self.inner.seeds

        def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
            self.lost[slots] = False
            self.inner.reset(slots, seeds)

        def step(self, actions: np.ndarray, active: np.ndarray) -> None:
            self.count += 1
            self.inner.step(actions, active)
            if self.count in (1, 4, 9):  # two slots at once
                self.lost[:2] = True

    losing: Any = Losing()
    same(evaluate(sampler, plan), play(sampler, losing, range(9), plan))
    assert losing.count > 9


@pytest.mark.parametrize(
    ("config", "more"),
    [("mappo", {}), ("mappo", {"use_rnn": True, "obs_last_action": True}), ("oappo", {"use_rnn": True}),
     ("mappo", {"sharing": [0, 0, 1, 1]}), ("ippo_ns", {"standardise_obs": True}),
     ("mappo", {"feature_norm": True, "standardise_obs": True, "init": "torch"})],
)  # fmt: skip
def test_greedy_evaluation_finds_what_the_closing_test_found(config: str, more: dict[str, Any], tmp_path: Path) -> None:
    """The maze is deterministic, so all greedy episodes are one."""
    args = {"time_limit": 12}
    run = train(tmp_path, config, "maze", args, t_max=100, head_gain=1.0, backend="auto", **more)
    plan = Plan("maze", args, 3, 0, slots=2)
    logged = logged_metrics(evaluate(oamarl.load(run.folder), plan), plan, make_info("maze", args))
    name = "test_greedy_return_mean"
    assert logged[name] == pytest.approx(run.result[name], rel=1e-6)
    assert set(logged) == {k for k in run.result if k.startswith("test_greedy_")}


def test_a_run_of_before_a_key_was_added_plays_as_it_did(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", "maze", {"time_limit": 8}, t_max=40, init="torch")
    path = checkpoints.find(run.folder)
    saved = checkpoints.load(path)
    older = {k: v for k, v in saved["config"].items() if k not in ("init", "feature_norm", "standardise_obs")}
    for seed in range(3):
        obs = np.random.default_rng(seed).random((4, Team(saved, path).info.obs_size), np.float32)
        found, expected = Team({**saved, "config": older}, path), Team(saved, path)
        np.testing.assert_array_equal(found.act(obs), expected.act(obs))


def test_descriptions_by_hand() -> None:
    found = describe([4.0, 1.0, 3.0, 2.0])
    assert (found["mean"], found["min"], found["median"], found["max"]) == (2.5, 1.0, 2.5, 4.0)
    assert found["std"] == pytest.approx(np.sqrt(1.25))
    assert describe([7.0]) == {"mean": 7.0, "ci95": None, "std": 0.0, "min": 7.0, "median": 7.0, "max": 7.0}
    assert describe([2.0] * 5)["ci95"] == [2.0, 2.0]
    with pytest.raises(ValueError, match="nothing"):
        describe([])


def test_the_bootstrap_interval_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(values) or (0.0, 0.0)
    error = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.1 * error)
    assert (low, high) == bootstrap_interval(values)
    # of two values, a quarter of the resamples is the smaller one twice
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0.0, 1.0)


# -- the command line ----------------------------------------------------------------------------------------------


def test_the_command_and_its_json(maze_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(maze_run)
    words = ["evaluate", maze_run, "--episodes", 5, "--sample", "--seed", 9]
    code, out, err = call(capsys, *words, "--json", tmp_path / "a.json")
    assert (code, err) == (0, "")
    assert "5 sampled episodes of oappo on maze (black_red), seed 9" in out
    assert re.search(r"team return +-?\d", out)
    assert "agent 3" in out
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["seed"], found["greedy"], found["n_episodes"], found["video"]) == (9, False, 5, None)
    assert Path(found["checkpoint"]).parent == maze_run / "checkpoints"
    assert found["step"] == checkpoints.steps_of(Path(found["checkpoint"]))
    assert found["env_args"]["time_limit"] == 10
    returns = [e["return"] for e in found["episodes"]]
    assert [e["episode"] for e in found["episodes"]] == list(range(5))
    assert found["statistics"]["return"]["mean"] == pytest.approx(np.mean(returns))
    for e in found["episodes"]:
        assert e["return"] == pytest.approx(sum(e["agent_returns"]))
        assert e["metrics"]["arrived"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    # other slots, another backend, a video: the same
    options = ["--slots", 2, "--backend", "process", "--workers", 1, "--video", tmp_path / "a.gif", "--json", "-"]
    code, out, _ = call(capsys, *words, *options)
    again = json.loads(out)
    assert code == 0
    assert again["episodes"] == found["episodes"]
    assert again["statistics"] == found["statistics"]
    assert contents(maze_run) == before


def test_which_checkpoint(maze_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = checkpoints.find(maze_run)
    for words in ([maze_run], [file], [maze_run / "checkpoints"], [maze_run, "--checkpoint", file.name]):
        code, out, _ = call(capsys, "evaluate", *words, "--episodes", 1)
        assert code == 0
        assert f"Checkpoint {file}," in out
    _, out, _ = call(capsys, "evaluate", maze_run, "--episodes", 1, "--checkpoint", "best")
    assert f"Checkpoint {checkpoints.find(maze_run / 'best')}," in out


def test_another_environment_of_the_same_sizes(maze_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(
        capsys, "evaluate", maze_run, "--episodes", 1, "--json", "-", "--env-args", "time_limit=3", "step_reward=-1"
    )
    found = json.loads(out)
    assert code == 0
    assert found["statistics"]["length"]["max"] == 3
    assert found["statistics"]["return"]["mean"] == -12.0
    assert found["env_args"]["map_name"] == "black_red"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: RUN"),
        (["RUN", "--epsiodes", "3"], "did you mean '--episodes'?"),
        (["RUN", "again"], "'again' is one word too many"),
        (["RUN", "--episodes", "0"], "a whole number from 1 on is expected"),
        (["RUN", "--seed", "-1"], "a whole number from 0 on is expected"),
        (["RUN", "--greedy", "--sample"], "not allowed with argument --greedy"),
        (["RUN", "--checkpoint", "no.pt"], "There is no checkpoint 'no.pt'"),
        (["RUN/checkpoints", "--checkpoint", "best"], "has no best checkpoint"),
        (["RUN", "--env-args", "time_limit"], "takes KEY=VALUE"),
        (["RUN", "--env-args", "tme_limit=3"], "did you mean 'time_limit'?"),
        (["RUN", "--env-args", "map_name=black_blue_red"], "3 agents (trained: 4)"),
        (["RUN", "--backend", "fast"], "use auto, serial, process, native, device or ray"),
        (["RUN", "--video", "a.avi"], "must end in .gif or .mp4"),
        (["RUN", "--video", "/dev/null/a.gif"], "cannot be written there"),
        (["RUN", "--json", "/dev/null/a.json"], "cannot be written there"),
        (["RUN", "--video-episodes", "2"], "give --video FILE or --render too"),
        (["/no/such/run"], "There is no run at '/no/such/run'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    words: list[str], said: str, maze_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "evaluate", *(w.replace("RUN", str(maze_run)) for w in words))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_checkpoint_calls_nothing(maze_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = checkpoints.load(checkpoints.find(maze_run))
    mark, step = tmp_path / "called", saved["runner"]["t_env"]
    for k, change in enumerate(
        [
            {"env": "os:system", "env_args": {"command": f"touch {mark}"}},
            {"env": "gymma", "env_args": {"key": "os:system", "command": f"touch {mark}"}},
            {"mac": "os:system"},
            {"agent": "os:system"},
        ]
    ):
        file = checkpoints.save(tmp_path / str(k), step, saved | {"config": saved["config"] | change})
        code, out, err = call(capsys, "evaluate", file, "--episodes", 1)
        assert (code, out) == (2, "")
        assert "os:system, code that does not come with oamarl" in err
        if "env" not in change:
            with pytest.raises(UserError, match="say that you trust it"):
                oamarl.load(file)
    assert not mark.exists()


@pytest.mark.parametrize("part", ["config", "mac", "info", "runner"])
def test_a_checkpoint_that_lacks_a_part(part: str, maze_run: Path, tmp_path: Path) -> None:
    saved = dict(checkpoints.load(checkpoints.find(maze_run)))
    step = saved["runner"]["t_env"]
    for k, wrong in enumerate([None, 3, {}]):
        file = checkpoints.save(tmp_path / str(k), step, saved | {part: wrong})
        with pytest.raises(UserError, match=r"checkpoint|policies"):
            oamarl.load(file)
    broken = checkpoints.save(tmp_path / "nan", step, saved | {"mac": {"theta": saved["mac"]["theta"] * float("nan")}})
    with pytest.raises(UserError, match="not finite"):
        oamarl.load(broken)


# -- evaluate=True -------------------------------------------------------------------------------------------------


def test_evaluate_as_epymarl_does(maze_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(maze_run)
    words = [
        "--config=oappo",
        "--env-config=maze",
        "with",
        "evaluate=True",
        "test_nepisode=3",
        "env_args.time_limit=10",
    ]
    words += [f"checkpoint_path={maze_run}", "hidden_dim=8", "use_rnn=True", f"local_results_path={tmp_path}"]
    code, out, err = call(capsys, *words, "render=True", "test_greedy=False")
    assert (code, err) == (0, "")
    assert "test_return_mean" in out
    folder = tmp_path / "sacred/oappo/black_red/1"
    assert contents(maze_run) == before
    assert not list(folder.rglob("*.pt"))
    assert json.loads((folder / "run.json").read_text())["status"] == "COMPLETED"
    assert json.loads((folder / "info.json").read_text())["evaluated"] == str(checkpoints.find(maze_run))
    assert json.loads((folder / "config.json").read_text())["seed"] == 3  # the run's own: none was given
    found = json.loads((folder / "evaluation.json").read_text())
    assert (found["n_episodes"], found["greedy"], found["seed"]) == (3, False, 3)
    point = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert point["t"] == found["step"]
    assert point["metrics"]["test_return_mean"] == pytest.approx(found["statistics"]["return"]["mean"])
    assert PIL.open(folder / "evaluation.gif").n_frames > 3
    assert not (folder / "evaluation-greedy.json").exists()
    assert not any(name.startswith("test_greedy_") for name in point["metrics"])
    # the command says the same of the same episodes
    _, out, _ = call(capsys, "evaluate", maze_run, "--episodes", 3, "--sample", "--seed", 3, "--json", "-")
    assert json.loads(out)["episodes"] == found["episodes"]
    # as if nothing is said, greedy ones too, under the names of a test in training
    assert call(capsys, *words)[0] == 0
    folder = folder.with_name("2")
    point = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    assert json.loads((folder / "evaluation.json").read_text())["episodes"] == found["episodes"]
    greedy = json.loads((folder / "evaluation-greedy.json").read_text())
    assert greedy["greedy"] is True
    assert point["test_greedy_return_mean"] == pytest.approx(greedy["statistics"]["return"]["mean"])
    assert point["test_return_mean"] == pytest.approx(found["statistics"]["return"]["mean"])


def test_evaluate_the_checkpoint_of_a_step(maze_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The policies of that step are played, not the newest ones, and a notice says so where it is another step."""
    newest = checkpoints.find(maze_run)
    copy = Path(shutil.copytree(maze_run, tmp_path / "run"))
    earlier = checkpoints.load(newest)
    earlier["runner"]["t_env"] = 20
    checkpoints.save(copy / "models", 20, earlier, keep=None)
    common = ["--config=oappo", "--env-config=maze", "with", "evaluate=True", "test_nepisode=5", "hidden_dim=8"]
    common += ["use_rnn=True", f"local_results_path={tmp_path}", "test_greedy=False", "env_args.time_limit=10"]

    def found(number: int, *more: str) -> tuple[Any, str]:
        code, out, err = call(capsys, *common, *more)
        assert (code, err) == (0, "")
        return json.loads((tmp_path / f"sacred/oappo/black_red/{number}/evaluation.json").read_text()), out

    exact, out = found(1, f"checkpoint_path={copy}", "load_step=20")
    assert (exact["step"], exact["checkpoint"]) == (20, str(copy / "models" / checkpoints.name_of(20)))
    assert "no checkpoint of this step" not in out
    near, out = found(2, f"checkpoint_path={copy}", "load_step=21")
    assert near["episodes"] == exact["episodes"]
    assert "the closest one, of step 20, is taken" in " ".join(out.split())
    last, _ = found(3, f"checkpoint_path={copy}")
    assert last["step"] == checkpoints.steps_of(newest)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate=True"], "checkpoint_path=RUN"),
        (["evaluate=True", "checkpoint_path=RUN", "test_nepisode=0"], "nothing to play"),
        (["render=True"], "use it with evaluate=True"),
        (["evaluate=True", "checkpoint_path=RUN"], "hidden_dim=64 (trained with 8)"),
        (
            [
                "evaluate=True",
                "checkpoint_path=RUN",
                "hidden_dim=8",
                "use_rnn=True",
                "env_args.map_name=black_blue_red",
            ],
            "3 agents (trained: 4)",
        ),
        (["evaluate=3"], "evaluate=3 has the wrong type"),
        (["save_replay=True"], "`oamarl evaluate --video` records episodes"),
    ],
)
def test_contradictions_with_evaluate(
    words: list[str], said: str, maze_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [w.replace("RUN", str(maze_run)) for w in words]
    common = ["--config=oappo", "--env-config=maze", "with", f"local_results_path={tmp_path}"]
    code, out, err = call(capsys, *common, *given)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.json"))


def test_latest_is_no_evaluation(maze_run: Path, tmp_path: Path) -> None:
    from oamarl.tools.showcase.command import find_run

    for k, evaluated in enumerate([False, True]):
        folder = tmp_path / f"sacred/oappo/black_red/{k}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"evaluate": evaluated}))
    assert find_run("latest", tmp_path).name == "0"


# -- pictures ------------------------------------------------------------------------------------------------------


def test_a_video_shows_every_step(tmp_path: Path) -> None:
    team: Any = Constant("maze", {"time_limit": 4}, [0, 1, 0, 1])
    path = tmp_path / "new folder" / "a.gif"
    plan = Plan("maze", {"time_limit": 4}, 3, 0, video=path, video_episodes=2)
    episodes = evaluate(team, plan)
    assert len(episodes) == 3
    same(episodes, evaluate(team, Plan("maze", {"time_limit": 4}, 3, 0)))
    gif = PIL.open(path)
    total = 0
    for k in range(gif.n_frames):
        gif.seek(k)
        total += gif.info["duration"]
    assert gif.size == (360, 360 + 26)
    # two episodes of five moments, the last of which stays for four more, 200 ms each
    assert total == 2 * (5 + 4) * 200
    assert [p.name for p in path.parent.iterdir()] == ["a.gif"]


def test_maze_pictures_follow_the_agents() -> None:
    watched = Watched("maze", {})
    watched.reset(np.zeros(1, np.int64), np.zeros(1, np.int64))
    first = watched.frame()
    watched.step(np.array([[0, 1, 4, 4]]), np.ones(1, bool))
    second = watched.frame()
    changed = {tuple(x) for x in np.argwhere((first != second).any(-1)) // 40}
    assert changed == {(4, 2), (5, 2), (6, 2)}  # the start, the cell above and the one below
    watched.close()


def test_matrix_pictures_frame_the_joint_action() -> None:
    for args, actions in (({}, [2, 1]), ({"key": "prop1", "n_agents": 4}, [0, 1, 1, 0])):
        watched = Watched("matrix", args)
        watched.reset(np.zeros(1, np.int64), np.zeros(1, np.int64))
        before = watched.frame()
        watched.step(np.array([actions]), np.ones(1, bool))
        cells = {tuple(x) for x in (np.argwhere((before != watched.frame()).any(-1)) - 40) // 72}
        assert cells == ({(2, 1)} if not args else set(enumerate(actions)))
        watched.close()


@pytest.mark.parametrize("key", ["lbforaging:Foraging-8x8-2p-3f-v3", "rware:rware-tiny-2ag-v2"])
def test_pictures_of_other_packages(key: str) -> None:
    """Drawn with OpenGL: a picture where this machine has it, and one sentence elsewhere."""
    watched = Watched("gymma", {"key": key})
    watched.reset(np.zeros(1, np.int64), np.zeros(1, np.int64))
    try:
        frame = watched.frame()
    except UserError as error:
        assert "cannot be drawn here" in str(error)  # noqa: PT017
    else:
        assert frame.dtype == np.uint8
        assert frame.std() > 5
    watched.close()


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(UserError, match="cannot be drawn: it has no render"):
        Watched(MIXED, {})
    watched = Watched("maze", {})
    for broken, said in (
        (lambda slot: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda slot: None, "no picture"),
    ):
        watched._env.render = broken
        with pytest.raises(UserError, match=said):
            watched.frame()


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_nothing_is_left_of_a_video_that_fails(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    team: Any = Constant("maze", {}, [0, 0, 0, 0])
    whole, count = Watched.frame, 0

    def frame(self: Watched) -> np.ndarray:
        nonlocal count
        count += 1
        if count > 5:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(Watched, "frame", frame)
    with pytest.raises(KeyboardInterrupt):
        evaluate(team, Plan("maze", {}, 1, 0, video=tmp_path / f"a{suffix}"))
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"pip install imageio-ffmpeg"):
        check_target(tmp_path / "a.mp4")


def test_mp4(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    video = Video(check_target(tmp_path / "a.mp4"))
    for k in range(4):
        video.add(np.full((101, 251, 3), 60 * k, np.uint8), f"step {k}", last=k == 3)
    path = video.close()
    assert path.read_bytes()[4:8] == b"ftyp"
    assert list(tmp_path.iterdir()) == [path]


# -- a team as a library -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ragged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agents with 3 and 5 numbers to see and 2 and 4 actions; GRU policies."""
    folder = tmp_path_factory.mktemp("ragged")
    more = {"use_rnn": True, "obs_last_action": True, "head_gain": 2.0}
    return train(folder, "mappo", RAGGED, t_max=30, sharing="separate", **more).folder


def test_the_documents_example(maze_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "results/sacred/oappo/black_red/1" in code
    exec(code.replace("results/sacred/oappo/black_red/1", str(maze_run)), {})
    out = capsys.readouterr().out
    saved = checkpoints.load(checkpoints.find(maze_run))
    assert f"4 oappo {saved['runner']['t_env']}" in out
    plan = Plan("maze", {"time_limit": 10}, 1, 0)
    (episode,) = evaluate(oamarl.load(maze_run), plan)
    assert float(out.split()[-1]) == pytest.approx(episode.returns.sum(), rel=1e-5)


def test_one_row_and_many(ragged_run: Path) -> None:
    team = oamarl.load(ragged_run)
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((6, 3, 2, 5)).astype(np.float32)
    together = np.stack([team.act(obs) for obs in steps])
    assert together.shape == (6, 3, 2)
    assert together.dtype == np.int64
    for b in range(3):
        team.reset()
        alone = [team.act(obs[b]) for obs in steps]
        assert alone[0].shape == (2,)
        np.testing.assert_array_equal(alone, together[:, b])


def test_what_is_remembered_and_forgotten(ragged_run: Path) -> None:
    team = oamarl.load(ragged_run)
    steps = np.random.default_rng(1).standard_normal((40, 2, 2, 5)).astype(np.float32)

    def play(reset_at: int | None, rows: list[bool] | None = None) -> np.ndarray:
        team.reset()
        seen = []
        for t, obs in enumerate(steps):
            if t == reset_at:
                team.reset(None if rows is None else np.array(rows))
            seen.append(team.act(obs))
        return np.stack(seen)

    whole, cut, half = play(None), play(20), play(20, [True, False])
    assert (whole[20:] != cut[20:]).any(), "memory matters here"
    np.testing.assert_array_equal(whole[:20], cut[:20])
    np.testing.assert_array_equal(half[:, 0], cut[:, 0])
    np.testing.assert_array_equal(half[:, 1], whole[:, 1])
    team.reset()
    fresh = np.stack([team.act(obs) for obs in steps[20:]])
    np.testing.assert_array_equal(fresh, cut[20:])


def test_sampled_actions_follow_the_policy_and_the_seed(tmp_path: Path) -> None:
    run = train(tmp_path, "ippo", "matrix", t_max=40, backend="auto", head_gain=2.0)
    team = oamarl.load(run.folder, greedy=False, seed=4)
    obs = np.ones((20_000, 2, 1), np.float32)
    first = team.act(obs)
    (params,) = team.mac.network.params.detach()
    inputs = torch.cat([torch.ones(2, 1), torch.eye(2)], -1)  # what is seen, and the agent's id
    probabilities = team.mac.network.single(params, inputs).softmax(-1).detach().numpy()
    shares = np.stack([(first == a).mean(0) for a in range(3)], -1)
    error = np.sqrt(probabilities * (1 - probabilities) / len(obs))
    assert (np.abs(shares - probabilities) < 5 * error + 1e-9).all()
    np.testing.assert_array_equal(team.act(obs, greedy=True), np.broadcast_to(probabilities.argmax(-1), (20_000, 2)))
    team.seed(4)
    np.testing.assert_array_equal(team.act(obs), first)
    assert (team.act(obs) != first).any()


def test_illegal_actions_are_never_taken(ragged_run: Path) -> None:
    team = oamarl.load(ragged_run, greedy=False)
    obs = np.zeros((4000, 2, 5))
    assert team.act(obs).max(0).tolist() == [1, 3]  # padding is legal for no agent
    team.reset()
    avail = np.broadcast_to(np.array([[0, 1, 0, 0], [1, 0, 1, 0]], bool), (4000, 2, 4))
    actions = team.act(obs, avail)
    assert set(actions[:, 0].tolist()) == {1}
    assert set(actions[:, 1].tolist()) == {0, 2}


def test_what_comes_out_is_the_callers_own(ragged_run: Path) -> None:
    team, other = oamarl.load(ragged_run), oamarl.load(ragged_run)
    steps = np.random.default_rng(2).standard_normal((30, 2, 5))
    for obs in steps:
        actions = team.act(obs)
        np.testing.assert_array_equal(actions, other.act(obs))
        actions[...] = 0


@pytest.mark.parametrize(
    ("obs", "avail", "said"),
    [
        (np.zeros((2, 4)), None, r"\(2, 4\): \[2, 5\] or \[B, 2, 5\]"),
        (np.zeros(10), None, "is expected"),
        (np.zeros((1, 1, 2, 5)), None, "is expected"),
        (np.full((2, 5), np.nan), None, "not finite"),
        (np.zeros((2, 5)), np.ones((2, 3), bool), r"avail has shape \(2, 3\): \(2, 4\)"),
        (np.zeros((3, 2, 5)), np.ones((2, 4), bool), "is expected beside obs"),
        (np.zeros((2, 5)), np.zeros((2, 4), bool), "without a legal action"),
    ],
)
def test_wrong_shapes(obs: np.ndarray, avail: np.ndarray | None, said: str, ragged_run: Path) -> None:
    with pytest.raises(ValueError, match=said):
        oamarl.load(ragged_run).act(obs, avail)


def test_another_number_of_episodes_needs_a_reset(ragged_run: Path) -> None:
    team = oamarl.load(ragged_run)
    team.act(np.zeros((3, 2, 5)))
    with pytest.raises(ValueError, match="3 are under way"):
        team.act(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="rows must be"):
        team.reset(np.array([0, 1]))
    team.reset()
    assert team.act(np.zeros((2, 5))).shape == (2,)


def test_a_report_is_strict_json(sampler: Team) -> None:
    plan = Plan(MIXED, {}, 2, 0, stepping=stepping())
    episodes = evaluate(sampler, plan)
    episodes[0].returns[0] = np.nan
    text = json.dumps(report(sampler, plan, episodes), allow_nan=False)
    assert json.loads(text)["episodes"][0]["return"] is None
