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
        # Linux looks at the thread, not at the process: what another one starts must not end with it
        if threading.current_thread() is threading.main_thread():
            options = {"preexec_fn": _tie, **options}
        super().__init__(*args, **options)


@contextlib.contextmanager
def tied() -> Iterator[None]:
    """Let programs that the main thread starts meanwhile by ``subprocess.Popen`` end with this process.

    However it ends, on Linux; elsewhere nothing changes.
    """
    if _prctl is None:
        yield
        return
    usual = subprocess.Popen
    subprocess.Popen = _Tied  # type: ignore[misc]  # packages that start games take no options for it
    try:
        yield
    finally:
        subprocess.Popen = usual  # type: ignore[misc]
