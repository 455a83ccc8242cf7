"""The output of a sweep: a live table on a terminal, plain lines without one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...storage.tested_actions import SAMPLED
from ...utils.console import duration, is_live, number
from ..tables import table
from .file import Cell

#: seconds between plain lines that say what is running
PLAIN_EVERY = 60.0
#: seconds between two pictures of the table
REDRAW_EVERY = 0.5
#: column of the table -> columns of the terminal from which on there is room for it
COLUMNS = {"run": 0, "state": 0, "steps": 70, "return": 0, "time": 50, "note": 60}
STYLES = {"running": "cyan", "done": "green", "failed": "bold red", "stopped": "yellow", "pruned": "bright_black"}


@dataclass
class State:
    """The state of a run of the sweep.

    | field | meaning |
    |---|---|
    | status | queued, running, done, failed, stopped (with a checkpoint), pruned |
    | reason | why the newest attempt failed |
    | attempts | what is recorded of each attempt: host, seconds, status, reason, resumed |
    | began | when the newest attempt began, by the monotonic clock; None: not running |
    | folder | of the running run, once it is known |
    | tries, lost | number of attempts that failed; that were lost with their machine |
    | anew | the next attempt does not resume from a checkpoint |
    | curve | content of the curve file, once done |
    """

    cell: Cell
    status: str = "queued"
    reason: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    began: float | None = None
    folder: Path | None = None
    step: int = 0
    value: float | None = None
    tries: int = 0
    lost: int = 0
    anew: bool = False
    curve: dict[str, Any] | None = None

    def steps(self) -> str:
        """Return `12,000/128,000`."""
        return f"{self.step:,}/{self.cell.t_max:,}" if self.step else ""

    def line(self) -> str:
        """Return the progress of a running run, on one line."""
        value = "" if self.value is None else f", return {number(self.value)}"
        return f"{self.cell.name} {self.steps() or 'starting'}{value}"


class View:
    """Shows states and events. Without a terminal: every event, and once a minute what is running."""

    def __init__(self, title: str, live: bool | None = None) -> None:
        self.title = title
        self._live: Any = None
        self._next = time.monotonic() + PLAIN_EVERY
        if is_live(sys.stdout) if live is None else live:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False, markup=False), auto_refresh=False)
            self._live.start()

    def event(self, text: str) -> None:
        """Show an event."""
        if self._live is not None:
            self._live.console.print(text, soft_wrap=True)
        else:
            _print(text)

    def show(self, states: Sequence[State], now: bool = False) -> None:
        """Bring the table up to date."""
        clock = time.monotonic()
        if clock < self._next and not now:
            return
        if self._live is not None:
            self._next = clock + REDRAW_EVERY
            self._live.update(self._table(states), refresh=True)
        elif not now:
            self._next = clock + PLAIN_EVERY
            at_work = "; ".join(s.line() for s in states if s.status == "running")
            _print(f"{counts(states)}{f': {at_work}' if at_work else ''}")

    def close(self, states: Sequence[State]) -> None:
        """Leave the last picture on the terminal."""
        if self._live is not None:
            self.show(states, now=True)
            self._live.stop()
            self._live = None

    def _table(self, states: Sequence[State]) -> Any:
        from rich.table import Table

        console = self._live.console
        cut: Literal["ellipsis", "crop"] = "ellipsis" if console.encoding.startswith("utf") else "crop"
        shown = [name for name, least in COLUMNS.items() if console.width >= least]
        table = Table(title=f"{self.title}: {counts(states)}", title_justify="left", box=None, padding=(0, 1))
        for name in shown:
            numbers = name in ("steps", "return", "time")
            free = name in ("run", "note")
            table.add_column(
                "" if name == "note" else name, justify="right" if numbers else "left", no_wrap=True,
                overflow=cut if free else "crop", min_width=None if free else 7,
            )  # fmt: skip
        room = max(5, console.height - 5)
        order = ("running", "failed", "stopped", "done", "queued", "pruned")
        rows = sorted(states, key=lambda s: order.index(s.status))
        for state in rows[:room]:
            seconds = time.monotonic() - state.began if state.began else sum(a["seconds"] for a in state.attempts)
            value = "" if state.value is None else number(state.value)
            clock = duration(seconds) if seconds else ""
            note = state.reason if state.status != "done" else ""
            cells = {"run": state.cell.name, "state": state.status, "steps": state.steps(), "return": value,
                     "time": clock, "note": note}  # fmt: skip
            table.add_row(*(cells[name] for name in shown), style=STYLES.get(state.status))
        if len(rows) > room:
            table.add_row(f"... and {len(rows) - room} more")
        return table


def _print(text: str) -> None:
    # the reader of a pipe may go away: that is no reason to end runs
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def counts(states: Sequence[State]) -> str:
    """Return `3 of 12 done, 2 running, 7 queued`."""
    number_of = {s: sum(x.status == s for x in states) for s in ("running", "queued", "stopped", "failed", "pruned")}
    rest = "".join(f", {n} {s}" for s, n in number_of.items() if n)
    return f"{sum(x.status == 'done' for x in states)} of {len(states)} done{rest}"


def summary(states: Sequence[State]) -> list[str]:
    """Return the results by group, aligned: runs done, mean return in training and its deviation over seeds, time."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for state in states:
        if state.curve is not None:
            groups.setdefault(state.cell.group, []).append(state.curve)
    rows: list[tuple[str, ...]] = [("", "runs", "last 10 %", "best 10 %", "time of a run")]
    for group, curves in groups.items():
        last, best = (np.array([c[k][-1] if k == "tenths" else c[k] for c in curves]) for k in ("tenths", "best_tenth"))
        seconds = float(np.mean([c["wall_clock"] for c in curves]))
        row = (group, str(len(curves)), *(f"{x.mean():.3f} ± {x.std():.3f}" for x in (last, best)), duration(seconds))
        rows.append(row)
    if len(rows) == 1:
        return []
    return [f"Mean return in training, {SAMPLED}:", *table(rows, " rrrr").splitlines()]
