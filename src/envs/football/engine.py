"""An engine: a process of its own that plays football games, since a crash in C++ code ends the process it is in."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
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
_CLOSE_SECONDS = 2.0


class EngineFailed(Exception):
    """An engine died, gave no answer in time, or raised; it has been put away."""


class Engine:
    """A running engine.

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
        with contextlib.closing(theirs):
            # Linux looks at the thread that started a process: what another one starts must not end with it
            parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
            passed = theirs.fileno()
            try:
                self.process = subprocess.Popen(
                    boot.command(f"{__name__.rpartition('.')[0]}.match", (passed, parent)), stdin=subprocess.DEVNULL,
                    stdout=2, pass_fds=(passed,), env=boot.environment(),
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise EngineFailed(f"cannot be started: {error.strerror or error}") from error
        self._connection = ours
        self._answers = select.poll()
        self._answers.register(ours.fileno(), select.POLLIN)
        self._finalizer = weakref.finalize(self, _put_away, self.process, ours, os.getpid())
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
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_CLOSE_SECONDS)
        status = self.process.poll()
        self.close()
        if status is None:
            return "it closed its pipe"
        return f"exit status {status}" if status >= 0 else f"signal {_name(-status)}"

    def close(self) -> None:
        """End the process; calling it again does nothing."""
        self._finalizer()


def _put_away(process: subprocess.Popen[bytes], connection: Connection, owner: int) -> None:
    connection.close()
    if os.getpid() != owner:  # a forked copy of the process whose engine it is
        return
    process.kill()  # it has nothing to save
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_CLOSE_SECONDS)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
