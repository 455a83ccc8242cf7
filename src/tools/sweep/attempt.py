"""One attempt at a run: the ordinary program in a process of its own, and its outcome.

The same code works on this machine and inside a Ray task on another one. A run's folder is found by its label and
configuration in the results folder, so no other state is needed to resume it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...settings import learned
from ...storage import curve_files
from ...storage.liveness import alive
from ...storage.run_files import CONFIG_FILE, INFO_FILE, RUN_FILE, read_json
from ...utils.errors import UserError
from ...utils.schema import yamls

#: seconds between two looks at a process
TICK = 0.2

#: Starts the program so that the system sends it SIGTERM when its parent ends: a sweep or a Ray worker that is killed
#: must not leave runs behind, which a restart would then run twice.
_GUARD = """\
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 15)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Order:
    """The description of a run, in plain data that can be sent to another machine.

    | field | meaning |
    |---|---|
    | name, words, config | of the cell |
    | command | the command line to store with the curve |
    | results, parent | results folder, and that of the numbered runs |
    | label | identifies the run, together with its configuration |
    | extra | settings that change no number: workers, ... |
    | log | file for what the run prints |
    | env | environment variables to set |
    | anew | do not resume from a checkpoint |
    | metrics | names of metrics to keep in the curve, beside the usual ones |
    | others | further seeds of the same configuration, which are trained in the same process |
    """

    name: str
    words: tuple[str, ...]
    config: dict[str, Any]
    command: str
    results: str
    parent: str
    label: str
    log: str
    cwd: str
    extra: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    anew: bool = False
    metrics: tuple[str, ...] = ()
    others: tuple[Order, ...] = ()

    @classmethod
    def of(cls, content: dict[str, Any]) -> Order:
        """Return the order that ``dataclasses.asdict`` made ``content`` of."""
        return cls(**{**content, "others": tuple(cls.of(x) for x in content["others"])})

    @property
    def all(self) -> tuple[Order, ...]:
        """All runs of the process: this one and the others."""
        return (self, *self.others)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    | field | meaning |
    |---|---|
    | status | done, failed, interrupted (by the sweep, after a checkpoint), lost (with its machine) |
    | reason | one line, for `failed` and `lost` |
    | curve | content of the curve file, for `done` |
    | code | exit status of the process; None: there was none |
    | resumed | it was resumed from a checkpoint |
    | seconds | how long it took |
    | others | of further seeds in the same process: name and outcome of each |
    """

    status: str
    reason: str = ""
    curve: dict[str, Any] | None = None
    code: int | None = None
    resumed: bool = False
    seconds: float = 0.0
    host: str = ""
    others: tuple[tuple[str, Outcome], ...] = ()

    @classmethod
    def of(cls, content: dict[str, Any]) -> Outcome:
        """Return the outcome that ``dataclasses.asdict`` made ``content`` of."""
        return cls(**{**content, "others": tuple((name, cls.of(x)) for name, x in content["others"])})


def own_runs(order: Order) -> list[Path]:
    """Return the folders of a cell's runs, newest first."""
    found = []
    with contextlib.suppress(OSError):
        for folder in sorted(Path(order.parent).iterdir(), key=_number, reverse=True):
            if folder.name.isdecimal():
                config = read_json(folder / CONFIG_FILE)
                if config.get("label") == order.label and learned(config) == order.config:
                    found.append(folder)
    return found


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdecimal() else -1


def status(folder: Path) -> str:
    """Return a run's status; DEAD for one with the status RUNNING whose process is known to have ended."""
    said = str(read_json(folder / RUN_FILE).get("status", ""))
    if said != "RUNNING":
        return said or "DEAD"
    process = read_json(folder / INFO_FILE).get("process")
    # on other machines the process cannot be checked: the sweep that started the run there knows that it has ended
    return said if alive(process if isinstance(process, dict) else None, None, 30.0) else "DEAD"


