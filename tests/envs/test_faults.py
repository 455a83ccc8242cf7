"""Workers that die, hang, raise or print; what they started; and what is left when this side ends: nothing."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.components.seeding import episode_seed
from oamarl.envs.build import BUILDING, RESETTING, EnvError
from oamarl.envs.vector import base as vec
from oamarl.envs.vector import boot, launch, process
from oamarl.envs.vector.base import SerialVec
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vector.process import ProcessVec
from oamarl.storage.records import read_metrics
from oamarl.training.building import build
from oamarl.utils import signals
from oamarl.utils.errors import UserError
from oamarl.utils.warn_once import begin_run

import faulty_envs
from child_signals import gone, usual_signals
from conftest import PATIENCE, Program
from faulty_envs import Gate, append, size
from run_tools import CPU, assert_same, assert_same_batch, settings

HELPERS = Path(__file__).parents[1] / "helpers"
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

#: four slots in two workers; the episode of seed 17 is slot 2's and goes wrong
SEEDS = np.array([4, 10, 17, 16])


@contextmanager
def faulty(how: str, step: int = 2, seeds: tuple[int, ...] = (17,), **options: Any) -> Iterator[ProcessVec]:
    args = {"how": how, "step": step, "seeds": list(seeds)}
    made = make_vec("faulty_envs:Faulty", args, 4, **{"backend": "process", "workers": 2, **options})
    assert isinstance(made, ProcessVec)
    try:
        yield made
    finally:
        made.close()


def play(made: vec.VecEnv, steps: int = 4) -> None:
    """Reset all slots to SEEDS and take steps; nothing is started again."""
    made.reset(np.arange(4), SEEDS)
    for _ in range(steps):
        still = ~(made.arrays.terminated | made.arrays.truncated)
        made.step(np.zeros((4, 2), np.int64), still)


@pytest.fixture
def only_hangs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs count only while a worker hangs for certain and no other is running, however busy the machine is."""
    said: list[bytes] = []
    line, readable, put_away = launch.Output._line, process._readable, launch.put_away

    def heard(self: launch.Output, text: bytes) -> None:
        line(self, text)
        said.append(text)

    def patient(descriptors: list[int], seconds: float) -> set[int]:
        deadline = time.monotonic() + PATIENCE
        while len(descriptors) > 1 or b"about to hang" not in said:
            ready = readable(descriptors, 0.02)
            if ready or time.monotonic() > deadline:
                return ready
        return readable(descriptors, seconds)

    def away(w: launch.Worker, guard: launch.Guard) -> int:
        said.clear()  # the hang is over
        return put_away(w, guard)

    monkeypatch.setattr(launch.Output, "_line", heard)
    monkeypatch.setattr(process, "_readable", patient)
    monkeypatch.setattr(launch, "put_away", away)


# -- what is said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says", "stack"),
    [
        ("raise", "The environment failed in step 2 (slot 2, episode seed 17): ZeroDivisionError: the toy broke", True),
        ("stop", "The environment failed in step 2 (slot 2, episode seed 17): SystemExit: no more", True),
        ("interrupt", "The environment failed in step 2 (slot 2, episode seed 17): KeyboardInterrupt: ", True),
        ("mute", "episode seed 17): Mute: (its message cannot be told: RuntimeError)", True),
        ("long", "episode seed 17): ValueError: xxx", True),
        ("exit", "unexpectedly (exit status 5) in step 2 of slot 2, episode seed 17; it held slots 2 to 3", False),
        ("kill", "ended unexpectedly (signal SIGKILL) in step 2 of slot 2, episode seed 17;", False),
        ("segv", "ended unexpectedly (signal SIGSEGV) in step 2 of slot 2, episode seed 17;", True),
        ("hang", "within step_timeout=0.2 seconds in step 2 of slot 2, episode seed 17, and was killed", True),
    ],
)
@pytest.mark.usefixtures("only_hangs_count")
def test_a_fault_is_told_with_its_place_stack_and_last_words(how: str, says: str, stack: bool) -> None:
    with faulty(how, step_timeout=0.2 if how == "hang" else None) as made:
        pids = [w.process.pid for w in made._workers]
        with pytest.raises(EnvError) as caught:
            play(made)
        text = str(caught.value)
        assert says in text
        assert ("in go_wrong" in text) == stack
        assert len(text) < 12_000
        assert text.endswith(f"--- last output of environment worker 1 ---\nabout to {how}")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        with pytest.raises(EnvError, match="slot 2"):
            made.step(np.zeros((4, 2), np.int64), np.ones(4, bool))


