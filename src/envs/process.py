"""The `process` backend: spawned workers step consecutive slots over one block of shared memory.

Parent and worker exchange one byte a step over pipes; numbers travel through the shared memory alone. A worker that
dies, hangs or raises is told with its slot, step, seed and stack, and ends the run or is started again.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import select
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from ..components.errors import UserError
from . import launch
from .base import EnvInfo
from .build import EnvError
from .launch import Worker
from .vec import VecEnv, usable_cores
from .worker import block_arrays, block_size

#: A slot may end its worker this often without having finished an episode in between.
MOST_RESTARTS = 10
#: Waiting goes in slices (seconds): a machine that was suspended meanwhile does not look like a hang.
_SLICE = 1.0
_BUILD, _RESET, _STEP = b"B", b"R", b"S"  # what a worker is told to do; the first one once, with its job
_HANGS = b"?"  # in place of an answer


@dataclass
class _Fault:
    """What happened to a worker, for the user."""

    text: str
    slot: int  # that it was busy with; -1: none
    user: bool = False  # a mistake of the user's: starting again would not mend it


class ProcessVec(VecEnv):
    """Slots stepped by worker processes; see the module's docstring."""

    def __init__(
        self,
        env: str,
        env_args: Mapping[str, Any],
        info: EnvInfo,
        n_slots: int,
        workers: int,
        *,
        step_timeout: float | None = None,
        reset_timeout: float | None = None,
        restart: bool = False,
        pin: bool = True,
    ) -> None:
        """Start ``workers`` processes for ``n_slots`` slots and wait until all have built theirs.

        Args:
            step_timeout, reset_timeout: seconds that one environment may take; None waits for ever.
            restart: start a worker that fails again, rather than raise.
            pin: keep each worker on a processor core of its own, where there are as many workers as cores.

        Raises:
            UserError, EnvError: a worker could not build its environments.
            OSError: the system has no more processes, memory or file descriptors.
        """
        self._size = block_size(info, n_slots)
        self._memory = launch.nameless(self._size)
        block = mmap.mmap(self._memory, self._size)
        arrays, self._control = block_arrays(block, info, n_slots)
        super().__init__(info, n_slots, arrays)
        self.workers = workers
        self._at = self._control["at"]
        self._at[:] = -1
        self._job = {"env": env, "env_args": dict(env_args), "info": info, "n_slots": n_slots}
        reset = ("reset_timeout", reset_timeout)
        self._limits = {_BUILD: reset, _RESET: reset, _STEP: ("step_timeout", step_timeout)}
        self._restart = restart
        # a worker that is woken up would often be put on a core where another one runs: they would take turns
        cores = usable_cores() if pin else []
        self._cores = cores if len(cores) == workers > 1 else []
        self._deaths = np.zeros(n_slots, np.int64)  # of its worker, by each slot, since it finished an episode
        self._workers: list[Worker] = []
        self._broken: str | None = None
        self._guard = launch.Guard()
        self._finalizer = weakref.finalize(self, launch.end, self._workers, self._guard, self._memory)
        edges = np.linspace(0, n_slots, workers + 1).astype(int).tolist()
        try:
            for number, (first, last) in enumerate(pairwise(edges)):
                self._workers.append(launch.start(number, first, last, self._memory, self._guard))
            for w in self._workers:
                self._brief(w)
            for _, fault in self._answers(self._workers, _BUILD):
                self._fail(fault)
        except BaseException:
            self.close()
            raise

    def _brief(self, w: Worker) -> None:
        if self._cores:
            with contextlib.suppress(OSError):  # it has ended: waiting for its answer will tell
                os.sched_setaffinity(w.process.pid, {self._cores[w.number]})
        job = pickle.dumps({**self._job, "number": w.number, "first": w.first, "count": w.last - w.first})
        _send(w, len(job).to_bytes(8, "little") + job)

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        self._control["reset"][:] = False
        self._control["reset"][slots] = True
        self._control["seeds"][slots] = seeds
        self._send_all(_RESET, self._control["reset"])
        self._receive_all(_RESET, self._control["reset"])

    def _begin(self, actions: np.ndarray, active: np.ndarray) -> None:
        self._control["actions"][...] = actions
        self._control["active"][...] = active
        self._send_all(_STEP, active)

    def _finish(self, actions: np.ndarray, active: np.ndarray) -> None:
        self._receive_all(_STEP, active)
        if self.worker_restarts:
            self._deaths[active & (self.arrays.terminated | self.arrays.truncated)] = 0

    def _send_all(self, what: bytes, concerned: np.ndarray) -> None:
        if self._broken is not None:
            raise EnvError(self._broken)
        # until the last reply is in, an interruption leaves replies in the pipes that nobody would match to commands
        self._broken = "A step of the environment workers was interrupted: build the environments again."
        self._busy = [w for w in self._workers if concerned[w.first : w.last].any()]
        for w in self._busy:
            _send(w, what)

    def _receive_all(self, what: bytes, concerned: np.ndarray) -> None:
        for w, fault in self._answers(self._busy, what):
            if fault.user or not self._restart:
                self._fail(fault)
            self._mark_lost(w, fault.slot, concerned, what)
            self._start_again(w, fault)
        self._broken = None

    # -- answers -------------------------------------------------------------------------------------------------

    def _answers(self, busy: list[Worker], what: bytes) -> Iterator[tuple[Worker, _Fault]]:
        """Take every answer to the command ``what``; yield the workers that failed, put away, as soon as they did."""
        late = []
        begun = time.monotonic()
        for w in list(busy):
            if not w.answers.poll(1000 * max(0.0, begun + _SLICE - time.monotonic())):
                late.append(w)
            elif (reply := os.read(w.replies, 1)) != b"K":
                yield w, self._fault(w, reply, what)
        if late:
            yield from self._late_answers(late, what)

    def _late_answers(self, late: list[Worker], what: bytes) -> Iterator[tuple[Worker, _Fault]]:
        """As :meth:`_answers`, with an eye on each worker's clock, which starts anew with each of its slots."""
        limit = self._limits[what][1]
        piece = _SLICE if limit is None else min(_SLICE, limit / 4)
        clocks = {w.number: (int(self._at[w.number]), 0.0) for w in late}
        while late:
            begun = time.monotonic()
            ready = _readable([w.replies for w in late], piece)
            # no more than was asked for: while the machine or the job is suspended, no clock runs
            spent = min(piece, time.monotonic() - begun)
            for w in list(late):
                slot, waited = clocks[w.number]
                if w.replies in ready:
                    reply = os.read(w.replies, 1)
                elif launch.ended(w):  # with its pipe held open by a child of its own
                    reply = b""
                else:
                    now = int(self._at[w.number])
                    waited = waited + spent if now == slot else 0.0
                    clocks[w.number] = now, waited
                    if limit is None or waited < limit:
                        continue
                    reply = _HANGS
                late.remove(w)
                if reply != b"K":
                    yield w, self._fault(w, reply, what)

    def _fault(self, w: Worker, reply: bytes, what: bytes) -> _Fault:
        """Put a worker that did not answer "K" away and say what happened to it."""
        slot = int(self._at[w.number])
        error = _read_error(w) if reply == b"E" else None
        over = reply != _HANGS and launch.await_end(w, time.monotonic() + launch.CLOSE_SECONDS)
        stack = "" if error else launch.stack_of(w, ask=not over)
        status = launch.put_away(w, self._guard)
        if error is not None and error["user"]:
            return _Fault(error["text"], slot, user=True)
        who = f"environment worker {w.number}"
        if error is not None:
            text = error["text"]
        else:
            name, limit = self._limits[what]
            exited = f"exit status {status}" if status >= 0 else f"signal {launch.signal_name(-status)}"
            how = f"ended unexpectedly ({exited if over else 'closed its pipe'}) {self._doing(slot, what)}"
            if reply == _HANGS:
                how = f"gave no answer within {name}={limit:g} seconds {self._doing(slot, what)}, and was killed"
            text = (
                f"{who.capitalize()} (process {w.process.pid}) {how}; it held slots {w.first} to {w.last - 1}, "
                f"episode seeds {self.seeds[w.first : w.last].tolist()}."
            )
        for title, body in (("its Python stack", stack), (f"last output of {who}", "\n".join(w.output.last))):
            text += f"\n--- {title} ---\n{body.rstrip()}" if body.strip() else ""
        return _Fault(text, slot)

    def _doing(self, slot: int, what: bytes) -> str:
        if what == _BUILD:
            return "while it started" if slot < 0 else f"while it built the environment of slot {slot}"
        if slot < 0:
            return "between two steps"
        doing = "the reset" if what == _RESET else f"step {self.steps[slot] + 1}"
        return f"in {doing} of slot {slot}, episode seed {self.seeds[slot]}"

    def _fail(self, fault: _Fault) -> NoReturn:
        self._finalizer()
        self._broken = fault.text
        raise (UserError if fault.user else EnvError)(fault.text)

    # -- starting again ------------------------------------------------------------------------------------------

    def _mark_lost(self, w: Worker, slot: int, concerned: np.ndarray, what: bytes) -> None:
        """Mark the episodes that ended with the worker; those that were over before it died are whole."""
        out, own = self.arrays, np.zeros(self.n_slots, bool)
        own[w.first : w.last] = True
        over = out.terminated | out.truncated
        if what == _STEP:  # slots are stepped in turn
            over &= ~concerned | (np.arange(self.n_slots) < slot)
        else:
            over &= ~concerned
        lost = own & (self.seeds >= 0) & ~over
        self.lost |= lost
        for field in fields(out):
            getattr(out, field.name)[lost] = 0
        out.avail[lost] = out.alive[lost] = True

    def _start_again(self, w: Worker, fault: _Fault) -> None:
        """Put a new worker in the place of ``w``, which was put away.

        Raises:
            EnvError: too often, without an episode finished in between.
        """
        again: _Fault | None = fault
        while again is not None:
            slot = again.slot if again.slot >= 0 else w.first
            self._deaths[slot] += 1
            if self._deaths[slot] > MOST_RESTARTS:
                times = f"{self._deaths[slot]} times without finishing an episode in between"
                self._fail(_Fault(f"Slot {slot} ended its worker {times}; the last time: {again.text}", slot))
            self.worker_restarts += 1
            launch.report(f"{again.text}\nEnvironment worker {w.number} is started again; the episodes in it are lost.")
            self._at[w.number] = -1
            try:
                w = launch.start(w.number, w.first, w.last, self._memory, self._guard)
            except OSError as exc:
                why = exc.strerror or exc
                self._fail(_Fault(f"Environment worker {w.number} cannot be started again: {why}.", slot))
            self._workers[w.number] = w
            self._brief(w)
            again = next((f for _, f in self._answers([w], _BUILD)), None)
            if again is not None and again.user:
                self._fail(again)

    def close(self) -> None:
        self._finalizer()
        self._broken = self._broken or "The environments are closed."


def _send(w: Worker, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(w.commands, data) :]
    except BrokenPipeError:
        pass  # it is gone; waiting for its reply will tell why


def _readable(descriptors: list[int], seconds: float) -> set[int]:
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(1000 * seconds)}


def _read_error(w: Worker) -> dict[str, Any] | None:
    """Return the JSON object after "E", or None where the worker died in the middle of it."""
    parts = []
    while part := os.read(w.replies, 65536):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    told = b"".join(parts)
    return json.loads(told) if told.endswith(b"\n") else None
