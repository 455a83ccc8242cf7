"""What a run cannot go on from: numbers that are not finite, and files that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from oamarl.components import finite
from oamarl.components.batch import Batch
from oamarl.components.distributions import MaskedCategorical, gumbel
from oamarl.envs.base import Arrays
from oamarl.learners.ppo import PPOLearner
from oamarl.main import main
from oamarl.storage import checkpoints, records
from oamarl.storage.records import read_arrays, read_metrics
from oamarl.training.building import build
from oamarl.utils.errors import RunError

from conftest import PATIENCE, SRC
from run_tools import assert_same_run, latest, settings, train
from toy_envs import MixedLength


class Poison(MixedLength):
    """Gives ``value`` in ``where`` once: at step ``at`` of the first episode from the sixth on that lasts so long."""

    poisoned: ClassVar[list[tuple[int, int]]] = []  # (seed of the episode, its step)
    episodes: ClassVar[int] = 0

    def __init__(self, where: str = "obs", value: float = float("nan"), at: int = 3, limit: int = 8) -> None:
        super().__init__(limit)
        self.where, self.value, self.at = where, value, at

    def reset(self, seed: int, out: Arrays) -> None:
        super().reset(seed, out)
        type(self).episodes += 1

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        if type(self).episodes >= 6 and self.time == self.at and not self.poisoned:
            self.poisoned.append((self.seed, self.time))
            getattr(out, self.where)[..., -1] = self.value


@pytest.fixture(autouse=True)
def _clean() -> None:
    Poison.poisoned.clear()
    Poison.episodes = 0


def words(results: Path, *more: str, env: str = "test_run_faults:Poison", config: str = "mappo") -> list[str]:
    return latest([
        f"--config={config}", "with", f"env={env}", "use_cuda=False", "seed=5", "backend=serial", "batch_size_run=2",
        "hidden_dim=8", "epochs=2", "t_max=200", "log_interval=1", "checkpoint_interval=1", "test_nepisode=0",
        f"local_results_path={results}", *more,
    ])  # fmt: skip


def folders(results: Path) -> list[Path]:
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def failed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Check that a run fails with one sentence, and return it."""
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.count("\n") == 1, err
    return err


