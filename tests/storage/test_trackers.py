"""TensorBoard and Weights & Biases get the same metrics as the run's files, and never stop a run."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from oamarl.storage import trackers
from oamarl.storage.records import curve, read_metrics
from oamarl.storage.trackers import Trackers, TrackersConfig
from oamarl.utils.errors import UserError

OFF = {"wandb_team": None, "wandb_project": None, "wandb_mode": "offline", "wandb_save_model": False}
SHORT = (
    "with", "seed=1", "t_max=600", "log_interval=150", "test_nepisode=2", "epochs=1", "hidden_dim=8",
    "batch_size_run=2", "backend=serial",
)  # fmt: skip


def test_a_package_that_is_missing_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    for name in ("tensorboard", "wandb"):
        config = TrackersConfig(use_tensorboard=name == "tensorboard", use_wandb=name == "wandb", **OFF)
        with pytest.raises(UserError, match=rf"use_{name}=True needs .*: pip install {name}"):
            trackers.check(config)
    trackers.check(TrackersConfig(False, False, **OFF))


class Recorder:
    """In place of the package wandb."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at, self.logged, self.finished, self.asked = fail_at, [], 0, {}  # type: ignore[var-annotated]

    def module(self) -> Any:
        module = types.ModuleType("wandb")
        module.Settings = dict  # type: ignore[attr-defined]
        module.init = self.init  # type: ignore[attr-defined]
        return module

    def init(self, **asked: Any) -> Recorder:
        self.asked = asked
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.fail_at:
            raise OSError("no space left")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def fed(monkeypatch: pytest.MonkeyPatch, recorder: Recorder, tmp_path: Path) -> list[str]:
    monkeypatch.setitem(sys.modules, "wandb", recorder.module())
    said: list[str] = []
    config = TrackersConfig(False, True, **{**OFF, "wandb_team": "us"})
    sink = Trackers(config, {"name": "oappo", "seed": 3, "label": ""}, tmp_path / "black_red" / "1", said.append)
    for t in (10, 20, 30):
        sink("a", t / 10, t)
        sink("b", t / 5, t)
    sink.close()
    sink("a", 0.0, 40)  # too late: nothing happens
    return said


def test_one_record_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorder = Recorder()
    assert fed(monkeypatch, recorder, tmp_path) == []
    assert recorder.logged == [(t, {"a": t / 10, "b": t / 5}) for t in (10, 20, 30)]
    assert recorder.finished == 1
    asked = recorder.asked
    assert (asked["project"], asked["entity"], asked["mode"]) == ("oamarl", "us", "offline")
    assert asked["name"] == "oappo black_red seed 3"


def test_a_tracker_that_fails_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorder = Recorder(fail_at=20)
    (sentence,) = fed(monkeypatch, recorder, tmp_path)
    assert "Weights & Biases failed (no space left)" in sentence
    assert [step for step, _ in recorder.logged] == [10]


def run(program: Any, tmp_path: Path, *words: str) -> Path:
    done = program("--config=oappo", "--env-config=maze", *SHORT, f"local_results_path={tmp_path}", *words)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    return tmp_path / "sacred" / "oappo" / "black_red" / "1"


@pytest.mark.slow
def test_tensorboard_has_the_same_metrics(program: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = run(program, tmp_path, "use_tensorboard=True")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    records = read_metrics(folder)
    names = {name for record in records for name in record["metrics"]}
    assert set(found.Tags()["scalars"]) == names
    for name in ("return_mean", "test_return_mean", "test_greedy_return_mean", "entropy"):
        steps, values = curve(records, name)
        events = found.Scalars(name)
        assert [e.step for e in events] == steps.tolist()
        assert [e.value for e in events] == pytest.approx(values.tolist(), rel=1e-6)


@pytest.mark.slow
def test_wandb_offline(program: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = run(program, tmp_path, "use_wandb=True")
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    for name in ("return_mean", "test_return_mean", "test_greedy_return_mean", "processed_samples"):
        assert name.encode() in data
