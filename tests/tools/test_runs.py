"""``oamarl runs``: list, show, compare, delete; and what a killed run is called."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from oamarl.main import main
from oamarl.storage.liveness import this_process
from oamarl.storage.records import metrics_line

from many_runs import make_curve_file, make_run


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs; they are what `oamarl runs` lists."""
    make_run(tmp_path, "oappo", 1, lambda t: t / 1000, lr=0.001)
    make_run(tmp_path, "oappo", 2, lambda t: t / 500, lr=0.0001, info={"versions": {"torch": "2.14"}})
    make_run(tmp_path, "happo", 3, lambda t: 0.5, status="FAILED")
    monkeypatch.setattr("oamarl.tools.runs.list.results", lambda: tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["runs", *words])
    return status, *capsys.readouterr()


def test_list(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["run", "status", "seed"]
    assert lines[1].split() == ["happo/black_red/3", "FAILED", "3", "1,000/1,000", "0.5", "-", "-", "0:20",
                                "2026-01-04", "00:00"]  # fmt: skip
    assert [line.split()[0] for line in lines[2:]] == ["oappo/black_red/1", "oappo/black_red/2", "3"]
    status, out, _ = call(capsys, "list", "--filter", "config.lr<0.001", "name=oappo", "status=COMPLETED")
    assert out.splitlines()[-1] == "1 of 3 runs"
    assert "oappo/black_red/2" in out
    assert call(capsys, "--filter", "metrics.return_mean>0.9")[1].splitlines()[-1] == "2 of 3 runs"
    assert len(call(capsys, "list", "happo")[1].splitlines()) == 3


def test_show(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "show", "oappo/black_red/2", "--config")
    assert status == 0
    for part in (
        "oamarl --config=oappo with seed=2",
        "COMPLETED",
        "2 (last 10 %), 2 (best 10 %)",
        "lr: 0.0001",
        "0:20",
    ):
        assert part in out
    assert "happo/black_red/3" in call(capsys, "show", "latest")[1]
    status, _, err = call(capsys, "show", "oappo")
    assert status == 2
    assert "holds 2 runs (oappo/black_red/1, oappo/black_red/2)" in err


def test_compare(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "compare", "oappo/black_red/1", "oappo/black_red/2")
    assert status == 0
    rows = {line.split("  ")[0]: line.split()[-2:] for line in out.splitlines() if line}
    assert rows["lr"] == ["0.001", "0.0001"]
    assert rows["version of torch"] == ["2.13", "2.14"]
    assert rows["return_mean (sampled actions)"] == ["1", "2"]
    assert rows["wall_clock"] == ["20", "20"]
    assert "gamma" not in rows
    assert call(capsys, "compare", "oappo/black_red/1")[0] == 2


def make_evaluation(results: Path, of: Path) -> Path:
    """An evaluation of a run's checkpoint, as `evaluate=True` stores it."""
    folder = make_run(results, "oappo", 4, lambda t: 0.0, evaluate=True, test_nepisode=16, checkpoint_path=str(of),
                      info={"evaluated": str(of / "checkpoints" / "checkpoint_000000001000.pt")})  # fmt: skip
    values = {"test_return_mean": 0.25, "test_return_std": 0.5, "test_greedy_return_mean": 0.75}
    (folder / "metrics.jsonl").write_bytes(metrics_line(values, 1000, 1.0))
    return folder


def test_evaluations_are_no_training_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = results / "sacred" / "oappo" / "black_red" / "1"
    make_evaluation(results, trained)
    lines = call(capsys)[1].splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["happo/black_red/3", "oappo/black_red/1", "oappo/black_red/2"]
    assert lines[4] == ""
    assert lines[5].split()[:3] == ["evaluation", "status", "of"]
    assert lines[6].split() == ["oappo/black_red/4", "COMPLETED", "oappo/black_red/1", "1,000", "16", "0.25", "0.75",
                                "2026-01-05", "00:00"]  # fmt: skip
    assert lines[7:] == ["3 runs, 1 evaluation"]
    assert call(capsys, "--filter", "kind=training")[1].splitlines()[-1] == "3 of 3 runs, 0 of 1 evaluation"
    assert "oappo/black_red/2" not in call(capsys, "--filter", "kind=evaluation")[1]

    out = call(capsys, "show", "oappo/black_red/4")[1]
    assert "evaluation of            oappo/black_red/1, step 1,000" in out
    assert "0.25, standard deviation 0.5 (16 episodes, sampled actions)" in out
    assert "0.75 (16 episodes, greedy (argmax) actions)" in out
    assert "last 10 %" not in out
    assert "environment steps" not in out

    out = call(capsys, "compare", "oappo/black_red/1", "oappo/black_red/4")[1]
    rows = {line.split("  ")[0]: line.split()[-2:] for line in out.splitlines() if line}
    assert rows["kind"] == ["training", "evaluation"]
    assert rows["evaluation of"] == ["-", "oappo/black_red/1"]

    # what has no curve is in no picture
    assert main(["plot", str(results / "sacred" / "oappo" / "black_red" / "4")]) == 2
    assert "1 run is selected, all of them evaluations, which have no curves." in capsys.readouterr().err


def test_narrow_terminals(results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    make_evaluation(results, results / "sacred" / "oappo" / "black_red" / "1")
    lines = call(capsys)[1].splitlines()
    assert lines[:4] == [
        "happo/black_red/3",
        "  status: FAILED     seed: 3  steps: 1,000/1,000",
        "  training: 0.5  test, sampled: -  test, greedy: -",
        "  time: 0:20  started (UTC): 2026-01-04 00:00",
    ]
    assert max(map(len, lines)) <= 60
    assert max(map(len, call(capsys, "compare", "oappo/black_red/1", "oappo/black_red/2")[1].splitlines())) <= 60
    monkeypatch.setenv("COLUMNS", "40")
    out = call(capsys, "compare", "oappo/black_red/1", "oappo/black_red/2")[1]
    assert out.startswith("[1] oappo/black_red/1\n[2] oappo/black_red/2\n\n")
    assert "\nreturn_mean (sampled actions)\n  [1] 1       [2] 2\n" in out
    assert max(len(line) for line in call(capsys, "show", "oappo/black_red/1")[1].splitlines()[2:]) <= 40


def test_delete_asks(results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = results / "sacred" / "oappo" / "black_red" / "1"
    status, out, err = call(capsys, "delete", "oappo/black_red/1")
    assert status == 2
    assert "--yes" in err
    assert "COMPLETED, 1,000 steps" in out

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert call(capsys, "delete", "oappo/black_red/1")[0] == 1
    assert folder.exists()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert call(capsys, "delete", "oappo/black_red/1")[0] == 0
    assert not folder.exists()
    assert (results / "sacred" / "oappo" / "black_red" / "2").exists()


def test_delete_by_condition(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve = make_curve_file(results / "sacred" / "happo", "happo", 3, [[1, 2.0]], status="FAILED")
    assert call(capsys, "delete", "--filter", "status=FAILED", "--yes")[0] == 0
    assert sorted(str(p.parent.relative_to(results / "sacred")) for p in results.rglob("config.json")) == [
        "oappo/black_red/1", "oappo/black_red/2",
    ]  # fmt: skip
    assert curve.exists()


@pytest.mark.parametrize("words", [[], ["oappo"], ["happo"], ["nothing"], ["."]])
def test_delete_takes_runs_alone(results: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    before = sorted(results.rglob("*"))
    status, _, err = call(capsys, "delete", *words, "--yes")
    assert status == 2
    assert err.count("\n") == 1
    assert sorted(results.rglob("*")) == before


def test_a_killed_run_is_dead_and_a_running_one_is_not_deleted(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        gone = {"host": socket.gethostname(), "pid": child.pid}
        child.communicate(b"\n")
    make_run(results, "mappo", 1, float, status="RUNNING", info={"process": gone})
    make_run(results, "mappo", 2, float, status="RUNNING", info={"process": this_process()})
    make_run(results, "mappo", 3, float, status="RUNNING")  # nobody knows where it ran; its heartbeat is old
    statuses = {line.split()[0][-1]: line.split()[1] for line in call(capsys, "list", "mappo")[1].splitlines()[1:4]}
    assert statuses == {"1": "DEAD", "2": "RUNNING", "3": "DEAD"}
    status, _, err = call(capsys, "delete", "mappo/black_red/2", "--yes")
    assert status == 2
    assert "is running" in err
    assert call(capsys, "delete", "mappo/black_red/1", "--yes")[0] == 0
    assert call(capsys, "delete", "mappo/black_red/2", "--yes", "--force")[0] == 0


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oamarl.tools.runs.list.results", lambda: tmp_path)
    assert call(capsys)[:2] == (0, f"There is no run in {tmp_path / 'sacred'} yet.\n")
    assert call(capsys, "delete", "--filter", "name=x", "--yes")[0] == 0


def test_help_and_mistakes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("list", "show", "compare", "delete"):
        assert f"usage: oamarl runs {'[list]' if word == 'list' else word}" in call(capsys, word, "--help")[1]
    assert "'--filter'" in call(capsys, "--filtr", "x")[2]
    assert "'list'" in call(capsys, "lst")[2]
    assert "one word too many" in call(capsys, "show", "a", "b")[2]
