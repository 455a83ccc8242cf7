"""Early ends of a run: signals, and a limit of wall-clock time.

A part that can end cleanly (the training loop) checks :meth:`Stop.why` between its steps. The first signal only sets
that reason; after ``grace`` seconds, or at a second signal, the run is ended at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from types import FrameType
from typing import Any

#: What terminals, process managers and batch systems send (USR1, USR2, XCPU: a time limit draws near).
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
#: Exit status of a run that reached its `max_seconds`: what `timeout` uses.
OUT_OF_TIME = 124
#: Seconds before a message tells the waiting user what the run is doing.
_SAY_AFTER = 0.5
#: Interrupts from the keyboard after which also the clean end is given up.
_INSISTS = 3
#: Seconds after which the main thread is woken again if it has not looked for signals since.
_WAKE_AGAIN = 0.05
#: Seconds that the thread which hears signals may take to end.
_LISTENER_SECONDS = 1.0

#: Seconds that a pipe may be full, once a run is to end, before what is written there is given up.
_UNREAD_SECONDS = 5.0
#: Seconds between two checks of that.
_LOOK_AGAIN = 0.1

#: Functions that undo the open contexts in a forked copy of this process, which must not handle the run's signals.
_undo: list[Callable[[], None]] = []


class Terminated(KeyboardInterrupt):
    """The run ends before its time; no ``except Exception`` on the way stops it. The message is for the user."""

    def __init__(self, text: str = "", exit_code: int = 130) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def name_of(number: int) -> str:
    """Return ``SIGTERM`` for 15."""
    return signal.Signals(number).name


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], Any], names: Iterable[str]) -> Iterator[None]:
    """Handle the signals ``names`` by ``handler`` within the context (main thread only).

    Ignored signals stay ignored: nohup ignores SIGHUP, a script's background jobs SIGINT.
    """
    numbers = []
    if threading.current_thread() is threading.main_thread():
        found = (getattr(signal, name, None) for name in names)
        numbers = [n for n in found if n is not None and signal.getsignal(n) is not signal.SIG_IGN]
    before: dict[int, Any] = {}

    def undo() -> None:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)

    with _noticed(numbers), _undone_in_forks(undo):
        try:
            for number in numbers:
                before[number] = signal.signal(number, handler)
            yield
        finally:
            undo()


@contextlib.contextmanager
def _undone_in_forks(undo: Callable[[], None]) -> Iterator[None]:
    """Call ``undo`` in each process that is forked within the context.

    A process that an environment forks would otherwise treat SIGTERM as a request to end the run, and stay alive.
    """
    _undo.append(undo)
    try:
        yield
    finally:
        if undo in _undo:  # else this is such a process itself
            _undo.remove(undo)


def _after_fork() -> None:
    while _undo:
        with contextlib.suppress(OSError, ValueError):
            _undo.pop()()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def _noticed(numbers: Collection[int]) -> Iterator[None]:
    """Make the main thread, which enters this context, notice the signals ``numbers`` wherever it waits.

    Python's handlers run in the main thread, between two of its own steps. A system call that it waits in is only
    interrupted by a signal that comes to this very thread, and after the call has begun; the system may as well give
    it to another thread (one that starts a thread is likely to get it: glibc has it hold signals back meanwhile). So a
    thread receives every signal and wakes the main thread, until that has handled it. SIGURG has no other effect.
    """
    wake = getattr(signal, "SIGURG", None)
    if not numbers or wake is None:
        yield
        return
    main, awake, ended = threading.get_ident(), False, False
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)

    # in Python, so that a signal that came while others were handled is handled before it answers
    def answer(number: int, frame: FrameType | None) -> None:
        nonlocal awake
        awake = True
        if callable(earlier):
            earlier(number, frame)

    def listen() -> None:
        nonlocal awake
        while heard := ear.recv(4096):
            if not any(number in numbers for number in heard):
                continue
            awake = False
            while not (awake or ended):  # no Event: its lock would be taken again by an answer within an answer
                signal.pthread_kill(main, wake)
                time.sleep(_WAKE_AGAIN)

    def undo() -> None:
        signal.set_wakeup_fd(descriptor)
        signal.signal(wake, signal.SIG_DFL if earlier is None else earlier)

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    earlier = signal.signal(wake, answer)
    descriptor = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        with _undone_in_forks(undo):
            listener.start()
            yield
    finally:
        ended = True
        signal.set_wakeup_fd(descriptor)
        # not only closed: a process that was forked meanwhile may hold its copy open for as long as it lives
        with contextlib.suppress(OSError):
            mouth.shutdown(socket.SHUT_WR)
        mouth.close()
        if listener.ident is not None:
            listener.join(_LISTENER_SECONDS)
        ear.close()
        signal.signal(wake, signal.SIG_DFL if earlier is None else earlier)


def _give_up_unread(over: threading.Event) -> None:
    """Send output to nowhere where it goes into a pipe, or a terminal, that is full and that nothing reads.

    The end of a run would wait there without a limit, with its last words. Its log has them all.

    Args:
        over: ends this.
    """
    full = {1: 0, 2: 0}  # descriptor -> looks in a row that found it so
    while full and not over.wait(_LOOK_AGAIN):
        for descriptor in list(full):
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            full[descriptor] = 0 if poller.poll(0) else full[descriptor] + 1
            if full[descriptor] * _LOOK_AGAIN >= _UNREAD_SECONDS:
                del full[descriptor]
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
                # a call that waits there is interrupted by a signal, and is made again
                for thread in threading.enumerate():
                    with contextlib.suppress(OSError, ValueError):
                        signal.pthread_kill(thread.ident or 0, signal.SIGURG)


class Stop:
    """Why a run should end now, if it should.

    Args:
        grace: seconds from the first signal until the run is ended at once; 0: a signal ends it at once.
        max_seconds: seconds from now on after which the run should end; None: no limit.
    """

    def __init__(self, grace: float = 0.0, max_seconds: float | None = None) -> None:
        self.grace, self.max_seconds = grace, max_seconds
        self.began = time.monotonic()
        self.received: list[int] = []
        #: shows a message to the waiting user; called from a thread of its own
        self.say: Callable[[str], None] = lambda text: None
        self._since_raised: list[int] | None = None
        self._settled = threading.Event()
        self._over = threading.Event()  # nothing is listened to (yet, or any more)
        self._over.set()
        self._unread: threading.Thread | None = None

    # -- for the part that ends cleanly ------------------------------------------------------------------------

    def why(self) -> str:
        """Return the reason to end now (``SIGTERM``, ``max_seconds=60``), or nothing."""
        if self.received:
            return name_of(self.received[0])
        if self.max_seconds is not None and time.monotonic() - self.began >= self.max_seconds:
            return f"max_seconds={self.max_seconds:g}"
        return ""

    @property
    def exit_code(self) -> int:
        """The process's exit status for the reason there is: 128 + the signal's number, or 124."""
        return 128 + self.received[0] if self.received else OUT_OF_TIME

    def settle(self) -> None:
        """The run is ending, or has nothing left to end: ``grace`` no longer applies."""
        self._settled.set()

    def over(self) -> None:
        """Training is over: signals that arrive now must not disturb the clean end."""
        self.settle()
        if self._since_raised is None:
            self._since_raised = []

    # -- signals -----------------------------------------------------------------------------------------------

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.received.append(number)
        if len(self.received) == 1 and not self._over.is_set() and hasattr(select, "poll"):
            self._unread = threading.Thread(target=_give_up_unread, args=(self._over,), name="unread", daemon=True)
            self._unread.start()
        if self._since_raised is not None:  # the run is ending: only repeated interrupts from the keyboard disturb that
            self._since_raised.append(number)
            if self._since_raised.count(signal.SIGINT) >= _INSISTS - 1:
                raise KeyboardInterrupt
        elif len(self.received) == 1 and self.grace > 0:
            # printing in a signal handler may meet a half-written line of the same stream
            threading.Thread(target=self._patience, args=(number,), name="stop", daemon=True).start()
        else:
            self._since_raised = []
            self.settle()
            raise Terminated(f"Ended by {name_of(number)}: the run stops here.", 128 + self.received[0])

    def _patience(self, number: int) -> None:
        if self._settled.wait(min(_SAY_AFTER, self.grace)):
            return
        text = (
            f"{name_of(number)}: the run ends after this update, with a checkpoint; "
            f"in {self.grace:g} seconds, or at a second signal, without."
        )
        # in a thread of its own: where nothing reads the output, it does not come back
        threading.Thread(target=self.say, args=(text,), name="say", daemon=True).start()
        if not self._settled.wait(max(0.0, self.grace - _SAY_AFTER)):
            # to the main thread, so that it also leaves a system call that it waits in
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals within the context (main thread only: Python handles none elsewhere)."""
        self._over.clear()
        try:
            with handling(self, SIGNALS):
                try:
                    yield
                finally:
                    self.settle()
        finally:
            self._over.set()
            if self._unread is not None:
                self._unread.join(_LISTENER_SECONDS)


class Follower(Stop):
    """The stop of one of several runs in a process, whose signals and time limit are the ``leader``'s.

    Args:
        leader: listens to signals for all of them.
    """

    def __init__(self, leader: Stop) -> None:
        super().__init__(max_seconds=leader.max_seconds)
        self.began, self.received = leader.began, leader.received

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle nothing: the leader does."""
        yield
