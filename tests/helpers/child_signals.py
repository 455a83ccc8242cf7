"""Signals of child processes, the same wherever the tests run."""

from __future__ import annotations

import signal


def usual_signals() -> None:
    """What a terminal gives a program (a ``preexec_fn``), also where tests run under nohup or in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