def test_an_interrupt_of_the_game_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the run's own process too: while the run handles signals, Ctrl-C is no KeyboardInterrupt of Python's."""
    monkeypatch.setattr(faulty_envs, "in_worker", lambda: True)
    for handled in (False, True):
        made = make_vec("faulty_envs:Faulty", {"how": "interrupt", "step": 2, "seeds": [1]}, 1)
        made.reset(np.array([0]), np.array([1]))
        made.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
        with contextlib.ExitStack() as stack:
            if handled:
                stack.enter_context(signals.handling(lambda number, frame: None, ["SIGINT"]))
            with pytest.raises(EnvError if handled else KeyboardInterrupt):
                made.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
        made.close()


@pytest.mark.parametrize(("how", "says"), [("hang", "reset_timeout=0.2"), ("exit", "exit status 5"), ("raise", "toy")])
@pytest.mark.usefixtures("only_hangs_count")
def test_a_fault_in_a_reset(how: str, says: str) -> None:
    where = r"(?s)(the reset of slot 2, episode seed 17|in reset \(slot 2).*about to"
    limit = 0.2 if how == "hang" else None
    with faulty(how, step=0, reset_timeout=limit) as made, pytest.raises(EnvError, match=where) as caught:
        play(made)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("how", "says"),
    [("hang", "(?s)reset_timeout=0.2 seconds while it built the environment of slot 0.*in go_wrong"),
     ("exit", "exit status 5.*while it built the environment of slot"), ("raise", "(?s)worker failed.*the toy broke")],
)  # fmt: skip
@pytest.mark.usefixtures("only_hangs_count")
def test_a_fault_in_the_constructor(how: str, says: str) -> None:
    limit = 0.2 if how == "hang" else None
    with pytest.raises(EnvError, match=says), faulty(how, step=-1, reset_timeout=limit, workers=1):
        pass


def test_a_workers_own_start_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python is slow to start on a busy machine; the environment has not done anything yet."""
    gate, readable, looks = Gate(tmp_path), process._readable, []

    def slow_start(descriptors: list[int], seconds: float) -> set[int]:
        looks.append(readable(descriptors, seconds))
        if len(looks) < 8:  # of a quarter of the limit each
            return looks[-1]
        append(gate.let)
        return readable(descriptors, PATIENCE)

    monkeypatch.setattr(process, "_SLICE", 0.01)
    monkeypatch.setattr(process, "_readable", slow_start)
    wait = f"import os, time\nwhile not os.path.exists({str(gate.let)!r}): time.sleep(0.005)\n"
    monkeypatch.setattr(boot, "BOOT", wait + boot.BOOT)
    with faulty("exit", seeds=(), workers=1, reset_timeout=0.04) as made:
        assert len(looks) >= 8
        assert not any(looks)
        assert made._limit(-1, BUILDING) == ("300", process.START_SECONDS)
        assert made._limit(0, BUILDING) == ("reset_timeout=0.04", 0.04)


