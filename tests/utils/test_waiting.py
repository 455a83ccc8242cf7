"""Nothing is waited for without a limit: helpers, threads, copies and guards that live on, and a close() that hangs."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oamarl.envs import closing
from oamarl.envs.build import make_info
from oamarl.envs.vector import guard, launch
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vector.process import ProcessVec
from oamarl.main import main
from oamarl.storage import trackers
from oamarl.tools.sweep import ready as sweep_ready
from oamarl.utils import waiting
from oamarl.utils.signals import Stop
from oamarl.utils.waiting import TimeUp, within

from child_signals import usual_signals
from conftest import Program
from faulty_envs import Helper, Leaver, endless

HELPERS = Path(__file__).parents[1] / "helpers"
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread"
)


@pytest.fixture(autouse=True)
def _clean() -> None:
    Helper.ended.clear()
    Leaver.copies.clear()
    Leaver.closed = 0


@contextmanager
def deadline(seconds: float = 120.0) -> Iterator[None]:
    """Fail rather than hang."""

    def late(number: int, frame: Any) -> None:
        raise AssertionError("this was waited for without a limit")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def alive_in(group: int) -> list[str]:
    """Processes of a group that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state not in "ZX":
                found.append(path.parent.name)
    return found


def words(results: Path, env: str, *more: str) -> list[str]:
    return [
        "--config=mappo", "with", f"env=faulty_envs:{env}", "use_cuda=False", "seed=5", "backend=serial",
        "batch_size_run=2", "hidden_dim=8", "epochs=1", "t_max=24", "test_nepisode=0",
        f"local_results_path={results}", *more,
    ]  # fmt: skip


# -- helpers that were forked --------------------------------------------------------------------------------------


def test_a_run_ends_whose_environment_has_a_helper_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The helper holds a copy of every pipe, and the run's own handlers of signals are not its own."""
    with deadline():
        assert main(words(tmp_path, "Helper")) == 0
    assert Helper.ended == [-signal.SIGTERM] * 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_copy_of_this_process_has_its_usual_signals() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGURG)}
    ready, tell = os.pipe()
    with deadline():
        with Stop(grace=100.0).listening():
            pid = os.fork()
            if pid == 0:
                try:  # whatever happens, the copy must not run further tests
                    same = all(signal.getsignal(n) == handler for n, handler in before.items())
                    os.write(tell, b"y" if same and signal.set_wakeup_fd(-1) == -1 else b"n")
                    signal.pause()
                finally:
                    os._exit(9)
            assert os.read(ready, 1) == b"y"
        # the copy still holds the other end of what the listening thread listens to
        assert not [t for t in threading.enumerate() if t.name == "signals"]
        os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
    os.close(ready)
    os.close(tell)
    assert os.WIFSIGNALED(status)


@needs_proc
@pytest.mark.parametrize("backend", ["serial", "native"])
def test_a_copy_that_comes_out_of_a_step_ends_there(backend: str) -> None:
    """It would play and write as a second run beside the first."""
    here = os.getpid()
    made = make_vec("faulty_envs:Leaver", {"how": "return"}, 1, backend="serial")
    if backend == "native":
        from oamarl.envs.vector.base import NativeVec

        class Native:
            info = made.info

            def step(self, actions: np.ndarray, active: np.ndarray, out: Any) -> None:
                pid = os.fork()
                if pid:
                    Leaver.copies.append(pid)

            def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Any) -> None:
                out.avail[...] = True

            def close(self) -> None:
                pass

        made = NativeVec(Native(), 1)  # type: ignore[arg-type]
    made.reset(np.array([0]), np.array([1]))
    try:
        made.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
    finally:
        if os.getpid() != here:
            os._exit(9)
    (copy,) = Leaver.copies
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    made.close()


# -- close() -------------------------------------------------------------------------------------------------------


