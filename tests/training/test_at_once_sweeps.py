"""Sweeps that train several seeds of a configuration in one process: the same curve files as of single runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oamarl.main import main
from oamarl.tools.sweep.command import processes
from oamarl.tools.sweep.file import load

FILE = """\
algorithms: [mappo]
environments: [maze]
seeds: 1-3
seeds_at_once: {at_once}
with:
  t_max: 100
  hidden_dim: 16
  batch_size_run: 2
  env_args.time_limit: 12
  test_nepisode: 2
  log_interval: 30
  test_interval: 50
"""


def sweep(folder: Path, at_once: int, seeds: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the sweep in ``folder``; returns the folder of its curves."""
    folder.mkdir()
    (folder / "some.yaml").write_text(FILE.format(at_once=at_once).replace("1-3", seeds))
    monkeypatch.chdir(folder)
    assert main(["sweep", "some.yaml", "--results", "results", "--jobs", "1"]) == 0
    return folder / "results" / "curves"


def test_curves_are_those_of_single_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    together = sweep(tmp_path / "together", 2, "1-3", monkeypatch)
    record = json.loads((tmp_path / "together/results/sweeps/some/sweep.json").read_text())["runs"]
    assert [run["status"] for run in record.values()] == ["done"] * 3
    capsys.readouterr()
    assert main(["sweep", "some.yaml", "--results", "results"]) == 0  # nothing is left to do
    assert "0 runs to do, 3 done" in capsys.readouterr().out
    alone = sweep(tmp_path / "alone", 1, "[2]", monkeypatch)
    a, b = (json.loads((at / "maze-mappo-seed2.json").read_text()) for at in (together, alone))
    for name in ("command", "return_mean", "tenths"):
        assert a[name] == b[name], name
    for seed in (1, 2, 3):
        command = json.loads((together / f"maze-mappo-seed{seed}.json").read_text())["command"]
        assert "seeds_at_once" not in command
        assert f"seed={seed}" in command


def test_processes_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(FILE.format(at_once=2).replace("[mappo]", "[mappo, happo]"))
    assert processes(load(tmp_path / "some.yaml", tmp_path)) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.format(at_once="many"), "seeds_at_once='many' is not allowed"),
        (FILE.format(at_once=0), "seeds_at_once=0 is not allowed: a whole number from 1 to 1,000"),
        (FILE.format(at_once=1500), "seeds_at_once=1500 is not allowed"),
        (FILE.format(at_once=2) + "  matmul_precision: bf16\n", "matmul_precision=bf16 is not offered"),
        (FILE.format(at_once=2) + "gpus_per_run: 999\n", "a run here takes 999"),
        (FILE.format(at_once=2) + "  seeds_at_once: 2\n", "write it beside `seeds`"),
        (
            FILE.format(at_once=2) + "search: {space: {lr: {choice: [0.1, 0.2]}}, trials: 2}\n",
            "leave `seeds_at_once` out",
        ),
    ],
)
def test_mistakes_are_one_sentence(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.yaml").write_text(text)
    assert main(["sweep", str(tmp_path / "some.yaml")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
