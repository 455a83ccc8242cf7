"""Waits with a time limit: for the close() of environments and packages, and for the program's own exit.

Environments and packages start threads and processes, some of which never end. The program waits for each of them for a
limited time only, and reports in one sentence what it has not waited for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds that threads and processes which are left when the program ends may take to end by themselves.
LEAVE_SECONDS = 10.0
#: The same for copies of this process that were forked and not ended.
FORK_SECONDS = 5.0
#: Seconds between two calls to a main thread that has not heard the first.
_AGAIN = 0.05
#: Seconds that an interrupted call may take to end.
_LAST_SECONDS = 2.0
#: Seconds that Python may take to take the program apart: on a machine with much else to do, many times the usual one.
_APART_SECONDS = 60.0
_PROC = Path("/proc")


class TimeUp(BaseException):
    """The time of a call is up; no ``except Exception`` inside it stops this."""


class _Program:
    """Whether this process is the program (not a test's or a user's own), and its exit status as far as known."""

    ours = False
    status = 1
    leaving = False


def begin() -> None:
    """Mark this process as the program: it may be ended where nothing else would end it."""
    _Program.ours = True
    # the first that is registered is called last: other packages' functions come before it
    atexit.register(_skip_teardown, os.getpid())


def _skip_teardown(program: int) -> None:
    """End the process before its modules are taken apart.

    No thread runs any more then, so that an object's ``__del__`` could hang; on a busy machine it also takes seconds.
    """
    if _Program.leaving and os.getpid() == program:  # not in a process that was forked from it
        _exit_now()


def will_exit(status: int) -> None:
    """Set the program's exit status, once it can no longer change."""
    _Program.status = status


def _show(text: str) -> None:
    with contextlib.suppress(Exception):  # a closed stream has no reader
        sys.stderr.write(f"{text}\n")


#: what takes the lines of :func:`say`
_take: Callable[[str], None] = _show


def say(text: str) -> None:
    """Show the user whole lines; during a run they also go to its log, above the live line."""
    _take(text)


def say_to(take: Callable[[str], None]) -> None:
    """Give what is said to ``take`` from now on: in a process whose output no user sees, on another machine."""
    global _take
    _take = take


def within(seconds: float, act: Callable[[], Any], what: str) -> bool:
    """Call ``act`` and return whether it came back in time; what it raises passes through.

    In the main thread it is called directly, since the resources that it closes may belong to this thread, and is
    interrupted by an exception when its time is up. If that has no effect (a wait in C code), the program is ended.

    Args:
        what: what did not come back, for the sentence that is said then: ``The environment's close()``.
    """
    wake = getattr(signal, "SIGURG", None)
    if wake is None or threading.current_thread() is not threading.main_thread():
        return _beside(seconds, act)
    over, late = threading.Event(), False

    def turn(number: int, frame: Any) -> None:
        nonlocal late
        if callable(earlier):
            earlier(number, frame)
        if asked and not over.is_set() and not late:
            late = True
            raise TimeUp

    asked = False
    main = threading.get_ident()

    def watch() -> None:
        nonlocal asked
        if over.wait(seconds):
            return
        asked = True
        end = time.monotonic() + _LAST_SECONDS
        while not over.wait(_AGAIN):
            if not late:
                signal.pthread_kill(main, wake)
            if time.monotonic() > end and _Program.ours:
                say(f"{what} did not come back within {seconds:g} seconds and could not be stopped: the program ends.")
                _exit_now()

    earlier = signal.signal(wake, turn)
    try:
        threading.Thread(target=watch, name="limit", daemon=True).start()
        try:
            act()
        finally:
            over.set()
    except TimeUp:
        return False
    finally:
        over.set()
        signal.signal(wake, signal.SIG_DFL if earlier is None else earlier)
    return True


def _beside(seconds: float, act: Callable[[], Any]) -> bool:
    """The same in a thread of its own, which is left behind when its time is up."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="limited", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    return not thread.is_alive()


# -- the end of the program ------------------------------------------------------------------------------------------


def leave(status: int) -> int:
    """Make the process end with ``status`` soon after this call, and return it.

    Python waits at its end for threads and processes that were left, without a limit. A daemon thread keeps the time.
    """
    will_exit(status)
    _Program.leaving = True
    end_copies()
    threading.Thread(target=_out_of_time, name="leave", daemon=True).start()
    if hasattr(signal, "setitimer"):
        # what hangs where no thread can end it, such as a call that holds the interpreter, or a pipe nobody reads
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, LEAVE_SECONDS + _APART_SECONDS)
    return status


def _out_of_time() -> None:
    time.sleep(LEAVE_SECONDS)
    children = _children_of_multiprocessing()
    names = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    names += [f"process {child.pid}" for child in children]
    what = f": {_some(names)}" if names else ""
    say(f"The program ends without what was started and did not end within {LEAVE_SECONDS:g} seconds{what}.")
    for child in children:
        with contextlib.suppress(Exception):
            child.kill()
    _exit_now()


def _children_of_multiprocessing() -> list[Any]:
    module = sys.modules.get("multiprocessing.process")
    return [] if module is None else list(module._children)  # active_children() would wait for them


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _exit_now() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(_Program.status)


def end_copies() -> None:
    """End copies of this process that were forked and run no other program: nothing is left for them to do.

    They hold whatever was open, the program's output among it, so that its reader would wait for them.
    """
    deadline = time.monotonic() + FORK_SECONDS
    copies = _copies()
    while copies and time.monotonic() < deadline:
        time.sleep(0.02)
        copies = _copies()
    for pid in copies:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    if copies:
        which = f"Processes that the environment forked did not end within {FORK_SECONDS:g} seconds, and were killed"
        say(f"{which}: {_some([str(pid) for pid in copies])}.")


def _copies() -> list[int]:
    """Children of this process with its own command line, without those that multiprocessing ends at the exit.

    None where the system does not tell.
    """
    found, daemons = [], {child.pid for child in _children_of_multiprocessing() if child.daemon}
    with contextlib.suppress(OSError):
        own = (_PROC / "self" / "cmdline").read_bytes()
        for path in _PROC.glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent = path.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid() and state not in "ZX" and path.with_name("cmdline").read_bytes() == own:
                    found.append(int(path.parent.name))
    return sorted(set(found) - daemons)
