"""A run that is asked to end: in good order first, at once if need be, and on again from where it was."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.main import main
from oamarl.storage import checkpoints, provenance
from oamarl.storage.liveness import this_process
from oamarl.storage.records import read_metrics
from oamarl.utils.signals import SIGNALS, Stop, Terminated

from conftest import PATIENCE
from run_tools import assert_same_run, latest
from toy_envs import Truncating


class Signalled(Truncating):
    """Signals its own process at its ``when``-th step of all, then continues (``hang``: never comes back)."""

    do: ClassVar[Callable[[], None] | None] = None
    when: ClassVar[int] = 0
    count: ClassVar[int] = 0

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        type(self).count += 1
        if type(self).count == self.when and type(self).do is not None:
            type(self).do()


@pytest.fixture(autouse=True)
def _clean() -> None:
    Signalled.do, Signalled.when, Signalled.count = None, 0, 0


pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread"
)


def words(results: Path, *more: str) -> list[str]:
    return latest([
        "--config=happo", "with", "env=test_stopping:Signalled", "env_args.limit=5", "use_cuda=False", "seed=5",
        "backend=serial", "batch_size_run=2", "hidden_dim=8", "epochs=2", "t_max=200", "log_interval=20",
        "checkpoint_interval=1000", "test_nepisode=2", "test_interval=60", "stop_seconds=600",
        f"local_results_path={results}", *more,
    ])  # fmt: skip


def folders(results: Path) -> list[Path]:
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def at(step: int, do: Callable[[], None]) -> None:
    Signalled.when, Signalled.do = step, do


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbs."""
    results = tmp_path_factory.mktemp("whole")
    Signalled.do = None
    assert main(words(results)) == 0
    return folders(results)[0]


# -- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_the_run_after_its_update_with_a_checkpoint(
    name: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed, it is the run that was not disturbed."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        pytest.skip(f"{name} is ignored here")
    at(47, lambda: signal.raise_signal(number))  # in the fifth update's batch, or a test before it
    assert main(words(tmp_path / "r")) == 128 + number
    assert signal.getsignal(number) is before
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    (folder,) = folders(tmp_path / "r")
    assert status(folder) == "INTERRUPTED"
    (path,) = checkpoints.listed(folder / "checkpoints")
    assert 0 < checkpoints.steps_of(path) < 200
    assert f"Ended by {name} at step {checkpoints.steps_of(path)}. The newest checkpoint is {path}" in err
    assert f"checkpoint_path={folder}" in err.split("To resume: ")[1]
    assert err.strip() in (folder / "run.log").read_text()
    assert main(words(tmp_path / "again", f"checkpoint_path={folder}")) == 0
    assert_same_run(whole, folders(tmp_path / "again")[0])


def test_a_signal_in_a_test_episode(whole: Path, tmp_path: Path) -> None:
    """The checkpoint lies between the test and the batch that follows: the test is not played again."""
    at(3, lambda: signal.raise_signal(signal.SIGTERM))  # in the test before the first update
    assert main(words(tmp_path / "r")) == 143
    (folder,) = folders(tmp_path / "r")
    assert [checkpoints.steps_of(p) for p in checkpoints.listed(folder / "checkpoints")] == [0]
    assert [p["t"] for p in read_metrics(folder)] == [0]
    assert main(words(tmp_path / "again", f"checkpoint_path={folder}")) == 0
    assert_same_run(whole, folders(tmp_path / "again")[0])


def hang() -> None:
    signal.raise_signal(signal.SIGTERM)
    while True:
        time.sleep(60)


