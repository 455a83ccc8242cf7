"""A run's records, its terminal, and how it ends."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.storage import provenance, records, run_files, series
from oamarl.storage import sacred_run as experiment
from oamarl.storage.log import RunLog
from oamarl.storage.progress import Progress, ProgressLines, value_text
from oamarl.storage.records import curve, read_arrays, read_metrics
from oamarl.utils.console import Screen, columns, duration, is_live, number, rows_of, without_controls
from oamarl.utils.errors import UserError

from child_signals import usual_signals
from conftest import PATIENCE


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain_screen() -> Screen:
    return Screen(io.StringIO(), io.StringIO(), live=False)


def make_log(folder: Path, sink: Callable[..., Any] | None = None) -> RunLog:
    return RunLog(folder, sink or (lambda *_: None), screen=plain_screen())


def values(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "oappo",
        "label": "a label",
        "local_results_path": str(folder),
        "beat_interval": 30.0,
        "verbose": False,
        "seed": 1,
        "env": "maze",
        "env_args": {"map_name": "black_red"},
        **more,
    }


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


# ---- records


def test_scalars_are_plain_floats_everywhere(tmp_path: Path) -> None:
    import torch

    got: list[tuple[str, float, int]] = []
    log = make_log(tmp_path, lambda *point: got.append(point))
    log.scalars({"a": np.float32(0.5), "b": torch.tensor([2.0]), "c": True, "d": np.int64(3)}, np.int64(10))
    log.close()
    (record,) = read_metrics(tmp_path)
    assert record["t"] == 10
    assert record["metrics"] == {"a": 0.5, "b": 2.0, "c": 1.0, "d": 3.0}
    assert got == [("a", 0.5, 10), ("b", 2.0, 10), ("c", 1.0, 10), ("d", 3.0, 10)]
    assert all(type(v) is float and type(t) is int for _, v, t in got)


@pytest.mark.parametrize("value", [np.zeros(2), "text", None, [1.0, 2.0]])
def test_what_is_no_number_is_refused_before_anything_is_written(tmp_path: Path, value: object) -> None:
    log = make_log(tmp_path)
    with pytest.raises(TypeError, match="metric 'bad' must be one number"):
        log.scalars({"good": 1.0, "bad": value}, 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    log.close()


def test_records_are_in_the_file_at_once(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    log.scalars({"a": 1.0}, 1)
    log.arrays("reuse", 1, M=np.eye(2))
    log.info("said")
    # before any close or flush
    assert len(read_metrics(tmp_path)) == 1
    assert len(read_arrays(tmp_path / "reuse.arrays")) == 1
    assert "said" in (tmp_path / "run.log").read_text()
    log.close()


def test_unfinished_line_is_left_out(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for t in range(3):
        log.scalars({"a": float(t)}, t)
    log.close()
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1]) + 1):
        path.write_bytes(whole[:-cut])
        assert [r["t"] for r in read_metrics(tmp_path)] == [0, 1]


def test_curve_skips_what_is_no_number(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for t, value in enumerate([1.0, float("nan"), 3.0]):
        log.scalars({"a": value, "b": 0.0}, t)
    log.close()
    steps, found = curve(read_metrics(tmp_path), "a")
    assert steps.tolist() == [0, 2]
    assert found.tolist() == [1.0, 3.0]
    assert curve(read_metrics(tmp_path), "none")[0].size == 0


def test_array_round_trip(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    rng = np.random.default_rng(0)
    written = [
        {"M": rng.random((3, 3)), "D": np.ones((3, 3), np.float32), "n": np.array(4), "none": np.zeros((0, 2))},
        {"M": np.array([[1, 2], [3, 4]], order="F"), "flags": np.array([True, False])},
    ]
    for i, arrays in enumerate(written):
        log.arrays("reuse", 10 * i, **arrays)
    log.close()
    read = read_arrays(tmp_path / "reuse.arrays")
    assert [t for t, _ in read] == [0, 10]
    for (_, got), want in zip(read, written, strict=True):
        assert got.keys() == want.keys()
        for name in want:
            assert got[name].dtype == want[name].dtype
            np.testing.assert_array_equal(got[name], want[name])
            got[name][...] = 0  # writable, the reader's own


def test_array_tail_cut_or_damaged(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for t in range(3):
        log.arrays("reuse", t, M=np.full((2, 2), t))
    log.close()
    path = tmp_path / "reuse.arrays"
    whole = path.read_bytes()
    for cut in (1, 10, len(whole) // 3 - 1):
        path.write_bytes(whole[:-cut])
        assert [t for t, _ in read_arrays(path)] == [0, 1]
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [t for t, _ in read_arrays(path)] == [0, 1]
    assert read_arrays(tmp_path / "none.arrays") == []


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    with pytest.raises(TypeError, match="'M' holds objects"):
        log.arrays("reuse", 0, M=np.array([None, {}]))
    log.close()


def test_carry_over_up_to_the_position_and_no_further(tmp_path: Path) -> None:
    old = make_log(tmp_path / "1")
    for t in range(5):
        old.scalars({"a": t * 0.1, "b": -t}, t)
        old.arrays("reuse", t, M=np.full((2, 2), t))
    position = json.loads(json.dumps(old.checkpoint_position()))  # plain enough for any checkpoint
    at_checkpoint = {p.name: p.read_bytes() for p in (tmp_path / "1").iterdir() if p.suffix != ".log"}
    for t in range(5, 9):
        old.scalars({"a": 100.0 + t}, t)
        old.arrays("reuse", t, M=np.zeros((2, 2)))
        old.arrays("later", t, x=np.zeros(1))
    old.close()

    got: list[tuple[str, float, int]] = []
    new = make_log(tmp_path / "2", lambda *point: got.append(point))
    new.carry_over(tmp_path / "1", position)
    assert {p.name: p.read_bytes() for p in (tmp_path / "2").iterdir() if p.suffix != ".log"} == at_checkpoint
    assert got == [(n, v, t) for t in range(5) for n, v in (("a", t * 0.1), ("b", -float(t)))]
    assert new.checkpoint_position() == position
    new.scalars({"a": 7.0}, 5)
    new.arrays("reuse", 5, M=np.ones((2, 2)))
    assert [r["t"] for r in read_metrics(tmp_path / "2")] == [0, 1, 2, 3, 4, 5]
    assert [t for t, _ in read_arrays(tmp_path / "2" / "reuse.arrays")] == [0, 1, 2, 3, 4, 5]

    # and once more from the resumed run
    third = make_log(tmp_path / "3")
    third.carry_over(tmp_path / "2", new.checkpoint_position())
    assert read_metrics(tmp_path / "3") == read_metrics(tmp_path / "2")
    new.close()
    third.close()


def test_carry_over_from_a_folder_that_is_gone_or_short(tmp_path: Path) -> None:
    old = make_log(tmp_path / "1")
    for t in range(3):
        old.scalars({"a": t}, t)
    position = old.checkpoint_position()
    old.close()
    log = make_log(tmp_path / "2")
    log.carry_over(tmp_path / "nowhere", position)
    assert "earlier curve is incomplete" in log.screen.stderr.getvalue()  # type: ignore[attr-defined]
    log.scalars({"a": 3.0}, 3)
    assert [r["t"] for r in read_metrics(tmp_path / "2")] == [3]
    log.close()

    path = tmp_path / "1" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    log = make_log(tmp_path / "3")
    log.carry_over(tmp_path / "1", position)
    log.scalars({"a": 3.0}, 3)  # does not run into the torn line
    assert [r["t"] for r in read_metrics(tmp_path / "3")] == [0, 1, 3]
    log.close()


def test_carry_over_reads_record_files_only(tmp_path: Path) -> None:
    (tmp_path / "secret.arrays").write_text("x")
    log = make_log(tmp_path / "run")
    for name in ("../secret.arrays", "run.log", "/etc/passwd"):
        with pytest.raises(UserError, match="no run of this program has"):
            log.carry_over(tmp_path / "run", {name: 1})
    log.scalars({"a": 1.0}, 1)
    with pytest.raises(RuntimeError, match="before the first record"):
        log.carry_over(tmp_path / "run", {})
    log.close()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log(tmp_path)

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr(log._metrics, "_file", Full())
    with pytest.raises(UserError, match=r"Cannot write .*metrics\.jsonl: No space left on device\."):
        log.scalars({"a": 1.0}, 1)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write in the run's folder"):
        make_log(tmp_path / "file" / "run")


# ---- terminal


def test_when_a_live_line_is_drawn() -> None:
    assert is_live(Terminal(), {"TERM": "xterm-256color"})
    assert not is_live(Terminal(), {"TERM": "dumb"})
    assert not is_live(Terminal(), {})
    assert not is_live(Terminal(), {"TERM": "xterm", "CI": "true"})
    assert not is_live(io.StringIO(), {"TERM": "xterm"})
    closed = Terminal()
    closed.close()
    assert not is_live(closed, {"TERM": "dumb"})


def test_numbers_and_times() -> None:
    shown = [number(v) for v in (0.0, 3.0, 12345678.0, 0.123456, 13000.123, 3.1e-7, float("nan"), -2.5)]
    assert shown == ["0", "3", "12,345,678", "0.1235", "13,000.1", "3.10e-07", "nan", "-2.5"]
    times = [duration(s) for s in (0, 59.6, 754, 3600, 12000, 3 * 86400 + 7200, float("inf"), float("nan"))]
    assert times == ["0:00", "1:00", "12:34", "1 h 00 min", "3 h 20 min", "3 d 2 h", "?", "?"]


def test_numbered_metrics_share_a_row() -> None:
    agents = {f"agent_{i}_return_mean": float(i) for i in range(30)}
    metrics = {"return_mean": 1.0, **agents, "loss_0": 1.0, "loss_1": 2.0}
    assert rows_of(metrics) == [
        ("return_mean", "1"),
        ("agent_*_return_mean", "0 .. 29"),
        ("loss_0", "1"),
        ("loss_1", "2"),
    ]


@pytest.mark.parametrize("width", [20, 80, 120])
def test_columns_fit_and_lose_nothing(width: int) -> None:
    rows = [(f"metric_{'x' * (i % 7)}{i}", str(i)) for i in range(17)]
    parts = columns(rows, width)
    assert [row for part in parts for row in part] == rows
    assert len(parts) == 1 or sum(max(len(n) + len(v) for n, v in part) for part in parts) < width
    assert columns([], width) == []


def test_without_controls() -> None:
    assert without_controls("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07\ttab") == "red bell\ttab"
    assert without_controls(" 10%\r 20%\r") == " 20%"


def feed(log: RunLog) -> None:
    with log.capture():
        for t in range(0, 101, 10):
            log.scalars({"return_mean": t / 10, "test_return_mean": 2.6}, t)
            log.progress(t, 100, 50.0, t / 10)
            if t == 30:
                print("printed", "\x1b[31mred\x1b[0m")
                print("to stderr", file=sys.stderr)
                # what warnings.warn does outside pytest
                sys.stderr.write(warnings.formatwarning("a library warns", UserWarning, "file.py", 1))
                sys.stdout.write("no newline")
            if t % 50 == 0:
                log.point(t)
        log.warning("ours")
    log.close()


def test_plain_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path)
    feed(log)
    out, err = capsys.readouterr()
    for text in (out, err, (tmp_path / "run.log").read_text()):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    assert "printed red\n" in out
    assert "no newline\n" in out
    assert "to stderr\n" in err
    assert "a library warns" in err
    assert "Warning: ours\n" in err
    # one line at each log interval below one row of headings, and no table
    lines = out.splitlines()
    assert [line for line in lines if re.match(r" *(steps|\d+) ", line)] == [
        "steps  done   return     test  steps/s    left",
        "    0    0%    0.000    2.600       50    0:02",
        "   50   50%    5.000    2.600       50    0:01",
        "  100  100%    10.00    2.600       50    0:00",
    ]
    assert "return_mean" not in out
    kept = (tmp_path / "run.log").read_text()
    assert "return_mean" in kept
    printed = ("printed red", "to stderr", "a library warns", "no newline")
    for text in (*printed, "Warning: ours", "Step 50\n", "50/100 steps  50%  50 steps/s  0:01 left  return 5.000"):
        assert text in kept


def emulate(output: str, width: int) -> list[str]:
    """What a terminal shows after ``output`` (the few sequences that a live line uses)."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.|\n", output):
        if token == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b["):
            if token.endswith("K"):
                lines[row] = ""
            elif token.endswith("A"):
                row -= int(token[2:-1] or 1)
            else:
                assert token[-1] in "mhl", token
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + 1 :]
            column += 1
    assert all(len(line) <= width for line in lines)
    return lines


