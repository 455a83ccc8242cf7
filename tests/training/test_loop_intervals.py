"""Intervals between points and tests: a run that is shorter than they are has a curve all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.main import main
from oamarl.storage import checkpoints
from oamarl.storage.records import curve, read_metrics
from oamarl.utils.intervals import interval

WORDS = [
    "--config=mappo", "--env-config=matrix", "with", "seed=3", "use_cuda=False", "hidden_dim=8",
    "batch_size_run=4", "epochs=1", "backend=serial", "test_nepisode=3", "t_max=400", "batch_size=4",
]  # fmt: skip


def train(folder: Path, *more: str) -> Path:
    assert main([*WORDS, f"local_results_path={folder}", *more]) == 0
    (run,) = (folder / "sacred").glob("*/*/1")
    return run


@pytest.mark.parametrize(
    ("steps", "t_max", "holds"),
    [(50_000, 2_050_000, 50_000), (50_000, 100_000, 50_000), (50_000, 99_999, 19_999), (10_000, 100, 20), (7, 3, 1),
     (1, 1, 1)],
)  # fmt: skip
def test_an_interval_of_more_than_half_of_the_run_is_a_fifth_of_it(steps: int, t_max: int, holds: int) -> None:
    assert interval(steps, t_max) == holds


def test_a_short_run_has_a_curve_and_the_same_policies(tmp_path: Path) -> None:
    """Five points and tests at every fifth; the configuration keeps what was typed; training is the same to the bit."""
    words = ("test_interval=100000", "log_interval=100000", "runner_log_interval=5000")
    short = train(tmp_path / "a", *words)
    often = train(tmp_path / "b", "test_interval=20", "log_interval=20")
    records = read_metrics(short)
    assert list(curve(records, "return_mean")[0]) == [80, 160, 240, 320, 400]
    assert list(curve(records, "test_return_mean")[0]) == [0, 80, 160, 240, 320, 400]
    config = json.loads((short / "config.json").read_text())
    asked = ("test_interval", "log_interval", "runner_log_interval")
    assert [config[k] for k in asked] == [100_000, 100_000, 5000]
    weights: list[dict[str, Any]] = [
        checkpoints.load(sorted(run.glob("checkpoints/*.pt"))[-1]) for run in (short, often)
    ]
    a, b = (torch.nn.utils.parameters_to_vector(_tensors(w["mac"])) for w in weights)
    assert torch.equal(a, b)
    # the same episodes, in other points: their mean over the run
    means = [np.mean(curve(read_metrics(run), "return_mean")[1]) for run in (short, often)]
    assert means[0] == pytest.approx(means[1])


def _tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state.float()]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [x for part in parts for x in _tensors(part)]
