"""The process from which engines are forked: it has built the game that they play, whose memory they share.

| message | answer |
|---|---|
| the first one: a pickled :class:`~.match.Order` | none |
| any, with a file descriptor | the number of a new engine's process, which answers commands at that descriptor |
| the number of such a process | its exit status as ``subprocess`` gives it, once it has ended |

Numbers are 8 bytes. The end of the socket ends the process, and with it those of the engines. Nothing here imports
torch, and nothing starts threads before a fork.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import signal
import socket
import time
from multiprocessing.connection import Connection

from ...utils.errors import UserError
from ..starcraft.die_with_parent import end_with_parent
from . import match

#: Seconds that an engine whose pipe has closed may take to end by itself.
_ENDING = 2.0
_MOST = 65536  # bytes of an order


def main(descriptor: int, parent: int) -> None:
    """Serve until the socket ends; ``parent`` is the process that started this one."""
    os.set_inheritable(descriptor, False)
    end_with_parent(parent)
    faulthandler.enable(all_threads=False)
    with socket.socket(fileno=descriptor) as calls, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        game = _build(calls.recv(_MOST))
        gc.freeze()  # a collection would write into the pages of everything that is there
        while True:
            message, given, _, _ = socket.recv_fds(calls, 8, 1)
            if not message:
                return
            calls.sendall(_number(_fork(given[0], calls, game) if given else _reap(int.from_bytes(message, "little"))))


def _build(order: bytes) -> match.Match | None:
    """Return the game; None where each engine builds its own."""
    asked: match.Order | None = pickle.loads(order) if order else None
    if asked is None or asked.drawn:  # a camera cannot be forked
        return None
    with contextlib.suppress(UserError, Exception, SystemExit):  # an engine that tries again reports it
        return match.Match(asked)
    return None


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def _fork(descriptor: int, calls: socket.socket, game: match.Match | None) -> int:
    """Start an engine that plays ``game`` and answers at ``descriptor``; returns its process's number.

    Where the system has no more processes or memory, the error's number below 0.
    """
    here = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or 1)
    if pid:
        os.close(descriptor)
        return pid
    status = 1
    try:
        calls.close()
        signal.signal(signal.SIGTERM, lambda *_: None)  # as in every process below a worker (vector/boot.py)
        end_with_parent(here)
        match.serve(Connection(descriptor), game)
        status = 0
    finally:
        os._exit(status)


def _reap(pid: int) -> int:
    """Return the exit status of an engine that has closed its pipe; one that does not end is killed."""
    deadline = time.monotonic() + _ENDING
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