def test_verbose_shows_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, verbose=True)
    feed(log)
    out = capsys.readouterr().out
    assert "\n50/100 steps  50%  50 steps/s  0:01 left  return 5.000\nStep 50\n" in out
    assert out.count("return_mean") == 6  # training and test, three times
    assert "done" not in out


def test_a_test_stands_in_the_line_after_it_alone(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for t in range(5):
        log.progress(t, 4, 1.0, None)
        if t in (0, 2, 4):
            log.scalars({"test_return_mean": 10.0 + t, "test_greedy_return_mean": -0.5}, t)
        log.scalars({"return_mean": float(t)}, t)
        log.point(t)
    log.close()
    *lines, last = log.screen.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "steps  done   return     test   greedy  steps/s    left",
        "    0    0%    0.000    10.00   -0.500        1    0:04",
        "    1   25%    1.000                          1    0:03",
        "    2   50%    2.000    12.00   -0.500        1    0:02",
        "    3   75%    3.000                          1    0:01",
    ]
    assert last == "    4  100%    4.000    14.00   -0.500        1    0:00"


def test_headings_come_again_after_25_lines(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for t in range(60):
        log.progress(t, 100, 1.0, None)
        log.scalars({"return_mean": 0.0}, t)
        log.point(t)
    lines = log.screen.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [i for i, line in enumerate(lines) if "steps/s" in line] == [0, 26, 52]


@pytest.mark.parametrize("width", [40, 60, None])
def test_a_line_fits(width: int | None) -> None:
    values = {f"{before}total_return_mean": -123456.7 for before in ("", "test_", "test_greedy_")}
    for t_max in (1000, 2_000_000, 100_000_000):
        progress = Progress(t_max // 2, t_max, 123_456.0, None)
        head, line = ProgressLines().lines(progress, values, values, width)
        assert len(head) <= (width or 64)
        assert f"{t_max // 2:,}" in line
        assert "-123,457" in line
        assert "left" in head
        assert len(progress.text(width or 100)) <= (width or 100)


def test_a_silent_run_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("oamarl.storage.log.time.monotonic", lambda: now[0])
    log = make_log(tmp_path)
    shown = []
    for second in range(0, 2000, 10):
        now[0] = 1000.0 + second
        log.progress(second, 10_000, 1.0, 0.5)
        shown.append(log.screen.stdout.getvalue().count("0.500"))  # type: ignore[attr-defined]
    # once after a minute, then every ten minutes
    assert [10 * i for i in range(1, len(shown)) if shown[i] > shown[i - 1]] == [60, 660, 1260, 1860]


def test_values_of_returns() -> None:
    values = (None, float("nan"), 0.0, -7.7239, 12.3456, -123.45, 1234.5, 2e7, 1e-5, float("inf"))
    assert [value_text(v) for v in values] == [
        "-", "-", "0.000", "-7.724", "12.35", "-123.5", "1,234", "2.0e+07", "1.0e-05", "inf",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
def test_live_line_stays_at_the_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)
    terminal = Terminal()
    log = RunLog(tmp_path, screen=Screen(terminal, terminal))
    assert log.screen.live
    log.progress(10, 100, 50.0, 1.0)
    print_through(log, ["one", "two"])
    log.progress(100, 100, 50.0, 2.0)
    before_close = emulate(terminal.getvalue(), 200)
    assert [line.rstrip() for line in before_close[:-1]] == ["one", "two"]
    assert "100/100" in before_close[-1]
    assert "0:00 left" in before_close[-1]
    assert len(before_close[-1]) <= width
    log.close()
    # nothing is newer than what was shown: the live line goes, and the cursor is shown again
    assert [line.rstrip() for line in emulate(terminal.getvalue(), 200) if line.strip()] == ["one", "two"]
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def print_through(log: RunLog, texts: list[str]) -> None:
    with log.capture():
        for text in texts:
            print(text)


def test_no_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def output() -> str:
        terminal = Terminal()
        log = RunLog(tmp_path, screen=Screen(terminal, terminal, live=True))
        log.scalars({"a": 1.0}, 1)
        log.progress(10, 100, 50.0, 1.0)
        log.table(1)
        log.warning("w")
        log.close()
        return terminal.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    colour = re.compile(r"\x1b\[(?:\d+;)*(3[0-7]|9[0-7]|38)(;|m)")
    assert colour.search(output())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(output())


def test_a_reader_that_went_away_does_not_end_the_run(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as broken:
        log = RunLog(tmp_path, screen=Screen(broken, broken, live=False))
        log.info("one")
        log.info("two")
        log.scalars({"a": 1.0}, 1)
        log.table(1)
        log.close()
    assert "two" in (tmp_path / "run.log").read_text()


def test_output_from_many_threads_is_whole_lines(tmp_path: Path) -> None:
    log = make_log(tmp_path)

    def talk(i: int) -> None:
        for _ in range(50):
            log.info(f"thread {i} " + "x" * 50)

    threads = [threading.Thread(target=talk, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = log.screen.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 200
    assert all(re.fullmatch(r"thread \d x{50}", line) for line in lines)


# ---- sacred


def test_layout_and_both_metric_files_agree(tmp_path: Path) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        for t in range(0, 100, 10):
            log.scalars({"return_mean": np.float32(t) / 3, "entropy": 1.5}, t)
            if t % 20 == 0:
                log.scalars({"test_return_mean": float(t)}, t)
        print("hello")
        return {"test_return_mean": np.float64(80.0), "path": tmp_path}

    result = experiment.execute(values(tmp_path), ["A notice."], body, info={"resumed_from": "x"})
    assert (result.status, result.exit_code, result.error) == ("COMPLETED", 0, None)
    assert result.folder == tmp_path / "sacred" / "oappo" / "black_red" / "1"
    assert result.value == {"test_return_mean": 80.0, "path": str(tmp_path)}
    theirs = json.loads((result.folder / "metrics.json").read_text())
    ours = read_metrics(result.folder)
    assert set(theirs) == {"return_mean", "entropy", "test_return_mean"}
    for name, points in theirs.items():
        mine = [(r["t"], r["metrics"][name]) for r in ours if name in r["metrics"]]
        assert list(zip(points["steps"], points["values"], strict=True)) == mine
        assert len(points["timestamps"]) == len(mine)
    run = json.loads((result.folder / "run.json").read_text())
    assert run["status"] == "COMPLETED"
    assert run["result"] == {"test_return_mean": 80.0, "path": str(tmp_path)}
    assert run["artifacts"] == ["run.log"]
    assert any(name.endswith("log.py") for name, _ in run["experiment"]["sources"])
    config = json.loads((result.folder / "config.json").read_text())
    assert config["env_args"] == {"map_name": "black_red"}
    info = json.loads((result.folder / "info.json").read_text())
    assert info["resumed_from"] == "x"
    assert {"python", "torch", "numpy", "gymnasium"} <= set(info["versions"])
    assert info["command_line"] == provenance.command_line()
    kept = (result.folder / "run.log").read_text()
    assert "A notice." in kept
    assert "hello" in kept
    assert (result.folder / "cout.txt").read_text() == kept


def test_command_line_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/venv/bin/python3.11")
    for arguments, want in [
        (["src/main.py", "with", "groups=[[0, 1]]"], "python3.11 src/main.py with 'groups=[[0, 1]]'"),
        (["-m", "oamarl", "list"], "python3.11 -m oamarl list"),
        (["/venv/bin/oamarl", "train", "--config=oappo"], "oamarl train --config=oappo"),
    ]:
        monkeypatch.setattr(sys, "orig_argv", ["python3.11", *arguments])
        assert provenance.command_line() == want


def test_folder_names(tmp_path: Path) -> None:
    def folder(**more: Any) -> str:
        return str(experiment.run_parent(values(tmp_path, **more)).relative_to(tmp_path / "sacred"))

    key = "lbforaging:Foraging-8x8-2p-3f-v3"
    assert folder(env="gymma", env_args={"key": key}) == f"oappo/{key}"
    assert folder(env="matrix", env_args={}) == "oappo/matrix"
    assert folder(env_args={"map_name": None, "key": None}) == "oappo/maze"
    assert folder(name="../..", env_args={"map_name": "../../etc"}) == ".._../.._.._etc"
    assert folder(env_args={"map_name": ".."}) == "oappo/_.."


@pytest.mark.parametrize("bad", [{"a.b": 1}, {"$a": 1}, {"a=b": 1}, {3: 1}])
def test_keys_that_cannot_be_stored(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(UserError, match="in env_args cannot be stored"):
        experiment.execute(values(tmp_path, env_args=bad), [], lambda log: {})
    assert not (tmp_path / "sacred").exists()
    # values may hold what keys may not
    stored = provenance.storable({"key": "a.b=$c", "path": Path("x"), "n": np.int64(3), "t": (1, np.float32(0.5))})
    assert stored == {"key": "a.b=$c", "path": "x", "n": 3, "t": [1, 0.5]}
    assert type(stored["n"]) is int


@pytest.mark.parametrize("seed", [None, -1, 2**32, 1.5, True])
def test_seeds_that_sacred_cannot_take(tmp_path: Path, seed: object) -> None:
    with pytest.raises(UserError, match="seed="):
        experiment.execute(values(tmp_path, seed=seed), [], lambda log: {})


def test_unwritable_results(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"results folder .* cannot be written: Not a directory"):
        experiment.execute(values(tmp_path / "file"), [], lambda log: {})


def test_failed_run_keeps_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        log.scalars({"a": 1.0}, 1)
        print("printed before")
        raise ZeroDivisionError("in the middle")

    result = experiment.execute(values(tmp_path), [], body)
    assert (result.status, result.exit_code, result.value) == ("FAILED", 1, None)
    assert isinstance(result.error, ZeroDivisionError)
    out, err = capsys.readouterr()
    kept = (result.folder / "run.log").read_text()
    for text in (out + err, kept):
        assert text.count("Traceback (most recent call last)") == 1
        assert text.count("ZeroDivisionError: in the middle") == 1
        assert "printed before" in text
    assert (result.folder / "cout.txt").read_text() == kept
    assert status(result.folder) == "FAILED"
    assert json.loads((result.folder / "metrics.json").read_text())["a"]["values"] == [1.0]
    assert sys.stdout is not None
    print("the streams are back")
    assert "the streams are back" in capsys.readouterr().out


def test_user_error_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(log: RunLog) -> dict[str, Any]:
        raise UserError("One sentence.")

    with pytest.raises(UserError, match=r"^One sentence\.$"):
        experiment.execute(values(tmp_path), [], body)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "One sentence." not in out + err  # the command line says it, once
    folder = tmp_path / "sacred" / "oappo" / "black_red" / "1"
    assert status(folder) == "FAILED"
    assert "One sentence." in (folder / "run.log").read_text()


def test_a_disk_that_was_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sacred's own observer gives up for good after one error; ours writes all points at the next chance."""
    real, failing = run_files.write_json, []

    def sometimes(path: Path, *args: Any, **kwargs: Any) -> None:
        if failing and path.name in ("metrics.json", "run.json"):
            failing.append(path.name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, *args, **kwargs)

    monkeypatch.setattr(run_files, "write_json", sometimes)

    def body(log: RunLog) -> dict[str, Any]:
        failing.append("on")
        for t in range(10):
            log.scalars({"a": float(t)}, t)
        end = time.monotonic() + PATIENCE
        while not {"metrics.json", "run.json"} <= set(failing):
            assert time.monotonic() < end, "nothing was written at any beat"
            time.sleep(0.01)
        failing.clear()
        log.scalars({"a": 10.0}, 10)
        return {}

    result = experiment.execute(values(tmp_path, beat_interval=0.02), [], body)
    assert result.status == "COMPLETED"
    assert json.loads((result.folder / "metrics.json").read_text())["a"]["steps"] == list(range(11))
    assert status(result.folder) == "COMPLETED"


def test_a_disk_that_is_full_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_files, "write_json", full)
    with pytest.raises(UserError, match=r"^Cannot write the run's folder in .*black_red: No space left on device\.$"):
        experiment.execute(values(tmp_path), [], lambda log: {})
    assert "Traceback" not in "".join(capfd.readouterr())


RUN = """
import sys, time
from oamarl.storage.sacred_run import execute
def body(log):
    log.scalars({"a": 1.0}, 1)
    print("ready", flush=True)
    for _ in range(20000):
        try:
            time.sleep(0.05)
        except Exception:
            pass
    return {}
values = {"name": "x", "label": "", "local_results_path": sys.argv[1], "beat_interval": 30, "seed": 1, "env": "maze"}
values["verbose"] = False
result = execute(values, [], body)
print(result.status)
sys.exit(result.exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_run_cleanly(tmp_path: Path, number: signal.Signals, code: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=usual_signals,
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if line == "ready\n":
            break
    child.send_signal(number)
    child.send_signal(number)  # a second one does not disturb the end
    out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == code
    assert "INTERRUPTED" in out
    assert "the run stops here" in err
    assert "Traceback" not in err
    folder = tmp_path / "sacred" / "x" / "maze" / "1"
    assert status(folder) == "INTERRUPTED"
    assert json.loads((folder / "metrics.json").read_text())["a"]["values"] == [1.0]
    assert "the run stops here" in (folder / "cout.txt").read_text()


def test_runs_that_start_together_get_different_numbers(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from oamarl.storage.sacred_run import execute\n"
        "values = {'name': 'x', 'label': '', 'local_results_path': sys.argv[1], 'beat_interval': 30, 'seed': 1}\n"
        "values['verbose'] = False\n"
        "values['env'] = 'e'\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "execute(values, [], lambda log: log.scalars({'a': float(sys.argv[3])}, 1) or {})\n"
    )
    start = str(time.time() + 3)
    children = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), start, str(i)]) for i in range(4)]
    assert [child.wait(timeout=PATIENCE) for child in children] == [0, 0, 0, 0]
    folders = sorted(p for p in (tmp_path / "sacred" / "x" / "e").iterdir())
    assert [p.name for p in folders] == ["1", "2", "3", "4"]
    assert sorted(read_metrics(p)[0]["metrics"]["a"] for p in folders) == [0.0, 1.0, 2.0, 3.0]
    assert all(status(p) == "COMPLETED" for p in folders)


def test_sacred_is_known_in_one_place() -> None:
    package = Path(experiment.__file__).parents[1]
    users = [p.name for p in package.rglob("*.py") if re.search(r"^\s*(import|from) sacred", p.read_text(), re.M)]
    assert users == ["sacred_run.py"]


def test_records_file_positions_match_the_reader(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    log.scalars({"a": 1.0}, 1)
    line = (tmp_path / "metrics.jsonl").read_bytes()
    assert line.endswith(b"\n")
    assert records.parse_metrics(line)[0]["metrics"] == {"a": 1.0}
    assert log.checkpoint_position() == {"metrics.jsonl": len(line)}
    log.close()


def test_a_line_that_is_completed_while_the_file_is_read_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is in the middle of a line at the first read, and done before the second."""
    path, line = tmp_path / "metrics.jsonl", b'{"t": %d, "time": 1.0, "metrics": {"a": %d.5}}\n'
    path.write_bytes(line % (0, 0) + (line % (1, 1))[:20])

    class Growing:
        def __init__(self, *where: Any) -> None:
            self.file = open(*where)  # noqa: SIM115
            self.seek = self.file.seek

        def __enter__(self) -> Growing:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def readlines(self, hint: int) -> list[bytes]:
            lines = self.file.readlines(hint)
            if lines and not lines[-1].endswith(b"\n"):
                with path.open("ab") as writer:
                    writer.write((line % (1, 1))[20:] + line % (2, 2))
            return lines

    monkeypatch.setattr(series, "open", Growing, raising=False)
    curves = series.Curves(tmp_path)
    while curves.update():
        pass
    assert curves.series["a"].steps.tolist() == [0, 1, 2]