# -- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["obs", "state", "reward"])
@pytest.mark.parametrize(
    ("value", "more"), [("nan", ()), ("-inf", ("runner=rollout", "rollout_length=11")), ("inf", ("batch_size=4",))]
)
def test_the_environment_gives_a_number_that_is_not_finite(
    where: str, value: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failed(words(tmp_path, f"env_args.where={where}", f"env_args.value={value}", *more), capsys)
    (folder,) = folders(tmp_path)
    assert status(folder) == "FAILED"
    assert "Traceback" not in (folder / "run.log").read_text()
    assert said.strip() in (folder / "run.log").read_text()
    ((seed, _),) = Poison.poisoned
    assert f"{where}{' of agent' if where != 'state' else ' is'}" in said
    assert f"is {float(value):g} " in said
    assert f"episode seed {seed}" in said
    # the batch can be looked at: the place that was named holds the number
    (path,) = folder.glob("dump-*.npz")
    assert str(path) in said
    with np.load(path) as dump:
        assert not np.isfinite(dump[where]).all() or not np.isfinite(dump[f"final_{where}"]).all()
        assert json.loads(str(dump["scalars"])) == {}
        assert dump["actions"].shape[:2] == dump["filled"].shape
    # nothing of it was learned
    path, saved = checkpoints.load_newest(folder)
    assert str(path) in said
    assert finite.all_finite(finite.floating(saved))
    assert read_metrics(folder)[-1]["t"] == checkpoints.steps_of(path)


class ShowsItsSeed(MixedLength):
    def look(self, out: Arrays) -> None:
        super().look(out)
        out.obs[...] = self.seed % 65521  # small enough for a float


SHAPES: list[dict[str, Any]] = [
    {}, {"batch_size": 12}, {"runner": "rollout", "rollout_length": 13}, {"runner": "episode", "batch_size_run": 1}
]  # fmt: skip


@pytest.mark.parametrize("more", SHAPES)
def test_where_a_step_comes_from(more: dict[str, Any]) -> None:
    runner, *_ = build(settings("mappo", "test_run_faults:ShowsItsSeed", {"limit": 8}, **more), torch.device("cpu"))
    try:
        for _ in range(3):
            batch, _ = runner.run()
            for row, step in batch.filled.nonzero().tolist():
                slot, seed = runner.origin(batch, row, step)
                assert batch.obs[row, step, 0, 0] == seed % 65521
                assert 0 <= slot < runner.n_slots
    finally:
        runner.close()


def test_a_loss_that_overflows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finite reward whose square is not: the update is broken, the batch is not."""
    more = ("env_args.where=reward", "env_args.value=1e30", "standardise_returns=False", "normalise_advantage=False")
    said = failed(words(tmp_path, *more), capsys)
    assert "critic_loss" in said
    (folder,) = folders(tmp_path)
    (path,) = folder.glob("dump-*.npz")
    with np.load(path) as dump:
        assert np.isfinite(dump["reward"]).all()
        assert not np.isfinite(json.loads(str(dump["scalars"]))["critic_loss"])
    saved = checkpoints.load_newest(folder)[1]
    assert finite.all_finite(finite.floating(saved))


def test_broken_parameters_are_found_and_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poison in one weight of the critic, with every scalar as it should be."""
    learn = PPOLearner.train

    def poisoned(self: PPOLearner, batch: Batch, t_env: int) -> Any:
        found = learn(self, batch, t_env)
        if self.updates == 3:
            self.value.network.params.data[0, 7] = float("nan")
        return found

    monkeypatch.setattr(PPOLearner, "train", poisoned)
    more = {"t_max": 200, "checkpoint_interval": 1, "batch_size_run": 2}
    with pytest.raises(RunError, match=r"update 3 left .*: the parameters of the critic"):
        train(tmp_path, "mappo", "toy_envs:Truncating", {"limit": 5}, **more)
    assert [checkpoints.steps_of(p) for p in checkpoints.listed(tmp_path / "checkpoints")] == [20, 10]
    assert (tmp_path / "dump-30.npz").exists()


def test_nothing_poisoned_is_ever_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of defence, for parts of the state that no update looks at."""
    learn = PPOLearner.train

    def poisoned(self: PPOLearner, batch: Batch, t_env: int) -> Any:
        found = learn(self, batch, t_env)
        if self.updates == 3:
            self.value.return_stats.mean[()] = float("inf")  # type: ignore[union-attr]
        return found

    monkeypatch.setattr(PPOLearner, "train", poisoned)
    more = {"t_max": 200, "checkpoint_interval": 1, "batch_size_run": 2}
    with pytest.raises(RunError, match="a parameter is not finite"):
        train(tmp_path, "mappo", "toy_envs:Truncating", {"limit": 5}, **more)
    assert [checkpoints.steps_of(p) for p in checkpoints.listed(tmp_path / "checkpoints")] == [20, 10]


def test_a_dump_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", full)
    said = failed(words(tmp_path), capsys)
    assert "could not be kept (No space left on device)" in said
    (folder,) = folders(tmp_path)
    assert not list(folder.glob("*dump*")) + list(folder.glob(".dump*"))


def test_actions_are_legal_where_logits_are_nan() -> None:
    avail = torch.tensor([[False, False, True], [False, True, True]])
    policy = MaskedCategorical(torch.full((2, 3), float("nan")), avail)
    for actions in (policy.mode(), policy.sample(gumbel(torch.rand(2, 3)))):
        assert avail.gather(1, actions[:, None]).all()


def test_all_finite() -> None:
    huge = torch.full((4,), 3e38)  # the sum overflows
    assert finite.all_finite([huge, torch.zeros(0), -huge.double() * 1e200])
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = torch.zeros(3, 2)
        x[1, 1] = bad
        assert not finite.all_finite([huge, x])
    assert not finite.all_finite([torch.tensor([float("inf"), -float("inf")])])
    assert finite.all_finite([])


def test_broken_scalars() -> None:
    nan, inf = float("nan"), float("inf")
    scalars = {"critic_loss": inf, "ratio_max": inf, "ratio_mean": nan, "entropy": nan, "agent_grad_norm": -inf, "a": 1}
    assert finite.broken_scalars(scalars) == ["critic_loss", "entropy", "agent_grad_norm"]
    assert finite.broken_scalars({"a": 1.0, "approx_kl": inf}) == []


# -- files -------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(what: str, monkeypatch: pytest.MonkeyPatch, skip: int = 0) -> Iterator[None]:
    """Writes to the record file ``what`` fail after ``skip`` more of them, each leaving half of its bytes."""
    left = [skip]
    real = records.AppendFile.append

    class Half:
        def __init__(self, file: Any) -> None:
            self.file, self.half = file, False

        def write(self, view: memoryview) -> int:
            if self.half:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.half = True
            return self.file.write(view[: len(view) // 2])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def append(self: records.AppendFile, data: bytes) -> None:
        if self.path.name != what or left[0] > 0:
            left[0] -= self.path.name == what
            return real(self, data)
        file = self._file
        self._file = Half(file)  # type: ignore[assignment]
        try:
            return real(self, data)
        finally:
            self._file = file

    with monkeypatch.context() as patch:
        patch.setattr(records.AppendFile, "append", append)
        yield


SOUND = ("env_args.limit=8", "test_nepisode=2", "test_interval=30", "log_interval=20", "checkpoint_interval=1000")


@pytest.mark.parametrize(("what", "skip"), [("metrics.jsonl", 4), ("metrics.jsonl", 5), ("reuse.arrays", 3)])
def test_records_that_cannot_be_written_end_the_run_and_it_goes_on_from_there(
    what: str, skip: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint made at that moment holds what the files lack: resumed, the run is the one left alone."""
    env, more = "toy_envs:MixedLength", (*SOUND, "batch_size_run=4")
    assert main(words(tmp_path / "whole", *more, env=env, config="oappo")) == 0
    capsys.readouterr()
    with full_disk(what, monkeypatch, skip):
        said = failed(words(tmp_path / "cut", *more, env=env, config="oappo"), capsys)
    assert f"{what}: No space left on device" in said
    (first,) = folders(tmp_path / "cut")
    assert status(first) == "FAILED"
    (path,) = checkpoints.listed(first / "checkpoints")
    assert str(path) in said
    again = words(tmp_path / "again", *more, f"checkpoint_path={first}", env=env, config="oappo")
    assert main(again) == 0
    assert_same_run(folders(tmp_path / "whole")[0], folders(tmp_path / "again")[0])


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_checkpoints_that_cannot_be_written_are_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said once; the run continues with its records; what was saved before stays; at the end it is a failure."""
    env = "toy_envs:Truncating"
    argv = words(tmp_path / "r", "checkpoint_interval=20", env=env)
    real, sizes = checkpoints.save, []

    def save(*args: Any, **more: Any) -> Path:
        with largest_file(10**9 if len(sizes) < 2 else 4096):
            path = real(*args, **more)
        sizes.append(path.stat().st_size)
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        assert main(argv) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert min(sizes) > 4096
    assert err.count("Cannot write the checkpoint") == 1
    assert "its last checkpoint could not be written" in err
    (folder,) = folders(tmp_path / "r")
    assert status(folder) == "FAILED"
    assert read_metrics(folder)[-1]["t"] >= 200
    kept = checkpoints.listed(folder / "checkpoints")
    assert len(kept) == 2
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == sorted(p.name for p in kept)
    assert str(kept[0]) in err
    # and there is a checkpoint to go on from
    assert main([*argv, f"checkpoint_path={folder}"]) == 0


def test_a_disk_that_was_full_for_a_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []
    real = checkpoints.save

    def save(*args: Any, **more: Any) -> Path:
        calls.append(args[1])
        with largest_file(4096 if 2 <= len(calls) < 5 else 10**9):
            return real(*args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        assert main(words(tmp_path, "checkpoint_interval=20", env="toy_envs:Truncating")) == 0
    out, err = capsys.readouterr()
    assert err.count("Cannot write the checkpoint") == 1
    assert out.count("Checkpoints can be written again") == 1
    (folder,) = folders(tmp_path)
    assert status(folder) == "COMPLETED"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a file system of so many kilobytes (root on Linux alone can)."""
    made: list[Path] = []

    def make(kilobytes: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("file systems cannot be mounted here")
        made.append(folder)
        return folder

    with suppress(FileNotFoundError):
        yield make
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("spare", [0, 20, 60, 150])
def test_a_disk_that_is_really_full(spare: int, tiny_disk: Callable[[int], Path], tmp_path: Path) -> None:
    """Whatever file meets the end of the disk first: one sentence, no traceback, a sound checkpoint or none."""
    disk = tiny_disk(5000)
    env = (
        "--config=oappo", "--env-config=maze", "with", "seed=1", "use_cuda=False", "batch_size_run=4",
        "env_args.time_limit=10", "hidden_dim=16", "epochs=1", "test_nepisode=2", "checkpoint_interval=40",
        "log_interval=40", "beat_interval=0.2", f"local_results_path={disk}",
    )  # fmt: skip
    program = [sys.executable, str(SRC / "main.py")]
    assert main([*env, "t_max=200"]) == 0
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(b"x" * max(0, free - 150_000 - 1024 * spare))
    done = subprocess.run([*program, *env, "t_max=8000"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "No space left on device" in done.stderr
    assert done.returncode in (1, 2), (done.returncode, done.stderr)
    for folder in folders(disk)[1:]:
        for path in checkpoints.listed(folder / "checkpoints"):
            checkpoints.load(path)
        assert [p["t"] for p in read_metrics(folder)] == sorted(p["t"] for p in read_metrics(folder))
        read_arrays(folder / "reuse.arrays")


@pytest.mark.slow
def test_six_runs_that_start_at_the_same_moment(tmp_path: Path) -> None:
    """Each has a folder and a number of its own, the same numbers in it, and nothing that belongs to another."""
    argv = [
        sys.executable, str(SRC / "main.py"), "--config=oappo", "--env-config=matrix", "with", "seed=3", "t_max=64",
        "use_cuda=False", "hidden_dim=8", "test_nepisode=0", "backend=native", f"local_results_path={tmp_path}",
    ]  # fmt: skip
    children = [
        subprocess.Popen([*argv, f"label=run{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(6)
    ]
    for child in children:
        _, err = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, err
    found = folders(tmp_path)
    assert [p.name for p in found] == ["1", "2", "3", "4", "5", "6"]
    assert sorted(json.loads((p / "config.json").read_text())["label"] for p in found) == [f"run{i}" for i in range(6)]
    for folder in found:
        assert status(folder) == "COMPLETED"
        assert_same_run(found[0], folder)
        assert not [p for p in folder.rglob("*") if p.suffix == ".tmp"]
