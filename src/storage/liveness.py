"""The check whether a run with the status RUNNING still runs: a killed run keeps that status."""

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
    """Return what identifies this process uniquely: host, pid, and start time (None where unknown)."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """Return a text that identifies the process with this number; None where unavailable or where it has ended."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":  # a zombie no longer runs
            return f"{_BOOT.read_text().strip()} {fields[19]}"
    return None


def alive(process: Mapping[str, Any] | None, heartbeat: dt.datetime | None, beat_interval: float) -> bool | None:
    """Return whether the process of a run still runs; None: unknown.

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
    # a busy or suspended machine may be late, and clocks differ: only a long silence is conclusive
    return age < max(120.0, 10 * beat_interval)
