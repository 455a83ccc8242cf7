"""A run that is killed, stopped or over continues as if nothing had happened; what must not continue is refused.

Killed and signalled runs are real processes; the rest calls the program's `main` in this one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from oamarl.main import main
from oamarl.parts import resolve
from oamarl.settings import learned
from oamarl.storage import checkpoints
from oamarl.storage.records import read_metrics
from oamarl.storage.snapshots import at_step
from oamarl.training.building import build
from oamarl.training.resume import load_weights
from oamarl.utils.schema.command_line import Request

from child_signals import usual_signals
from conftest import PATIENCE, ROOT, SRC
from run_tools import CPU, ONE_PASS, PASSES, assert_same, assert_same_run, final_state, latest, untimed

#: a maze that random walks solve now and then, so that episodes differ in length and return
ENV = {"map": ["######", "#S..G#", "#.RB.#", "######"], "time_limit": 12}
#: about 25 iterations, with a checkpoint at nearly each; intervals are at most half of any of the runs
QUICK = (
    "seed=7", "use_cuda=False", *(f"env_args.{key}={json.dumps(value)}" for key, value in ENV.items()),
    "batch_size_run=4", "hidden_dim=16", "epochs=3", "t_max=1000",
    "log_interval=90", "test_interval=240", "test_nepisode=3", "checkpoint_interval=40",
)  # fmt: skip


def words(algorithm: str, results: Path, *more: str) -> list[str]:
    own = ["seps_steps=100"] if algorithm == "seps" else []
    given = latest([*QUICK, *own, f"local_results_path={results}", *more])
    if algorithm in ONE_PASS:  # their own segments; recurrent sharing needs whole episodes
        given = [word for word in given if word.partition("=")[0] not in PASSES]
        given += ["runner=parallel"] if "use_rnn=True" in given else []
    return [f"--config={algorithm}", "--env-config=maze", "with", *given]


def start(algorithm: str, results: Path, *more: str) -> subprocess.Popen[str]:
    """The program in a process (and process group) of its own."""
    return subprocess.Popen(
        [sys.executable, str(SRC / "main.py"), *words(algorithm, results, *more)],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, preexec_fn=usual_signals,
    )  # fmt: skip


@contextmanager
def running(algorithm: str, results: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The same, ended with its group whatever happens."""
    process = start(algorithm, results, *more)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def complete(algorithm: str, results: Path, *more: str, inside: bool = False) -> Path:
    """Run the program to its end, in a process or inside this one; return the run's folder."""
    if inside:
        assert main(words(algorithm, results, *more)) == 0
        return folders(results)[-1]
    process = start(algorithm, results, *more)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return folders(results)[-1]


def folders(results: Path) -> list[Path]:
    """All runs' folders of one algorithm, oldest first."""
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


def wait_for(what: Any, process: subprocess.Popen[str]) -> None:
    """Wait until ``what()`` holds while the process lives."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, f"it ended early with {process.returncode}: {process.communicate()[0]}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


def wait_for_checkpoint(results: Path, process: subprocess.Popen[str], n_runs: int = 1, steps: float = 0) -> None:
    """Wait until the newest of ``n_runs`` runs has a checkpoint of its own that is ``steps`` old or more."""

    def there() -> bool:
        found = folders(results)
        files = checkpoints.listed(found[-1] / "checkpoints") if len(found) == n_runs else []
        return bool(files) and checkpoints.steps_of(files[0]) >= steps

    wait_for(there, process)


def killed(algorithm: str, results: Path, dice: random.Random, *more: str, n_runs: int = 1) -> Path:
    """Start a run, SIGKILL its process at a random moment after its first checkpoint, and return its folder."""
    for _ in range(50):
        with running(algorithm, results, *more) as process:
            wait_for_checkpoint(results, process, n_runs, steps=dice.uniform(0, 600))
            time.sleep(dice.uniform(0, 0.05))  # anywhere in an iteration
            process.kill()  # the process alone: its workers must notice by themselves
            process.wait()
        if process.returncode == -signal.SIGKILL:
            return folders(results)[-1]
        shutil.rmtree(folders(results)[-1])  # it was over before: this test had to wait for its turn
    raise AssertionError("it was always over before it could be killed")


def info(folder: Path, name: str = "info.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def check_sacred(folder: Path) -> None:
    """sacred's metrics.json holds the whole curve, the part before the resumption included."""
    stored = json.loads((folder / "metrics.json").read_text())
    curves: dict[str, dict[str, list[float]]] = {}
    for point in read_metrics(folder):
        for name, value in point["metrics"].items():
            curve = curves.setdefault(name, {"steps": [], "values": []})
            curve["steps"].append(point["t"])
            curve["values"].append(value)
    assert_same(
        dict(sorted(curves.items())), {k: {x: stored[k][x] for x in ("steps", "values")} for k in sorted(stored)}
    )


