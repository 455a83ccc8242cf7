"""The loop of a sweep: start missing runs, watch them, retry failed ones, and stop them with a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ...storage import curve_files
from ...storage.run_files import write_json
from ...utils.console import duration, number
from ...utils.errors import UserError
from ...utils.signals import handling
from .attempt import TICK, Order, Outcome, own_runs, progress, status
from .file import Cell
from .pools import Pool
from .view import State, View

#: seconds between two looks into the runs' records
LOOK_EVERY = 1.0
#: attempts that may be lost with their machines, which is no failure of the run
LOST = 20
#: exit statuses that another attempt cannot change: a user error, max_seconds
HOPELESS = (2, 124)


class Plan(Protocol):
    """The runs of a sweep, in the order in which they are started."""

    def next(self) -> Cell | None:
        """Return the next run to start; None: none now."""

    def like(self, cell: Cell) -> Cell | None:
        """Return the next seed of the configuration of ``cell``, to be started with it; None: none."""

    def ended(self, state: State) -> None:
        """Take note of a run that is done, failed or pruned."""

    def unpromising(self, state: State) -> bool:
        """Return whether a running run should be stopped."""


class Cells:
    """The plan of a sweep without a search: every cell once."""

    def __init__(self, cells: list[Cell]) -> None:
        self.waiting = list(cells)

    def next(self) -> Cell | None:
        """Return the next run to start; None: none is left."""
        return self.waiting.pop(0) if self.waiting else None

    def like(self, cell: Cell) -> Cell | None:
        """Return the next seed of the configuration of ``cell``; None: none is left."""
        found = next((other for other in self.waiting if other.group == cell.group), None)
        if found is not None:
            self.waiting.remove(found)
        return found

    def ended(self, state: State) -> None:
        """Do nothing: no run depends on how another one ended."""

    def unpromising(self, state: State) -> bool:
        """Return False: every run is trained to its end."""
        return False


class Interrupts:
    """The number of signals to stop so far: Ctrl-C, SIGTERM, SIGHUP."""

    def __init__(self) -> None:
        self.count = 0
        self.last = signal.SIGINT

    def __call__(self, number: int, frame: Any) -> None:
        """Count a signal."""
        self.count += 1
        self.last = signal.Signals(number)

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the signals are counted here."""
        return handling(self, ("SIGINT", "SIGTERM", "SIGHUP"))


@dataclass(frozen=True)
class How:
    """What all runs of a sweep share: where they are stored, and how they are run."""

    name: str
    results: Path
    curves: Path
    retries: int
    workers: int
    env: dict[str, str]
    metric: str | None = None

    @property
    def folder(self) -> Path:
        """Folder of the sweep's own files."""
        return self.results / "sweeps" / self.name

    def order(self, cell: Cell, anew: bool = False) -> Order:
        """Return the description of an attempt at a cell."""
        return Order(
            name=cell.name, words=cell.words, config=cell.config, command=cell.command, results=str(self.results),
            parent=str(self.results / cell.parent), label=f"sweep {self.name}: {cell.name}",
            extra=(f"workers={self.workers}",) if cell.shares else (),
            log=str(self.folder / "logs" / f"{cell.name}.log"),
            cwd=os.getcwd(), env=self.env, anew=anew, metrics=(self.metric,) if self.metric else (),
        )  # fmt: skip

    def curve(self, cell: Cell) -> Path:
        """Return the path of a cell's curve file."""
        return self.curves / f"{cell.name}.json"

    def known(self, cell: Cell) -> dict[str, Any] | None:
        """Return the curve of a finished cell, whatever machine it ran on; None where there is none."""
        from ...settings import learned

        found = curve_files.read(self.curve(cell))
        return found if found is not None and learned(found["config"]) == cell.config else None


