"""Programs that Linux itself ends together with the process that started them, however that one ends."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _tie() -> None:
    """In the child, before it becomes the other program: be killed when the parent's thread is gone."""
    assert _prctl is not None
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Tied(subprocess.Popen[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"preexec_fn": _tie, **options})


@contextlib.contextmanager
def tied() -> Iterator[None]:
    """Let programs that are started meanwhile by ``subprocess.Popen`` end with this process, SIGKILL included.

    On Linux, and in the main thread (a game must not end with a thread that came and went); elsewhere nothing changes.
    """
    if _prctl is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = subprocess.Popen
    subprocess.Popen = _Tied  # type: ignore[misc]  # packages that start games take no options for it
    try:
        yield
    finally:
        subprocess.Popen = usual  # type: ignore[misc]
