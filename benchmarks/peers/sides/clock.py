"""The clock that a measured program carries: what happened between two of its iterations, written as JSON.

Runs inside every framework's own interpreter, so it needs the standard library alone. Linux: times and memory of
the process and of everything that it started come from /proc.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

_TICK = os.sysconf("SC_CLK_TCK")
_PACKAGES = (
    "torch", "numpy", "gymnasium", "mujoco", "lbforaging", "rware", "oamarl", "pymarlzooplus", "benchmarl", "torchrl",
)  # fmt: skip


class Measured(KeyboardInterrupt):
    """Everything was measured: the program may end as if interrupted."""


def processes(root: int) -> list[int]:
    """Return ``root`` and the processes under it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = _fields(int(entry))
            except OSError:
                continue  # it has just ended
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def _fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from the state on: [0] is the state, [1] the parent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            ticks += sum(int(x) for x in _fields(pid)[11:15])
        except OSError:
            continue
    return ticks / _TICK


def memory(root: int) -> dict[str, float]:
    """Peak resident memory in MB.

    | field | meaning |
    |---|---|
    | main | of the process itself |
    | all | the sum over it and everything under it; pages that they share count once for each |
    | proportional | memory in use now, shared pages counted once |
    """
    found = {"main": 0.0, "all": 0.0, "proportional": 0.0}
    for pid in processes(root):
        try:
            peak = _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")
            found["proportional"] += _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1024
        except OSError:
            continue
        found["all"] += peak / 1024
        if pid == root:
            found["main"] = peak / 1024
    return found


def _kilobytes(path: Path, name: str) -> float:
    return next((float(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)), 0.0)


def versions() -> dict[str, str]:
    """Return the versions of what is there of Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Clock:
    """Times one program.

    Args:
        spec: ``kind`` (``run``, ``collect``: training without its updates, ``learner``), ``out`` (file of the result),
            ``seconds`` to measure, ``warm_seconds`` and ``warm_iterations`` before that, ``min_iterations``.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.facts: dict[str, Any] = {}
        self._iteration = -1
        self._first = 0.0
        self._began: dict[str, float] | None = None
        self._learning = 0.0
        self._updates = 0

    @classmethod
    def from_command_line(cls) -> Clock:
        """Read the specification from the file that is the program's first argument."""
        return cls(json.loads(Path(sys.argv[1]).read_text()))

    # -- whole iterations ----------------------------------------------------------------------------------------

    def iteration(self, steps: int) -> None:
        """Say that an iteration begins, after ``steps`` environment steps in all.

        Raises:
            Measured: the time is over, and the result is written.
        """
        s, now = self.spec, time.perf_counter()
        self._iteration += 1
        if self._iteration == 0:
            self._first = now
        if self._began is None:
            if self._iteration >= s["warm_iterations"] and now - self._first >= s["warm_seconds"]:
                self._began = self._read(steps)
                self._learning, self._updates = 0.0, 0
            return
        done = self._iteration - self._began["iteration"]
        if done >= s["min_iterations"] and now - self._began["wall"] >= s["seconds"]:
            after = self._read(steps)
            passed = {name: after[name] - before for name, before in self._began.items()}
            self.finish(passed | {"learning": self._learning, "updates": self._updates})

    def _read(self, steps: int) -> dict[str, float]:
        own = os.getpid()
        # the clock last: looking at /proc belongs to neither side of it
        state = {"iteration": float(self._iteration), "steps": float(steps)}
        state |= {"cpu": cpu_seconds(processes(own)), "cpu_main": time.process_time()}
        return state | {"wall": time.perf_counter()}

    def learn(self, update: Any) -> Any:
        """Do one update inside an iteration, timed; without it where collection alone is measured (then None)."""
        if self.spec["kind"] == "collect":
            return None
        began = time.perf_counter()
        result = update()
        self._learning += time.perf_counter() - began
        self._updates += 1
        return result

    # -- updates alone -------------------------------------------------------------------------------------------

    def repeat(self, update: Any, *, before: Any = None, samples: Any = None) -> None:
        """Do the same update again and again, each timed by itself.

        Args:
            update: does it.
            before: called before each, untimed.
            samples: returns how many samples were processed so far.

        Raises:
            Measured: always, when the result is written.
        """
        s = self.spec
        calls: list[dict[str, float]] = []
        for number in range(10**9):
            if before is not None:
                before()
            have = samples() if samples is not None else 0.0
            wall, cpu = time.perf_counter(), time.process_time()
            update()
            call = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            if samples is not None:
                call["samples"] = samples() - have
            if number == s["warm_iterations"]:
                calls, self._first = [], time.perf_counter()
            calls.append(call)
            over = time.perf_counter() - self._first >= s["seconds"]
            if number > s["warm_iterations"] and len(calls) > s["min_iterations"] and over:
                break
        self.finish({"calls": calls[1:]})

    # -- the result ----------------------------------------------------------------------------------------------

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result`` with memory and versions beside it; raises :class:`Measured`."""
        result = {**result, "memory": memory(os.getpid()), "versions": versions(), "facts": self.facts}
        path = Path(self.spec["out"])
        path.with_suffix(".part").write_text(json.dumps(result))
        path.with_suffix(".part").replace(path)
        raise Measured("measured")