class Drive:
    """Runs a plan on a pool.

    Args:
        how: what all runs share.
        plan, pool, view: which runs, where, and who shows them.
        facts: further content of the sweep's record.
    """

    def __init__(self, how: How, plan: Plan, pool: Pool, view: View, facts: dict[str, Any]) -> None:
        self.how, self.plan, self.pool, self.view, self.facts = how, plan, pool, view, facts
        self.states: dict[str, State] = {}
        self.again: list[State] = []
        #: run -> those in the same process
        self.beside: dict[str, list[str]] = {}
        self.interrupts = Interrupts()
        self._look, self._stopped, self._killed = 0.0, False, False

    def run(self) -> int:
        """Run until nothing is left; return 0, 1 where a run is not done, 128 + the signal's number when stopped."""
        with self.interrupts.listening():
            try:
                while self._step():
                    self.view.show(list(self.states.values()))
                    time.sleep(TICK)
            finally:
                self.record()
                self.view.close(list(self.states.values()))
        if self._stopped:
            return 128 + int(self.interrupts.last)
        return int(any(s.status not in ("done", "pruned") for s in self.states.values()))

    def add(self, cell: Cell) -> State:
        """Return the state of a cell; one whose curve is there is done."""
        state = self.states.get(cell.name)
        if state is None:
            state = self.states[cell.name] = State(cell)
            state.curve = self.how.known(cell)
            if state.curve is not None:
                state.status = "done"
                state.step, state.value = cell.t_max, state.curve["tenths"][-1]
        return state

    def _step(self) -> bool:
        """Start, watch and finish runs once; return whether the sweep continues."""
        asked = self.interrupts.count
        if asked and not self._stopped:
            self._stopped = True
            self.view.event("Stopping: running runs save a checkpoint and end (a second Ctrl-C ends them at once).")
            self.pool.interrupt()
        if asked > 1 and not self._killed:
            self._killed = True
            self.pool.kill()
        if not self._stopped:
            self._start()
        for name, outcome in self.pool.poll():
            self._ended(self.states[name], outcome)
            # where the outcome names no others, all runs of the process were lost or stopped with it
            beside = dict.fromkeys(self.beside.pop(name, ()), outcome) | dict(outcome.others)
            for other, its in beside.items():
                self._ended(self.states[other], its)
        running = [s for s in self.states.values() if s.status == "running"]
        if time.monotonic() >= self._look:
            self._look = time.monotonic() + LOOK_EVERY
            for state in running:
                self._watch(state)
        return bool(running) or bool(not self._stopped and (self.again or self._start()))

    def _start(self) -> bool:
        """Start as many runs as there is room for; return whether any began or ended by that."""
        moved = False
        while self.pool.room() > 0:
            state = self.again.pop(0) if self.again else None
            if state is None:
                cell = self.plan.next()
                if cell is None:
                    break
                state = self.add(cell)
            moved = True
            if state.status == "done":
                self.plan.ended(state)
                continue
            states = [state, *self._companions(state)]
            for one in states:
                one.status, one.began, one.folder = "running", time.monotonic(), None
            order, *others = (self.how.order(one.cell, one.anew) for one in states)
            self.beside[order.name] = [other.name for other in others]
            self.pool.start(replace(order, others=tuple(others)))
        return moved

    def _companions(self, state: State) -> list[State]:
        """Return the runs that are started in one process with ``state``: further seeds that are not done."""
        found: list[State] = []
        while len(found) + 1 < state.cell.at_once:
            other = next((s for s in self.again if s.cell.group == state.cell.group), None)
            if other is not None:
                self.again.remove(other)
            else:
                cell = self.plan.like(state.cell)
                if cell is None:
                    break
                other = self.add(cell)
            if other.status == "done":
                self.plan.ended(other)
            else:
                found.append(other)
        return found

    def _watch(self, state: State) -> None:
        order = self.how.order(state.cell)
        if state.folder is None:
            # an earlier attempt's folder has nothing new to say
            state.folder = next((r for r in own_runs(order)[:1] if status(r) == "RUNNING"), None)
            if state.folder is not None:
                self.view.event(f"{state.cell.name}: runs in {state.folder}")
        if state.folder is not None:
            step, value = progress(state.folder, state.cell.team)
            state.step, state.value = max(step, state.step), state.value if value is None else value
            if not self._stopped and self.plan.unpromising(state):
                state.status = "pruned"
                self.pool.interrupt(state.cell.name)

    def _ended(self, state: State, outcome: Outcome) -> None:
        name = state.cell.name
        attempt = {"status": outcome.status, "reason": outcome.reason, "seconds": round(outcome.seconds, 1),
                   "resumed": outcome.resumed, "host": outcome.host}  # fmt: skip
        state.attempts.append(attempt)
        state.began, state.reason = None, outcome.reason
        if outcome.status == "done" and outcome.curve is not None:
            self._done(state, outcome)
        elif state.status == "pruned":
            self.view.event(f"{name}: given up at {state.steps()} steps")
            self.plan.ended(state)
        elif outcome.status == "interrupted" or self._stopped:
            began = outcome.code is not None or state.folder is not None
            state.status = "stopped" if began else "queued"
            if began:
                self.view.event(f"{name}: stopped{f' at {state.steps()} steps' if state.step else ''}")
        else:
            self._failed(state, outcome)
        self.record()

    def _done(self, state: State, outcome: Outcome) -> None:
        state.curve, state.status, state.step = outcome.curve, "done", state.cell.t_max
        assert outcome.curve is not None
        state.value = outcome.curve["tenths"][-1]
        curve_files.write(self.how.curve(state.cell), outcome.curve)
        took = duration(outcome.curve["wall_clock"])
        self.view.event(f"{state.cell.name}: done in {took}, return over the last 10 % {number(state.value or 0.0)}")
        self.plan.ended(state)

    def _failed(self, state: State, outcome: Outcome) -> None:
        """Retry the run, or report it as failed."""
        lost = outcome.status == "lost"
        state.lost, state.tries = state.lost + lost, state.tries + (not lost)
        # if it cannot be resumed from its checkpoint (of another version, say) it starts anew
        unfit = outcome.code == 2 and outcome.resumed
        hopeless = outcome.code in HOPELESS and not unfit
        left = LOST - state.lost if lost else self.how.retries + 1 - state.tries
        if hopeless or left <= 0:
            state.status = "failed"
            self.view.event(f"{state.cell.name}: failed: {outcome.reason}")
            self.plan.ended(state)
            return
        state.status, state.anew = "queued", state.anew or unfit
        self.again.append(state)
        how = "from the start" if state.anew else "from its last checkpoint"
        what = "its machine went away" if lost else "failed"
        count = "" if lost else f" (retry {state.tries} of {self.how.retries})"
        self.view.event(f"{state.cell.name}: {what}: {outcome.reason}; it continues {how}{count}")

    def record(self) -> None:
        """Write `sweep.json`: the sweep's description, and the state of each of its runs."""
        runs = {
            name: {
                "status": s.status, "reason": s.reason, "attempts": s.attempts, "command": s.cell.command,
                "curve": str(self.how.curve(s.cell)) if s.curve is not None else None,
                "folder": str(s.folder) if s.folder is not None else None,
            }
            for name, s in self.states.items()
        }  # fmt: skip
        try:
            self.how.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.how.folder / "sweep.json", {**self.facts, "name": self.how.name, "runs": runs}, indent=1)
        except OSError as error:
            self.view.event(f"The sweep's record cannot be written: {error.strerror or error}.")


def refuse_other(how: How, cells: list[Cell], replace: bool) -> None:
    """Refuse to overwrite curves of other configurations.

    Raises:
        UserError: there is one, and --replace is not given.
    """
    from ...settings import learned

    for cell in cells:
        found = None if replace else curve_files.read(how.curve(cell))
        if found is None:
            continue
        old = learned(found["config"])
        differ = sorted(k for k in {*old, *cell.config} if old.get(k) != cell.config.get(k))
        if differ:
            shown = ", ".join(f"{k}={cell.config.get(k)!r} (there {old.get(k)!r})" for k in differ[:3])
            raise UserError(
                f"{how.curve(cell)} is of another configuration: {shown}: give these runs another name or another "
                "`curves` folder, or add --replace."
            )
