"""Info metrics: numbers that environments report at an episode's end, as they are logged by every backend."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.components.seeding import episode_seed
from oamarl.envs.info_metrics import MAX_METRICS, InfoMetrics, renaming, summarise
from oamarl.envs.vector.make import make_vec
from oamarl.evaluation.play import Plan, evaluate, logged_metrics, report
from oamarl.runners.episodes import Episodes
from oamarl.storage.log import RunLog
from oamarl.tools import check_env
from oamarl.training.building import build
from oamarl.training.curve import Curve
from oamarl.training.loop import Training
from oamarl.training.run_config import RunConfig
from oamarl.utils import warn_once

import toy_zoo
from evaluation_tools import Constant, same, stepping
from run_tools import CPU, settings, train, untimed

TELLING = {"key": "toy_gym:ToyTelling-v0"}
NAMES = {"score", "lost", "info_return", "time_left/s", "won"}


@pytest.fixture(autouse=True)
def new_run() -> None:
    warn_once.begin_run()


def expected(seeds: list[int]) -> dict[str, float]:
    """Return the info metrics of episodes of ToyTelling, by the seeds alone."""
    every = {
        "score": [s % 7 for s in seeds], "lost": [s % 2 == 0 for s in seeds], "info_return": [5] * len(seeds),
        "time_left/s": [0.5] * len(seeds), "won": [s % 2 for s in seeds],
    }  # fmt: skip
    return {f"{name}_mean": float(np.mean(x)) for name, x in every.items() if name != "won" or any(x)}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0), (np.bool_(False), 0.0), (3, 3.0), (np.float32(0.5), 0.5), (np.array(2), 2.0), (math.inf, math.nan),
        (10**400, math.nan), (np.nan, math.nan), (10**30, 1e30), (np.array([2]), None), ([1], None), ("3", None),
        (np.str_("3"), None), (b"3", None), (None, None), ({"a": 1}, None), (1j, None), (np.datetime64("2020"), None),
        (object(), None), (np.array(None), None),
    ],
)  # fmt: skip
def test_what_counts_as_a_number(value: Any, number: float | None) -> None:
    summary = summarise([{"x": value}])
    if number is None:
        assert (summary.values, list(summary.rest)) == ({}, ["x"])
    else:
        assert summary.values == pytest.approx({"x": number}, nan_ok=True)


def test_names_are_made_fit_and_never_the_programs_own() -> None:
    keys = ("a b", "TimeLimit.truncated", 3, "team/points", "__", "return", "ep_length", "agent_1_return",
            "total_return", "test_x", "value", "agents", "returns", "Größe")  # fmt: skip
    summary = summarise([dict.fromkeys(keys, 1.0)])
    own = {"return", "ep_length", "agent_1_return", "total_return", "test_x", "value"}
    others = {"a_b", "TimeLimit_truncated", "3", "team/points", "agents", "returns", "Größe"}
    assert set(summary.values) == others | {f"info_{name}" for name in own}
    assert set(summary.renamed) == own
    assert list(summary.rest) == ["__"]
    assert renaming({"return": "info_return", "x": "info_x"}) == (
        "they are logged as info_return_mean, info_x_mean, for return_mean, x_mean are metrics of the program's own"
    )
    # of two keys that would have one name the first is taken
    assert summarise([{"a b": 1.0, "a_b": 2.0}]).values == {"a_b": 1.0}


def test_learners_metrics_are_not_taken_for_infos() -> None:
    """A new mean of a learner's must be among the names that infos cannot have."""
    run_metrics = set()
    for config in ("mappo", "oatrpo", "seac"):
        runner, _, learner = build(settings(config, "matrix", {"steps": 2}), CPU)
        try:
            scalars, _ = learner.train(runner.run()[0], 0)
        finally:
            runner.close()
        run_metrics |= {name.removesuffix("_mean") for name in scalars if name.endswith("_mean")}
    assert run_metrics >= {"ratio", "value", "target"}
    assert not run_metrics & set(summarise([dict.fromkeys(run_metrics, 1.0)]).values)


def test_agents_infos_are_averaged_over_those_who_tell() -> None:
    assert summarise([{"a": 1, "b": True}, {"a": 4}, None, {}]).values == {"a": 2.5, "b": 1.0}


