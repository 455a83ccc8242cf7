"""Start, observe and end worker processes: their output, their stacks, and the processes that they started.

Every worker leads a session of its own: a terminal's Ctrl-C never reaches it, and a game that it starts ends with it.
The guard (:mod:`guard`) ends them where the parent no longer can (it was killed).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass

from ...utils.waiting import say as report
from . import boot
from .guard import Guard, reap
from .memory import nameless
from .worker import SHOW_STACK

CLOSE_SECONDS = 5.0  # what a worker may take to close its environments
_STACK_SECONDS = 10.0  # what a hung worker may take to show its stack
_STACK_REST = 1.0  # a stack that has not grown for so long is whole, also where its end does not tell
#: how the stack of a worker's main thread, which comes last, ends: in boot.BOOT
_STACK_END = re.compile(rb'File "<string>", line \d+ in <module>\s*\Z')
_KEPT_LINES = 20  # of a worker's output, for the message when it dies
_SHOWN_LINES = 500  # of a worker's output; an environment that prints at every step must not fill the run's log
_LONGEST_LINE = 2000  # characters
_MOST_STACK = 20_000  # bytes


class Output:
    """The output of a worker, line by line: passed on to stderr (so to the run's log), the last lines kept."""

    def __init__(self, descriptor: int, who: str) -> None:
        """Listen at ``descriptor``, in a thread, until its end; it is closed then."""
        self.last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._who, self._lines = who, 0
        self._thread = threading.Thread(target=self._listen, args=(descriptor,), name=who, daemon=True)
        self._thread.start()

    def _listen(self, descriptor: int) -> None:
        rest = b""
        while part := os.read(descriptor, 65536):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self._line(line)
            if len(rest) > _LONGEST_LINE:  # a bar that only ever overwrites itself
                rest = rest.rpartition(b"\r")[2][-_LONGEST_LINE:]
        if rest:
            self._line(rest)
        os.close(descriptor)

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2][:_LONGEST_LINE]
        self.last.append(text)
        self._lines += 1
        if self._lines <= _SHOWN_LINES:
            report(f"{self._who}: {text}")
        elif self._lines == _SHOWN_LINES + 1:
            report(f"{self._who} has printed {_SHOWN_LINES} lines: further ones are not shown.")

    def finish(self) -> None:
        """Wait for what is still in the pipe; not for ever, since a process that got away may hold it open."""
        self._thread.join(1.0)


@dataclass
class Worker:
    """One worker process, its slots ``first`` to ``last - 1``, and this side's file descriptors."""

    number: int
    first: int
    last: int
    name: str
    process: subprocess.Popen[bytes]
    commands: int
    replies: int
    stack: int
    output: Output
    answers: select.poll  # of replies alone
    descriptors: list[int]  # those of this side that are open
    away: bool = False


def start(number: int, first: int, last: int, memory: int, guard: Guard, name: str) -> Worker:
    """Start a worker that waits for its job; ``name`` stands before each line that it prints.

    Raises:
        OSError: the system has no more processes, memory or file descriptors.
    """
    module = f"{__name__.rpartition('.')[0]}.worker"
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:  # what is open when something goes wrong

        def pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[int, int]:
            ends = os.pipe()
            reads.callback(os.close, ends[0])
            writes.callback(os.close, ends[1])
            return ends

        command_read, command_write = pipe(theirs, ours)
        reply_read, reply_write = pipe(ours, theirs)
        output_read, output_write = pipe(ours, theirs)
        stack = nameless()
        ours.callback(os.close, stack)
        passed = (command_read, reply_write, memory, stack)
        process = subprocess.Popen(
            boot.command(module, passed), stdin=subprocess.DEVNULL, stdout=output_write, stderr=output_write,
            pass_fds=passed, env=boot.environment(), start_new_session=True,
        )  # fmt: skip
        ours.pop_all()
    guard.watch(process.pid)
    answers = select.poll()
    answers.register(reply_read, select.POLLIN)
    output = Output(output_read, name)
    here = [command_write, reply_read, stack]
    return Worker(number, first, last, name, process, command_write, reply_read, stack, output, answers, here)


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def ended(w: Worker) -> bool:
    """Return whether the worker's process has ended; it stays unreaped, so its number is not given to another."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return w.process.poll() is not None
    try:
        return os.waitid(os.P_PID, w.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def await_end(w: Worker, deadline: float) -> bool:
    """Wait until the process ends, at the longest until ``deadline`` (monotonic clock); return whether it has."""
    gone = select.poll()
    gone.register(w.replies, 0)  # nothing but the other end's closing
    while not ended(w):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        # a child of the worker may hold the pipe open, so its end is waited for in slices
        if gone.poll(1000 * min(left, 0.1)):
            time.sleep(0.001)
    return True


def put_away(w: Worker, guard: Guard) -> int:
    """Kill what is left of the worker and of the processes that it started; return its exit status.

    Calling it again does nothing, also where an interruption has kept it from coming to its end.
    """
    if not w.away:
        with contextlib.suppress(OSError):
            os.killpg(w.process.pid, signal.SIGKILL)
        guard.forget(w.process.pid)
        w.away = True  # from here on the number may belong to another process
    status = reap(w.process)
    while w.descriptors:
        os.close(w.descriptors.pop())
    w.output.finish()
    return status


def end(workers: list[Worker], guard: Guard, memory: int) -> None:
    """End all workers: closing their pipes ends them; those that are stuck are killed."""
    for w in workers:
        if w.commands in w.descriptors:
            w.descriptors.remove(w.commands)
            os.close(w.commands)
    deadline = time.monotonic() + CLOSE_SECONDS
    for w in workers:
        if not w.away and not await_end(w, deadline):
            report(
                f"E{w.name[1:]} (process {w.process.pid}) did not close its environments and end "
                f"within {CLOSE_SECONDS:g} seconds, and was killed."
            )
        put_away(w, guard)
    workers.clear()
    guard.close()
    os.close(memory)


def stack_of(w: Worker, *, ask: bool) -> str:
    """Return the Python stack that a worker has left: of its crash or, if ``ask``, of what it does now; or ""."""
    begin = os.fstat(w.stack).st_size
    if ask:
        with contextlib.suppress(OSError):
            os.kill(w.process.pid, SHOW_STACK)
        size, grown = begin, (now := time.monotonic())
        deadline = now + _STACK_SECONDS
        while (now := time.monotonic()) < deadline:  # written in many small pieces, by a process that may have to wait
            time.sleep(0.02)
            before, size = size, os.fstat(w.stack).st_size
            grown = now if size > before else grown
            tail = os.pread(w.stack, min(200, size - begin), max(begin, size - 200))
            if size > begin and (_STACK_END.search(tail) or now - grown > _STACK_REST):
                break
    else:
        begin = max(0, begin - _MOST_STACK)
    return os.pread(w.stack, _MOST_STACK, begin).decode(errors="replace").strip()
