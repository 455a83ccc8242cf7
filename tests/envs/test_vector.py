"""Backends: equal numbers, errors with their slot and seed, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from oamarl.envs.build import EnvError, make_info
from oamarl.envs.vector.base import NativeVec, SerialVec, VecEnv
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vector.process import ProcessVec
from oamarl.utils.errors import UserError

from child_signals import gone
from conftest import PATIENCE

HELPERS = Path(__file__).parents[1] / "helpers"
LBF = {"key": "lbforaging:Foraging-8x8-2p-3f-v3", "time_limit": 12}
EVERY = [
    ("maze", {}),
    ("maze", {"map_name": "black_blue_red", "time_limit": 9}),
    ("matrix", {"key": "prop1", "n_agents": 4, "steps": 3}),
    ("predator_prey", {"captures": 2, "time_limit": 9, "prey_skill": 0.5, "capture_radius": 0.8}),
    ("gymma", LBF),
    ("toy_envs:Ragged", {}),
    ("toy_envs:MixedLength", {"limit": 7}),
    ("toy_envs:EarlyEnd", {"limit": 9}),
]


@contextmanager
def made(env: str, args: dict, n_slots: int, backend: str, workers: int | None = None) -> Iterator[VecEnv]:
    vec = make_vec(env, args, n_slots, backend=backend, workers=workers)
    try:
        yield vec
    finally:
        vec.close()


def history(env: str, args: dict, backend: str, workers: int | None = None, steps: int = 60) -> list[np.ndarray]:
    """Everything that five slots show under fixed legal actions, with idle slots and resets one by one."""
    n, seen = 5, []
    rng = np.random.default_rng(3)
    with made(env, args, n, backend, workers) as vec:
        out = vec.arrays
        vec.reset(np.arange(n), np.arange(n) + 50)
        for t in range(steps):
            scores = rng.random(out.avail.shape)
            actions = np.where(out.avail, scores, -1.0).argmax(-1)
            vec.step(actions, (rng.random(n) < 0.8) & ~(out.terminated | out.truncated))
            seen += [x.copy() for x in out.named().values()]
            over = np.flatnonzero(out.terminated | out.truncated)
            vec.reset(over, over + 100 * t)
            seen += [x.copy() for x in out.named().values()]
    return seen


def three_steps(vec: VecEnv) -> None:
    for _ in range(3):
        vec.step(np.zeros((vec.n_slots, 2), np.int64), np.ones(vec.n_slots, bool))


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("env", "args"), EVERY, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v)))
def test_backends_and_worker_counts_agree(env: str, args: dict) -> None:
    serial = history(env, args, "serial")
    over = [x[4] | x[5] for x in zip(*[iter(serial)] * 9, strict=True)]
    assert any(x.any() for x in over), "no episode ended: the test is too short"
    if env in ("maze", "matrix", "predator_prey"):
        assert equal(serial, history(env, args, "native"))
    for workers in (1, 2, 3) if env in ("gymma", "toy_envs:Ragged") else (2,):
        assert equal(serial, history(env, args, "process", workers)), workers


def test_the_toys_are_what_they_say() -> None:
    with made("toy_envs:MixedLength", {"limit": 5}, 3, "serial") as vec:
        vec.reset(np.arange(3), np.array([0, 1, 3]))  # 1, 2 and 4 steps
        flags = []
        for _ in range(4):
            vec.step(np.zeros((3, 2), np.int64), ~(vec.arrays.terminated | vec.arrays.truncated))
            flags.append((vec.arrays.terminated.tolist(), vec.arrays.truncated.tolist()))
        assert flags[0] == ([True, False, False], [False, False, False])
        assert flags[1] == ([True, False, False], [False, True, False])
        assert flags[3] == ([True, False, False], [False, True, True])
        assert vec.arrays.metrics[:, 0].tolist() == [3, 9, 30]
    with made("toy_envs:Truncating", {"limit": 2, "end": 2}, 1, "serial") as vec:
        vec.reset(np.arange(1), np.arange(1))
        for _ in range(2):
            vec.step(np.ones((1, 2), np.int64), np.ones(1, bool))
        assert vec.arrays.terminated[0]
        assert vec.arrays.truncated[0]
        assert vec.arrays.reward[0] == pytest.approx([2.1, 4.1])


def test_arrays_are_the_same_memory_for_ever() -> None:
    for backend in ("serial", "process"):
        with made("toy_envs:Ragged", {}, 2, backend, 2) as vec:
            obs = vec.arrays.obs
            vec.reset(np.arange(2), np.arange(2))
            vec.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
            assert vec.arrays.obs is obs
            assert obs.any()


def test_auto_chooses() -> None:
    for env, args, n, workers, kind in (
        ("maze", {}, 2, None, NativeVec),
        ("toy_envs:Ragged", {}, 2, 2, ProcessVec),
        ("toy_envs:Ragged", {}, 2, 1, SerialVec),
        ("toy_envs:Ragged", {}, 1, 4, SerialVec),
    ):
        with made(env, args, n, "auto", workers) as vec:
            assert type(vec) is kind


def test_workers_never_load_torch() -> None:
    __import__("torch")
    with made("toy_envs:Spy", {}, 4, "process", 2) as vec:
        vec.reset(np.arange(4), np.arange(4))
        assert not vec.arrays.obs.any()
        assert len(set(vec.arrays.state[:, 0].tolist())) == 2


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_an_exception_names_slot_and_seed(backend: str) -> None:
    with made("toy_envs:Failing", {"how": "raise"}, 3, backend, 2) as vec:
        vec.reset(np.arange(3), np.array([11, 12, 13]))
        actions, active = np.zeros((3, 2), np.int64), np.ones(3, bool)
        vec.step(actions, active)
        vec.step(actions, active)
        with pytest.raises(EnvError, match=r"slot 2, episode seed 13\): ZeroDivisionError: the toy broke") as caught:
            vec.step(actions, active)
        if backend == "process":
            assert "in step" in str(caught.value)
            assert "toy_envs.py" in str(caught.value)  # the worker's traceback
            with pytest.raises(EnvError):
                vec.step(actions, active)


@pytest.mark.parametrize("backend", ["serial", "process"])
def test_a_users_mistake_stays_one_sentence(backend: str) -> None:
    with made("toy_envs:Failing", {"how": "user"}, 2, backend, 2) as vec:
        vec.reset(np.arange(2), np.array([13, 1]))
        with pytest.raises(UserError) as caught:
            three_steps(vec)
        assert str(caught.value) == "The toy is asked to stop."


@pytest.mark.parametrize(("how", "says"), [("exit", "exit status 5"), ("kill", "signal SIGKILL")])
def test_a_dead_worker_is_told(how: str, says: str) -> None:
    with made("toy_envs:Failing", {"how": how}, 4, "process", 2) as vec:
        vec.reset(np.arange(4), np.array([1, 2, 13, 4]))
        with pytest.raises(EnvError, match=rf"{says}.*slots 2 to 3, episode seeds \[13, 4\]"):
            three_steps(vec)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@needs_proc
def test_close_ends_the_workers_even_a_stuck_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import oamarl.envs.vector.launch as launch

    monkeypatch.setattr(launch, "CLOSE_SECONDS", 0.3)
    vec = make_vec("toy_envs:Failing", {"how": "hang"}, 2, backend="process", workers=2)
    assert isinstance(vec, ProcessVec)
    pids = [w.process.pid for w in vec._workers]
    vec.reset(np.arange(2), np.array([13, 1]))
    actions, active = np.zeros((2, 2), np.int64), np.ones(2, bool)
    vec.step(actions, active)
    vec.step(actions, active)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def alarm() -> None:
        while vec._broken is None:  # until the step is under way
            time.sleep(0.005)
        signal.pthread_kill(main, signal.SIGALRM)

    main, before = threading.get_ident(), signal.signal(signal.SIGALRM, interrupt)
    taker = threading.Thread(target=alarm)
    taker.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            vec.step(actions, active)
        taker.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(EnvError, match="interrupted"):
        vec.step(actions, active)
    vec.close()
    vec.close()
    assert all(gone(p) for p in pids)
    with pytest.raises(EnvError):
        vec.reset(np.arange(2), np.arange(2))


_PARENT = """
import sys, time
sys.path[:] = {path!r}
import numpy as np, conftest
from oamarl.envs.vector.make import make_vec
vec = make_vec("toy_envs:Ragged", {{}}, 4, backend="process", workers=2)
vec.reset(np.arange(4), np.arange(4))
print(*[w.process.pid for w in vec._workers], flush=True)
{then}
"""


@needs_proc
@pytest.mark.parametrize("how", ["kill", "interrupt", "forget"])
def test_no_worker_outlives_its_parent(how: str) -> None:
    then = "" if how == "forget" else "time.sleep(3600)"
    code = _PARENT.format(path=[str(HELPERS), *sys.path], then=then)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    pids = [int(p) for p in parent.stdout.readline().split()]
    assert len(pids) == 2
    if how == "kill":
        parent.kill()
    if how == "interrupt":
        os.killpg(parent.pid, signal.SIGINT)  # Ctrl-C reaches the whole group: only the parent may complain
    _, errors = parent.communicate(timeout=PATIENCE)
    assert all(gone(p) for p in pids)
    assert errors.count("Traceback") == (1 if how == "interrupt" else 0)


def test_wrong_use_is_told() -> None:
    with pytest.raises(UserError, match="did you mean 'process'"):
        make_vec("maze", {}, 1, backend="proces")
    with pytest.raises(UserError, match="backend=native is not offered"):
        make_vec("toy_envs:Ragged", {}, 1, backend="native")
    with pytest.raises(UserError, match="at least 1"):
        make_vec("maze", {}, 0)
    with pytest.raises(UserError, match="did you mean 'maze'"):
        make_info("maz", {})
    with made("toy_envs:Ragged", {}, 2, "serial") as vec:
        with pytest.raises(ValueError, match=r"must be \[B, N\]"):
            vec.step(np.zeros((2, 3), np.int64), np.ones(2, bool))
        with pytest.raises(ValueError, match=r"must both be \[k\]"):
            vec.reset(np.arange(2), np.arange(1))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell where processes may run")
def test_as_many_workers_as_cores_stay_on_one_each() -> None:
    cores = sorted(os.sched_getaffinity(0))
    for workers, affinity in ((len(cores), "auto"), (len(cores), "none"), (len(cores) + 1, "auto")):
        vec = make_vec("toy_envs:Ragged", {}, 8, backend="process", workers=workers, worker_affinity=affinity)
        assert isinstance(vec, ProcessVec)
        found = [os.sched_getaffinity(w.process.pid) for w in vec._workers]
        vec.close()
        pinned = affinity == "auto" and workers == len(cores) > 1
        assert found == ([{c} for c in cores] if pinned else [set(cores)] * workers)
    assert sorted(os.sched_getaffinity(0)) == cores