def test_a_close_that_never_returns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(closing, "CLOSE_SECONDS", 0.2)
    says = "close() of the environment '{}' did not return within 0.2 seconds: left alone."
    with deadline():
        make_info("faulty_envs:Leaver", {"how": "hang"})
        assert says.format("faulty_envs:Leaver") in capsys.readouterr().err
        made = make_vec("faulty_envs:Leaver", {"how": "hang"}, 3, backend="serial")
        Leaver.closed = 0
        capsys.readouterr()
        made.close()
        made.close()
    assert capsys.readouterr().err == says.format("Leaver") + "\n"
    assert Leaver.closed == 1, "the others would take as long"


def test_a_close_that_raises_costs_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(words(tmp_path, "Leaver", "env_args.how=raise")) == 0
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "close() of the environment 'Leaver' failed (ZeroDivisionError: the toy does not close)" in err
    assert Leaver.closed == 2 + 2  # of two that were asked for sizes, and two slots


@needs_proc
@pytest.mark.parametrize("how", ["hang", "process"])
def test_a_worker_that_does_not_end_is_killed_and_named(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closing, "CLOSE_SECONDS", 0.2)  # of the instance that is asked for sizes
    made = make_vec("faulty_envs:Leaver", {"how": how}, 1, backend="process", workers=1)
    assert isinstance(made, ProcessVec)
    made.reset(np.array([0]), np.array([1]))
    made.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
    pid = made._workers[0].process.pid
    monkeypatch.setattr(launch, "CLOSE_SECONDS", 0.3)
    with deadline():
        made.close()
    said = f"Environment worker 0 (process {pid}) did not close its environments and end within 0.3 seconds"
    assert said in capsys.readouterr().err
    with deadline():
        while alive_in(pid):
            time.sleep(0.02)


def test_within() -> None:
    def stubborn() -> None:
        try:
            time.sleep(600)
        except Exception as error:
            raise AssertionError from error

    def broken() -> None:
        raise KeyError("x")

    before, handler = threading.active_count(), signal.getsignal(signal.SIGURG)
    for act in (stubborn, lambda: threading.Event().wait(), lambda: [None for _ in iter(int, 1)]):
        with deadline():
            assert not within(0.1, act, "it")
    assert within(60, lambda: None, "it")
    with pytest.raises(KeyError):
        within(60, broken, "it")
    assert signal.getsignal(signal.SIGURG) is handler
    with deadline():  # from another thread
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(within(0.1, lambda: time.sleep(600), "it")))
        thread.start()
        thread.join()
        assert results == [False]
    assert issubclass(TimeUp, BaseException)
    assert not issubclass(TimeUp, Exception)
    while threading.active_count() > before + 1:  # the one that was left behind
        time.sleep(0.01)


def test_a_tracker_that_does_not_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Slow:
        def log(self, values: Any, t: int) -> None:
            pass

        def close(self) -> None:
            endless()

    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.2)
    said: list[str] = []
    tracked = trackers.Trackers(None, {}, tmp_path, said.append)
    tracked._trackers["wandb"] = Slow()
    with deadline():
        tracked.close()
    assert said == [
        "Weights & Biases did not end within 0.2 seconds and was not waited for any longer; the run's own files have "
        "everything."
    ]


def test_a_tracker_that_takes_no_more_scalars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Stopped:
        def log(self, values: Any, t: int) -> None:
            endless()

        def close(self) -> None:
            raise AssertionError("it was left alone before")

    monkeypatch.setattr(trackers, "LOG_SECONDS", 0.2)
    said: list[str] = []
    tracked = trackers.Trackers(None, {}, tmp_path, said.append)
    tracked._trackers["wandb"] = Stopped()
    with deadline():
        for t in range(3):
            tracked("loss", 1.0, t)
        tracked.close()
    assert said == [
        "Weights & Biases failed (took nothing within 0.2 seconds): it gets no more; the run's own files have "
        "everything."
    ]


# -- the guard -----------------------------------------------------------------------------------------------------


