"""Child programs that Linux kills when the process that started them ends, in whatever way it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _request_kill() -> None:
    """Ask Linux, in the child before it becomes the other program, to kill it when the parent's thread is gone."""
    assert _prctl is not None
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_parent(parent: int) -> None:
    """Have Linux kill this process when the one that started it, number ``parent``, ends; 0: not.

    To be called by the started process, whose starter was that process's main thread.
    """
    if _prctl is None or not parent:
        return
    _request_kill()
    if os.getppid() != parent:  # it ended before
        os._exit(1)


class _DyingWithParent(subprocess.Popen[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        # Linux looks at the thread, not at the process: what another one starts must not end with it
        if threading.current_thread() is threading.main_thread():
            options = {"preexec_fn": _request_kill, **options}
        super().__init__(*args, **options)


@contextlib.contextmanager
def die_with_parent() -> Iterator[None]:
    """Make programs that the main thread starts inside the block by ``subprocess.Popen`` end with this process.

    However it ends, on Linux; elsewhere nothing changes.
    """
    if _prctl is None:
        yield
        return
    usual = subprocess.Popen
    subprocess.Popen = _DyingWithParent  # type: ignore[misc]  # packages that start games take no options for it
    try:
        yield
    finally:
        subprocess.Popen = usual  # type: ignore[misc]
