"""``oamarl bench``: its measures against a clock that tests turn, its tables and comparisons, and the command line."""

from __future__ import annotations

import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.envs.vector import playing
from oamarl.envs.vector.make import make_vec
from oamarl.learners.ppo import PPOLearner
from oamarl.main import main
from oamarl.tools.bench import command as bench
from oamarl.tools.bench import report as bench_report
from oamarl.tools.bench import standard as bench_standard
from oamarl.tools.bench.measure import PARTS, Slice, measure
from oamarl.utils import machine
from oamarl.utils.errors import UserError
from oamarl.utils.schema.command_line import Request, parse

from conftest import PATIENCE, SRC, Program
from run_tools import settings
from toy_envs import Truncating

# -- measures ------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where a test lets it pass."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Timed(Truncating):
    """A step takes a second."""

    def step(self, actions: np.ndarray, out: Any) -> None:
        CLOCK.now += 1.0
        super().step(actions, out)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """An update takes 10 seconds; nothing but steps and updates takes any."""
    learn = PPOLearner.train

    def slow(self: Any, *args: Any) -> Any:
        CLOCK.now += 10.0
        return learn(self, *args)

    monkeypatch.setattr(PPOLearner, "train", slow)
    monkeypatch.setattr(time, "perf_counter", CLOCK)
    monkeypatch.setattr(time, "monotonic", CLOCK)
    return CLOCK


def test_measures_by_the_clock(clock: Clock, tmp_path: Path) -> None:
    """4 slots of 5 steps: 20 seconds of stepping and 10 of learning an iteration."""
    asked = settings("mappo", "test_bench:Timed", {"limit": 5}, epochs=1, seed=3)
    before, shares = dict(asked.values), []
    found = measure(asked, tmp_path, 120.0, 2, shares.append)
    speeds = {name: x["median"] for name, x in found["speed"].items()}
    assert speeds == pytest.approx({"training": 20 / 30, "collection": 1.0, "random_one_core": 1.0, "random_all": 1.0})
    assert found["split"] == pytest.approx(dict.fromkeys(PARTS, 0.0) | {"environment": 2 / 3, "learning": 1 / 3})
    # two agents' samples of every step
    assert found["microseconds"] == pytest.approx(
        {name: 1.5e6 * share for name, share in found["split"].items()} | {"step": 1.5e6, "learning_per_sample": 0.25e6}
    )
    assert (found["seconds"], found["steps"], found["samples"]) == (120.0, 80, 160)
    assert found["speed"]["training"]["rounds"] == pytest.approx([20 / 30] * 2)
    assert (found["slots"], found["workers"], found["native"]) == (4, 0, False)
    assert found["config"] == before, "what was asked for is reported, not what the measurement made of it"
    assert shares == [0.5, 1.0]


def test_collection_leaves_the_training_run_where_it_was(clock: Clock, tmp_path: Path) -> None:
    """What is due in training goes by its own steps: the same points, at whatever time they come."""
    asked = settings("mappo", "test_bench:Timed", {"limit": 5}, epochs=1, seed=3, log_interval=40)
    measure(asked, tmp_path, 180.0, 3)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    # a warm-up iteration, and two in each round of 60 seconds
    assert [json.loads(line)["t"] for line in lines] == [40, 80, 120]