@needs_proc
def test_a_guard_that_was_killed_is_replaced() -> None:
    """By one that knows all groups; here the program is over, and the group that is left ends."""
    watching = guard.Guard()
    first = watching._process
    group = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with deadline():
            watching.watch(group.pid)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            watching.watch(2**22 + 1)
            watching.forget(2**22 + 1)
            assert watching._process is not first
            watching._process.stdin.close()  # type: ignore[union-attr]
            assert group.wait() == -signal.SIGKILL
    finally:
        group.kill()
        watching.close()


@needs_proc
def test_a_guard_that_was_stopped_holds_nothing_up() -> None:
    """Not the run, which tells it of groups until its pipe is full, and not the run's end."""
    watching = guard.Guard()
    first = watching._process
    os.kill(first.pid, signal.SIGSTOP)
    with deadline():
        watching.watch(2**22 + 1)
        for _ in range(20_000):
            watching.watch(2**22 + 2)
            watching.forget(2**22 + 2)
        assert watching._process is not first, "one that hears nothing is replaced"
        assert first.returncode == -signal.SIGKILL
        os.kill(watching._process.pid, signal.SIGSTOP)
        watching.close()
        watching.close()
    assert watching._process.returncode == -signal.SIGKILL


_PARENT = """
import os, sys, time
sys.path[:] = {path!r}
import conftest, numpy as np
from oamarl.envs.vector.make import make_vec
vec = make_vec("faulty_envs:Gamer", {{}}, 2, backend="process", workers=2)
vec.reset(np.arange(2), np.arange(2))
copy = os.fork()
if copy == 0:
    time.sleep(600)
    os._exit(0)
print(*vec.arrays.state[:, :2].astype(int).ravel(), vec._guard._process.pid, copy, flush=True)
time.sleep(600)
"""


@needs_proc
def test_workers_end_with_their_parent_although_a_copy_of_it_holds_their_pipes() -> None:
    code = _PARENT.format(path=[str(HELPERS), *sys.path])
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=usual_signals)
    assert parent.stdout is not None
    *pids, copy = [int(p) for p in parent.stdout.readline().split()]
    assert len(pids) == 5
    parent.kill()
    parent.wait()
    try:
        with deadline():
            while any(Path(f"/proc/{pid}").exists() for pid in pids):
                time.sleep(0.02)
    finally:
        os.kill(copy, signal.SIGKILL)
        parent.stdout.close()


# -- the end of the program ----------------------------------------------------------------------------------------

_END = """
import sys
sys.path[:] = {path!r}
import conftest, ctypes, multiprocessing, os, threading, time
from oamarl.utils import waiting
waiting.LEAVE_SECONDS = waiting.FORK_SECONDS = 0.5
class Deaf:
    def __del__(self):
        time.sleep(600)
waiting.begin()
{then}
sys.exit(waiting.leave(3))
"""

ENDS = {
    "nothing": ("", ""),
    "a thread": ("threading.Thread(target=time.sleep, args=(600,), name='pump').start()", "0.5 seconds: pump."),
    "many threads": (
        "for i in range(5): threading.Thread(target=time.sleep, args=(600,), name=f'pump {i}').start()",
        "0.5 seconds: pump 0, pump 1, pump 2 and 2 more.",
    ),
    "a copy": ("if os.fork() == 0: time.sleep(600)", "Processes that the environment forked did not end within 0.5"),
    "a helper": (
        "multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,)).start()",
        "Processes that the environment forked did not end within 0.5 seconds, and were killed: ",
    ),
    "a helper that ends": ("multiprocessing.get_context('fork').Process(target=time.sleep, args=(0.1,)).start()", ""),
    "an object that hangs at the very end": ("sys.modules['x'] = Deaf()", ""),
    "a call that hears nothing": (
        "waiting.will_exit(3); lock, it = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)\n"
        "waiting.within(0.2, lambda: (lock(it), lock(it)), 'The game')",
        "The game did not come back within 0.2 seconds and could not be stopped: the program ends.",
    ),
}


@needs_proc
@pytest.mark.parametrize("how", ENDS)
def test_the_program_ends_with_its_status(how: str) -> None:
    """The reader of its output, which waits for all who hold it, sees the end too."""
    then, says = ENDS[how]
    code = _END.format(path=[str(HELPERS), *sys.path], then=then)
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says), done.stderr


