"""The training loop: what is due when, what a run leaves behind, and how it ends."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.components.seeding import episode_seed
from oamarl.envs.base import Arrays
from oamarl.envs.vector.make import make_vec
from oamarl.evaluation.team import load
from oamarl.main import main
from oamarl.modules.kernels import compiled
from oamarl.parts import resolve
from oamarl.storage import checkpoints
from oamarl.storage.log import RunLog
from oamarl.storage.records import read_metrics
from oamarl.training.building import build
from oamarl.training.loop import Training
from oamarl.training.resume import MAY_DIFFER, check_same
from oamarl.training.run_config import RunConfig
from oamarl.utils.errors import UserError
from oamarl.utils.schema.command_line import parse

from conftest import Program
from run_tools import ALGORITHMS, CPU, Trained, assert_same, assert_same_run, latest, settings, train, untimed
from toy_envs import Truncating

PLAIN = "toy_envs:Truncating"
FIVE: dict[str, Any] = {"limit": 5}  # with 4 slots: 20 steps an iteration


def steps_with(run: Trained, name: str) -> list[int]:
    return [p["t"] for p in run.points if name in p["metrics"]]


class FailsLater(Truncating):
    """Breaks in its fourth episode."""

    def __init__(self, sentence: bool = False) -> None:
        super().__init__(3)
        self.sentence, self.episodes = sentence, 0

    def reset(self, seed: int, out: Arrays) -> None:
        self.episodes += 1
        if self.episodes == 4 and self.sentence:
            raise UserError("The licence has run out.")
        if self.episodes == 4:
            raise ZeroDivisionError("the fourth episode breaks")
        super().reset(seed, out)


# -- what is due when --------------------------------------------------------------------------------------


def tested_at_and_tests_come_at_their_intervals(tmp_path: Path) -> None:
    """Iterations end at 20, 40, ...; each is due at the first end at or after a multiple of its interval."""
    run = train(tmp_path, "mappo", PLAIN, FIVE, t_max=200, log_interval=50, test_interval=70)
    assert steps_with(run, "updates") == [60, 100, 160, 200]
    # a test comes before the update that follows; the last is the closing one
    assert steps_with(run, "test_return_mean") == [0, 80, 140, 200]
    assert [p["metrics"]["updates"] for p in run.points if "updates" in p["metrics"]] == [3, 5, 8, 10]
    assert run.result["t_env"] == 200


def test_a_run_ends_at_the_first_iteration_that_reaches_t_max(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", PLAIN, FIVE, t_max=101, log_interval=50, test_interval=50)
    assert run.result["t_env"] == 120
    assert steps_with(run, "updates") == [60, 100, 120], "the closing point holds what no interval reached"
    assert steps_with(run, "test_return_mean") == [0, 60, 100, 120]


def test_a_run_shorter_than_its_intervals_has_points_all_the_same(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", PLAIN, FIVE, t_max=41, log_interval=1000, test_interval=1000)
    assert steps_with(run, "updates") == [20, 40, 60]
    assert steps_with(run, "test_return_mean") == [0, 20, 40, 60]


def test_without_test_episodes_there_is_no_test(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", PLAIN, FIVE, t_max=60, test_nepisode=0, test_interval=1)
    assert not any(k.startswith("test_") for p in run.points for k in p["metrics"])
    assert not any(k.startswith("test_") for k in run.result)


def test_a_point_is_the_mean_since_the_last_one(tmp_path: Path) -> None:
    """The same run logged at each iteration and at every third."""
    each = train(tmp_path / "each", "oappo", PLAIN, FIVE, t_max=180, log_interval=20, test_nepisode=0)
    third = train(tmp_path / "third", "oappo", PLAIN, FIVE, t_max=180, log_interval=60, test_nepisode=0)
    assert steps_with(third, "updates") == [60, 120, 180]
    counters = {"episode", "agent_steps", "updates", "processed_samples"}
    fine, coarse = untimed(each.points), untimed(third.points)
    for k, (_, point) in enumerate(coarse):
        part = [m for _, m in fine[3 * k : 3 * k + 3]]
        for name, value in point.items():
            if name in counters:
                assert value == part[-1][name]
            elif not name.endswith("_std"):
                reduce = max if name.endswith("_max") else min if name.endswith("_min") else np.mean
                assert value == pytest.approx(reduce([m[name] for m in part])), name
    assert_same(third.loop.mac.state_dict(), each.loop.mac.state_dict())


def test_returns_updates_and_counters_may_have_intervals_of_their_own(tmp_path: Path) -> None:
    """What is in no point yet at the end is in the closing one, and each value is the mean since its last one."""
    common = {"t_max": 250, "test_nepisode": 0}
    each = train(tmp_path / "each", "mappo", PLAIN, FIVE, log_interval=20, **common)
    intervals = {"log_interval": 120, "runner_log_interval": 40, "learner_log_interval": 60}
    own = train(tmp_path / "own", "mappo", PLAIN, FIVE, **intervals, **common)
    assert steps_with(own, "return_mean") == steps_with(own, "ep_length_mean") == [*range(40, 241, 40), 260]
    assert steps_with(own, "entropy") == steps_with(own, "critic_loss") == [60, 120, 180, 240, 260]
    assert steps_with(own, "updates") == steps_with(own, "wall_clock") == [120, 240, 260]
    steps = sorted({t for t, _ in untimed(own.points)})
    assert steps == [40, 60, 80, 120, 160, 180, 200, 240, 260]
    log = (own.folder / "run.log").read_text()
    assert [t for t in steps if re.search(rf"Step {t}$", log, flags=re.MULTILINE)] == [120, 240, 260]
    for name, interval in (("return_mean", 40), ("critic_loss", 60), ("ratio_max", 60)):
        fine = {t: m[name] for t, m in untimed(each.points) if name in m}
        for t, point in untimed(own.points):
            if name in point:
                since = [v for s, v in fine.items() if (t - 1) // interval * interval < s <= t]
                assert point[name] == pytest.approx(max(since) if name.endswith("_max") else np.mean(since)), (name, t)
    assert_same(own.loop.mac.state_dict(), each.loop.mac.state_dict())


@pytest.mark.parametrize("left_out", ["runner", "learner", "counted"])
def test_intervals_go_on_after_a_resume(left_out: str, tmp_path: Path) -> None:
    """Also from a checkpoint of a version with one interval for all (which lacks their times)."""
    intervals = {"log_interval": 40, "runner_log_interval": 20, "learner_log_interval": 30}
    if left_out != "counted":
        intervals = {"log_interval": 40}
    more = {"t_max": 200, "test_nepisode": 0, "checkpoint_interval": 100, "lr_schedule": "constant", **intervals}
    straight = train(tmp_path / "straight", "mappo", PLAIN, FIVE, **more)
    cut = train(tmp_path / "cut", "mappo", PLAIN, FIVE, **{**more, "t_max": 100})
    saved = checkpoints.load(checkpoints.find(tmp_path / "cut"))
    assert saved["runner"]["t_env"] == 100
    if left_out == "counted":
        assert saved["loop"]["counted"] is False
    else:
        saved["loop"]["next"].pop(left_out)
        saved["loop"].pop("counted")
    runner, mac, learner = build(straight.asked, CPU)
    log = RunLog(tmp_path / "on")
    try:
        Training(straight.asked.part(RunConfig), straight.asked.values, runner, mac, learner).run(log, saved)
    finally:
        log.close()
        runner.close()
    assert cut.result["t_env"] == 100
    assert_same(untimed(read_metrics(tmp_path / "on")), untimed(straight.points))


def test_counters_and_clocks_only_grow(tmp_path: Path) -> None:
    run = train(tmp_path, "oappo", "toy_envs:EarlyEnd", {"limit": 7}, t_max=96, reuse_scheme="all")
    logged = [p["metrics"] for p in run.points if "updates" in p["metrics"]]
    # 3 agents live for 2, 4 and 6 steps; 4 episodes an iteration
    assert [m["agent_steps"] for m in logged] == [48, 96, 144, 192]
    assert [m["episode"] for m in logged] == [4, 8, 12, 16]
    # two epochs over all sources of all three learners
    assert logged[0]["processed_samples"] == 2 * 3 * 48
    for name in ("wall_clock", "time_environment", "time_inference", "time_learning", "processed_samples"):
        values = [m[name] for m in logged]
        assert all(a < b for a, b in itertools.pairwise(values)), name
    parts = ("environment", "inference", "learning", "logging", "testing")
    assert sum(logged[-1][f"time_{p}"] for p in parts) <= logged[-1]["wall_clock"]


def test_sequential_methods_process_as_much_as_ppo(tmp_path: Path) -> None:
    """Only learning from others costs more samples; `frequency` costs no more than HAPPO."""
    more: dict[str, Any] = {"t_max": 24, "test_nepisode": 0}
    early = ("toy_envs:EarlyEnd", {"limit": 7})

    def processed(name: str, config: str, **values: Any) -> float:
        return train(tmp_path / name, config, *early, **more, **values).last("processed_samples")

    assert processed("a", "mappo") == processed("b", "happo") == processed("c", "oappo", reuse_scheme="none") == 96
    assert processed("d", "oappo", reuse_mode="frequency") <= 2 * 3 * 24
    assert processed("e", "hatrpo") == 48  # one pass


def test_what_is_due_next_is_a_multiple_of_its_interval() -> None:
    asked = settings("mappo", PLAIN, FIVE, t_max=100, log_interval=30)
    runner, mac, learner = build(asked, CPU)
    runner.close()
    loop = Training(asked.part(RunConfig), asked.values, runner, mac, learner)
    due = []
    for runner.t_env in (20, 40, 60, 100, 120):
        due.append(loop._is_due("log", 30))
    assert due == [False, True, True, True, True]
    assert loop.next["log"] == 150


# -- checkpoints and snapshots ---------------------------------------------------------------------------


def test_two_checkpoints_and_all_snapshots_are_kept(tmp_path: Path) -> None:
    run = train(
        tmp_path, "mappo", PLAIN, FIVE, t_max=200, checkpoint_interval=40, save_model=True, save_model_interval=60
    )
    names = sorted(p.name for p in (run.folder / "checkpoints").iterdir())
    assert names == ["checkpoint_000000000160.pt", "checkpoint_000000000200.pt"]
    assert sorted(p.name for p in (run.folder / "models").iterdir()) == [
        f"checkpoint_{t:012d}.pt" for t in (60, 120, 180)
    ]


def test_no_snapshots_unless_asked_for(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", PLAIN, FIVE, t_max=60, save_model_interval=20)
    assert not (run.folder / "models").exists()
    assert [checkpoints.steps_of(p) for p in checkpoints.listed(run.folder / "checkpoints")] == [60]


@pytest.mark.parametrize(("config", "use_rnn"), [("mappo", False), ("oappo", True)])
def test_a_trained_team_acts_as_it_did(config: str, use_rnn: bool, tmp_path: Path) -> None:
    """`oamarl.load`, greedy, on a test episode played by hand: the return that the closing test found."""
    run = train(tmp_path, config, PLAIN, FIVE, t_max=100, use_rnn=use_rnn, obs_last_action=True, head_gain=1.0, lr=0.01)
    team = load(run.folder)
    vec = make_vec(PLAIN, FIVE, 4, backend="serial")
    returns = []
    for n in (4, 1):  # two hands of the same team, the second after a reset
        team.reset()
        vec.reset(np.arange(4), np.array([episode_seed(run.loop.runner.seed, "test", b, 0) for b in range(4)]))
        total = np.zeros(n)
        for _ in range(5):
            actions = np.zeros((4, 2), np.int64)
            actions[:n] = team.act(vec.arrays.obs[:n], vec.arrays.avail[:n])
            vec.step(actions, np.ones(4, bool))
            total += vec.arrays.reward[:n].sum(1)
        returns.append(total)
    vec.close()
    # three test episodes: slots 0, 1 and 2
    assert np.mean(returns[0][:3]) == pytest.approx(run.result["test_greedy_return_mean"], rel=1e-6)
    assert returns[1][0] == pytest.approx(returns[0][0])


# -- resuming: what must be the same -----------------------------------------------------------------------


def test_every_key_that_may_differ_exists() -> None:
    values = settings("oappo", PLAIN).values
    assert not MAY_DIFFER - set(values)
    check_same({**values, **dict.fromkeys(MAY_DIFFER, "other")}, values, Path("there"))
    assert not MAY_DIFFER & {"lr", "seed", "gamma", "env_args", "batch_size_run", "reuse_sigma", "hidden_dim", "epochs"}


def test_a_run_from_before_a_key_was_added_goes_on_where_it_has_the_old_meaning() -> None:
    old = settings("hatrpo", PLAIN).values
    for name in ("entropy_coef", "entropy_schedule", "entropy_coef_final", "standardise_obs", "init", "feature_norm"):
        del old[name]
    check_same(settings("hatrpo", PLAIN, entropy_coef=0).values | {"seed": old["seed"]}, old, Path("there"))
    otherwise = settings("hatrpo", PLAIN, entropy_coef=0, init="torch").values | {"seed": old["seed"]}
    with pytest.raises(UserError, match=r"init='torch' \(was null\)"):
        check_same(otherwise, old, Path("there"))
    with pytest.raises(UserError, match=r"entropy_coef=0.1 \(was null\)"):
        check_same(settings("hatrpo", PLAIN, entropy_coef=0.1).values | {"seed": old["seed"]}, old, Path("there"))


# -- whole runs ------------------------------------------------------------------------------------------------

WORDS = (
    "--config=oappo", "--env-config=maze", "with", "seed=4", "use_cuda=False", "env_args.time_limit=10",
    "batch_size_run=4", "hidden_dim=8", "epochs=1", "t_max=200", "log_interval=40", "test_interval=100",
    "test_nepisode=2",
)  # fmt: skip


def stored(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    assert main([*WORDS, f"local_results_path={tmp_path}", "label=a try"]) == 0
    folder = tmp_path / "sacred" / "oappo" / "black_red" / "1"
    config, run, info = (stored(folder, name) for name in ("config", "run", "info"))
    assert (config["t_max"], config["env_args"]["time_limit"], config["reuse_sigma"]) == (200, 10, 0.1)
    assert config["label"] == "a try"
    assert run["status"] == "COMPLETED"
    assert run["result"]["t_env"] == 200
    points = read_metrics(folder)
    assert run["result"]["test_return_mean"] == points[-1]["metrics"]["test_return_mean"]
    assert {"torch", "numpy", "oamarl", "python"} <= set(info["versions"])
    assert info["networks"] == ("C" if compiled.available(torch.empty(0), config["hidden_dim"]) else "torch")
    kept = {Path(path).name for path, _ in run["experiment"]["sources"]}
    assert {"main.py", "oappo.py", "network.c", "mixing.h"} <= kept
    assert [p["t"] for p in points] == [0, 40, 80, 120, 120, 160, 200, 200]
    metrics = stored(folder, "metrics")
    assert metrics["return_mean"]["steps"] == [40, 80, 120, 160, 200]
    assert metrics["return_mean"]["values"] == [
        p["metrics"]["return_mean"] for p in points if "return_mean" in p["metrics"]
    ]
    assert (folder / "run.log").read_text().count("return_mean") >= 5
    assert (folder / "reuse.arrays").exists()
    assert main([*WORDS, f"local_results_path={tmp_path}"]) == 0
    assert_same_run(folder, folder.with_name("2"))


@pytest.mark.slow
def test_a_process_of_its_own_finds_the_same_numbers(program: Program, tmp_path: Path) -> None:
    assert main([*WORDS, f"local_results_path={tmp_path / 'here'}"]) == 0
    done = program(*WORDS, f"local_results_path={tmp_path / 'there'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where = Path("sacred", "oappo", "black_red", "1")
    assert_same_run(tmp_path / "here" / where, tmp_path / "there" / where)


def test_a_seed_is_drawn_and_stored(tmp_path: Path) -> None:
    words = [w for w in WORDS if not w.startswith("seed=")]
    seeds = set()
    for _ in range(2):
        assert main(latest([*words, "t_max=40", f"local_results_path={tmp_path}"])) == 0
    for folder in (tmp_path / "sacred" / "oappo" / "black_red").glob("[0-9]*"):
        seeds.add(stored(folder, "config")["seed"])
        # a run whose seed was drawn continues with it
        again = latest([*words, "t_max=80", f"local_results_path={tmp_path / 'again'}", f"checkpoint_path={folder}"])
        assert main(again) == 0
    assert len(seeds) == 2
    resumed = (tmp_path / "again" / "sacred" / "oappo" / "black_red").glob("[0-9]*")
    assert {stored(folder, "config")["seed"] for folder in resumed} == seeds


def test_a_failing_environment_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config=mappo", "with", "env=test_run:FailsLater", "use_cuda=False", "test_nepisode=0",
             "batch_size_run=1", "backend=serial", "t_max=100", "log_interval=1",
             f"local_results_path={tmp_path}"]  # fmt: skip
    assert main(words) == 1
    (folder,) = tmp_path.glob("sacred/mappo/*/1")
    assert stored(folder, "run")["status"] == "FAILED"
    text = (folder / "run.log").read_text()
    assert "the fourth episode breaks" in text
    assert text.count("Traceback") >= 1
    assert len(read_metrics(folder)) == 3, "what was learned before is kept"
    assert "the fourth episode breaks" in "".join(capsys.readouterr())


def test_an_environment_may_end_the_run_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config=mappo", "with", "env=test_run:FailsLater", "env_args.sentence=True", "use_cuda=False",
             "test_nepisode=0", "batch_size_run=1", "backend=serial", "t_max=100",
             f"local_results_path={tmp_path}"]  # fmt: skip
    assert main(words) == 2
    assert capsys.readouterr().err.rstrip().endswith("The licence has run out.")
    (folder,) = tmp_path.glob("sacred/mappo/*/1")
    assert stored(folder, "run")["status"] == "FAILED"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_asking_for_a_gpu_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [w for w in WORDS if not w.startswith("use_cuda")]
    assert main(latest([*words, "t_max=40", f"local_results_path={tmp_path}"])) == 0
    assert "torch finds no GPU" not in "".join(capsys.readouterr())
    assert main(latest([*words, "t_max=40", f"local_results_path={tmp_path}", "use_cuda=True"])) == 0
    assert "torch finds no GPU" in "".join(capsys.readouterr())


def test_contradictions_are_found_before_a_run_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, f"local_results_path={tmp_path}", "batch_size=6"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_resolve_is_what_the_tools_use() -> None:
    """`run_tools.settings` asks for what a command line would."""
    request, _ = parse(["--config=oappo", "--env-config=maze", "with", "seed=3", "lr=0.5"])
    a, b = resolve(request).values, settings("oappo", "maze", lr=0.5).values
    assert a["lr"] == b["lr"] == 0.5
    assert set(a) == set(b)


# -- the best checkpoint -------------------------------------------------------------------------------------


def returns_tested(folder: Path, name: str = "test_return_mean") -> list[tuple[int, float]]:
    return [(p["t"], p["metrics"][name]) for p in read_metrics(folder) if name in p["metrics"]]


def kept_best(folder: Path) -> tuple[int, float]:
    (path,) = checkpoints.listed(folder / "best")
    best = checkpoints.load(path)["loop"]["best"]
    assert best["t_env"] == checkpoints.steps_of(path)
    return best["t_env"], best["return_mean"]


SWINGING: dict[str, Any] = {
    "t_max": 400, "test_interval": 20, "lr": 0.05, "lr_schedule": "constant", "head_gain": 2.0, "test_greedy": False,
}  # fmt: skip


def test_the_best_checkpoint_is_the_first_with_the_highest_test_return(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", PLAIN, FIVE, **SWINGING)
    points = returns_tested(run.folder)
    assert len({value for _, value in points}) > 2
    assert kept_best(run.folder) == max(points, key=lambda p: (p[1], -p[0]))
    assert kept_best(run.folder)[0] < 400, "this run is to get worse again"
    # the policies are those of that moment: the test is the same again
    loop = train(tmp_path / "again", "mappo", PLAIN, FIVE, **(SWINGING | {"t_max": kept_best(run.folder)[0]})).loop
    assert_same(loop.mac.state_dict(), checkpoints.load(checkpoints.find(run.folder / "best"))["mac"])


def test_the_closing_test_may_be_the_best(tmp_path: Path) -> None:
    """What is kept then is the state before the closing point, as in every last checkpoint."""
    run = train(
        tmp_path, "mappo", PLAIN, FIVE, **(SWINGING | {"test_interval": 10**6, "t_max": 20, "test_greedy": True})
    )
    (_, before), (_, after) = returns_tested(run.folder, "test_greedy_return_mean")
    assert after > before
    assert kept_best(run.folder) == (20, after)
    best, last = (checkpoints.load(checkpoints.find(run.folder / name)) for name in ("best", "checkpoints"))
    assert_same(best["position"], last["position"])
    assert_same(best["mac"], last["mac"])


@pytest.mark.parametrize("more", [{"save_best": False}, {"test_nepisode": 0}])
def test_no_best_checkpoint_without_tests_or_unless_asked_for(more: dict[str, Any], tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", PLAIN, FIVE, t_max=60, **more)
    assert not (run.folder / "best").exists()


def test_a_resumed_run_keeps_the_best(tmp_path: Path) -> None:
    words = ["--config=mappo", "with", f"env={PLAIN}", "env_args.limit=5", "seed=3", "use_cuda=False", "hidden_dim=8",
             "batch_size_run=4", "epochs=2", "backend=serial", "test_nepisode=3",
             *(f"{k}={v}" for k, v in SWINGING.items())]  # fmt: skip
    assert main([*words, f"local_results_path={tmp_path / 'whole'}"]) == 0
    (whole,) = tmp_path.glob("whole/sacred/mappo/*/1")
    best, _ = kept_best(whole)
    for name, steps in (("before", best - 20), ("after", best + 60)):
        assert main(latest([*words, f"t_max={steps}", f"local_results_path={tmp_path / name}"])) == 0
        (first,) = tmp_path.glob(f"{name}/sacred/mappo/*/1")
        assert main([*words, f"checkpoint_path={first}", f"local_results_path={tmp_path / name}"]) == 0
        assert kept_best(first.with_name("2")) == kept_best(whole)


def test_individual_rewards_go_by_the_total(tmp_path: Path) -> None:
    run = train(tmp_path, "ippo", PLAIN, FIVE, common_reward=False, **SWINGING)
    totals = [p["metrics"]["test_total_return_mean"] for p in run.points if "test_total_return_mean" in p["metrics"]]
    assert kept_best(run.folder)[1] == max(totals)


# -- equal numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ALGORITHMS)
def test_the_same_command_twice_gives_the_same_files(config: str, tmp_path: Path) -> None:
    words = [f"--config={config}", "--env-config=matrix", "with", "env_args.steps=4", "t_max=160", "batch_size_run=8",
             "seed=11", "use_cuda=False", "hidden_dim=8", "log_interval=32", "test_interval=64",
             "test_nepisode=4", *(["seps_steps=1"] if config == "seps" else [])]  # fmt: skip
    for name in "ab":
        assert main([*words, f"local_results_path={tmp_path / name}"]) == 0
    a, b = (next((tmp_path / name).glob("sacred/*/*/1")) for name in "ab")
    assert len(read_metrics(a)) >= 7
    assert_same_run(a, b)


@pytest.mark.parametrize("config", ["mappo", "oappo", "oatrpo"])
@pytest.mark.parametrize("runner", [{}, {"runner": "rollout", "rollout_length": 7}])
def test_looking_changes_nothing(config: str, runner: dict[str, Any], tmp_path: Path) -> None:
    """Tests, points, checkpoints and snapshots, often or never: the same training."""
    recurrent = config == "mappo" or not runner  # segments and recurrent reuse do not go together
    more: dict[str, Any] = {"t_max": 200, "obs_last_action": True, "use_rnn": recurrent, **runner}
    often = train(tmp_path / "often", config, PLAIN, FIVE, test_interval=1, log_interval=1, checkpoint_interval=1,
                  save_model=True, save_model_interval=1, test_greedy=False, **more)  # fmt: skip
    never = train(tmp_path / "never", config, PLAIN, FIVE, test_nepisode=0, log_interval=10**6, save_best=False, **more)
    for name in ("mac", "learner", "runner"):
        assert_same(getattr(often.loop, name).state_dict(), getattr(never.loop, name).state_dict(), name)
    assert len(often.points) > 2 * len(never.points)
