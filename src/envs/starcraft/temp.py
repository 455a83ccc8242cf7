"""Temporary files of games: StarCraft II leaves them behind where it or its process is killed."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "oamarl-sc2-"
_own: dict[int, tuple[str, int]] = {}  # process -> its folder and the lock; a forked child has none yet


@contextlib.contextmanager
def own_temporary_files() -> Iterator[None]:
    """Put temporary folders made inside the block into one folder of this process, removed when the process ends.

    A process that is killed cannot remove its own: the next one that starts a game does. Its lock shows that it is
    gone, also where process numbers mean nothing (containers that share a disk).
    """
    if os.name != "posix":
        yield
        return
    before = tempfile.tempdir
    tempfile.tempdir = _folder()
    try:
        yield
    finally:
        tempfile.tempdir = before


def _folder() -> str:
    folder, held = _own.get(os.getpid(), ("", -1))
    if not os.path.exists(f"{folder}/lock"):  # none yet, or temporary files are cleaned up by their age
        if folder:
            os.close(held)
        _sweep(Path(tempfile.gettempdir()))
        folder = tempfile.mkdtemp(prefix=_PREFIX)
        descriptor = os.open(f"{folder}/new", os.O_CREAT | os.O_RDWR, 0o600)  # open, and locked, until we end
        _lock(descriptor)
        os.rename(f"{folder}/new", f"{folder}/lock")  # an unheld lock is never seen before this process has ended
        _own[os.getpid()] = folder, descriptor
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _lock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(base: Path) -> None:
    """Remove the folders of processes that are gone."""
    for lock in base.glob(f"{_PREFIX}*/lock"):
        with contextlib.suppress(OSError):  # locked, another user's, or swept by another process just now
            descriptor = os.open(lock, os.O_RDWR)
            try:
                _lock(descriptor)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