def test_names_stay_when_a_worker_begins_anew() -> None:
    whole = InfoMetrics.allocate(3)
    first = whole.part(1, 3)
    first.begin(np.arange(2))
    assert first.write(1, {"b": 2.0, "ä": 3.0})
    copy = whole.values[2].copy()
    again = whole.part(1, 3)
    again.begin(np.arange(2))
    assert whole.read(2) == {}
    assert again.write(1, {"a": 1.0, "ä": 4.0})
    assert whole.read(2) == {"a": 1.0, "ä": 4.0}
    assert whole.read(2, copy) == {"b": 2.0, "ä": 3.0}
    assert not again.write(1, {f"k{i}": i for i in range(MAX_METRICS)})
    assert len(whole.read(2)) == MAX_METRICS - 1


@pytest.mark.parametrize("options", [
    {"backend": "serial"}, {"backend": "process", "workers": 1}, {"backend": "process", "workers": 3},
    {"backend": "process", "workers": 2, "batch_size": 8},
])  # fmt: skip
def test_whole_episodes(tmp_path: Path, options: dict[str, Any]) -> None:
    size = options.get("batch_size", 4)
    run = train(tmp_path, "mappo", "gymma", TELLING, t_max=60, log_interval=1, test_nepisode=6, **options)
    points = [p["metrics"] for p in run.points if "updates" in p["metrics"]]
    for k, point in enumerate(points):
        each = size // 4
        seeds = [episode_seed(3, "train", b, n) for b in range(4) for n in range(k * each, (k + 1) * each)]
        wanted = expected(seeds)
        assert {n: point[n] for n in wanted} == pytest.approx(wanted)
        assert ("won_mean" in point) == ("won_mean" in wanted)
        assert not {"map_mean", "path_mean", "episode_mean"} & set(point)
        assert point["return_mean"] != 5
    tests = [p["metrics"] for p in run.points if "test_return_mean" in p["metrics"]]
    wanted = expected([episode_seed(3, "test", b, n) for b in range(4) for n in range(2 if b < 2 else 1)])
    assert tests
    for test in tests:
        assert {n: test[f"test_{n}"] for n in wanted} == pytest.approx(wanted)


def test_segments_are_equal_for_any_workers(tmp_path: Path) -> None:
    shown = []
    for k, options in enumerate(({"backend": "serial"}, {"backend": "process", "workers": 2})):
        run = train(tmp_path / str(k), "mappo", "gymma", TELLING, t_max=80, log_interval=20, runner="rollout",
                    rollout_length=5, **options)  # fmt: skip
        shown.append(untimed(run.points))
    assert shown[0] == shown[1]
    assert any("won_mean" in metrics for _, metrics in shown[0])


def test_a_worker_started_again_goes_on_telling(tmp_path: Path) -> None:
    dies = [episode_seed(3, "train", 1, 1)]
    run = train(tmp_path, "mappo", "gymma", {**TELLING, "dies": dies}, t_max=60, log_interval=1, backend="process",
                workers=2, on_worker_death="restart")  # fmt: skip
    point = [p["metrics"] for p in run.points if "updates" in p["metrics"]][1]
    assert point["worker_restarts"] >= 1
    # slots 0 and 1 were its own; slot 0 may have finished before
    options = [[episode_seed(3, "train", 0, n), *(episode_seed(3, "train", 1, m) for m in (2,))] for n in (1, 2)]
    rest = [episode_seed(3, "train", b, 1) for b in (2, 3)]
    assert any(point["score_mean"] == pytest.approx(expected([*o, *rest])["score_mean"]) for o in options)


def test_the_window_of_a_resumed_run_has_them(tmp_path: Path) -> None:
    asked = settings("mappo", "gymma", TELLING, t_max=40, log_interval=1000, test_nepisode=0)
    runner, mac, learner = build(asked, CPU)
    log = RunLog(tmp_path)
    try:
        loop = Training(asked.part(RunConfig), asked.values, runner, mac, learner)
        loop.run(log, None)
        loop.curve.window = runner.run()[1]
        state = loop.curve.state_dict()
        other = Curve(runner, learner, True)
        other.load_state_dict(state)
        assert other.window.info_metrics == loop.curve.window.info_metrics
        assert len(other.window.info_metrics) == 4
        wanted = loop.curve.window.scalars(runner.info, True)
        assert "score_mean" in wanted
        assert other.window.scalars(runner.info, True) == wanted
        del state["window"]["notes"]  # as an older version wrote it
        other.load_state_dict(state)
        assert "score_mean" not in other.window.scalars(runner.info, True)
    finally:
        log.close()
        runner.close()


