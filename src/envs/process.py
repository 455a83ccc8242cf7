"""The `process` backend: spawned workers step consecutive slots over one block of shared memory.

Parent and worker exchange one byte a step over pipes; numbers travel through the shared memory alone. The block
has no name, so nothing is left behind however the processes end, and a pipe's end of file tells each side that the
other is gone.
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..components.errors import UserError
from .base import EnvInfo
from .build import EnvError
from .vec import VecEnv
from .worker import block_arrays, block_size

_CLOSE_SECONDS = 5.0

#: A worker starts here rather than in multiprocessing's spawn, which would import the user's main script again, and
#: torch with it. The package is loaded from the parent's folder: another copy may be installed, or none.
_BOOT = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import importlib.util, json, sys
path, package, folder, worker = json.loads(sys.argv[1])
sys.path[:] = path
spec = importlib.util.spec_from_file_location(package, folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules[package] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
importlib.import_module(worker).main(*map(int, sys.argv[2:]))
"""


@dataclass
class _Worker:
    number: int
    first: int
    last: int  # exclusive
    process: subprocess.Popen[bytes]
    commands: int  # pipe ends, as file descriptors
    replies: int


class ProcessVec(VecEnv):
    """Slots stepped by worker processes; see the module's docstring."""

    def __init__(self, env: str, env_args: Mapping[str, Any], info: EnvInfo, n_slots: int, workers: int) -> None:
        """Start ``workers`` processes for ``n_slots`` slots and wait until all have built theirs.

        Raises:
            UserError, EnvError: a worker could not build its environments.
        """
        descriptor, self._memory = _shared_memory(block_size(info, n_slots))
        arrays, self._control = block_arrays(self._memory, info, n_slots)
        super().__init__(info, n_slots, arrays)
        self._workers: list[_Worker] = []
        self._broken: str | None = None
        self._finalizer = weakref.finalize(self, _end, self._workers)
        self._seeds = np.full(n_slots, -1, np.int64)
        edges = np.linspace(0, n_slots, workers + 1).astype(int).tolist()
        try:
            for number, (first, last) in enumerate(pairwise(edges)):
                self._workers.append(_start(number, first, last, descriptor))
            for w in self._workers:
                job = {"env": env, "env_args": dict(env_args), "info": info, "n_slots": n_slots}
                _send(w, pickle.dumps({**job, "first": w.first, "count": w.last - w.first}))
            self._wait(self._workers)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(descriptor)  # workers hold their own

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        self._control["reset"][:] = False
        self._control["reset"][slots] = True
        self._control["seeds"][slots] = self._seeds[slots] = seeds
        self._command(b"R", self._control["reset"])

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        self._control["actions"][...] = actions
        self._control["active"][...] = active
        self._command(b"S", active)

    def _command(self, what: bytes, concerned: np.ndarray) -> None:
        if self._broken is not None:
            raise EnvError(self._broken)
        # until the last reply is in, an interruption leaves replies in the pipes that nobody would match to commands
        self._broken = "A step of the environment workers was interrupted: build the environments again."
        busy = [w for w in self._workers if concerned[w.first : w.last].any()]
        for w in busy:
            _send(w, what)
        self._wait(busy)
        self._broken = None

    def _wait(self, workers: list[_Worker]) -> None:
        for w in workers:
            reply = os.read(w.replies, 1)
            if reply == b"K":
                continue
            try:
                self._raise(w, reply)
            except Exception as exc:
                self._broken = str(exc)
                _end(self._workers)
                raise

    def _raise(self, w: _Worker, reply: bytes) -> None:
        """Raise what happened to a worker that did not answer "K"."""
        told = _read_all(w.replies) if reply == b"E" else b""
        if told:
            error = json.loads(told)
            if error["user"]:
                raise UserError(error["text"])
            raise EnvError(f"{error['text']}\n--- traceback of environment worker {w.number} ---\n{error['traceback']}")
        try:
            status = w.process.wait(_CLOSE_SECONDS)
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        except subprocess.TimeoutExpired:
            how = "closed its pipe"
        seeds = self._seeds[w.first : w.last].tolist()
        raise EnvError(
            f"Environment worker {w.number} (process {w.process.pid}) ended unexpectedly ({how}); it held slots "
            f"{w.first} to {w.last - 1}, episode seeds {seeds}."
        )

    def close(self) -> None:
        self._finalizer()
        self._broken = self._broken or "The environments are closed."


def _shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """Return a nameless block that child processes can map: its descriptor and its mapping."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("environments")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor, mmap.mmap(descriptor, size)


def _start(number: int, first: int, last: int, memory: int) -> _Worker:
    command_read, command_write = os.pipe()
    reply_read, reply_write = os.pipe()
    own = __name__.rpartition(".")[0]
    package = own.partition(".")[0]
    folder = os.path.abspath(next(iter(sys.modules[package].__path__)))
    what = json.dumps([sys.path, package, folder, f"{own}.worker"])
    theirs = (command_read, reply_write, memory)
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, "1")  # many workers with many threads each would fight for the cores
    # the mask is inherited: Ctrl-C before a worker can ignore it must not print a traceback
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, what, *map(str, theirs)],
            stdin=subprocess.DEVNULL,
            pass_fds=theirs,
            env=environment,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(command_read)
        os.close(reply_write)
    return _Worker(number, first, last, process, command_write, reply_read)


def _send(w: _Worker, data: bytes) -> None:
    if len(data) > 1:
        data = len(data).to_bytes(8, "little") + data
    try:
        while data:
            data = data[os.write(w.commands, data) :]
    except BrokenPipeError:
        pass  # it is gone; waiting for its reply will tell why


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts)


def _end(workers: list[_Worker]) -> None:
    """Let workers go: closing their pipes ends them; those that are stuck are killed."""
    for w in workers:
        os.close(w.commands)
        os.close(w.replies)
    deadline = time.monotonic() + _CLOSE_SECONDS
    for w in workers:
        try:
            w.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            w.process.kill()
            w.process.wait()
    workers.clear()
