"""Runs as marl-eval reads them: the same steps for all, what each evaluation holds, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oamarl.main import main

from many_runs import make_run


def test_the_file_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Returns t / 100 up to step 1000, of another run up to 500 alone: all are asked from step 100 to 500."""
    paths = [
        make_run(tmp_path, "oappo", 1, lambda t: t / 100), make_run(tmp_path, "oappo", 2, lambda t: t / 50),
        make_run(tmp_path, "happo", 1, lambda t: 3.0, points=5),
    ]  # fmt: skip
    target = tmp_path / "new" / "runs.json"
    assert main(["plot", *map(str, paths), "--marl-eval", str(target), "--labels", "happo=Base"]) == 0
    told = capsys.readouterr()
    assert str(target) in told.out
    assert "from 1 to 2 runs" in told.err
    ((env, tasks),) = json.loads(target.read_text()).items()
    ((_, algorithms),) = tasks.items()
    assert env == "maze"
    assert {name: list(runs) for name, runs in algorithms.items()} == {
        "Base": ["seed_1"], "OAPPO": ["seed_1", "seed_2"]
    }  # fmt: skip
    for name, seed, each in (("OAPPO", "seed_1", 0.01), ("OAPPO", "seed_2", 0.02), ("Base", "seed_1", None)):
        run = dict(algorithms[name][seed])
        best = run.pop("absolute_metrics")["return_mean"]
        assert list(run) == [f"step_{k}" for k in range(41)]
        for k, at in enumerate(run.values()):
            assert at["step_count"] == 100 + 10 * k
            assert at["return_mean"] == [pytest.approx(3.0 if each is None else each * at["step_count"])]
        assert best == [pytest.approx(3.0 if each is None else 1000 * each)], "of the whole run"


def test_pictures_beside_it_only_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path, "oappo", 1, lambda t: t / 100)
    assert main(["plot", str(run), "--marl-eval", "runs.json"]) == 0
    assert not list(tmp_path.glob("*.png"))
    assert main(["plot", str(run), "--marl-eval", "runs.json", "--out", "runs.csv"]) == 0
    assert (tmp_path / "runs.csv").is_file()


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "oappo", 1, lambda t: t / 100)
    (tmp_path / "file").write_text("")
    assert main(["plot", str(run), "--marl-eval", str(tmp_path / "file" / "runs.json")]) == 2
    assert "Cannot write" in capsys.readouterr().err
