"""Checks in processes of their own: one that hangs, crashes or prints takes nothing else with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ... import main as program
from ...envs.starcraft.die_with_parent import end_with_parent
from ...envs.vector.boot import environment
from ...utils.console import without_controls
from ...utils.errors import LONGEST_SENTENCE, NotInstalled, UserError, raised_at, shortened, text_of
from .checks import FAILS, MISSING, NOT_HERE, WORKS, Check
from .probes import Broken, NotHere

#: the flag by which a child process is asked for one check
FLAG = "--try"
#: checks at a time
AT_ONCE = 2
_POLL = 0.02  # seconds between two looks at the children
_END = 2.0  # seconds in which a killed process is gone


@dataclass(frozen=True)
class Result:
    """How a check went: its state (:data:`.checks.STATES`), one sentence, and the seconds that it took."""

    state: str
    said: str
    seconds: float


# -- in the child ------------------------------------------------------------------------------------------------


def attempt(check: Check) -> tuple[str, str]:
    """Try it in this process; returns its state and what there is to say."""
    try:
        return WORKS, check.probe()
    except NotInstalled as missing:
        return MISSING, str(missing)
    except NotHere as absent:
        return NOT_HERE, str(absent)
    except (Broken, UserError) as broken:
        return FAILS, str(broken)
    except (Exception, SystemExit) as error:
        said = " ".join(text_of(error, LONGEST_SENTENCE).split())
        return FAILS, f"{type(error).__name__}{f': {said}' if said else ''} ({raised_at(error)})."


def child(check: Check, path: Path, parent: int) -> None:
    """Try it, write the result to ``path``, and end this process at once: what it started may not end by itself.

    Args:
        parent: the process that asked, with which this one ends.
    """
    end_with_parent(parent)
    state, said = attempt(check)
    part = path.with_suffix(".part")
    part.write_text(json.dumps([state, " ".join(said.split())]), encoding="utf-8")
    os.replace(part, path)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


# -- in the parent -----------------------------------------------------------------------------------------------


class _Running:
    """A child process that tries ``check``, its output and result in ``folder``."""

    def __init__(self, check: Check, folder: Path) -> None:
        self.check, self.path = check, folder / f"{check.name}.json"
        self.output: IO[Any] = (folder / f"{check.name}.txt").open("w+b")
        self.began = time.monotonic()
        words = [sys.executable, str(Path(program.__file__)), "doctor", FLAG, check.name, str(self.path)]
        self.process = subprocess.Popen(
            [*words, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            env=environment(), start_new_session=True,
        )  # fmt: skip

    def result(self, limit: float) -> Result | None:
        """Return its result, None while it runs; one that takes longer than ``limit`` seconds is killed."""
        spent = time.monotonic() - self.began
        status = self.process.poll()
        if status is None and spent <= limit:
            return None
        self.kill()
        if self.path.is_file():
            state, said = json.loads(self.path.read_text(encoding="utf-8"))
            return Result(state, said, spent)
        if status is None:
            return Result(FAILS, f"It does not come back within {limit:g} s{self._last()}.", spent)
        return Result(FAILS, f"Its process ends by {_how(status)}{self._last()}.", spent)

    def _last(self) -> str:
        """Return the last line that it has printed, as the end of a sentence."""
        self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, self.output.tell() - 4000))
        lines = [without_controls(x).strip() for x in self.output.read().decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        return f"; its last words: {shortened(last, 200).rstrip('.')}" if last else ""

    def kill(self) -> None:
        """End it and what it has started."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END)

    def close(self) -> None:
        """End it, if it is there, and forget its output."""
        self.kill()
        self.output.close()


def _how(status: int) -> str:
    """Return how a process ended: ``the signal SIGSEGV`` or ``exit status 3``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"the signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def run(checks: Sequence[Check], limit: float) -> Iterator[tuple[list[str], Check | None, Result | None]]:
    """Try ``checks``, the cheap ones first, and yield the names of those at work after each change.

    Args:
        limit: seconds that each may take.

    Yields:
        the names at work, and the check that has ended with its result, or twice None.
    """
    waiting = sorted(checks, key=lambda check: check.cost)
    running: list[_Running] = []
    with tempfile.TemporaryDirectory(prefix="oamarl-doctor-", ignore_cleanup_errors=True) as folder:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    running.append(_Running(waiting.pop(0), Path(folder)))
                    yield [one.check.name for one in running], None, None
                time.sleep(_POLL)
                for one in list(running):
                    found = one.result(limit)
                    if found is not None:
                        running.remove(one)
                        one.close()
                        yield [other.check.name for other in running], one.check, found
        finally:
            for one in running:
                one.close()
