"""Hints at settings that waste the machine, and the time split that they go by."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from oamarl.learners.ppo import PPOLearner
from oamarl.runners import episode as episode_runner
from oamarl.utils.hints import MOST, PARTS, SHORTEST, Use, hints

from run_tools import train
from toy_envs import MixedLength

FINE: dict[str, Any] = {
    "runner": "parallel", "backend": "auto", "workers": None, "batch_size_run": 16, "batch_size": None,
    "torch_threads": 1, "hidden_dim": 64, "use_cuda": True, "log_interval": 10_000, "checkpoint_interval": 50_000,
    "runner_log_interval": None, "learner_log_interval": None,
    "save_model": False, "save_model_interval": 500, "test_interval": 50_000, "test_nepisode": 100, "t_max": 2_000_000,
    "test_greedy": False,
}  # fmt: skip


def split(**shares: float) -> dict[str, float]:
    """A hundred seconds; what is not named goes evenly into the environment and learning, where they are not."""
    others = [name for name in ("environment", "learning") if name not in shares]
    return shares | {name: (100 - sum(shares.values())) / len(others) for name in others}


# -- the rules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "values", "use", "parts"),
    [
        (split(environment=70.0), {"backend": "serial"}, Use(4), ["70 %", "1 of 4 cores", "set backend=process"]),
        (split(environment=70.0), {"workers": 2}, Use(4, workers=2), ["2 of 4 cores", "set workers=4"]),
        (split(environment=70.0), {"batch_size_run": 3, "workers": 2}, Use(8, workers=2), ["set workers=3"]),
        (split(environment=70.0), {"batch_size_run": 1}, Use(4), ["only 1 at once", "set batch_size_run=8 "]),
        (
            split(environment=70.0),
            {"batch_size_run": 1, "runner": "episode"},
            Use(16),
            ["set runner=parallel batch_size_run=32 "],
        ),
        (split(environment=50.0), {}, Use(2, workers=8), ["8 environment workers share 2 cores", "set workers=2"]),
        (split(inference=40.0), {"batch_size_run": 4}, Use(2, workers=2), ["40 %", "batch_size_run=16 (now 4;"]),
        (split(inference=40.0), {}, Use(2, device="cuda"), ["batch_size_run=64 (now 16;"]),
        (split(environment=40.0), {"batch_size_run": 2}, Use(2, native=True), ["Stepping and acting take 40 %"]),
        (split(), {"torch_threads": 3}, Use(2), ["torch_threads=3 on 2 cores", "set torch_threads=1"]),
        (split(), {"torch_threads": 2}, Use(2, busy=1.0, workers=2), ["all 2 cores are in use"]),
        (split(learning=70.0), {"use_cuda": False}, Use(2, gpu=True), ["70 %", "use_cuda=True"]),
        (split(learning=40.0), {}, Use(2, compiled=False), ["40 %", "install gcc"]),
        (split(logging=20.0), {}, Use(2), ["20 %", "set log_interval=60000 (now 10000)"]),
        (split(logging=20.0), {"runner_log_interval": 100}, Use(2), ["set runner_log_interval=600 (now 100)"]),
        (split(logging=20.0), {"checkpoint_interval": 100}, Use(2), ["set checkpoint_interval=600 (now 100)"]),
        (split(logging=20.0), {"save_model": True}, Use(2), ["set save_model_interval=3000 (now 500)"]),
        (split(testing=50.0), {}, Use(2), ["50 %", "set test_interval=500000 (now 50000)", "test_nepisode (now 100)."]),
        (split(testing=50.0), {"test_greedy": True}, Use(2), ["(now 100), or test_greedy=False for half"]),
        (split(), {}, Use(2, workers=2, waiting=0.5), ["50 % of the steps", "set runner=rollout ("]),
        (split(), {"batch_size": 32}, Use(2, workers=2, waiting=0.5), ["runner=rollout batch_size=null"]),
    ],
)
def test_each_waste_is_told_in_one_sentence(seconds: Any, values: Any, use: Use, parts: list[str]) -> None:
    found = hints(seconds, FINE | values, use)
    assert len(found) == 1, found
    for part in parts:
        assert part in found[0]
    assert found[0].endswith(".")
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("seconds", "values", "use"),
    [
        (split(), {}, Use(2, workers=2)),
        (split(environment=90.0), {}, Use(2, workers=2)),  # all cores step already
        (split(environment=90.0), {"backend": "ray"}, Use(4, workers=2)),  # the cores are other machines'
        (split(environment=50.0), {"backend": "ray"}, Use(2, workers=8)),
        (split(environment=90.0), {"backend": "serial"}, Use(1)),  # one core is all there is
        (split(environment=90.0), {"backend": "serial"}, Use(2, busy=1.0)),  # others have the second one
        (split(environment=90.0), {}, Use(8, native=True)),  # batched by itself
        (split(learning=90.0), {"use_cuda": False}, Use(2)),
        (split(learning=90.0), {}, Use(2, gpu=True, device="cuda")),
        (split(learning=90.0), {}, Use(2, device="cuda", compiled=False)),
        (split(learning=20.0), {}, Use(2, workers=2, compiled=False)),
        (split(inference=50.0, logging=9.0), {}, Use(2)),
        (split(testing=29.0), {}, Use(2, workers=2)),
        (split(learning=90.0), {}, Use(2, workers=2, waiting=0.9)),  # nothing to gain where learning takes the time
        (split(), {"runner": "rollout"}, Use(2, workers=2, waiting=0.9)),
        (split(), {"torch_threads": 2}, Use(2, workers=2)),
    ],
)
def test_nothing_is_told_without_reason(seconds: Any, values: Any, use: Use) -> None:
    assert hints(seconds, FINE | values, use) == []


def test_what_promises_most_comes_first_and_the_rest_is_left_out() -> None:
    seconds = {"environment": 20.0, "testing": 40.0, "logging": 30.0, "learning": 10.0}
    found = hints(seconds, FINE | {"torch_threads": 64}, Use(2))
    assert len(found) == MOST == 2
    assert "torch_threads" in found[0]
    assert "test_interval" in found[1] or "checkpoint" in found[1]
    assert [x[:5] for x in hints(seconds, FINE, Use(2))] == ["Tests", "Loggi"]


def test_a_short_run_says_nothing() -> None:
    seconds = {name: share * SHORTEST / 100 for name, share in split(testing=90.0).items()}
    assert hints({k: 0.99 * v for k, v in seconds.items()}, FINE, Use(2)) == []
    assert hints({k: 1.01 * v for k, v in seconds.items()}, FINE, Use(2))


def test_keys_that_parts_of_the_users_do_not_have_switch_their_rules_off() -> None:
    assert hints(split(environment=90.0, testing=5.0), {}, Use(4, gpu=True, waiting=1.0)) == []


# -- the time split ------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where a test lets it pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Timed(MixedLength):
    """A reset takes 3 seconds, a step 1."""

    def reset(self, seed: int, out: Any) -> None:
        CLOCK.now += 3.0
        super().reset(seed, out)

    def step(self, actions: Any, out: Any) -> None:
        CLOCK.now += 1.0
        super().step(actions, out)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A learner whose update takes 7 seconds, and nothing else takes any."""
    learn = PPOLearner.train

    def slow(self: Any, *args: Any) -> Any:
        CLOCK.now += 7.0
        return learn(self, *args)

    monkeypatch.setattr(time, "perf_counter", CLOCK)
    monkeypatch.setattr(PPOLearner, "train", slow)
    return CLOCK


