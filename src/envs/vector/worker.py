"""An environment worker process: reads a command byte, applies it to its slots in shared memory, answers a byte.

| byte | direction | meaning |
|---|---|---|
| R, S | to the worker | reset the marked slots, step the active slots |
| P, M | to the worker | play a job, measure random-play throughput; a pickled message follows |
| K | from the worker | done |
| E | from the worker | failed; a JSON object and a line's end follow, then the end of the pipe |

Before each call into an environment the worker writes its slot into the shared memory, so that the parent knows it
however the call ends. The end of the command pipe (the parent closed it, or is dead) ends the worker. Nothing here
imports torch.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import signal
import traceback
from typing import Any

import numpy as np

from ...components.experience import action_shape
from ...utils.errors import PartFailed, RunError, UserError
from ...utils.warn_once import WarningBuffer
from .. import build
from ..base import Arrays, EnvInfo
from ..build import Unsound
from ..info_metrics import InfoMetrics
from .episode_store import EpisodeStore
from .memory import Group, Layout
from .playing import Player
from .slots import Slots
from .throughput import random_throughput

#: A signal that nothing else sends: showing the stack of a process that runs on may crash it.
SHOW_STACK = signal.SIGVTALRM


def orders_layout(info: EnvInfo, n_slots: int) -> Layout:
    """Return names, shapes and types of the arrays by which parent and workers communicate.

    The parent writes ``actions``, ``active``, ``reset`` and ``asked`` (seeds of episodes to begin), the workers
    ``seeds`` and ``steps`` (of the episodes under way); ``busy`` (see :class:`~.slots.Slots`), ``throughput`` (steps,
    seconds) and ``warnings`` (see :class:`~oamarl.utils.warn_once.WarningBuffer`) are rows for each worker.
    """
    actions, dtype = action_shape(info)
    return {
        "actions": ((n_slots, *actions), dtype),
        "active": ((n_slots,), "bool"),
        "reset": ((n_slots,), "bool"),
        "asked": ((n_slots,), "int64"),
        "seeds": ((n_slots,), "int64"),
        "steps": ((n_slots,), "int64"),
        "busy": ((n_slots, 3), "int64"),
        "throughput": ((n_slots, 2), "float64"),
        "warnings": ((n_slots, *WarningBuffer.SHAPE), "uint8"),
    }


def _read_message(descriptor: int) -> Any:
    def exactly(n: int) -> bytes:
        data = b""
        while len(data) < n:
            part = os.read(descriptor, n - len(data))
            if not part:
                return b""
            data += part
        return data

    head = exactly(8)
    body = exactly(int.from_bytes(head, "little")) if head else b""
    return pickle.loads(body) if body else None


class _Work:
    """A worker's slots, and the groups of shared arrays that it has opened."""

    def __init__(self, job: dict[str, Any], memory: int) -> None:
        self.memory, self.number = memory, job["number"]
        self.first, self.last = job["first"], job["last"]
        first = self.first + job["begin"]  # in the whole run
        self.groups: dict[int, dict[str, np.ndarray]] = {}
        self.orders = self.group(job["orders"])
        shown, mine = Arrays.of(self.group(job["arrays"])), slice(self.first, self.last)
        metrics = InfoMetrics(**self.group(job["info_metrics"]))
        self.slots = Slots(
            job["env"], job["env_args"], shown.part(self.first, self.last), self.orders["seeds"][mine],
            self.orders["steps"][mine], metrics.part(self.first, self.last), first,
            self.orders["busy"][self.number], WarningBuffer(self.orders["warnings"]).writer(self.number),
        )  # fmt: skip
        self.player: Player | None = None
        self._store: list[Group | None] | None = None

    def group(self, group: Group) -> dict[str, np.ndarray]:
        """Return the arrays of a group, always the same ones."""
        if group.start not in self.groups:
            self.groups[group.start] = group.arrays(self.memory)
        return self.groups[group.start]

    def mine(self, order: str) -> np.ndarray:
        """Return this worker's slots of an order."""
        return self.orders[order][self.first : self.last]

    def do(self, command: bytes, message: Any) -> None:
        """Carry out a command."""
        if command == b"S":
            self.slots.step(self.mine("actions"), self.mine("active"))
        elif command == b"R":
            which = np.flatnonzero(self.mine("reset"))
            self.slots.reset(which, self.mine("asked")[which])
        elif command == b"P":
            if self.player is None or self._store != message["store"]:
                self._store = message["store"]
                store = EpisodeStore(*(self.group(g) if g is not None else {} for g in self._store))
                self.player = Player(self.slots, store.part(self.first, self.last), self.slots.first)
            shared = message["policies"]
            self.player.play(message["job"], message["recipe"]({} if shared is None else self.group(shared)))
        else:
            self.orders["throughput"][self.number] = random_throughput(self.slots, message["seconds"], message["seed"])


def main(commands: int, replies: int, memory: int, stack: int) -> None:
    """Serve until the parent closes the command pipe; the arguments are inherited file descriptors.

    ``stack`` takes the Python stack of a crash, and of what the worker is doing when it gets SHOW_STACK.
    """
    for descriptor in (commands, replies, memory, stack):
        os.set_inheritable(descriptor, False)  # a game started by an environment must not keep the pipes open
    faulthandler.enable(stack, all_threads=False)
    faulthandler.register(SHOW_STACK, stack, all_threads=True)
    work = None
    try:
        job = _read_message(commands)
        if job is None:
            return
        build.started_again = job["again"]
        work = _Work(job, memory)
        os.write(replies, b"K")
        while command := os.read(commands, 1):
            message = _read_message(commands) if command in (b"P", b"M") else None
            if command in (b"P", b"M") and message is None:
                break  # the parent is gone
            work.do(command, message)
            os.write(replies, b"K")
    except BrokenPipeError:
        pass  # the parent is gone
    except BaseException as exc:  # also a game's sys.exit()
        known = isinstance(exc, (UserError, RunError))
        text = str(exc) if known else f"An environment worker failed: {traceback.format_exc().rstrip()}"
        final = isinstance(exc, (UserError, Unsound, PartFailed))
        error = {"user": isinstance(exc, UserError), "final": final, "text": text}
        data = b"E" + json.dumps(error).encode() + b"\n"
        try:
            while data:
                data = data[os.write(replies, data) :]
        except BrokenPipeError:
            pass
    finally:
        if work is not None:
            work.slots.close()
