"""Sweeps of real runs on this machine: crashes, Ctrl-C, a sweep that is killed, and what a restart does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.storage.records import read_metrics
from oamarl.storage.run_files import read_json

from child_signals import usual_signals
from conftest import PATIENCE
from sweep_tools import MAIN, prepare, runs, with_checkpoints

pytestmark = pytest.mark.slow


def sweep(folder: Path, **kwargs: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(MAIN), "sweep", "two.yaml", "--results", "results", "--jobs", "2"], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=usual_signals, **kwargs,
    )  # fmt: skip


def returns(path: Path) -> list[Any]:
    return [(r["t"], r["metrics"]["return_mean"]) for r in read_metrics(path) if "return_mean" in r["metrics"]]


def test_a_crash_is_gone_on_from_and_an_error_is_reported(tmp_path: Path) -> None:
    prepare(tmp_path, "Frail", 600)
    process = sweep(tmp_path)
    out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 1, out
    assert "tiny-ours-seed1: failed: ended by SIGKILL (out of memory?); it continues from its last checkpoint" in out
    assert "failed: tiny-ours-seed2: " in out
    assert "ZeroDivisionError: no way on" in out
    record = read_json(tmp_path / "results/sweeps/two/sweep.json")["runs"]
    assert [a["status"] for a in record["tiny-ours-seed1"]["attempts"]] == ["failed", "done"]
    assert record["tiny-ours-seed1"]["attempts"][1]["resumed"] is True
    assert [a["status"] for a in record["tiny-ours-seed2"]["attempts"]] == ["failed", "failed"]

    # the curve file says what was run and reached
    curve = json.loads((tmp_path / "curves/tiny-ours-seed1.json").read_text())
    (done,) = [r for r in runs(tmp_path) if read_json(r / "run.json")["status"] == "COMPLETED"]
    values = [v for _, v in returns(done)]
    np.testing.assert_allclose(curve["return_mean"], returns(done), rtol=2e-4)
    np.testing.assert_allclose(curve["tenths"][-1], np.array_split(values, min(10, len(values)))[-1].mean(), rtol=2e-4)
    assert curve["command"].startswith("oamarl --config=./mine.yaml --env-config=maze with seed=1 t_max=600")
    assert curve["versions"]["torch"]
    assert curve["machine"]["system"]
    assert curve["wall_clock"] > 0
    assert (tmp_path / "curves/tiny-ours-seed1.json").stat().st_size < 10_000
    assert not (tmp_path / "curves/tiny-ours-seed2.json").exists()


def test_a_sweep_that_ends_leaves_nothing_behind_and_goes_on(tmp_path: Path) -> None:
    """After a kill that no program can answer, and after Ctrl-C, the restart takes up the checkpoints."""
    prepare(tmp_path, "Slow", 6000)
    for begun, number in ((2, signal.SIGKILL), (4, signal.SIGINT)):
        process = sweep(tmp_path)
        while with_checkpoints(tmp_path) < begun:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(number)
        out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130
    assert "0 of 2 done, 2 stopped" in out
    (tmp_path / "go").touch()
    process = sweep(tmp_path)
    out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, out
    assert "2 of 2 done" in out
    after = {run: read_json(run / "run.json")["status"] for run in runs(tmp_path)}
    assert sorted(after.values()) == ["COMPLETED"] * 2 + ["INTERRUPTED"] * 4
    # each begins where the one before it, of the same seed, ended
    before = {r: read_json(r / "info.json").get("resumed_from") for r in after}
    assert sum(b is None for b in before.values()) == 2
    for run, path in before.items():
        if path is not None:
            seeds = {read_json(folder / "config.json")["seed"] for folder in (run, Path(path).parent.parent)}
            assert len(seeds) == 1