def test_the_clock_is_each_environments_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five slots of one worker are slower together than one of them may be, when they are built and when they step."""
    gate, readable, looks = Gate(tmp_path), process._readable, [0]

    def paced(descriptors: list[int], seconds: float) -> set[int]:
        """Half of the limit goes by at each slot; then it may go, and the next one has come or all are done."""
        while size(gate.here) == size(gate.let):
            if ready := readable(descriptors, 0.005):
                return ready
        looks[0] += 1
        if looks[0] % 3 == 0:
            append(gate.let)
            return set()
        return readable(descriptors, seconds)

    monkeypatch.setattr(process, "_SLICE", 0.1)  # so it is a quarter of the limit that decides
    monkeypatch.setattr(process, "_readable", paced)
    limits = {"step_timeout": 0.2, "reset_timeout": 0.2}
    made = make_vec("faulty_envs:Paced", {"gate": str(tmp_path)}, 5, backend="process", workers=1, **limits)
    try:
        monkeypatch.setitem(made._limits, RESETTING, ("reset_timeout", None))  # which nothing paces
        made.reset(np.arange(5), np.arange(5))
        made.step(np.zeros((5, 2), np.int64), np.ones(5, bool))
        assert made.steps.tolist() == [1] * 5
        assert looks[0] == 2 * 5 * 3
    finally:
        made.close()


def test_what_a_worker_prints_reaches_stderr_in_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_SHOWN_LINES", 10)
    made = make_vec("faulty_envs:Chatty", {"lines": 20}, 2, backend="process", workers=2)
    try:
        made.reset(np.arange(2), np.arange(2))
    finally:
        made.close()
    out, err = capsys.readouterr()
    assert out == ""
    for number in range(2):
        mine = [line for line in err.splitlines() if line.startswith(f"environment worker {number}")]
        assert len(mine) == 11
        assert mine[:3] == [
            f"environment worker {number}: {text}" for text in ("hello from a game", "and a complaint", "line 0")
        ]
        assert mine[-1] == f"environment worker {number} has printed 10 lines: further ones are not shown."


# -- starting again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raise", "exit", "kill", "hang"])
@pytest.mark.usefixtures("only_hangs_count")
def test_a_worker_that_is_started_again_loses_its_episodes_alone(how: str) -> None:
    limit = 0.2 if how == "hang" else None
    with faulty(how, on_worker_death="restart", step_timeout=limit) as made, faulty("exit", seeds=()) as honest:
        for both in (made, honest):
            play(both, 2)
        assert made.lost.tolist() == [False, False, True, True]
        assert made.worker_restarts == 1
        out = made.arrays
        assert not out.obs[2:].any()
        assert out.avail[2:].all()
        assert not (out.terminated | out.truncated)[2:].any()
        # a lost slot is not stepped, and stays lost until it is reset
        for both in (made, honest):
            both.step(np.zeros((4, 2), np.int64), np.array([True, False, True, False]))
        assert made.lost.tolist() == [False, False, True, True]
        assert not out.obs[2:].any()
        for both in (made, honest):
            both.reset(np.array([2, 3]), np.array([7, 9]))
            both.step(np.ones((4, 2), np.int64), np.ones(4, bool))
        assert not made.lost.any()
        for name, array in out.named().items():
            assert_same(array, getattr(honest.arrays, name), name)


def test_an_episode_that_was_over_before_its_worker_died_is_whole() -> None:
    # seed 0 ends at step 1, in slot 2 just before slot 3 goes wrong, in slot 1 at the same moment
    with faulty("exit", step=1, seeds=(17,), on_worker_death="restart") as made:
        made.reset(np.arange(4), np.array([4, 0, 0, 17]))
        made.step(np.zeros((4, 2), np.int64), np.ones(4, bool))
        assert made.lost.tolist() == [False, False, False, True]
        assert made.arrays.terminated.tolist() == [False, True, True, False]
        assert made.arrays.reward[2].tolist() == made.arrays.reward[1].tolist()


def test_a_reset_may_lose_slots() -> None:
    with faulty("exit", step=0, on_worker_death="restart") as made:
        made.reset(np.array([0, 1, 3]), np.array([4, 10, 16]))
        made.reset(np.array([2]), np.array([17]))
        assert made.lost.tolist() == [False, False, True, True]


def test_a_worker_killed_between_two_steps_is_started_again() -> None:
    with faulty("exit", seeds=(), on_worker_death="restart") as made:
        play(made, 1)
        os.kill(made._workers[1].process.pid, signal.SIGKILL)
        made.step(np.zeros((4, 2), np.int64), np.ones(4, bool))
        assert made.lost.tolist() == [False, False, True, True]


@pytest.mark.parametrize("step", [0, 1])
def test_restarts_without_progress_have_an_end(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_RESTARTS", 2)
    says = r"^Slot 2 ended its worker 3 times without finishing an episode in between; the last time: .*exit status 5"
    with faulty("exit", step=step, on_worker_death="restart") as made:
        for last in (False, False, True):
            if last:
                with pytest.raises(EnvError, match=says):
                    play(made, 1)
            else:
                play(made, 1)
        assert made.worker_restarts == 2


def test_an_episode_in_between_is_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_RESTARTS", 1)
    with faulty("exit", step=1, on_worker_death="restart") as made:
        for _ in range(3):
            play(made, 1)
            assert made.lost[2]
            made.reset(np.array([2]), np.array([6]))  # one step
            made.step(np.zeros((4, 2), np.int64), np.arange(4) == 2)
            assert made.arrays.terminated[2]


def test_a_users_mistake_is_not_tried_again() -> None:
    made = make_vec("toy_envs:Failing", {"how": "user"}, 2, backend="process", workers=1, on_worker_death="restart")
    try:
        made.reset(np.arange(2), np.array([13, 1]))
        actions, active = np.zeros((2, 2), np.int64), np.ones(2, bool)
        made.step(actions, active)
        made.step(actions, active)
        with pytest.raises(UserError, match=r"^The toy is asked to stop\.$"):
            made.step(actions, active)
        assert made.worker_restarts == 0
    finally:
        made.close()


# -- runners -------------------------------------------------------------------------------------------------------

RUN = {"seed": 3, "batch_size_run": 4, "backend": "process", "workers": 2, "on_worker_death": "restart", "t_max": 1000}


def length(slot: int, number: int, purpose: Any = "train") -> int:
    return 1 + episode_seed(3, purpose, slot, number) % 6


@contextmanager
def runner_with(step: int, places: list[tuple[int, int]], purpose: Any = "train", **overrides: Any) -> Iterator[Any]:
    """A runner whose episodes at ``places`` (slot, number) end their worker at ``step``."""
    args = {"how": "exit", "step": step, "seeds": [episode_seed(3, purpose, *place) for place in places]}
    runner, _, _ = build(settings("mappo", "faulty_envs:Faulty", args, **{**RUN, **overrides}), CPU)
    try:
        yield runner
    finally:
        runner.close()


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_batch_is_whole_where_a_worker_died(step: int) -> None:
    """Slots 2 and 3 lose what they were playing, and play unused numbers; 0 and 1 do not notice."""
    with runner_with(step, [(2, 1)], batch_size=8) as runner:
        batch, played = runner.run()
        assert runner.worker_restarts == 1
        assert runner.skipped.tolist() == [0, 0, 1, 1]
        # when slot 2's second episode was lost, slot 3 was in its first one or in its second one
        moment = length(2, 0) + max(1, step)
        lost = 0 if length(3, 0) >= moment else 1
        assert length(2, 2) < length(2, 1) == 5
        assert length(3, 0) + length(3, 1) >= moment
        numbers = [[0, 1], [0, 1], [0, 2], [n for n in range(3) if n != lost]]
        want = [length(slot, k) for slot in range(4) for k in numbers[slot]]
        assert batch.filled.sum(1).tolist() == played.lengths == want
        assert runner.t_env == sum(want)
        assert runner.agent_steps == int(batch.alive.sum()) == 2 * sum(want)
        assert batch.obs.isfinite().all()
        origins = [runner.origin(batch, row, 0) for row in range(8)]
        assert origins == [(b, episode_seed(3, "train", b, k)) for b in range(4) for k in numbers[b]]
        # the next batch begins behind the numbers that were used
        batch, _ = runner.run()
        begin = 2 + runner.skipped
        assert batch.filled.sum(1).tolist() == [length(b, int(begin[b]) + k) for b in range(4) for k in range(2)]


def test_the_same_death_gives_the_same_run() -> None:
    with runner_with(1, [(2, 1)], batch_size=8) as a, runner_with(1, [(2, 1)], batch_size=8) as b:
        for _ in range(2):
            first, second = a.run(), b.run()
            assert_same_batch(first[0], second[0])
            assert_same(vars(first[1]), vars(second[1]))
        assert_same(a.state_dict(), b.state_dict())
        state = a.state_dict()
        with runner_with(1, [], batch_size=8) as fresh:
            fresh.load_state_dict(copy.deepcopy(state))
            assert_same(fresh.state_dict(), state)
            assert_same_batch(fresh.run()[0], a.run()[0])


def test_no_death_is_no_difference() -> None:
    with runner_with(1, []) as restarting, runner_with(1, [], on_worker_death="fail", backend="serial") as serial:
        for _ in range(2):
            assert_same_batch(restarting.run()[0], serial.run()[0])
        assert_same(restarting.state_dict(), serial.state_dict())


def test_a_test_counts_as_many_episodes_where_a_worker_died() -> None:
    with runner_with(1, [(0, 0)], "test") as runner:
        played = runner.test(6, True)
        assert runner.worker_restarts == 1
        assert len(played.lengths) == 6
        assert played.lengths[0] == length(0, 1, "test")
        assert runner.skipped.tolist() == [0] * 4
        assert runner.t_env == 0


@pytest.mark.parametrize("step", [0, 1])
def test_segments_go_on_where_a_worker_died(step: int) -> None:
    places = [(2, 1), (0, 2), (1, 0)]
    with runner_with(step, places, runner="rollout", rollout_length=20) as runner:
        steps = 0
        for _ in range(3):
            batch, _ = runner.run()
            steps += int(batch.filled.sum())
            assert batch.obs[:, :20][batch.filled].isfinite().all()
        assert runner.worker_restarts == 3
        assert steps == runner.t_env < 3 * 80


# -- agents without a legal action ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["serial", "process"])
@pytest.mark.parametrize("when", [0, 2])
def test_an_agent_without_a_legal_action_is_named_at_once(backend: str, when: int) -> None:
    made = make_vec("faulty_envs:NoLegal", {"when": when}, 3, backend=backend, workers=2, on_worker_death="restart")
    says = rf"^The environment 'NoLegal' leaves agent 1 without a legal action after step {when} \(slot 2, episode seed"

    def go() -> None:
        made.reset(np.arange(3), np.array([1, 3, 8]))
        for _ in range(3):
            made.step(np.zeros((3, 2), np.int64), np.ones(3, bool))

    try:
        with pytest.raises(UserError, match=says):
            go()
        assert made.steps.tolist() == [when] * 3
    finally:
        made.close()


def test_a_game_that_has_terminated_needs_no_legal_action_and_one_that_was_cut_does() -> None:
    for args, fine in (({"when": 2, "end": 2}, True), ({"when": 2, "limit": 2}, False)):
        made = make_vec("faulty_envs:NoLegal", args, 2, backend="serial")
        made.reset(np.array([1]), np.array([8]))  # slot 0 has no episode, and shows none
        made.step(np.zeros((2, 2), np.int64), np.array([False, True]))
        if fine:
            made.step(np.zeros((2, 2), np.int64), np.array([False, True]))
            made.reset(np.array([0]), np.array([1]))
        else:
            with pytest.raises(UserError, match="agent 1"):
                made.step(np.zeros((2, 2), np.int64), np.array([False, True]))


# -- nothing is left behind ----------------------------------------------------------------------------------------


# -- episodes that do not end, and ends that are taken back ---------------------------------------------------------

OUTLIVES = r"its limit: after step 6 \(slot {}, episode seed {}\) the episode continues, and info.episode_limit=6\."


@pytest.mark.parametrize("env", ["Endless", "EndlessBatch"])
@pytest.mark.parametrize("backend", ["serial", "process", "native"])
def test_an_episode_stops_the_run_at_its_limit(backend: str, env: str) -> None:
    if backend == "native" and env == "Endless":
        pytest.skip("it steps one slot")
    made = make_vec(f"faulty_envs:{env}", {}, 3, backend=backend, workers=2, on_worker_death="restart")
    try:
        made.reset(np.arange(3), np.array([7, 8, 9]))
        actions = np.zeros((3, made.info.n_agents), np.int64)
        for _ in range(3):
            made.step(actions, np.ones(3, bool))
        made.reset(np.array([0]), np.array([10]))  # the others are ahead of it now
        for _ in range(2):
            made.step(actions, np.ones(3, bool))
        with pytest.raises(EnvError, match=OUTLIVES.format(1, 8)):
            made.step(actions, np.array([True, True, False]))
        assert made.worker_restarts == 0  # another worker would do the same
    finally:
        made.close()


def test_one_step_too_many_and_one_slot_of_several() -> None:
    made = make_vec("faulty_envs:Endless", {"late": 1, "seeds": [9]}, 2, backend="serial")
    made.reset(np.arange(2), np.array([8, 5]))
    for episode in range(3):
        for _ in range(6):
            made.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
        assert made.arrays.truncated.all()
        made.reset(np.arange(2), np.array([8, 5 + 2 * (episode == 2) + episode]))
    for _ in range(5):
        made.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
    with pytest.raises(EnvError, match=OUTLIVES.format(1, 9)):
        made.step(np.zeros((2, 2), np.int64), np.ones(2, bool))


@pytest.mark.parametrize("backend", ["serial", "process"])
@pytest.mark.parametrize("overrides", [{}, {"runner": "rollout", "rollout_length": 20}])
def test_training_tests_and_random_stepping_stop_there(backend: str, overrides: dict[str, Any]) -> None:
    asked = settings("mappo", "faulty_envs:Endless", {}, backend=backend, workers=2, **overrides)
    for act in (lambda r: r.run(), lambda r: r.test(3, True), lambda r: r.vec.random_throughput(60.0, 0)):
        runner, _, _ = build(asked, CPU)
        try:
            with pytest.raises(EnvError, match=OUTLIVES.format(r"\d", r"\d+")):
                act(runner)
        finally:
            runner.close()


def test_random_play_stops_there() -> None:
    asked = settings("seps", "faulty_envs:Endless", {})
    with pytest.raises(EnvError, match="outlives its limit"):
        build(asked, CPU)


def test_the_program_says_so_and_the_run_is_failed(program: Program, tmp_path: Path) -> None:
    done = call(program, tmp_path, {}, "faulty_envs:Endless")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "the episode continues, and info.episode_limit=6." in done.stderr
    (run,) = tmp_path.glob("sacred/*/*/1/run.json")
    assert json.loads(run.read_text())["status"] == "FAILED"


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (0, "=0 must be a whole number of at least 1"), (-3, "at least 1"), (2.5, "at least 1"),
        (None, "at least 1"), (10**12, "a whole number of at most 1,000,000,000"),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be(limit: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"'faulty_envs:Sizes' cannot be used: info.episode_limit.*{says}"):
        make_vec("faulty_envs:Sizes", {"limit": limit}, 2)


def test_a_metric_of_the_programs_own_name() -> None:
    with pytest.raises(UserError, match=r"info.metrics has 'return', and return_mean is a metric of the program's own"):
        make_vec("faulty_envs:Sizes", {"metrics": ("return",)}, 2)


@pytest.mark.parametrize("overrides", [{}, {"runner": "rollout", "rollout_length": 20}])
def test_a_limit_that_needs_too_much_memory(monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Any]) -> None:
    monkeypatch.setattr("oamarl.runners.episode.memory", lambda: 8 * 10**9)
    with pytest.raises(UserError, match=r"more memory than there is: info.episode_limit=1000000000 of .*has 8 GB"):
        build(settings("mappo", "faulty_envs:Sizes", {"limit": 10**9}, **overrides), CPU)


@pytest.mark.parametrize("backend", ["serial", "process"])
@pytest.mark.parametrize(
    ("env", "args", "says"),
    [
        ("faulty_envs:Back", {}, "after step 4 (slot 0, episode seed 5) agent 1 is no longer terminated"),
        ("faulty_envs:Back", {"what": "alive"}, "after step 4 (slot 0, episode seed 5) agent 1 is alive again"),
        ("gymma", {"key": "toy_gym:ToyRespawning-v0"}, "after step 3 (slot 0, episode seed 5) agent 1 is no longer"),
        ("gymma", {"key": "toy_zoo:Returning", "time_limit": 9}, "after step 4 (slot 0, episode seed 5) agent a is no"),
    ],
)
def test_an_end_that_is_taken_back_is_said_once(
    backend: str, env: str, args: dict[str, Any], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    begin_run()
    for _ in range(2):  # a run's environments and those of its tests
        made = make_vec(env, args, 4, backend=backend, workers=2)
        try:
            for first in (5, 50):
                made.reset(np.arange(4), np.arange(4) + first)
                while (active := ~(made.arrays.terminated | made.arrays.truncated)).any():
                    made.step(made.arrays.avail.argmax(-1), active)
        finally:
            made.close()
    lines = [line for line in capfd.readouterr().err.splitlines() if "Warning" in line]
    assert len(lines) == 1
    assert f"takes an agent's end back: {says}" in lines[0]
    assert lines[0].endswith("an agent's end is for good.")


def test_sound_ends_are_not_said_to_be_taken_back(capfd: pytest.CaptureFixture[str]) -> None:
    begin_run()
    for env in ("toy_envs:EarlyEnd", "toy_envs:MixedLength", "maze"):
        runner, _, _ = build(settings("mappo", env, {}, head_gain=1.0), CPU)
        try:
            for _ in range(3):
                runner.run()
        finally:
            runner.close()
    assert "Warning" not in capfd.readouterr().err


def test_the_program_warns_in_the_runs_log(program: Program, tmp_path: Path) -> None:
    done = call(program, tmp_path, {}, "faulty_envs:Back")
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("sacred/*/*/1/run.log")
    assert log.read_text().count("takes an agent's end back") == 1


def started(made: ProcessVec) -> list[int]:
    """Workers, their games and the guard."""
    pids = [int(p) for p in made.arrays.state[:, :2].ravel()] + [made._guard._process.pid]
    assert len(set(pids)) == 2 * made.n_slots + 1
    assert all(Path(f"/proc/{p}/stat").exists() for p in pids)
    return pids


@needs_proc
@pytest.mark.parametrize("deaf", [False, True])
def test_close_ends_workers_and_games(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CLOSE_SECONDS", 0.3 if deaf else 30.0)
    made = make_vec("faulty_envs:Gamer", {"deaf": deaf}, 2, backend="process", workers=2)
    assert isinstance(made, ProcessVec)
    before = len(os.listdir("/proc/self/fd"))
    made.reset(np.arange(2), np.arange(2))
    pids = started(made)
    made.close()
    made.close()
    assert all(gone(p) for p in pids)
    assert len(os.listdir("/proc/self/fd")) == before - 2 * 4 - 2  # pipes and stacks; the guard's and the memory


@needs_proc
@pytest.mark.usefixtures("only_hangs_count")
def test_a_worker_that_is_killed_for_a_hang_takes_its_game_along() -> None:
    made = make_vec(
        "faulty_envs:Gamer", {}, 2, backend="process", workers=2, step_timeout=0.2, on_worker_death="restart"
    )
    try:
        made.reset(np.arange(2), np.arange(2))
        worker, game = (int(p) for p in made.arrays.state[1, :2])
        made.step(np.array([[0, 0], [1, 0]]), np.ones(2, bool))
        assert made.lost.tolist() == [False, True]
        assert gone(worker)
        assert gone(game)
    finally:
        made.close()


_PARENT = """
import signal, sys, threading
sys.path[:] = {path!r}
import conftest, numpy as np
from oamarl.envs.vector.make import make_vec
if {turn!r}:
    def turn(number, frame):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, turn)