def test_patience_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An update that does not end: what happens next is said, and the checkpoint from before is the one to use."""
    at(67, hang)
    assert main(words(tmp_path, "stop_seconds=0.7", "checkpoint_interval=20")) == 143
    out, err = capsys.readouterr()
    assert "SIGTERM: the run ends after this update, with a checkpoint; in 0.7 seconds" in out
    assert "Ended by SIGTERM: the run stops here. The newest checkpoint is" in err
    (folder,) = folders(tmp_path)
    assert status(folder) == "INTERRUPTED"
    path = checkpoints.listed(folder / "checkpoints")[0]
    assert str(path) in err
    assert checkpoints.steps_of(path) == 40


@pytest.mark.parametrize("more", [("stop_seconds=0",), ()])
def test_without_patience_or_at_a_second_signal_the_run_stops_at_once(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGUSR1)
        assert not more, "the first signal was to end the run"
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal was to end the run")

    at(3, twice)
    assert main(words(tmp_path, *more)) == 128 + signal.SIGUSR1
    (folder,) = folders(tmp_path)
    assert status(folder) == "INTERRUPTED"
    assert "There is no checkpoint." in capsys.readouterr().err


def test_a_failure_while_the_run_is_asked_to_end_is_part_of_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch system signals workers too: that one of them is gone does not make the run FAILED."""

    def both() -> None:
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a worker is gone")

    at(67, both)
    assert main(words(tmp_path, "checkpoint_interval=20")) == 143
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "EnvError while it ended" in err
    (folder,) = folders(tmp_path)
    assert status(folder) == "INTERRUPTED"
    assert "a worker is gone" in (folder / "run.log").read_text()