@pytest.mark.slow
def test_a_sweep_begins_whatever_an_environment_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environments are made once in a process that would not end by itself."""
    monkeypatch.setattr(sweep_ready, "CLOSE_SECONDS", 0.5)
    config = {"env": "faulty_envs:Leaver", "env_args": {"how": "early"}}
    words = ("--config=ippo", "with", "env=faulty_envs:Leaver", "env_args.how=early")
    cell: Any = SimpleNamespace(config=config, group="g", words=words)
    before = set(multiprocessing.active_children())
    with deadline(300):
        sweep_ready.refuse_missing([cell], "sweep.yaml")
        while set(multiprocessing.active_children()) - before:
            time.sleep(0.02)


def test_a_slow_end_keeps_its_status() -> None:
    """A loaded machine takes long to take a program apart that has finished."""
    slow = "waiting._LAST_SECONDS = 0.1; Deaf.__del__ = lambda self, s=time.sleep: s(2); sys.modules['x'] = Deaf()"
    code = _END.format(path=[str(HELPERS), *sys.path], then=slow)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr


@needs_proc
def test_what_no_thread_can_end_is_ended_by_the_system() -> None:
    """Here a function for the exit that waits in C code and holds the interpreter."""
    hang = "import atexit; waiting._APART_SECONDS = 1.0; atexit.register(ctypes.PyDLL(None).sleep, 600)"
    code = _END.format(path=[str(HELPERS), *sys.path], then=hang)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=False)
    assert done.returncode in (3, -signal.SIGALRM)  # the thread may be earlier on a busy machine


_UNREAD = """
import sys
sys.path[:] = {path!r}
from oamarl.utils import signals
signals._UNREAD_SECONDS = 0.3
stop = signals.Stop({grace})
stop.say = print
with stop.listening():
    try:
        while not stop.why():
            print("x" * 5000, flush=True)
    except KeyboardInterrupt:
        pass
    for _ in range(100):
        print("last words" * 1000, flush=True)
    stop.over()
sys.exit(3)
"""


@needs_proc
@pytest.mark.parametrize("grace", [0, 600])
def test_output_that_nobody_reads_does_not_hold_up_the_end(grace: int) -> None:
    """Neither a line that is being written when the signal comes, nor what is said afterwards."""
    code = _UNREAD.format(path=sys.path, grace=grace)
    reads, writes = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writes, stderr=writes)
    try:
        with deadline():
            poller = select.poll()
            poller.register(writes, select.POLLOUT)
            while poller.poll(0):
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 3
    finally:
        process.kill()
        os.close(reads)
        os.close(writes)


@needs_proc
def test_the_program_ends_after_a_traceback(tmp_path: Path) -> None:
    """An environment that cannot be made has started a thread before."""
    (tmp_path / "halfway.py").write_text(
        "import threading, time\n"
        "def make():\n"
        "    threading.Thread(target=time.sleep, args=(600,), name='pump').start()\n"
        "    raise RuntimeError('no game today')\n"
    )
    code = (
        f"import sys; sys.path[:] = {[str(tmp_path), *sys.path]!r}; "
        "from oamarl import main; from oamarl.utils import waiting; "
        "waiting.LEAVE_SECONDS = 0.5; sys.argv[1:] = ['--config=ippo', 'with', 'env=halfway:make']; "
        "sys.exit(main.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "no game today" in done.stderr
    assert "did not end within 0.5 seconds: pump." in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("env", "how"), [("Helper", None), ("Leaver", "thread"), ("Leaver", "fork")])
def test_the_program_ends_whatever_its_environment_leaves(
    env: str, how: str | None, program: Program, tmp_path: Path
) -> None:
    more = [] if how is None else [f"env_args.how={how}"]
    done = program(*words(tmp_path, env, *more), env={"PYTHONPATH": str(HELPERS)}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert ("did not end within" in done.stderr) is (how is not None)
    assert waiting.LEAVE_SECONDS < 60