vec = make_vec("faulty_envs:Gamer", {{}}, 2, backend="process", workers=2)
vec.reset(np.arange(2), np.arange(2))
print(*vec.arrays.state[:, :2].astype(int).ravel(), vec._guard._process.pid, flush=True)
{then}
"""

#: what the parent does, what it is sent, and whether it turns signals into exceptions
ENDS: dict[str, tuple[str, int | None, bool]] = {
    "end": ("", None, False),
    "exception": ("1 / 0", None, False),
    "os._exit": ("import os; os._exit(3)", None, False),
    "interrupt": ("signal.pause()", signal.SIGINT, False),
    "terminate": ("signal.pause()", signal.SIGTERM, True),
    "terminate unheard": ("signal.pause()", signal.SIGTERM, False),
    "hangup": ("signal.pause()", signal.SIGHUP, True),
    "kill": ("signal.pause()", signal.SIGKILL, False),
    "kill in a hang": ("vec.step(np.array([[1, 0], [1, 0]]), np.ones(2, bool))", signal.SIGKILL, False),
    "interrupt in a hang": ("vec.step(np.array([[1, 0], [1, 0]]), np.ones(2, bool))", signal.SIGINT, False),
}


@needs_proc
@pytest.mark.parametrize("how", ENDS)
def test_nothing_outlives_the_parent(how: str) -> None:
    then, number, turn = ENDS[how]
    if "hang" in how:
        then = "from oamarl.envs.vector import launch; launch.CLOSE_SECONDS = 0.3\n" + then
    code = _PARENT.format(path=[str(HELPERS), *sys.path], then=then, turn=turn)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=usual_signals,
    )  # fmt: skip
    assert parent.stdout is not None
    pids = [int(p) for p in parent.stdout.readline().split()]
    assert len(set(pids)) == 5
    if number is not None:
        os.killpg(parent.pid, number)
    _, errors = parent.communicate(timeout=PATIENCE)
    assert all(gone(p) for p in pids)
    raised = how in ("exception", "interrupt", "terminate", "hangup", "interrupt in a hang")
    assert errors.count("Traceback") == raised


@needs_proc
def test_signals_of_a_batch_system_leave_workers_alone() -> None:
    """They are sent to every process of a job, and what to do about them is the parent's to say."""
    made = make_vec("toy_envs:Ragged", {}, 2, backend="process", workers=2)
    assert isinstance(made, ProcessVec)
    try:
        made.reset(np.arange(2), np.arange(2))
        numbers = [getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "USR1", "USR2", "XCPU")]
        for pid in [w.process.pid for w in made._workers] + [made._guard._process.pid]:
            for number in numbers:
                os.kill(pid, number)
        made.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
        assert made._guard._process.poll() is None
    finally:
        made.close()


