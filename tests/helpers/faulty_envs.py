"""Environments that go wrong as told, for tests of what happens then; named ``faulty_envs:Faulty`` and so on."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from oamarl.envs.base import Arrays, EnvInfo

from toy_envs import MixedLength, Toy


def in_worker() -> bool:
    """Workers lead a session of their own; the process of the tests shall not go wrong itself."""
    return os.getsid(0) == os.getpid() and "pytest" not in sys.modules


def endless() -> None:
    while True:
        time.sleep(600)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def go_wrong(how: str) -> None:
    """Do it: raise (also ``long``: of 5 MB, and ``mute``: without a message), interrupt (as Ctrl-C), stop
    (``sys.exit``), exit, kill, segv or hang."""
    print(f"about to {how}", flush=True)
    if how == "raise":
        raise ZeroDivisionError("the toy broke")
    if how == "long":
        raise ValueError("x" * 5_000_000)
    if how == "mute":
        raise Mute
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "stop":
        sys.exit("no more")
    if how == "exit":
        os._exit(5)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segv":
        ctypes.string_at(0)
    endless()


class Faulty(MixedLength):
    """``MixedLength`` that goes wrong in the episodes of ``seeds`` at ``step`` (0: the reset, -1: when it is built)."""

    def __init__(self, how: str = "exit", step: int = 1, seeds: list | None = None, limit: int = 6) -> None:
        super().__init__(limit)
        self.how, self.when, self.seeds = how, step, seeds or []
        if step == -1 and in_worker():
            go_wrong(how)

    def reset(self, seed: int, out: Arrays) -> None:
        super().reset(seed, out)
        self._perhaps(out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        self._perhaps(out)

    def _perhaps(self, out: Arrays) -> None:
        if self.time == self.when and self.seed in self.seeds:
            out.avail[...] = False  # half-written rows are what a crash leaves
            out.obs[...] = np.nan
            go_wrong(self.how)


class Paced(Toy):
    """Waits in its constructor and in each step until it is let: see :class:`Gate`."""

    def __init__(self, gate: str) -> None:
        super().__init__()
        self.gate = Gate(Path(gate))
        self.gate.wait()

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        self.gate.wait()
        super().step(actions, out)


class Gate:
    """Where the environments of one worker wait, one after another: two files that grow by a byte for each.

    Args:
        folder: where the files `here` (who has come) and `let` (who may go) are.
    """

    def __init__(self, folder: Path) -> None:
        self.here, self.let = folder / "here", folder / "let"

    def wait(self) -> None:
        """Come, and wait until one more is let than came before; outside workers do nothing."""
        if in_worker():
            number = append(self.here)
            while size(self.let) < number:
                time.sleep(0.005)


def append(path: Path) -> int:
    """Make a file one byte longer; return its size."""
    with path.open("ab") as file:
        file.write(b".")
    return size(path)


def size(path: Path) -> int:
    """Return a file's size; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


class Chatty(Toy):
    """Prints on both streams at each reset, and ``lines`` more."""

    def __init__(self, lines: int = 0) -> None:
        super().__init__(limit=3)
        self.lines = lines

    def reset(self, seed: int, out: Arrays) -> None:
        super().reset(seed, out)
        print("hello from a game")
        print("and a complaint", file=sys.stderr)
        for i in range(self.lines):
            print("line", i)


class Gamer(Toy):
    """Starts a game, a process that hears nothing, and shows its number and the worker's in the state.

    ``hang`` as action 1 of the first agent; ``deaf`` closes badly: it hangs there too.
    """

    def __init__(self, deaf: bool = False) -> None:
        super().__init__(limit=1000)
        self.deaf = deaf
        code = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)"
        self.game = subprocess.Popen([sys.executable, "-S", "-c", code]) if in_worker() else None

    def look(self, out: Arrays) -> None:
        out.obs[...] = 0
        out.state[:2] = os.getpid(), self.game.pid if self.game else 0

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        if actions[0]:
            go_wrong("hang")

    def close(self) -> None:
        if self.deaf and self.game:
            endless()


