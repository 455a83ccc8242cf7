"""The guard: a small process beside the workers that ends them where this one no longer can, because it was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

KILL_SECONDS = 5.0  # what the system may take to end a process that was killed
CLOSE_SECONDS = 1.0  # what the guard may take to end

#: Reads "+group" and "-group" lines; at the end of the file, or where it has another parent (its own is gone, and
#: something that was forked from it holds the pipe open), the groups that are left get a second to end by themselves,
#: then they are killed.
_GUARD = """
import os, select, signal, sys, time
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
groups, rest = set(), b""
while True:
    if not select.select([0], [], [], 1.0)[0]:
        if os.getppid() != int(sys.argv[1]):
            break
        continue
    part = os.read(0, 4096)
    if not part:
        break
    *lines, rest = (rest + part).split(b"\\n")
    for line in lines:
        (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
end = time.monotonic() + 1.0
while groups:
    late = time.monotonic() > end
    for group in list(groups):
        try:
            os.killpg(group, signal.SIGKILL if late else 0)
        except OSError:
            groups.discard(group)
    if late:
        break
    time.sleep(0.02)
"""


class Guard:
    """The process that kills registered process groups when this process ends without having done so itself."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)  # a guard that was stopped reads nothing

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            # a line is shorter than what a pipe takes as a whole: all of it is written, or nothing
            if self._process.stdin.write(line.encode()) is not None:
                return
        except OSError:  # it was killed
            pass
        # it receives nothing any more, and would later kill groups that it was not asked to forget
        self._end()
        self._start()
        for group in self._groups:
            self._tell(f"+{group}\n")

    def watch(self, group: int) -> None:
        """Kill ``group`` if this process ends."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Leave ``group`` alone: its number will soon be free for others."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guard; calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._end()

    def _end(self) -> None:
        """End the process: by itself at the end of its pipe, or killed where it is stopped or the pipe is held open."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            reap(self._process)


def reap(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and return its exit status; one that the system does not end in time is left to it."""
    with contextlib.suppress(OSError):
        process.kill()
    try:
        return process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