# -- other systems -------------------------------------------------------------------------------------------------


def test_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with faulty("segv") as made, pytest.raises(EnvError, match=r"(?s)SIGSEGV.*in go_wrong"):
        play(made)


def test_without_waitid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "waitid", raising=False)
    with faulty("exit", on_worker_death="restart") as made:
        play(made, 2)
        assert made.worker_restarts == 1


def test_windows_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.envs.vector.make._POSIX", False)
    with pytest.raises(UserError, match="backend=process is not offered on Windows"):
        make_vec("toy_envs:Ragged", {}, 2, backend="process")
    made = make_vec("toy_envs:Ragged", {}, 2, workers=2)
    assert isinstance(made, SerialVec)
    made.close()


def test_too_few_file_descriptors_is_one_sentence() -> None:
    code = (
        f"import sys; sys.path[:] = {[str(HELPERS), *sys.path]!r}\nimport conftest, resource\n"
        "from oamarl.envs.vector.make import make_vec\nresource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "try: make_vec('toy_envs:Ragged', {}, 20, backend='process', workers=20)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "UserError 20 environment workers cannot be started here: Too many open files.\n"


def test_wrong_options_are_told() -> None:
    with pytest.raises(UserError, match="on_worker_death='restrat' is not known: use fail or restart; did you mean"):
        make_vec("maze", {}, 1, on_worker_death="restrat")


# -- the program ---------------------------------------------------------------------------------------------------


def call(program: Program, folder: Path, env_args: dict[str, Any], env: str, *words: str) -> Any:
    yaml = folder / "faulty.yaml"
    yaml.write_text(json.dumps({"env": env, "env_args": env_args}))
    short = ("t_max=60", "test_nepisode=0", "use_cuda=False", "hidden_dim=8", "batch_size_run=4", "log_interval=1")
    return program(
        "--config=mappo", f"--env-config={yaml}", "with", *short, "seed=3", "backend=process", "workers=2",
        f"local_results_path={folder}", *words, env={"PYTHONPATH": str(HELPERS)},
    )  # fmt: skip


@pytest.mark.slow
def test_the_program_starts_a_worker_again_and_says_so(program: Program, tmp_path: Path) -> None:
    args = {"how": "exit", "step": 1, "seeds": [episode_seed(3, "train", 2, 1)]}
    done = call(program, tmp_path, args, "faulty_envs:Faulty", "on_worker_death=restart")
    assert done.returncode == 0, done.stderr
    assert "Environment worker 1 is started again" in done.stderr
    assert "Traceback" not in done.stderr
    (log,) = tmp_path.glob("sacred/*/*/*/run.log")
    assert "environment worker 1: about to exit" in log.read_text()
    assert read_metrics(log.parent)[-1]["metrics"]["worker_restarts"] == 1


@pytest.mark.slow
def test_the_program_ends_with_the_environments_own_stack(program: Program, tmp_path: Path) -> None:
    args = {"how": "segv", "step": 1, "seeds": [episode_seed(3, "train", 2, 1)]}
    done = call(program, tmp_path, args, "faulty_envs:Faulty")
    assert done.returncode == 1
    seed = episode_seed(3, "train", 2, 1)
    assert f"(signal SIGSEGV) in step 1 of slot 2, episode seed {seed};" in done.stderr
    assert "in go_wrong" in done.stderr
    assert "Traceback" not in done.stderr  # this program's own would not help
    (run,) = tmp_path.glob("sacred/*/*/*/run.json")
    assert json.loads(run.read_text())["status"] == "FAILED"


@pytest.mark.slow
def test_the_program_names_an_agent_without_a_legal_action(program: Program, tmp_path: Path) -> None:
    done = call(program, tmp_path, {}, "faulty_envs:NoLegal")
    assert done.returncode == 2
    assert done.stderr.startswith("The environment 'NoLegal' leaves agent 1 without a legal action after step 2 (slot ")
    assert done.stderr.count("\n") == 1
