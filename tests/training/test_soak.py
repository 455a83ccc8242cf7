"""Nothing grows in a long run, and the soak would see it if something did."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT


def module() -> Any:
    spec = importlib.util.spec_from_file_location("soak", ROOT / "benchmarks" / "soak.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = found
    spec.loader.exec_module(found)
    return found


def made(memory: float, slower: float) -> Any:
    """A run whose memory grows by ``memory`` MB and whose speed falls by ``slower``, evenly, after its first fifth."""
    soak = module()
    seen = soak.Soak()
    took = 0.0
    for t in range(1000, 100_001, 1000):
        share = max(0.0, (t - 20_000) / 80_000)
        took += 1.0 + slower * share
        seen.steps.append(t)
        seen.seconds.append(took)
        seen.memory.append((50.0 if t < 10_000 else 300.0) + memory * share)
    return seen


def test_growth_is_seen() -> None:
    assert made(0.0, 0.0).growth() == []
    assert made(5.0, 0.1).growth() == [], "less than what counts"
    assert [text.split()[0] for text in made(40.0, 0.0).growth()] == ["memory"]
    assert [text.split()[0] for text in made(0.0, 1.0).growth()] == ["10,000"]
    assert len(made(40.0, 1.0).growth()) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_long_run_does_not_grow(tmp_path: Path) -> None:
    """200,000 steps of a small team: what grows with steps would show in memory and in the files.

    Time is not judged here: it is the machine's, and this test runs beside others.
    """
    soak = module()
    words = ["--config=mappo", "--env-config=maze", "with", "seed=1", "use_cuda=False", "t_max=200000",
             "batch_size_run=64", "epochs=1", "critic_epochs=1", "hidden_dim=16", "test_interval=20000",
             "test_nepisode=4", "log_interval=2560", "checkpoint_interval=10000"]  # fmt: skip
    seen = soak.soak(words, tmp_path, every=0.02)
    rows = seen.stretches()
    assert len(seen.steps) > 20
    assert rows[-1][1] - rows[1][1] < soak.MEMORY, rows
    # as many bytes a point at the end as at the start, and no file beside those of any run
    assert seen.sizes["metrics.jsonl"] < 1000 * 2 * 80
    assert seen.sizes["run.log"] < 4000 * 80
    names = {Path(name).parts[0] for name in seen.sizes}
    assert len(seen.sizes) < 15, seen.sizes
    assert {"metrics.jsonl", "run.log", "checkpoints", "best"} <= names
    kept = [name for name in seen.sizes if name.startswith("checkpoints/")]
    assert len(kept) == 2
