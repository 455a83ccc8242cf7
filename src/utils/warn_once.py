"""Warnings about environments, each kind once in a run, whichever process steps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .waiting import say as report

#: (kind, sentence) -> None: issues a warning or passes it on
Warn = Callable[[str, str], None]

#: END_TAKEN_BACK: an agent that had ended acts again. RENAMED, TOO_MANY: a number of an info has another name in the
#: log, or none. OPPOSED: what some agents win, others lose.
KINDS = ("back", "renamed", "crowd", "opposed")
END_TAKEN_BACK, RENAMED, TOO_MANY, OPPOSED = KINDS
#: bytes of a sentence on its way from a worker
_LONGEST = 1000

_warned: set[str] = set()


def begin_run(known: Iterable[str] = ()) -> None:
    """Reset at the start of a run: every kind may be warned of once more, but for those ``known`` already."""
    _warned.clear()
    _warned.update(known)


def warn_once(kind: str, text: str) -> None:
    """Warn, unless a warning of this kind was issued in this run."""
    if kind not in _warned:
        _warned.add(kind)
        report(f"Warning: {text}")


class WarningBuffer:
    """Shared memory in which workers leave warnings for the process that has the log: one of each kind a row.

    Args:
        memory: [S, kinds, bytes] uint8.
    """

    SHAPE = (len(KINDS), _LONGEST)

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory

    def writer(self, row: int) -> Warn:
        """Return the function that a worker warns by: it writes into ``row`` the first warning of each kind."""

        def warn(kind: str, text: str) -> None:
            place = self._memory[row, KINDS.index(kind)]
            if not place[0]:
                data = text.encode(errors="replace")[:_LONGEST]
                place[1 : len(data)] = np.frombuffer(data[1:], np.uint8)
                place[0] = data[0]  # the last: what begins is whole

        return warn

    def read(self, warn: Warn = warn_once) -> None:
        """Issue the warnings that have come by ``warn``, of each kind the first row's."""
        if not self._memory[:, :, 0].any():
            return
        for k, kind in enumerate(KINDS):
            for row in np.flatnonzero(self._memory[:, k, 0])[:1].tolist():
                warn(kind, self._memory[row, k].tobytes().rstrip(b"\0").decode(errors="ignore"))