class Helper(Toy):
    """Has a helper process (forked by multiprocessing) from its first reset on, which its close() ends."""

    ended: ClassVar[list[int | None]] = []  # exit codes of helpers

    def __init__(self) -> None:
        super().__init__()
        self.process: Any = None

    def reset(self, seed: int, out: Arrays) -> None:
        if self.process is None:
            self.process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
            self.process.start()
        super().reset(seed, out)

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.ended.append(self.process.exitcode)


class Leaver(Toy):
    """Leaves something behind at its first step: ``thread``, ``process``, ``fork`` or ``return`` (a copy comes back);
    ``early`` is a thread when it is built.

    ``hang`` and ``raise``: so does its close().
    """

    copies: ClassVar[list[int]] = []
    closed: ClassVar[int] = 0

    def __init__(self, how: str = "hang") -> None:
        super().__init__()
        self.how = how
        if how == "early":
            threading.Thread(target=time.sleep, args=(600,)).start()

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        how, self.how = self.how, self.how if self.how in ("hang", "raise") else ""
        if how == "thread":
            threading.Thread(target=time.sleep, args=(600,)).start()
        elif how == "process":
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        elif how in ("fork", "return"):
            pid = os.fork()
            if pid:
                self.copies.append(pid)
            elif how == "fork":
                time.sleep(600)
                os._exit(0)

    def close(self) -> None:
        type(self).closed += 1
        if self.how == "hang":
            endless()
        if self.how == "raise":
            raise ZeroDivisionError("the toy does not close")


class NoLegal(Toy):
    """The second agent has no legal action after step ``when`` (0: the reset) of an episode with an even seed."""

    def __init__(self, when: int = 2, end: int | None = None, limit: int = 6) -> None:
        super().__init__(limit, end)
        self.when = when

    def reset(self, seed: int, out: Arrays) -> None:
        super().reset(seed, out)
        self._take_away(out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        self._take_away(out)

    def _take_away(self, out: Arrays) -> None:
        if self.time == self.when and self.seed % 2 == 0:
            out.avail[1] = False


class Endless(Toy):
    """Never over, or ``late`` steps after its limit."""

    def __init__(self, limit: int = 6, late: int = 10**9, seeds: list | None = None) -> None:
        super().__init__(limit)
        self.late, self.seeds = late, seeds

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        wrong = self.seeds is None or self.seed in self.seeds
        out.truncated[...] = self.time >= self.limit + (self.late if wrong else 0)


class EndlessBatch:
    """The same, of B slots."""

    native = True

    def __init__(self, n_slots: int, limit: int = 6) -> None:
        self.info = EnvInfo("EndlessBatch", 1, 2, 2, 2, limit, (2,), (2,))

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        out.obs[slots] = out.state[slots] = 0
        out.avail[slots] = out.alive[slots] = True

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        out.reward[active] = 1

    def close(self) -> None:
        pass


class Sizes(Toy):
    """It says ``limit`` and ``metrics`` of itself."""

    def __init__(self, limit: Any = 6, metrics: Any = ("reward_sum",)) -> None:
        super().__init__()
        self.info = replace(self.info, episode_limit=limit, metrics=metrics)


class Back(Toy):
    """The second agent ends at its second step, and at the fourth is not ended (``flag``), or alive (``alive``)."""

    def __init__(self, what: str = "flag") -> None:
        super().__init__()
        self.what = what

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        back = self.time >= 4
        ended = self.time >= 2
        out.agent_terminated[1] = ended and not (back and self.what == "flag")
        out.alive[1] = not ended or (back and self.what == "alive")
        out.avail[1] = [True, bool(out.alive[1])]


class Held(MixedLength):
    """``MixedLength`` that stays for good in step 2 of the episodes of which ``folder`` holds a file (its seed's): it
    takes the file away, so that the next worker does not stay."""

    def __init__(self, folder: str, limit: int = 7) -> None:
        super().__init__(limit)
        self.folder = Path(folder)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        super().step(actions, out)
        file = self.folder / str(self.seed)
        if self.time == 2 and in_worker() and file.exists():
            file.rename(f"{file}.here")
            endless()