@pytest.mark.parametrize("env", ["toy_envs:Ragged", "toy_envs:MixedLength", "toy_envs:EarlyEnd"])
def test_random_play_takes_legal_actions_and_begins_again(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vec = make_vec(env, {"limit": 4}, 3, backend="serial")
    actions, began = [], []
    step, reset = vec.step, vec.reset
    monkeypatch.setattr(vec, "step", lambda a, active: (actions.append(a.copy()), step(a, active))[1])
    monkeypatch.setattr(vec, "reset", lambda slots, seeds: (began.extend(seeds.tolist()), reset(slots, seeds))[1])
    seconds = itertools.count()
    monkeypatch.setattr(playing.time, "perf_counter", lambda: next(seconds))
    # a toy refuses illegal actions, and a vec to step what has ended
    # a look at the clock to begin with, one before each step, and one at the end
    assert vec.random_throughput(20.0, seed=1) == (3 * 19, 21)
    assert len(set(began)) == len(began) > 3
    played = np.stack(actions)
    assert (played.max(0) > played.min(0)).any(), "always the same action"
    vec.close()


def test_workers_play_at_random_side_by_side() -> None:
    vec = make_vec("toy_envs:MixedLength", {"limit": 4}, 5, backend="process", workers=2)
    steps, took = vec.random_throughput(0.2, seed=1)
    assert 0.2 <= took < PATIENCE
    assert steps >= 5  # each worker makes one step at least
    assert (vec.seeds >= 0).all()
    vec.reset(np.arange(5), np.arange(5))  # and obey again
    assert vec.seeds.tolist() == [0, 1, 2, 3, 4]
    vec.close()


def test_a_slice_ends_after_its_time_but_not_before_a_step(clock: Clock) -> None:
    class Runner:
        t_env = 7

    runner = Runner()
    stop = Slice(5.0, runner)
    clock.now += 100
    assert stop.why() == ""
    runner.t_env = 8
    assert stop.why() == "max_seconds=5"
    ended = stop.ended
    clock.now += 1
    assert stop.why()
    assert stop.ended == ended == clock.now - 1
    early = Slice(5.0, runner)
    clock.now += 4
    runner.t_env = 9
    assert early.why() == ""


# -- the machine ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own behaviour")
@pytest.mark.parametrize("given", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_freed_memory_is_kept_for_the_next_batch(given: dict[str, str]) -> None:
    code = """
import resource, numpy as np
from oamarl.utils.machine import keep_freed_memory
done = keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones((5 << 20) // 4, np.int32), np.ones((20 << 20) // 4, np.int32)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))} | given
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    done, faults = found.split()
    assert done == str(not given)
    assert (int(faults) < 100) == (not given)


def test_memory_of_processes() -> None:
    block = np.ones(30_000_000, np.uint8)
    own = machine.peak_memory(os.getpid())
    assert own > block.nbytes
    child = subprocess.Popen(
        [sys.executable, "-c", "x = b'1' * 60_000_000; print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    try:
        below = machine.peak_memory_below(os.getpid())
    finally:
        child.communicate(b"\n")
    if below:  # a system with /proc
        assert below == sorted(below, reverse=True)
        assert 60e6 < below[0] < 200e6
    assert machine.peak_memory(2**22 + 5) == 0


def test_facts_are_known_here() -> None:
    found = machine.facts(3)
    assert found["cores"] == 3
    assert found["python"].startswith("3.")
    assert {"cpu", "cores_all", "ram_gb", "load", "torch", "numpy", "system", "omp_num_threads"} < set(found)
    assert 0 <= machine.in_use() <= 1
    json.dumps(found)


# -- tables --------------------------------------------------------------------------------------------------------


def case(name: str, training: float, limit: float = 100.0, sample: float = 2.0, main: float = 300.0) -> dict[str, Any]:
    """A case with a spread of 10 % either way."""

    def spread(x: float) -> dict[str, Any]:
        return {"median": x, "low": 0.9 * x, "high": 1.1 * x, "rounds": [x]}

    speeds = {"training": training, "collection": 60.0, "random_one_core": limit, "random_all": 2 * limit}
    return {
        "name": name, "speed": {k: spread(v) for k, v in speeds.items()}, "hints": [],
        "split": dict.fromkeys(PARTS, 0.0) | {"environment": 0.25, "learning": 0.75},
        "microseconds": {"step": 1234.5, "learning_per_sample": sample},
        "memory_mb": {"main": main, "workers": [40.0, 50.0]},
    }  # fmt: skip


def test_tables_hold_the_figures() -> None:
    assert bench_report.speed_row(case("a", 5000.0)) == {
        "steps a second": "", "end to end": "5,000", "lowest .. highest": "4,500 .. 5,500", "collection": "60.0",
        "random, 1 core": "100", "random, all": "200", "collection / random": "0.30",
    }  # fmt: skip
    assert list(bench_report.speed_row(case("b", 12.34)).values())[1:3] == ["12.3", "11.1 .. 13.6"]
    assert bench_report.time_row(case("a", 5000.0)) == {
        "time": "", "environment": "25.0 %", "inference": "0.0 %", "learning": "75.0 %", "logging": "0.0 %",
        "other": "0.0 %", "us/step": "1,234.5", "us/sample": "2", "memory, MB": "300 + 2 x 50",
    }  # fmt: skip
    assert bench_report.memory({"main": None, "workers": None}) == "-"


def test_comparison_is_new_by_earlier() -> None:
    row = bench_report.compare_row(case("a", 300.0, limit=150.0, sample=1.0, main=210.0), case("a", 100.0))
    assert row == {
        "new / earlier": "", "end to end": "3.00", "collection": "1.00~", "random, 1 core": "1.50",
        "random, all": "1.50", "per limit": "2.00", "us/sample": "0.50", "memory": "0.77",
    }  # fmt: skip


def test_cases_are_compared_by_name_or_where_there_is_no_choice() -> None:
    a, b, c = case("a", 1.0), case("b", 1.0), case("c", 1.0)
    assert bench_report.pairs([a, b], {"cases": [b, c]}) == [(b, b)]
    assert bench_report.pairs([a], {"cases": [b]}) == [(a, b)]
    assert bench_report.pairs([a], {"cases": [b, c]}) == []
    assert bench_report.pairs([a, b], {"cases": [c]}) == []


def test_tables_of_several_cases_name_them(capsys: pytest.CaptureFixture[str]) -> None:
    cases = [case("maze oappo", 5000.0) | {"gpu": None, "hints": ["use workers"]}, case("game", 12.34) | {"gpu": None}]
    content = bench.report(cases, ["other: not installed"], machine.facts(2), bench.Options())
    bench.show(content, {**content, "cases": [case("game", 6.17)]})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    starts = [line[:2] for line in lines]
    assert starts.count(["maze", "oappo"]) == 2, "speed and time"
    assert ["game", "12.3"] in starts
    assert ["game", "2.00"] in starts, "compared by name"
    assert ["Hint", "(maze", "oappo):", "use", "workers"] in lines
    assert ["Left", "out:", "other:", "not", "installed"] in lines


def test_differences_of_machines_are_told() -> None:
    now = machine.facts(2)
    assert bench_report.differences(now, now | {"load": 99.0}) == ""
    assert "torch 1.0 -> " in bench_report.differences(now, now | {"torch": "1.0"})
    assert bench_report.load_line({"load": 0.4, "cores": 2, "cores_all": 2}) == ""
    assert "3.5 on 2 cores" in bench_report.load_line({"load": 3.5, "cores": 2, "cores_all": 2})


# -- the command line ----------------------------------------------------------------------------------------------


def test_flags() -> None:
    words = ["--config=a", "--seconds=3", "--rounds", "2", "--json", "-", "--compare=x.json", "with", "lr=1"]
    options, rest = bench.options_of(words)
    assert options == bench.Options(3.0, 2, "-", Path("x.json"))
    assert rest == ["--config=a", "with", "lr=1"]
    assert bench.options_of([]) == (bench.Options(), [])


def test_words_are_read_back() -> None:
    request = Request("oappo", "maze", {"env_args": {"map_name": "x"}, "reuse_groups": [[0, 2], [1]], "lr": 1e-3})
    assert parse(bench.words_of(request))[0] == request
    for name, asked in bench_standard.STANDARD.items():
        assert parse(bench.words_of(asked))[0] == asked, name


def test_a_case_is_called_by_what_was_asked_for() -> None:
    args = {"key": "rware:rware-tiny-2ag-v2", "time_limit": 7}
    request = Request("mappo", "gymma", {"env_args": args, "seed": 4, "workers": 2})
    name = bench.name_of(bench.settings_of(request), request)
    assert name == "mappo rware:rware-tiny-2ag-v2 env_args.time_limit=7 workers=2"


MAZE = ("--config=mappo", "--env-config=maze")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--seconds=x", *MAZE), "--seconds: 'x' is not allowed: a number from 0.1 on"),
        (("--seconds=0", *MAZE), "--seconds: '0'"),
        (("--seconds=nan", *MAZE), "--seconds: 'nan'"),
        (("--rounds=1.5", *MAZE), "a whole number from 1 on"),
        ((*MAZE, "--rounds"), "--rounds needs a value"),
        ((*MAZE, "--secondes=3"), "did you mean '--seconds'"),
        (("--standard", "--config=mappo"), "--standard has its own"),
        (("--standard", "with", "lrr=1"), "did you mean 'lr'"),
        ((), "No algorithm is given"),
        ((*MAZE, "with", "lrr=1"), "did you mean 'lr'"),
        ((*MAZE, "with", "checkpoint_path=latest"), "leave checkpoint_path out"),
        ((*MAZE, "--compare=no/such.json"), "--compare no/such.json cannot be read"),
        ((*MAZE, "--json=/proc/x.json"), "/proc/x.json cannot be written"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], part: str) -> None:
    assert main(["bench", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert part in err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bench": 1, "cases": [{"name": "a"}]}', '{"bench": 99}'])
def test_what_is_no_earlier_result_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a"):
        bench_report.read(path)


def test_a_measurement_and_its_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, results = tmp_path / "x.json", tmp_path / "results"
    words = ["bench", *MAZE, "--seconds=0.4", "--rounds=2", f"--json={file}"]
    settings = ["with", "epochs=1", "env_args.time_limit=8", f"local_results_path={results}", "log_interval=1"]
    assert main([*words, *settings]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("mappo black_red epochs=1 env_args.time_limit=8")
    for heading in ("end to end", "random, 1 core", "learning", "us/sample", "Machine: "):
        assert heading in out
    assert not results.exists()
    found = json.loads(file.read_text())
    (only,) = found["cases"]
    assert sum(only["split"].values()) == pytest.approx(1.0, abs=0.01)
    assert only["native"]
    assert only["speed"]["random_one_core"] == only["speed"]["random_all"]
    assert len(only["speed"]["training"]["rounds"]) == found["rounds"] == 2
    assert only["seconds"] >= 0.4
    assert only["config"]["seed"] == 1
    assert "log_interval=1" in only["words"]
    assert found["machine"]["gpu"] is None or only["device"] == "cuda"

    assert main([*words, f"--compare={file}", *settings, "hidden_dim=8"]) == 0
    out, _ = capsys.readouterr()
    assert "new / earlier" in out
    assert "The same machine and software." in out
    assert main([*words[:-1], "--json=-", *settings]) == 0
    assert json.loads(capsys.readouterr().out)["cases"][0]["name"] == only["name"]


class Broken(Truncating):
    """Fails in the middle."""

    def step(self, actions: np.ndarray, out: Any) -> None:
        if self.time == 3:
            raise ZeroDivisionError("the toy broke")
        super().step(actions, out)


def test_an_environment_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--config=mappo", "with", "env=test_bench:Broken", "backend=serial", "batch_size_run=2"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("The environment failed in step ")
    assert "the toy broke" in err


@pytest.mark.slow
def test_workers_have_memory_of_their_own(tmp_path: Path) -> None:
    asked = settings("mappo", "toy_envs:Truncating", {"limit": 5}, backend="process", workers=2, epochs=1)
    found = measure(asked, tmp_path, 0.2, 1)
    assert found["workers"] == 2
    if found["memory_mb"]["workers"]:
        assert len(found["memory_mb"]["workers"]) == 2
        assert min(found["memory_mb"]["workers"]) > 10
        assert max(found["memory_mb"]["workers"]) < 100 < found["memory_mb"]["main"], "workers load no torch"
    assert found["speed"]["random_all"] != found["speed"]["random_one_core"]


@pytest.mark.slow
def test_the_standard_set_leaves_out_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"env_args": {"time_limit": 8}, "epochs": 1}
    missing = {"env_args": {"key": "no_such_package:Game-v0"}}
    monkeypatch.setattr(
        bench_standard, "STANDARD",
        {"maze": Request("mappo", "maze", small), "game": Request("mappo", "gymma", missing)},
    )  # fmt: skip
    assert main(["bench", "--standard", "--seconds=0.2", "--rounds=1", f"--json={tmp_path / 'x.json'}"]) == 0
    out, _ = capsys.readouterr()
    line = next(line for line in out.splitlines() if line.startswith("Left out: game: "))
    assert "no_such_package" in line
    content = json.loads((tmp_path / "x.json").read_text())
    assert [c["name"] for c in content["cases"]] == ["maze"]
    assert [sentence.partition(":")[0] for sentence in content["missing"]] == ["game"]


@pytest.mark.slow
def test_a_signal_leaves_nothing_behind(tmp_path: Path, program: Program) -> None:
    words = [*MAZE, "--seconds=3600", "with", "backend=process", "workers=2", "log_interval=1", "epochs=1"]
    process = subprocess.Popen(
        [sys.executable, str(SRC / "main.py"), "bench", *words], cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not any(path.stat().st_size for path in tmp_path.glob("oamarl-bench-*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = machine.peak_memory_below(process.pid)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (143, "")
    assert "SIGTERM" in err
    assert "Traceback" not in err
    assert list(tmp_path.glob("oamarl-bench-*")) == []
    assert len(below) in (0, 3)  # two workers and their guard, which ended before their pipes' other ends did
