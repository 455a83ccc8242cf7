"""Runs the sides of a cell in turn, round after round, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .cell import Cell, Side
from .install import Program

SIDES = Path(__file__).resolve().parent / "sides"
#: how long a program may take to end once it was measured
END_SECONDS = 20.0


class SideError(Exception):
    """A side gave no result: one sentence, with its last lines of output."""


def specification(side: Side, folder: Path | None, out: Path, timing: Mapping[str, float]) -> dict[str, Any]:
    """Return what the program of a side gets as its specification.

    Args:
        folder: where it stands; None: its results go beside ``out``.
        out: file of the measurement.
        timing: ``seconds``, ``warm_seconds``, ``warm_iterations``, ``min_iterations``.
    """
    spec = {**timing, **side.spec, "out": str(out), "folder": str(folder or out.parent)}
    if side.program == "oamarl":
        spec["words"] = [*spec["words"], f"local_results_path={out.parent / 'results'}"]
    return spec


def measure(side: Side, program: Program, timing: Mapping[str, float], timeout: float) -> dict[str, Any]:
    """Run one side once and return its result.

    Raises:
        SideError: it ended, or took longer than ``timeout`` seconds, without one.
    """
    with tempfile.TemporaryDirectory(prefix="oamarl-compare-") as name:
        place = Path(name)
        out, log, spec = place / "result.json", place / "output.log", place / "spec.json"
        spec.write_text(json.dumps(specification(side, program.folder, out, timing)))
        # each program sets its own number of threads
        environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "PYTHONPATH")}
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [program.python, "-W", "ignore", str(SIDES / f"run_{side.program}.py"), str(spec)],
                cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                _await(process, out, timeout)
            finally:
                _put_away(process)
        if not out.exists():
            last = log.read_text(errors="replace").strip().splitlines()[-12:]
            how = "took too long" if process.returncode == -signal.SIGKILL else f"ended with {process.returncode}"
            raise SideError(f"{side.name} {how} and measured nothing; its last lines:\n  " + "\n  ".join(last))
        result: dict[str, Any] = json.loads(out.read_text())
        return result


def _await(process: subprocess.Popen[bytes], out: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            process.wait(0.2)
            return
        except subprocess.TimeoutExpired:
            if out.exists():
                end = min(end, time.monotonic() + END_SECONDS)


def _put_away(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the program: its workers outlive it when it is ended in the middle."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rounds(
    cell: Cell, programs: Mapping[str, Program], timing: Mapping[str, float], count: int, timeout: float,
    say: Callable[[str], None],
) -> list[dict[str, dict[str, Any]]]:  # fmt: skip
    """Run all sides of a cell ``count`` times, A B A B ...; returns side -> result for each round.

    Raises:
        SideError: one of them gave none.
    """
    found = []
    for number in range(count):
        found.append({})
        for side in cell.sides:
            say(f"{cell.name}: round {number + 1} of {count}, {side.name}")
            begun = os.getloadavg()[0]
            result = measure(side, programs[side.program], timing, timeout)
            found[-1][side.name] = {**result, "load_before": begun}
    return found
