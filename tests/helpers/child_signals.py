"""Child processes: their signals, the same wherever the tests run, and their ends."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from conftest import PATIENCE


def usual_signals() -> None:
    """What a terminal gives a program (a ``preexec_fn``), also where tests run under nohup or in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def gone(pid: int) -> bool:
    """Whether a process ends (a zombie has ended)."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False