ENV = "test_hints:Timed"
ONE: dict[str, Any] = {"batch_size_run": 2, "t_max": 40, "epochs": 1}


@pytest.mark.parametrize("runner", ["parallel", "rollout"])
def test_the_split_is_what_everything_took(clock: Clock, tmp_path: Path, runner: str) -> None:
    more = {"runner": runner, "rollout_length": 5}
    if runner == "parallel":
        del more["rollout_length"]
    run = train(tmp_path, "mappo", ENV, {"limit": 5}, **ONE, **more, test_nepisode=0)
    last = run.points[-1]["metrics"]
    resets = last["episode"] if runner == "parallel" else last["episode"] + 2  # those under way
    assert last["time_environment"] == pytest.approx(run.loop.runner.t_env + 3 * resets)
    assert last["time_learning"] == pytest.approx(7 * last["updates"])
    for name in ("inference", "logging", "testing", "other"):
        assert last[f"time_{name}"] == pytest.approx(0.0), name
    assert sum(last[f"time_{name}"] for name in PARTS) == pytest.approx(last["wall_clock"])


def test_what_has_no_clock_of_its_own_is_other(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear = episode_runner.EpisodeRunner._clear

    def slow(self: Any) -> Any:
        clock.now += 2.0
        return clear(self)

    monkeypatch.setattr(episode_runner.EpisodeRunner, "_clear", slow)
    run = train(tmp_path, "mappo", ENV, {"limit": 5}, **ONE)
    last = [p["metrics"] for p in run.points if "updates" in p["metrics"]][-1]
    assert last["time_other"] == pytest.approx(2 * last["updates"])
    assert last["time_testing"] > 0
    assert sum(last[f"time_{name}"] for name in PARTS) == pytest.approx(last["wall_clock"])


def test_a_run_gives_its_hints_early_and_at_its_end(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode_runner, "usable_cpus", lambda: 4)
    monkeypatch.setattr(episode_runner, "in_use", lambda: 0.0)
    more = {"batch_size_run": 4, "t_max": 200, "epochs": 1, "test_nepisode": 0}
    run = train(tmp_path, "mappo", ENV, {"limit": 5}, **more)
    said = [line for line in (run.folder / "run.log").read_text().splitlines() if "  Hint: " in line]
    assert len(said) == 2
    for line in said:
        assert "on 1 of 4 cores: set backend=process." in line
    assert run.loop.runner.use().waiting > 0.1


def test_a_run_that_ends_before_its_first_update_says_so(tmp_path: Path) -> None:
    small = {"batch_size": 32, "test_nepisode": 0, "buffer_size": 100}
    for steps, says in ((20, True), (400, False)):
        run = train(tmp_path / str(steps), "iql", ENV, {"limit": 5}, t_max=steps, **small)
        log = (run.folder / "run.log").read_text()
        assert ("before the first update: nothing was learned" in log) is says
        assert (run.loop.learner.updates == 0) is says


def test_waiting_is_the_share_of_slot_steps_without_an_episode(tmp_path: Path) -> None:
    run = train(tmp_path, "mappo", ENV, {"limit": 5}, batch_size_run=2, t_max=1, epochs=1, test_nepisode=0)
    lengths = run.loop.runner.vec.steps
    assert lengths[0] != lengths[1], "another seed is needed"
    assert run.loop.runner.use().waiting == pytest.approx(abs(lengths[0] - lengths[1]) / (2 * max(lengths)))