def progress(folder: Path, metric: str) -> tuple[int, float | None]:
    """Return the newest step and value of a metric in a run's records, of which only the end is read."""
    step, value = 0, None
    with contextlib.suppress(OSError), open(folder / "metrics.jsonl", "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20000))
        for line in reversed(file.read().split(b"\n")[:-1]):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = json.loads(line)
                step = max(step, int(record["t"]))
                if metric in record["metrics"]:
                    return step, float(record["metrics"][metric])
    return step, value


class Attempt:
    """One try at a run. ``poll`` until it returns an outcome."""

    def __init__(self, order: Order) -> None:
        self.order, self.began = order, time.monotonic()
        self.process: subprocess.Popen[bytes] | None = None
        self.asked, self._offset = False, 0
        #: outcomes so far, and the folders that runs are resumed from ("": begun anew), by name
        self.ended: dict[str, Outcome] = {}
        self.saved: dict[str, str] = {}

    def poll(self) -> Outcome | None:
        """Return the outcome once there is one; start the process when its time has come."""
        if self.process is None:
            return self._begin()
        code = self.process.poll()
        return None if code is None else self._ended(code)

    def interrupt(self) -> None:
        """Ask the run to save and to end."""
        self.asked = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the run now."""
        self.asked = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.process.send_signal(number)

    def _begin(self) -> Outcome | None:
        """Take the results of finished earlier attempts, wait for those still running, or start the process."""
        for order in self.order.all:
            runs = [] if order.anew or order.name in self.ended else own_runs(order)
            states = {folder: status(folder) for folder in runs}
            done = next((folder for folder in runs if states[folder] == "COMPLETED"), None)
            if done is not None:
                self.ended[order.name] = self._done(order, done)
            elif "RUNNING" in states.values() and not self.asked:
                return None  # left behind by a sweep that was killed: it ends, or saves and ends
        left = [order for order in self.order.all if order.name not in self.ended]
        if left and not self.asked:
            try:
                self._start(left)
            except OSError as error:
                reason = f"The run cannot be started: {error.strerror or error}."
                self.ended |= {order.name: self._outcome(order, "failed", reason) for order in left}
        elif self.asked:
            self.ended |= {order.name: self._outcome(order, "interrupted") for order in left}
        return None if self.process is not None else self._together()

    def _start(self, orders: list[Order]) -> None:
        order, self.saved = orders[0], {}
        for each in orders:
            runs = [] if each.anew else own_runs(each)
            found = next((r for r in runs if any(r.glob("checkpoints/checkpoint_*.pt"))), None)
            self.saved[each.name] = "" if found is None else str(found)
        own = {"local_results_path": order.results, "label": order.label}
        given = list(order.words)
        if len(orders) > 1:
            seeds = [each.config["seed"] for each in orders]
            own["label"] = order.label.removesuffix(str(seeds[0])) + "{seed}"
            given = [yamls.word("seeds_at_once", seeds) if x.startswith("seed=") else x for x in given]
        if any(self.saved.values()):
            own["checkpoint_path"] = ",".join(self.saved.values())
        settings = [*order.extra, *(yamls.word(name, value) for name, value in own.items())]
        program = Path(__file__).resolve().parents[2] / "main.py"
        words = [sys.executable, str(program), *given, *settings]
        log = Path(order.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            self._offset = out.tell()
            self._share(log, orders[1:])
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *words],
                # a session of its own: Ctrl-C on the terminal is the sweep's, which asks its runs to end
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                cwd=order.cwd if os.path.isdir(order.cwd) else None, env={**os.environ, **order.env},
            )  # fmt: skip

    @staticmethod
    def _share(log: Path, others: list[Order]) -> None:
        """Let the runs that are in one process with another have its log, where they have none of their own."""
        for order in others:
            with contextlib.suppress(OSError):
                os.link(log, order.log)

    def _ended(self, code: int) -> Outcome:
        for order in self.order.all:
            if order.name in self.ended:
                continue
            runs = own_runs(order)
            newest = runs[0] if runs else None
            several = len(self.order.all) > 1  # the exit status is that of the worst of them
            if (code == 0 or several) and newest is not None and status(newest) == "COMPLETED":
                self.ended[order.name] = self._done(order, newest, code)
            elif self.asked:
                self.ended[order.name] = self._outcome(order, "interrupted", code=code)
            else:
                self.ended[order.name] = self._outcome(order, "failed", self._reason(code), code)
        return self._together()

    def _together(self) -> Outcome:
        """The outcome of all runs of the process."""
        others = tuple((order.name, self.ended[order.name]) for order in self.order.others)
        return replace(self.ended[self.order.name], others=others)

    def _done(self, order: Order, folder: Path, code: int | None = None) -> Outcome:
        try:
            curve = curve_files.content(folder, order.command, order.config, order.metrics)
        except UserError as error:
            return self._outcome(order, "failed", str(error), 2)
        return self._outcome(order, "done", curve=curve, code=code)

    def _outcome(
        self, order: Order, how: str, reason: str = "", code: int | None = None, curve: dict[str, Any] | None = None
    ) -> Outcome:
        seconds = time.monotonic() - self.began
        resumed = bool(self.saved.get(order.name))
        return Outcome(how, reason, curve, code, resumed, seconds, socket.gethostname())

    def _reason(self, code: int) -> str:
        """Return why the process ended: its last words, or the signal that ended it."""
        lines: list[str] = []
        with contextlib.suppress(OSError), open(self.order.log, "rb") as file:
            file.seek(max(self._offset, file.seek(0, os.SEEK_END) - 50000))
            lines = [x for x in file.read().decode("utf-8", "replace").splitlines() if x.strip()]
        if code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                return f"ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
        trace = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].startswith("Traceback (most")), None)
        if trace is not None:
            said = [x for x in lines[trace + 1 :] if not x.startswith(" ")]
            lines = said[:1] or lines
        last = lines[-1].strip()[:300] if lines else ""
        return last or f"exit status {code}"
