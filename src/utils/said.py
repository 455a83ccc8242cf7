"""Warnings about environments during play: each kind of warning once per run, with every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .waiting import say as report

#: (kind, sentence): passes a warning on
Say = Callable[[str, str], None]

#: BACK: an agent's end was taken back. RENAMED, CROWD: a number of an info has another name in the log, or none.
KINDS = ("back", "renamed", "crowd")
BACK, RENAMED, CROWD = KINDS
#: bytes of a sentence on its way from a worker
_LONGEST = 600

_said: set[str] = set()


def begin_run(known: Iterable[str] = ()) -> None:
    """Start a new run: every kind may be reported once more, except for the kinds ``known`` already."""
    _said.clear()
    _said.update(known)


def say_once(kind: str, text: str) -> None:
    """Warn, unless this kind of warning was given in this run."""
    if kind not in _said:
        _said.add(kind)
        report(f"Warning: {text}")


class Letters:
    """Warnings from workers to the process with the log, in shared memory: one row per worker, one of each kind.

    Args:
        memory: [S, kinds, bytes] uint8.
    """

    SHAPE = (len(KINDS), _LONGEST)

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory

    def writer(self, row: int) -> Say:
        """Return what writes into ``row``, the first of each kind alone."""

        def say(kind: str, text: str) -> None:
            place = self._memory[row, KINDS.index(kind)]
            if not place[0]:
                data = text.encode(errors="replace")[:_LONGEST]
                place[1 : len(data)] = np.frombuffer(data[1:], np.uint8)
                place[0] = data[0]  # the last: what begins is whole

        return say

    def read(self) -> None:
        """Give the warnings that have arrived; of each kind that of the first row."""
        if not self._memory[:, :, 0].any():
            return
        for k, kind in enumerate(KINDS):
            for row in np.flatnonzero(self._memory[:, k, 0])[:1].tolist():
                say_once(kind, self._memory[row, k].tobytes().rstrip(b"\0").decode(errors="ignore"))