def test_the_clean_end_is_not_disturbed_unless_somebody_insists() -> None:
    stop = Stop()
    with stop.listening():
        with pytest.raises(Terminated, match="SIGTERM") as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.exit_code == 143
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    done = Stop(grace=5.0)
    with done.listening():
        done.over()
        signal.raise_signal(signal.SIGTERM)
    assert done.exit_code == 143


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("wait", [time.sleep, lambda seconds: threading.Event().wait(seconds)], ids=["sleep", "lock"])
def test_a_signal_that_another_thread_takes_ends_a_wait(
    wait: Callable[[float], Any], lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may give it to any thread; ``lost``: calls to the main thread that come just before it waits."""
    threads, kill, calls = threading.enumerate(), signal.pthread_kill, []

    def sometimes(thread: int, number: int) -> None:
        calls.append(number)
        if len(calls) > lost:
            kill(thread, number)

    monkeypatch.setattr(signal, "pthread_kill", sometimes)
    # the main thread waits by then, or will soon: it sees the signal either way
    taker = threading.Timer(0.2, lambda: kill(threading.get_ident(), signal.SIGTERM))
    with Stop().listening():
        taker.start()
        with pytest.raises(Terminated, match="SIGTERM"):
            wait(PATIENCE)
        taker.join()
    assert calls[: lost + 1] == [signal.SIGURG] * (lost + 1)
    assert threading.enumerate() == threads
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_contexts_within_one_another() -> None:
    """The inner one takes the signals, the outer one has them again after it."""
    outer, inner = Stop(), Stop()
    with outer.listening():
        with inner.listening(), pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        assert (outer.received, inner.received) == ([], [signal.SIGTERM])
        taker = threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        began = time.monotonic()
        taker.start()
        with pytest.raises(Terminated, match="SIGUSR1"):
            time.sleep(PATIENCE)
        assert time.monotonic() - began < PATIENCE  # else only the end of the wait was the end of it
        taker.join()


def test_what_was_ignored_stays_ignored() -> None:
    """A process started by nohup ignores SIGHUP, and shall go on doing so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop().listening():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# -- time --------------------------------------------------------------------------------------------------


def test_max_seconds(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends at the next update, with its own exit status, and continues as if nothing had been."""
    assert main(words(tmp_path / "r", "max_seconds=1e-9")) == 124
    err = capsys.readouterr().err
    (folder,) = folders(tmp_path / "r")
    assert "Ended by max_seconds=1e-09 at step 0." in err
    assert status(folder) == "INTERRUPTED"
    assert main(words(tmp_path / "again", f"checkpoint_path={folder}")) == 0
    assert_same_run(whole, folders(tmp_path / "again")[0])


def test_time_that_is_up_in_the_middle(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that the environment sets: no test waits for it."""
    clock = [0.0]
    monkeypatch.setattr("oamarl.utils.signals.time.monotonic", lambda: clock[0])
    at(101, lambda: clock.__setitem__(0, 60.0))
    assert main(words(tmp_path / "r", "max_seconds=59")) == 124
    monkeypatch.undo()
    (folder,) = folders(tmp_path / "r")
    assert 0 < checkpoints.steps_of(checkpoints.find(folder)) < 200
    assert main(words(tmp_path / "again", f"checkpoint_path={folder}", "max_seconds=1000")) == 0
    assert_same_run(whole, folders(tmp_path / "again")[0])


def test_the_command_line_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for typed, want in [
        (["oamarl", "--config=a", "with", "seed=1"], "oamarl --config=a with seed=1 checkpoint_path=/r/1"),
        (["oamarl", "--config=a"], "oamarl --config=a with checkpoint_path=/r/1"),
        (
            ["oamarl", "with", "checkpoint_path=/r/0", "x='a b'"],
            "oamarl with 'x='\"'\"'a b'\"'\"'' checkpoint_path=/r/1",
        ),
        (["oamarl", "with", "checkpoint_path=latest"], "oamarl with checkpoint_path=/r/1"),
        (["oamarl", "with", "load_step=20", "checkpoint_path=/r/0"], "oamarl with checkpoint_path=/r/1"),
    ]:
        monkeypatch.setattr("sys.orig_argv", ["python3", *typed])
        assert provenance.resume_command("/r/1") == want


# -- checkpoint_path=latest -----------------------------------------------------------------------------------


def begun(results: Path, *more: str) -> Path:
    """A run that was ended by a signal; its folder."""
    Signalled.count = 0
    at(47, lambda: signal.raise_signal(signal.SIGTERM))
    assert main(words(results, *more)) == 143
    Signalled.do = None
    return folders(results)[-1]


def resumed_from(results: Path) -> Any:
    found = json.loads((folders(results)[-1] / "info.json").read_text()).get("resumed_from")
    return Path(found).parent.parent if found else None


def test_latest_is_the_newest_run_that_is_not_over(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command of a job that is put back into the queue, again and again."""
    job = ("checkpoint_path=latest",)
    assert main(words(tmp_path, *job, "lr=0.5")) == 0  # another configuration
    assert "no run of this configuration is there to resume" in capsys.readouterr().out
    first = begun(tmp_path, *job)
    assert resumed_from(tmp_path) is None
    assert main(words(tmp_path, "t_max=20", "seed=6")) == 0  # another seed
    second = begun(tmp_path, *job)
    assert resumed_from(tmp_path) == first
    assert main(words(tmp_path, *job)) == 0
    assert resumed_from(tmp_path) == second
    assert_same_run(whole, folders(tmp_path)[-1])
    # that one is over, and the others went on in it
    assert main(words(tmp_path, *job)) == 0
    assert resumed_from(tmp_path) is None


def test_latest_of_runs_whose_seed_was_drawn(tmp_path: Path) -> None:
    first = begun(tmp_path, "seed=null")
    assert main(words(tmp_path, "seed=null", "checkpoint_path=latest")) == 0
    assert resumed_from(tmp_path) == first
    seeds = {json.loads((f / "config.json").read_text())["seed"] for f in folders(tmp_path)}
    assert len(seeds) == 1


@pytest.mark.parametrize("dead", [False, True])
def test_latest_leaves_a_run_alone_that_is_at_work(
    dead: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed run says RUNNING for ever; its process tells."""
    first = begun(tmp_path)
    for name, change in (
        ("run.json", {"status": "RUNNING"}),
        ("info.json", {"process": this_process() | ({"pid": 2**22 + 1} if dead else {})}),
    ):
        content = json.loads((first / name).read_text())
        (first / name).write_text(json.dumps(content | change))
    assert main(words(tmp_path, "checkpoint_path=latest")) == 0
    assert resumed_from(tmp_path) == (first if dead else None)
    assert ("seems to be at work" in capsys.readouterr().out) is not dead
    assert os.getpid()
