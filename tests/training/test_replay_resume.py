"""An off-policy run that is killed at any moment continues with the same numbers, its replay included."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oamarl.main import main
from oamarl.storage import checkpoints

from conftest import PATIENCE
from run_tools import assert_same, assert_same_run, latest

ENV = {"map": ["######", "#S..G#", "#.RB.#", "######"], "time_limit": 12}
#: about 45 iterations with a checkpoint at nearly each, in a replay that is overwritten several times
QUICK = (
    "--config=qmix", "--env-config=maze", "with", "seed=7", "use_cuda=False", "backend=serial",
    *(f"env_args.{key}={json.dumps(value)}" for key, value in ENV.items()), "batch_size_run=4", "hidden_dim=16",
    "t_max=1600", "log_interval=90", "test_interval=300", "test_nepisode=3", "checkpoint_interval=40",
    "buffer_size=30", "batch_size=8", "epsilon_anneal_time=1000", "updates_per_step=0.03", "standardise_obs=True",
    "feature_norm=True", "target_update_interval_or_tau=200",
)  # fmt: skip
#: deterministic policies with noise on their actions and on those of targets, on segments of unfinished episodes
NOISY = (
    "--config=matd3", "with", "env=toy_envs:Target", "env_args.ragged=True", "env_args.limit=7", "seed=7",
    "use_cuda=False", "backend=serial", "batch_size_run=4", "hidden_dim=16", "t_max=800", "log_interval=90",
    "test_interval=300", "test_nepisode=3", "checkpoint_interval=40", "rollout_length=5", "buffer_size=60",
    "batch_size=16", "q_nstep=2", "updates_per_step=0.05", "warmup_steps=100", "standardise_returns=True",
    "standardise_obs=True",
)  # fmt: skip
#: to the call of checkpoints.save or of the writing of a chunk that is the last thing the process does
KILL = """
import os, signal, sys
from oamarl.storage import checkpoints, replay_files
module, name, number = {"checkpoint": (checkpoints, "save", 5), "chunk": (replay_files, "write_sealed", 7)}[sys.argv[1]]
plain, calls = getattr(module, name), 0
def counted(*args, **options):
    global calls
    calls += 1
    if calls >= number and (name == "write_sealed" or str(args[0]).endswith("checkpoints")):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*args, **options)
setattr(module, name, counted)
from oamarl.main import main
sys.exit(main(sys.argv[2:]))
"""


def folders(results: Path) -> list[Path]:
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


def line_of(results: Path, *more: str) -> list[str]:
    """The command line: ``more`` after that of QMIX, or itself one."""
    where = f"local_results_path={results}"
    return latest([*more, where] if more[:1] == NOISY[:1] else [*QUICK, where, *more])


def complete(results: Path, *more: str) -> Path:
    assert main(line_of(results, *more)) == 0
    return folders(results)[-1]


def killed(results: Path, where: str, *more: str) -> Path:
    """Run until SIGKILL before a checkpoint whose chunk is written, or before a chunk."""
    line = line_of(results, *more)
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # of the tests' environments
    command = [sys.executable, "-c", KILL, where, *line]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=paths)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folders(results)[-1]


def kill_at_random(line: list[str], results: Path, dice: random.Random) -> bool:
    """Run and kill at a random moment after this run's first checkpoint; returns False if it was over before."""
    lives = len(folders(results))
    process = subprocess.Popen([sys.executable, "-m", "oamarl", *line], stdout=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while not any(checkpoints.listed(folder / "checkpoints") for folder in folders(results)[lives:]):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    time.sleep(dice.uniform(0, 0.3))
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """Runs left alone, by what else they were given."""
    return {}


#: rows of two steps by their priorities, rewards on a running scale
PRIORITISED = ("replay=prioritised", "replay_steps=2", "batch_size=16", "standardise_rewards=True")


@pytest.mark.parametrize(
    ("where", "more"),
    [
        pytest.param("checkpoint", PRIORITISED, id="checkpoint-prioritised"),
        pytest.param("chunk", (), id="chunk-uniform"),
        pytest.param("checkpoint", NOISY, id="checkpoint-noisy"),
        pytest.param("checkpoint", (), id="checkpoint-uniform", marks=pytest.mark.slow),
        pytest.param("chunk", PRIORITISED, id="chunk-prioritised", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_with_the_same_numbers(
    where: str, more: tuple[str, ...], whole: dict[Any, Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    if more not in whole:
        whole[more] = complete(tmp_path_factory.mktemp("whole"), *more)
    first = killed(tmp_path, where, *more)
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    second = complete(tmp_path, *more, f"checkpoint_path={first}")
    assert_same_run(whole[more], second)
    states = [checkpoints.load(checkpoints.find(run))["replay"]["state"] for run in (whole[more], second)]
    assert_same(*states)
    assert states[0]["oldest"] > 30, "the ring went round"
    assert {p: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before, "the old run was changed"
    for folder in ("best", "models"):
        for file in (second / folder).glob("*.pt"):
            assert "replay" not in checkpoints.load(file)
    assert len(list((second / "replay").glob("*"))) < 20, "what is no longer needed is deleted"


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), PRIORITISED], ids=["uniform", "prioritised"])
def test_killed_again_and_again(
    more: tuple[str, ...], whole: dict[Any, Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """SIGKILL at random moments, each time in the run that resumes from the last one: OAMARL_KILLS of them, in as many
    runs as it takes."""
    if more not in whole:
        whole[more] = complete(tmp_path_factory.mktemp("whole"), *more)
    dice, kills, asked = random.Random(7), 0, int(os.environ.get("OAMARL_KILLS", "2"))
    for attempt in range(asked):
        results, resumed = tmp_path / str(attempt), ()
        while killed := kills < asked and kill_at_random(
            latest([*QUICK, f"local_results_path={results}", *more, *resumed]), results, dice
        ):
            kills += 1
            newest = [f for f in folders(results) if checkpoints.listed(f / "checkpoints")][-1]
            resumed = (f"checkpoint_path={newest}",)
        over = kills < asked and not killed  # it reached its end before it was killed again
        last = folders(results)[-1] if over else complete(results, *more, *resumed)
        assert_same_run(whole[more], last)
        states = [checkpoints.load(checkpoints.find(run))["replay"]["state"] for run in (whole[more], last)]
        assert_same(*states)
        if kills == asked:
            return
    raise AssertionError(f"runs were over before they could be killed: {kills} kills")


def test_from_the_best_checkpoint_the_replay_begins_empty(
    whole: dict[Any, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    if () not in whole:
        whole[()] = complete(tmp_path_factory.mktemp("whole"))
    capfd.readouterr()
    complete(tmp_path, f"checkpoint_path={whole[()] / 'best'}", "t_max=1700")
    assert "The replay begins empty" in "".join(capfd.readouterr())


def test_a_missing_chunk_ends_with_a_sentence(
    whole: dict[Any, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = killed(tmp_path, "checkpoint")
    newest = sorted((first / "replay").iterdir())[1]
    os.unlink(newest)
    capfd.readouterr()
    assert main([*QUICK, f"local_results_path={tmp_path}", f"checkpoint_path={first}"]) == 2
    said = "".join(capfd.readouterr())
    assert f"The chunk {newest} of the replay cannot be read" in said
    assert "Traceback" not in said