# -- killed ----------------------------------------------------------------------------------------------

GRU = ("use_rnn=True", "num_minibatches=2", "obs_last_action=True")
FAST = (("oappo", ()), ("mappo", GRU))
#: what is left alone and what resumes are processes of their own as well: one will do, the rest is the same code
OUTSIDE = (("happo", ()),)
#: one YAML of each learner; the others differ in values
LEARNERS = ("mappo", "seps", "happo", "hatrpo", "oappo", "oatrpo", "seac", "coma", "pac")
KILLED = [
    pytest.param(
        algorithm, more, (algorithm, more) not in OUTSIDE, id=f"{algorithm}{'-gru' if more else ''}",
        marks=[] if (algorithm, more) in FAST else [pytest.mark.slow],
    )
    for algorithm in LEARNERS
    for more in ((), GRU)
    if not (more and algorithm in ("seps", "happo", "hatrpo", "pac"))
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "more", "inside"), KILLED)
def test_a_killed_run_goes_on_with_the_same_numbers(
    algorithm: str, more: tuple[str, ...], inside: bool, tmp_path: Path
) -> None:
    """SIGKILL at a random moment: the resumed curve and the final weights are those of a run left alone."""
    whole = complete(algorithm, tmp_path / "whole", *more, inside=inside)
    first = killed(algorithm, tmp_path / "cut", random.Random(f"{algorithm} {more}"), *more)
    assert info(first, "run.json")["status"] == "RUNNING"
    assert 0 < len(read_metrics(first)) < len(read_metrics(whole))
    before = {p.name: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    second = complete(algorithm, tmp_path / "cut", *more, f"checkpoint_path={first}", inside=inside)
    assert second != first
    assert_same_run(whole, second)
    assert info(second)["resumed_from"] == str(checkpoints.find(first))
    assert info(second, "run.json")["status"] == "COMPLETED"
    assert {p.name: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before, "the old run was changed"
    check_sacred(second)
    assert "resumed_from" not in info(whole)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["oappo", "oatrpo"])
def test_killed_again_and_again(algorithm: str, tmp_path: Path) -> None:
    """Three times, environments in worker processes; each resumption starts from the last one's folder."""
    more = ("reuse_mode=frequency", "num_minibatches=3", "backend=process", "workers=2")
    whole = complete(algorithm, tmp_path / "whole", *more, inside=True)
    dice, results = random.Random(algorithm), tmp_path / "cut"
    at = killed(algorithm, results, dice, *more)
    for n in (2, 3):
        at = killed(algorithm, results, dice, *more, f"checkpoint_path={at}", n_runs=n)
        assert "resumed_from" in info(at)
    assert_same_run(whole, complete(algorithm, results, *more, f"checkpoint_path={at}", inside=True))


# -- signalled -------------------------------------------------------------------------------------------


def descendants(pid: int) -> set[int]:
    """Living processes below ``pid`` (Linux)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: set[int]) -> None:
    end = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [pid for pid in pids if alive(pid)], "processes were left behind"


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@linux
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_as_interrupted(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group, as a terminal sends it; workers end too, and the run can be resumed."""
    more = ("backend=process", "workers=2", "t_max=6000", "stop_seconds=600")  # not over before the signal comes
    with running("oappo", tmp_path, *more) as process:
        wait_for_checkpoint(tmp_path, process)
        below = descendants(process.pid)
        assert len(below) == 3, "two workers and their guard were to run"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, out
    assert "Traceback" not in out
    wait_until_gone(below)
    (folder,) = folders(tmp_path)
    stored = info(folder, "run.json")
    assert stored["status"] == "INTERRUPTED"
    assert stored["stop_time"]
    points = read_metrics(folder)
    assert points
    check_sacred(folder)
    left = checkpoints.steps_of(checkpoints.find(folder))
    further = ("backend=serial", f"t_max={left + 200}")  # not to 6000: that it resumes is seen by then
    again = complete("oappo", tmp_path, *more, *further, f"checkpoint_path={folder}", inside=True)
    assert checkpoints.steps_of(checkpoints.find(again)) >= left + 200
    assert info(again)["resumed_from"] == str(checkpoints.find(folder))


@linux
def test_a_killed_run_leaves_no_workers(tmp_path: Path) -> None:
    with running("mappo", tmp_path, "backend=process", "workers=2", "t_max=100000") as process:
        wait_for_checkpoint(tmp_path, process)
        below = descendants(process.pid)
        assert len(below) == 3  # two workers and their guard
        process.kill()
        process.wait()
        wait_until_gone(below)


# -- in this process -------------------------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(list(argv))
    out, err = capsys.readouterr()
    return status, out, err


SHORT = ("t_max=480", "lr_schedule=constant", "hidden_dim=8", "epochs=2", "num_minibatches=2")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of OAPPO that is over, after about ten iterations, with its last two checkpoints."""
    results = tmp_path_factory.mktemp("done")
    assert main(words("oappo", results, *SHORT)) == 0
    return folders(results)[-1]


def resumed(results: Path, source: Path, *more: str) -> list[str]:
    return words("oappo", results, *SHORT, f"checkpoint_path={source}", *more)


def test_t_max_may_grow(done: Path, tmp_path: Path) -> None:
    """Resumed to 960 steps, the run that was over is the run that was to take 960 steps from the start."""
    assert main(words("oappo", tmp_path / "long", *SHORT, "t_max=960")) == 0
    assert main(resumed(tmp_path / "grown", done, "t_max=960")) == 0
    long, grown = folders(tmp_path / "long")[-1], folders(tmp_path / "grown")[-1]
    assert_same_run(long, grown)
    check_sacred(grown)
    old, new = read_metrics(done), read_metrics(grown)
    assert untimed(new[: len(old) - 2]) == untimed(old[:-2])  # all but its closing point and test
    assert new[-1]["t"] >= 960 > old[-1]["t"]


def test_a_test_that_was_due_at_the_checkpoint_is_not_lost(tmp_path: Path) -> None:
    """It comes before the next update, so a checkpoint made after the last one has it still to come."""
    more = (*SHORT, "t_max=200", "test_interval=1", "log_interval=40")
    assert main(words("happo", tmp_path / "long", *more)) == 0
    assert main(words("happo", tmp_path / "cut", *more, "t_max=100")) == 0
    first = folders(tmp_path / "cut")[-1]
    assert main(words("happo", tmp_path / "grown", *more, f"checkpoint_path={first}")) == 0
    assert_same_run(folders(tmp_path / "long")[-1], folders(tmp_path / "grown")[-1])


def test_what_does_not_change_learning_may_change(done: Path, tmp_path: Path) -> None:
    more = ("t_max=960", "backend=serial", "test_nepisode=5", "label=again", "test_interval=100", "log_interval=48")
    assert main(words("oappo", tmp_path / "long", *SHORT, "t_max=960")) == 0
    assert main(resumed(tmp_path / "grown", done, *more)) == 0
    long, grown = folders(tmp_path / "long")[-1], folders(tmp_path / "grown")[-1]
    assert_same(final_state(long), final_state(grown))
    assert len(read_metrics(grown)) > len(read_metrics(long))


def test_a_run_that_is_over_may_be_resumed_to_its_end(done: Path, tmp_path: Path) -> None:
    assert main(resumed(tmp_path, done)) == 0
    assert_same_run(done, folders(tmp_path)[-1])


@pytest.mark.parametrize("what", ["checkpoints", "file"])
def test_a_folder_of_checkpoints_or_one_file_will_do(what: str, done: Path, tmp_path: Path) -> None:
    oldest = checkpoints.listed(done / "checkpoints")[-1]
    assert main(resumed(tmp_path, oldest if what == "file" else oldest.parent)) == 0
    again = folders(tmp_path)[-1]
    assert_same_run(done, again)
    want = oldest if what == "file" else checkpoints.listed(oldest.parent)[0]
    assert info(again)["resumed_from"] == str(want)


def test_a_run_folder_that_was_moved_takes_its_curve_along(done: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(done, tmp_path / "elsewhere" / "1"))
    payload = checkpoints.load(checkpoints.find(moved))
    payload["folder"] = str(tmp_path / "gone")  # as if the original were no longer there
    for path in checkpoints.listed(moved / "checkpoints"):
        path.unlink()
    checkpoints.save(moved / "checkpoints", payload["runner"]["t_env"], payload)
    assert main(resumed(tmp_path / "r", moved)) == 0
    assert_same_run(done, folders(tmp_path / "r")[-1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lr=0.002", "lr=0.002 (was 0.001)"),
        ("env_args.time_limit=13", "env_args"),
        ("reuse_kl_samples=512", "reuse_kl_samples=512 (was 1024)"),
        ("seed=8", "seed=8 (was 7)"),
    ],
)
def test_another_configuration_is_refused(
    change: str, said: str, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = call(capsys, *resumed(tmp_path, done, change))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1, err
    assert said in err
    assert "Cannot resume" in err
    assert not list(tmp_path.iterdir()), "a run was begun"


def test_another_algorithm_is_refused(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, *words("happo", tmp_path, *SHORT, f"checkpoint_path={done}"))
    assert status == 2
    assert err.count("\n") == 1
    assert "learner='happo_learner' (was 'oappo_learner')" in err


def test_nothing_to_resume_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, *resumed(tmp_path, tmp_path / "nowhere"))
    assert status == 2
    assert err.count("\n") == 1
    assert "nowhere" in err


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_a_damaged_newest_checkpoint_falls_back(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(shutil.copytree(done, tmp_path / "source"))
    newest, older = checkpoints.listed(source / "checkpoints")
    flip(newest)
    status, out, _ = call(capsys, *resumed(tmp_path / "r", source))
    assert status == 0
    assert "Skipped a checkpoint" in out
    assert newest.name in out
    again = folders(tmp_path / "r")[-1]
    assert info(again)["resumed_from"] == str(older)
    assert_same_run(done, again)
    flip(older)
    status, _, err = call(capsys, *resumed(tmp_path / "r", source))
    assert status == 2
    assert err.count("\n") == 1
    assert "no intact checkpoint" in err


def test_init_from_takes_weights_only(done: Path, tmp_path: Path) -> None:
    saved = checkpoints.load(checkpoints.find(done))
    settings = resolve(Request("oappo", "maze", {"seed": 9, "hidden_dim": 8, "env_args": ENV}))
    runner, mac, learner = build(settings, CPU)
    runner.close()
    streams = {name: g.get_state().clone() for name, g in learner.generators.items()}
    load_weights(mac, learner, saved, "there")
    assert torch.equal(mac.network.params, saved["mac"]["theta"])
    assert torch.equal(learner.value.network.params, saved["learner"]["value"]["theta"])
    assert torch.equal(learner.agent_params[2], saved["mac"]["theta"][2]), "what is trained is what was loaded"
    assert learner.updates == runner.t_env == 0
    assert not any(o.state for o in learner.optimisers)
    assert_same(streams, {name: g.get_state() for name, g in learner.generators.items()})
    # the program: its test before any update is the closing test of the run that the weights are from
    assert main(words("oappo", tmp_path, *SHORT, "lr=0.01", f"init_from={done}")) == 0
    folder = folders(tmp_path)[-1]
    points = untimed(read_metrics(folder))
    assert points[0] == (0, untimed(read_metrics(done))[-1][1])
    assert "resumed_from" not in info(folder)
    assert points[1][1]["updates"] <= 3
    assert points[-1][0] >= 480


def test_init_from_another_shape_is_one_sentence(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call(capsys, *words("oappo", tmp_path, *SHORT, "hidden_dim=9", f"init_from={done}"))
    assert status == 2
    assert err.count("\n") == 1
    assert "init_from" in err


def test_init_from_a_team_of_another_size_says_both(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "env_args.agents={red: 3, black: 3}"
    status, _, err = call(capsys, *words("mappo", tmp_path, *SHORT, more, f"init_from={done}"))
    assert status == 2
    assert "another shape or kind than this configuration's: 4 agents there and 6 here." in err


# -- checkpoints that are not what they should be --------------------------------------------------------------


def rewritten(done: Path, there: Path, change: Any) -> Path:
    """A copy of a run whose newest checkpoint holds something else, under a right checksum."""
    source = Path(shutil.copytree(done, there))
    newest = checkpoints.listed(source / "checkpoints")[0]
    payload = checkpoints.load(newest)
    change(payload)
    newest.unlink()
    checkpoints.save(source / "checkpoints", checkpoints.steps_of(newest), payload)
    return source


def poison(payload: dict[str, Any]) -> None:
    payload["learner"]["value"]["theta"][0, 3] = float("nan")


UNFIT = {
    "lacks what this program writes (loop)": lambda p: p.pop("loop"),
    "lacks what this program writes (mac, runner)": lambda p: p.update(mac=[1], runner=None),
    "no sensible place": lambda p: p.update(position={"metrics.jsonl": -1}),
    "lacks its step or its seed": lambda p: p["runner"].update(t_env="many"),
    "parameters that are not finite": poison,
}


@pytest.mark.parametrize("said", UNFIT)
def test_a_payload_that_is_no_runs_is_passed_over(
    said: str, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = rewritten(done, tmp_path / "source", UNFIT[said])
    status, out, _ = call(capsys, *resumed(tmp_path / "r", source))
    assert status == 0
    assert said in out
    assert_same_run(done, folders(tmp_path / "r")[-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["loop"].pop("next"),
        lambda p: p["loop"].update(window=3),
        lambda p: p["learner"]["optimisers"].pop(),
        lambda p: p["learner"]["generators"].update(kl=torch.zeros(3)),
        lambda p: p["mac"].update(theta=torch.zeros(2, 2)),
        lambda p: p["runner"].update(skipped="text"),
    ],
)
def test_a_state_that_does_not_fit_the_parts_is_one_sentence(
    change: Any, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = rewritten(done, tmp_path / "source", change)
    status, out, err = call(capsys, *resumed(tmp_path / "r", source))
    assert status == 2
    assert "Traceback" not in out + err
    assert "does not fit" in err
    assert info(folders(tmp_path / "r")[-1], "run.json")["status"] == "FAILED"


def test_a_file_of_unknown_origin_does_not_name_its_curve(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lying loose, it says where its run was: believed only of a run of this configuration."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.jsonl").write_text('{"t": 1, "time": 0, "metrics": {"secret": 1.0}}\n' * 1000)
    for folder, known in ((other, False), (done, True)):
        payload = checkpoints.load(checkpoints.find(done)) | {"folder": str(folder)}
        path = checkpoints.save(tmp_path / f"loose-{known}", payload["runner"]["t_env"], payload)
        status, _, err = call(capsys, *resumed(tmp_path / f"r-{known}", path))
        assert status == 0
        again = folders(tmp_path / f"r-{known}")[-1]
        assert "secret" not in (again / "metrics.jsonl").read_text()
        assert ("earlier curve is incomplete" in err) is not known
        if known:
            assert_same_run(done, again)


def test_a_place_beyond_the_end_asks_for_no_memory(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def far(payload: dict[str, Any]) -> None:
        payload["position"] = dict.fromkeys(payload["position"], 2**60)

    status, _, err = call(capsys, *resumed(tmp_path / "r", rewritten(done, tmp_path / "source", far)))
    assert status == 0
    assert "earlier curve is incomplete" in err


# -- which checkpoint ------------------------------------------------------------------------------------------------


SNAPSHOTS = ("save_model=True", "save_model_interval=40")


def steps_kept(folder: Path) -> dict[str, list[int]]:
    """The steps of all checkpoints of a run, by folder, oldest first."""
    where = (checkpoints.FOLDER, checkpoints.MODELS, checkpoints.BEST)
    return {name: sorted(map(checkpoints.steps_of, checkpoints.listed(folder / name))) for name in where}


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with permanent snapshots, at more steps than its two newest checkpoints."""
    results = tmp_path_factory.mktemp("snapshots")
    assert main(words("oappo", results, *SHORT, *SNAPSHOTS)) == 0
    folder = folders(results)[-1]
    found = steps_kept(folder)
    assert found["models"][0] < found["checkpoints"][0], "there is something to choose"
    return folder


def test_load_step_goes_on_from_the_checkpoint_of_that_step(
    snapshots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From any of them the same numbers come, and the curve behind it is played again."""
    early = steps_kept(snapshots)["models"][0]
    code, out, err = call(capsys, *resumed(tmp_path, snapshots, *SNAPSHOTS, f"load_step={early}"))
    assert (code, err) == (0, "")
    assert f"step {early}." in out
    assert "no checkpoint of this step" not in out
    again = folders(tmp_path)[-1]
    assert info(again)["resumed_from"] == str(snapshots / "models" / checkpoints.name_of(early))
    assert_same_run(snapshots, again)
    # to go on with that one, where the step stands in a YAML too, is to take its newest
    assert call(capsys, *resumed(tmp_path, again, "load_step=0"))[0] == 0
    assert info(folders(tmp_path)[-1])["resumed_from"] == str(checkpoints.find(again))


def test_load_step_takes_the_closest_and_says_so(
    snapshots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = steps_kept(snapshots)["models"]
    first, second = models[:2]
    for folder, asked, taken in (
        (snapshots / "models", first + 1, first),
        (snapshots / "models", second - 1, second),
        (snapshots / "models", 1, first),
        (snapshots, 10**9, models[-1]),
    ):
        code, out, err = call(capsys, *resumed(tmp_path, folder, f"load_step={asked}"))
        assert (code, err) == (0, ""), err
        text = f"load_step={asked}: {folder} has no checkpoint of this step; the closest one, of step {taken}, is taken"
        assert text in " ".join(out.split())
        resumed_from = Path(info(folders(tmp_path)[-1])["resumed_from"])
        assert checkpoints.steps_of(resumed_from) == taken


def test_a_step_is_chosen_by_its_distance(tmp_path: Path) -> None:
    for folder, steps in {"checkpoints": (40, 50), "models": (10, 20, 40), "best": (26,)}.items():
        for step in steps:
            checkpoints.save(tmp_path / folder, step, {"step": step}, keep=None)
    said: list[str] = []
    for asked, name in {
        1: "models/10", 15: "models/20", 14: "models/10", 24: "best/26", 26: "best/26", 34: "checkpoints/40",
        40: "checkpoints/40", 47: "checkpoints/50", 10**12: "checkpoints/50",
    }.items():  # fmt: skip
        folder, _, step = name.partition("/")
        assert at_step(tmp_path, asked, said.append) == tmp_path / folder / checkpoints.name_of(int(step)), asked
    assert len(said) == 7, "where it is not exactly the step"
    # a second file of the step, where the first is damaged
    flip(tmp_path / "checkpoints" / checkpoints.name_of(40))
    assert at_step(tmp_path, 40, said.append).parent.name == "models"
    # one folder has what is in it
    assert checkpoints.steps_of(at_step(tmp_path / "checkpoints", 1, said.append)) == 40
    assert at_step(tmp_path, 0, said.append) == tmp_path
    assert at_step(tmp_path / "nowhere", 3, said.append) == tmp_path / "nowhere"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("load_step=20",), "load_step=20 chooses among the checkpoints of checkpoint_path, which is not set"),
        (("load_step=20", "checkpoint_path=latest"), "checkpoint_path=latest resumes from the newest one"),
        (("load_step=EARLY", "init_from=RUN"), "init_from=RUN/models/NAME."),
        (("load_step=20", "checkpoint_path=RUN/models/NAME"), "is the checkpoint of step EARLY, and load_step=20 asks"),
        (("load_step=20", "checkpoint_path=COPY"), "is the checkpoint of step EARLY, and load_step=20 asks"),
        (("load_step=20", "checkpoint_path=nowhere"), "There is no checkpoint at nowhere"),
        (("load_step=-1", "checkpoint_path=RUN"), "load_step=-1 is out of range"),
        (("load_step=x", "checkpoint_path=RUN"), "load_step='x' has the wrong type"),
    ],
)
def test_a_load_step_that_contradicts(
    given: tuple[str, ...], said: str, snapshots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = steps_kept(snapshots)["models"][0]
    copy = shutil.copy(snapshots / "models" / checkpoints.name_of(early), tmp_path / "mine.pt")
    names = {"RUN": str(snapshots), "EARLY": str(early), "NAME": checkpoints.name_of(early), "COPY": str(copy)}

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(name, value)
        return text

    code, out, err = call(capsys, *words("oappo", tmp_path / "r", *SHORT, *map(filled, given)))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert filled(said) in err
    assert not (tmp_path / "r").exists()


def test_the_way_on_from_an_earlier_step_is_the_newest_checkpoint(
    snapshots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a YAML chose the step it would be chosen again, and what came after it be lost."""
    early = steps_kept(snapshots)["models"][0]
    code, _, err = call(capsys, *resumed(tmp_path, snapshots, f"load_step={early}", "max_seconds=1e-9"))
    assert code == 124
    # it has none of its own yet, and stands where the earlier run stood
    file = snapshots / "models" / checkpoints.name_of(early)
    assert err.split("To resume: ")[1].split()[-2:] == [f"checkpoint_path={file}", "load_step=0"]


def test_a_file_and_its_own_step_agree(snapshots: Path, tmp_path: Path) -> None:
    early = steps_kept(snapshots)["models"][0]
    copy = shutil.copy(snapshots / "models" / checkpoints.name_of(early), tmp_path / "mine.pt")
    for file in (copy, snapshots / "models" / checkpoints.name_of(early)):
        assert at_step(file, early, pytest.fail) == Path(file)


def test_the_closest_checkpoint_is_damaged(snapshots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = Path(shutil.copytree(snapshots, tmp_path / "moved"))
    early = steps_kept(moved)["models"][0]
    name = checkpoints.name_of(early)
    flip(moved / "models" / name)
    code, out, err = call(capsys, *resumed(tmp_path / "r", moved, f"load_step={early}"))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"{name} is damaged" in err
    assert "in the same folder is intact" in err


def test_a_curve_of_a_version_without_load_step_is_the_same_experiment(snapshots: Path) -> None:
    old = {k: v for k, v in info(snapshots, "config.json").items() if k != "load_step"}
    assert learned(old | {"load_step": 40}) == learned(old)