def test_an_episode_that_tells_nothing_counts_as_zero() -> None:
    episodes = Episodes([np.zeros(1)] * 4, [1] * 4, [np.zeros(0)] * 4, [{"won": 1.0}, {}, {"won": 1.0}, {}])
    info: Any = type("Info", (), {"metrics": ()})
    assert episodes.scalars(info, True)["won_mean"] == 0.5


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_evaluation(backend: str) -> None:
    team: Any = Constant("gymma", TELLING, [0, 0])
    plan = Plan("gymma", TELLING, 7, 0, slots=3, stepping=stepping(backend, workers=2))
    episodes = evaluate(team, plan)
    wanted = expected([e.seed for e in episodes])
    logged = logged_metrics(episodes, plan, team.info)
    assert {n: logged[f"test_greedy_{n}"] for n in wanted} == pytest.approx(wanted)
    team.path, team.step, team.config = Path("x"), 0, {}
    found = report(team, plan, episodes)
    assert found["statistics"]["metrics"]["score"]["mean"] == pytest.approx(wanted["score_mean"])
    assert set(found["episodes"][0]["metrics"]) == NAMES - (set() if episodes[0].seed % 2 else {"won"})
    same(episodes, evaluate(team, Plan("gymma", TELLING, 7, 0)))
    assert [e.notes for e in episodes] == [e.notes for e in evaluate(team, Plan("gymma", TELLING, 7, 0))]


def played(key: str, seed: int = 0, **args: Any) -> dict[str, float]:
    vec = make_vec("gymma", {"key": key, "time_limit": 9, **args}, 1, backend="serial")
    try:
        vec.reset(np.zeros(1, np.int64), np.array([seed]))
        assert vec.info_metrics.read(0) == {}
        while not (vec.arrays.terminated[0] or vec.arrays.truncated[0]):
            vec.step(vec.arrays.avail.argmax(-1), np.ones(1, bool))
        return vec.info_metrics.read(0)
    finally:
        vec.close()


def test_lists_of_infos_and_pettingzoo() -> None:
    assert played("toy_gym:ToyTelling-v0", 3, per_agent=True)["score"] == 2.0  # of 3 and 1
    # each agent's last info: a left at step 2, b at 3, c at 5
    assert played("toy_zoo:Telling") == {"age": pytest.approx(10 / 3), "goals": 3.0}
    assert played("toy_zoo:Telling", plan={a: [99, "terminated"] for a in "abc"}) == {"age": 9.0, "goals": 3.0}
    assert played("toy_zoo:Telling", global_random=True)["goals"] == 3.0
    assert played("toy_gym:ToyTelling-v0", 7, time_limit=2) == {"score": 2.0, "lost": 1.0}  # cut: its info so far


def test_infos_of_those_who_left_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the environment still gives an empty one for them; and where infos are none at all."""
    step = toy_zoo.Telling.step

    def with_empty(self: Any, actions: dict) -> tuple:
        *rest, infos = step(self, actions)
        return *rest, {**{a: {} for a in self.possible_agents}, **infos}

    monkeypatch.setattr(toy_zoo.Telling, "step", with_empty)
    assert played("toy_zoo:Telling") == {"age": pytest.approx(10 / 3), "goals": 3.0}
    monkeypatch.setattr(toy_zoo.Telling, "step", lambda self, actions: (*step(self, actions)[:-1], None))
    assert played("toy_zoo:Telling", plan={a: [3, "truncated"] for a in "abc"}) == {}


def test_the_time_limit_is_an_end_too() -> None:
    assert played("toy_zoo:Telling", time_limit=1) == {"age": 1.0, "goals": 3.0}


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_what_is_left_out_or_renamed_is_said_once(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    args = {**TELLING, "crowd": 200}
    vec = make_vec("gymma", args, 4, backend=backend, workers=2)
    try:
        for k in range(2):
            vec.reset(np.arange(4), np.arange(4) + k)
            while (active := ~(vec.arrays.terminated | vec.arrays.truncated)).any():
                vec.step(np.zeros((4, 2), np.int64), active)
    finally:
        vec.close()
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("Warning")] == lines
    assert sum("tells 'return' in its info: it is logged as info_return_mean" in line for line in lines) == 1
    assert sum(f"more numbers in its info than can be logged: {MAX_METRICS} of them are" in line for line in lines) == 1
    assert len(lines) == 2


def test_check_env_lists_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.conformance.suite.SPEED_SECONDS", 0.01)
    assert check_env.main(["gymma", "with", f"env_args.key={TELLING['key']}"]) == 0
    out, err = capsys.readouterr()
    assert "episode's end: info_return_mean, lost_mean, score_mean, time_left/s_mean, won_mean will be logged." in out
    assert "map (str), path (list), episode (dict) will not be logged" in out
    assert "note:  info['return']: it is logged as info_return_mean, for return_mean is a metric" in out
    assert err == ""
