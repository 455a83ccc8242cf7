"""One environment worker: reads a byte, steps its slots in the shared memory, answers a byte.

| byte | direction | meaning |
|---|---|---|
| R, S | to the worker | reset the marked slots, step the active slots |
| K | from the worker | done |
| E | from the worker | failed; a JSON object and a line's end follow, then the end of the pipe |

Before each call into an environment the worker writes its slot into the shared memory, so that the parent knows it
however the call ends. The end of the command pipe (the parent closed it, or is dead) ends the worker. Nothing here
imports torch.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import pickle
import signal
import traceback

import numpy as np

from ..components.errors import UserError
from .base import Arrays, EnvInfo
from .build import EnvError, Slots

_ALIGN = 64  # bytes; a cache line

#: A signal that nobody else sends: showing the stack of a process that runs on may crash it.
SHOW_STACK = signal.SIGVTALRM


def _layout(info: EnvInfo, n_slots: int) -> tuple[dict[str, tuple[int, tuple[int, ...], str]], int]:
    """Return name -> (offset, shape, dtype) of everything in the shared block, and the block's size in bytes."""
    wanted = Arrays.layout(info, n_slots) | {
        "actions": ((n_slots, info.n_agents), "int64"),
        "active": ((n_slots,), "bool"),
        "reset": ((n_slots,), "bool"),
        "seeds": ((n_slots,), "int64"),
        "at": ((n_slots,), "int64"),
    }
    placed, offset = {}, 0
    for name, (shape, dtype) in wanted.items():
        placed[name] = (offset, shape, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        offset += -(-size // _ALIGN) * _ALIGN
    return placed, offset


def block_size(info: EnvInfo, n_slots: int) -> int:
    """Return the size of the shared block in bytes."""
    return _layout(info, n_slots)[1]


def block_arrays(memory: mmap.mmap, info: EnvInfo, n_slots: int) -> tuple[Arrays, dict[str, np.ndarray]]:
    """Return the shared block as what the slots show, and as orders: actions, active, reset, seeds (the parent's), and
    each worker's ``at``: the slot that it is busy with, -1 for none."""
    views = {
        name: np.ndarray(shape, dtype, buffer=memory, offset=offset)
        for name, (offset, shape, dtype) in _layout(info, n_slots)[0].items()
    }
    orders = {name: views.pop(name) for name in ("actions", "active", "reset", "seeds", "at")}
    return Arrays(**views), orders


def _read_job(descriptor: int) -> dict | None:
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


def main(commands: int, replies: int, memory: int, stack: int) -> None:
    """Serve until the parent closes the command pipe; the arguments are inherited file descriptors.

    ``stack`` takes the Python stack of a crash, and of what the worker is doing when it gets SHOW_STACK.
    """
    for descriptor in (commands, replies, memory, stack):
        os.set_inheritable(descriptor, False)  # a game started by an environment must not keep the pipes open
    faulthandler.enable(stack, all_threads=False)
    faulthandler.register(SHOW_STACK, stack, all_threads=True)
    slots = None
    try:
        job = _read_job(commands)
        if job is None:
            return
        block = mmap.mmap(memory, block_size(job["info"], job["n_slots"]))
        arrays, orders = block_arrays(block, job["info"], job["n_slots"])
        at = orders["at"][job["number"] :][:1]
        slots = Slots(job["env"], job["env_args"], arrays, job["first"], job["count"], at)
        mine = slice(job["first"], job["first"] + job["count"])
        os.write(replies, b"K")
        while (command := os.read(commands, 1)) in (b"R", b"S"):
            which = np.flatnonzero(orders["reset" if command == b"R" else "active"][mine]) + job["first"]
            if command == b"R":
                slots.reset(which, orders["seeds"][which])
            else:
                slots.step(orders["actions"], which)
            os.write(replies, b"K")
    except BrokenPipeError:
        pass  # the parent is gone
    except BaseException as exc:  # also a game's sys.exit()
        known = isinstance(exc, (UserError, EnvError))
        text = str(exc) if known else f"An environment worker failed: {traceback.format_exc().rstrip()}"
        error = {"user": isinstance(exc, UserError), "text": text}
        data = b"E" + json.dumps(error).encode() + b"\n"
        try:
            while data:
                data = data[os.write(replies, data) :]
        except BrokenPipeError:
            pass
    finally:
        if slots is not None:
            slots.close()
