"""Engines: processes that play football games, each one game, since a crash in C++ code ends the process it is in.

Those of one process that play the same game are forked from one that has built it (:mod:`nursery`): most of what a game
loads is then in memory once, and an engine is ready at once.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import threading
import time
import weakref
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from ...utils.errors import UserError
from ..vector import boot
from .match import Order

#: Seconds that an engine may take to start, at least: how soon Python and its packages are loaded is the machine's
#: matter.
START_SECONDS = 300.0
#: Waiting goes in slices (seconds): a machine that was suspended meanwhile does not look like a hang.
_SLICE = 1.0
#: Seconds for what takes milliseconds: forking, and the end of a process that was killed.
_SOON = 30.0
_CLOSE_SECONDS = 2.0


class EngineFailed(Exception):
    """An engine died, gave no answer in time, or raised; it has been put away."""


class _Nursery:
    """The process from which this one's engines of a game are forked; it ends with the last of them."""

    def __init__(self, order: Order) -> None:
        """Start it.

        Raises:
            OSError: the system has no more processes, memory or file descriptors.
        """
        self._calls, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.engines = 0
        # Linux looks at the thread that started a process: what another one starts must not end with it
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        with contextlib.closing(theirs):
            try:
                self.process = subprocess.Popen(
                    boot.command(f"{__name__.rpartition('.')[0]}.nursery", (theirs.fileno(), parent)),
                    stdin=subprocess.DEVNULL, stdout=2, pass_fds=(theirs.fileno(),), env=boot.environment(),
                )  # fmt: skip
            except OSError:
                self._calls.close()
                raise
        self._calls.sendall(pickle.dumps(order))

    def _ask(self, message: bytes, descriptors: list[int], seconds: float) -> int:
        """Return the number that it answers; where there is none it is ended, since it would answer later.

        Raises:
            OSError: it has ended, or does not answer.
        """
        try:
            socket.send_fds(self._calls, [message], descriptors)
            if not _readable(self._calls.fileno(), seconds) or len(data := self._calls.recv(8)) < 8:
                raise OSError("the process that starts engines does not answer")
        except BaseException:
            self.kill()
            raise
        return int.from_bytes(data, "little", signed=True)

    def fork(self, descriptor: int) -> int:
        """Start an engine that answers at ``descriptor``; returns its process's number.

        Raises:
            OSError: it cannot be started.
        """
        pid = self._ask(b"E", [descriptor], START_SECONDS)
        if pid < 0:  # as a system call's error
            raise OSError(-pid, os.strerror(-pid))
        self.engines += 1
        return pid

    def reap(self, pid: int) -> int | None:
        """Return the exit status of an engine that has ended or was killed; None where it cannot be known."""
        status: int | None = None
        with contextlib.suppress(OSError):
            status = self._ask(pid.to_bytes(8, "little"), [], _SOON)
        self.engines -= 1
        if self.engines <= 0:
            self.close()
        return status

    @property
    def alive(self) -> bool:
        """Whether it can start engines, and those that it has started have not ended with it."""
        return self.process.poll() is None and self._calls.fileno() >= 0

    def kill(self) -> None:
        """End it, and with it its engines."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Let it end."""
        self._calls.close()
        try:
            self.process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_CLOSE_SECONDS)


#: (process, game) -> its nursery; a forked child has none yet
_nurseries: dict[tuple[int, Order], _Nursery] = {}


def _nursery(order: Order) -> _Nursery:
    found = _nurseries.get((os.getpid(), order))
    if found is None or not found.alive:
        found = _nurseries[os.getpid(), order] = _Nursery(order)
    return found


class Engine:
    """A running engine.

    Attributes:
        pid: number of its process.

    Args:
        order: what it plays.
        patience: seconds that one command may take.

    Raises:
        UserError: Google Research Football is missing or broken.
        EngineFailed: it could not be started.
    """

    def __init__(self, order: Order, patience: float) -> None:
        self._patience = patience
        ours, theirs = Pipe()
        try:
            with contextlib.closing(theirs):
                self._nursery = _nursery(order)
                self.pid = self._nursery.fork(theirs.fileno())
        except OSError as error:
            ours.close()
            raise EngineFailed(f"cannot be started: {error.strerror or error}") from error
        self._connection = ours
        self._answers = select.poll()
        self._answers.register(ours.fileno(), select.POLLIN)
        self._finalizer = weakref.finalize(self, _put_away, self._nursery, self.pid, ours, os.getpid())
        self.ask(b"B" + pickle.dumps(order), max(patience, START_SECONDS))

    def ask(self, command: bytes, patience: float | None = None) -> bytes:
        """Send a command and return what belongs to its answer.

        Raises:
            UserError: Google Research Football is missing or broken.
            EngineFailed: it died, gave no answer in time, or raised.
        """
        try:
            self._connection.send_bytes(command)
            reply = self._receive(self._patience if patience is None else patience)
        except (EOFError, OSError):
            raise EngineFailed(f"ended unexpectedly ({self._status()})") from None
        except BaseException:  # an interruption leaves an answer in the pipe, which the next command would get
            self.close()
            raise
        kind, content = reply[:1], reply[1:]
        if kind == b"K":
            return content
        self.close()
        if kind == b"U":
            raise UserError(content.decode())
        text = content.decode(errors="replace")
        raise EngineFailed(f"failed: {text.splitlines()[-1]}\n--- its traceback ---\n{text}")

    def _receive(self, patience: float) -> bytes:
        waited = 0.0
        while True:
            begun, piece = time.monotonic(), min(_SLICE, patience - waited)
            if self._answers.poll(1000 * piece):
                return self._connection.recv_bytes()
            waited += min(piece, time.monotonic() - begun)
            if waited >= patience:
                self.close()
                raise EngineFailed(f"gave no answer within {patience:g} seconds, and was killed")

    def _status(self) -> str:
        """Return how the process ended, and put it away."""
        detached = self._finalizer.detach()
        status = None if detached is None else _put_away(*detached[2], kill=False)
        if status is None:
            return "with the process that starts engines"
        return f"exit status {status}" if status >= 0 else f"signal {_name(-status)}"

    def close(self) -> None:
        """End the process; calling it again does nothing."""
        self._finalizer()


def _put_away(nursery: _Nursery, pid: int, connection: Connection, owner: int, *, kill: bool = True) -> int | None:
    """End an engine, unless it has ended; returns the exit status of its process, None where it cannot be known."""
    connection.close()
    if os.getpid() != owner:  # a forked copy of the process whose engine it is
        return None
    if not nursery.alive:  # Linux has ended its engines with it
        return None
    if kill:  # it has nothing to save, and may hang; its number is its own until it is reaped
        os.kill(pid, signal.SIGKILL)
    return nursery.reap(pid)


def _readable(descriptor: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(1000 * seconds))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
