"""Whether a run that says RUNNING still runs: a process that was killed could not write anything else."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> dict[str, Any]:
    """Return what identifies this process for ever: host, pid, and when it was started (None where nobody tells)."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """Return a text that no other process with this number has; None where the system does not tell or it is dead."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":  # a zombie runs no more
            return f"{_BOOT.read_text().strip()} {fields[19]}"
    return None


def alive(process: Mapping[str, Any] | None, heartbeat: dt.datetime | None, beat_interval: float) -> bool | None:
    """Return whether the process of a run still runs; None: one cannot know.

    Args:
        process: what :func:`this_process` returned in it (``process`` in info.json); None for older runs.
        heartbeat: when it was last heard of, naive UTC.
        beat_interval: seconds between its heartbeats.
    """
    if process and process.get("host") == socket.gethostname():
        pid, started = process.get("pid"), process.get("started")
        if started and _started(os.getpid()):
            return _started(int(pid or 0)) == started
        with contextlib.suppress(PermissionError):
            try:
                os.kill(int(pid or 0), 0)
            except (ProcessLookupError, OverflowError):
                return False
    if heartbeat is None:
        return None
    age = (dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) - heartbeat).total_seconds()
    # a machine that is busy or asleep may be late, and clocks differ: only a long silence tells
    return age < max(120.0, 10 * beat_interval)
