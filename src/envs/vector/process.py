"""The `process` backend: spawned workers with consecutive slots, over shared memory.

Parent and worker exchange a byte over pipes for each step or, where the workers choose the actions too, for each job
of whole episodes; numbers travel through the shared memory. A worker that dies, hangs or raises is reported with its
slot, step, seed and stack, and ends the run or is started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from ...components.experience import shown_layout
from ...modules.acting import Actor
from ...utils.errors import UserError
from ...utils.waiting import say as report
from ...utils.warn_once import Warn, WarningBuffer, warn_once
from ..base import Arrays, EnvInfo
from ..build import BUILDING, RESETTING, STEPPING, EnvError
from ..info_metrics import InfoMetrics, info_metrics_layout
from . import launch
from .base import VecEnv, usable_cores
from .episode_store import EpisodeStore, Job, remaining_job
from .launch import Worker
from .memory import Group, Layout, Memory
from .worker import orders_layout

#: A slot may end its worker this often without having finished an episode in between.
MOST_RESTARTS = 10
#: A worker's own start, before it builds its first environment, has at least so many seconds (where `reset_timeout`
#: limits anything): how soon Python and numpy are loaded is the machine's matter, not the environment's.
START_SECONDS = 300.0
#: Waiting goes in slices (seconds): a machine that was suspended meanwhile does not look like a hang.
_SLICE = 1.0
_BUILD, _RESET, _STEP, _PLAY, _MEASURE = b"B", b"R", b"S", b"P", b"M"  # commands to a worker; the first one once
_HANGS = b"?"  # in place of an answer


@dataclass(frozen=True)
class Share:
    """The part of a run that a vectorised environment steps: all of it, or the slots of one node of a cluster.

    | field | meaning |
    |---|---|
    | slot, worker | numbers of its first slot and its first worker in the whole run |
    | where | of its workers, for messages: `` on node 10.0.0.7`` |
    | again | it takes the place of one that was lost |
    | warn | issues the warnings of its environments |
    """

    slot: int = 0
    worker: int = 0
    where: str = ""
    again: bool = False
    warn: Warn = warn_once


@dataclass
class _Fault:
    """The failure of a worker, for the user."""

    text: str
    slot: int  # of this process's, that it was busy with; -1: none
    user: bool = False  # a mistake of the user's
    final: bool = False  # starting again would not mend it


class ProcessVec(VecEnv):
    """The `process` backend: slots stepped by worker processes; see the module's docstring."""

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
        share: Share | None = None,
    ) -> None:
        """Start ``workers`` processes for ``n_slots`` slots and wait until all have built theirs.

        Args:
            step_timeout, reset_timeout: seconds that one environment may take; None waits for ever.
            restart: start a worker that fails again, rather than raise.
            pin: keep each worker on a processor core of its own, where there are as many workers as cores.
            share: the slots' place in the run; None: they are all of it.

        Raises:
            UserError, EnvError: a worker could not build its environments.
            OSError: the system has no more processes, memory or file descriptors.
        """
        self._memory, self._share = Memory(), share or Share()
        layouts = shown_layout(info, n_slots), orders_layout(info, n_slots), info_metrics_layout(n_slots)
        shown, orders, metrics = (self._memory.add(layout) for layout in layouts)
        arrays = Arrays.of(shown.arrays(self._memory.descriptor))
        self._orders = orders.arrays(self._memory.descriptor)
        info_metrics = InfoMetrics(**metrics.arrays(self._memory.descriptor))
        super().__init__(info, arrays, self._orders["seeds"], self._orders["steps"], info_metrics)
        self._warnings = WarningBuffer(self._orders["warnings"])
        self.workers = workers
        self._busy = self._orders["busy"]
        self._busy[:] = -1, 0, BUILDING
        self._job = {
            "env": env, "env_args": dict(env_args), "arrays": shown, "orders": orders, "info_metrics": metrics,
            "begin": self._share.slot,
        }  # fmt: skip
        reset = ("reset_timeout", reset_timeout)
        self._limits = {BUILDING: reset, RESETTING: reset, STEPPING: ("step_timeout", step_timeout)}
        self._rooms: list[tuple[dict[str, np.ndarray], Group]] = []
        self._policies: dict[str, np.ndarray] = {}
        self._restart = restart
        # a worker that is woken up would often be put on a core where another one runs: they would take turns
        cores = usable_cores() if pin else []
        self._cores = cores if len(cores) == workers > 1 else []
        self._deaths = np.zeros(n_slots, np.int64)  # of its worker, by each slot, since it finished an episode
        self._workers: list[Worker] = []
        self._guard = launch.Guard()
        self._finalizer = weakref.finalize(self, launch.end, self._workers, self._guard, self._memory.descriptor)
        edges = np.linspace(0, n_slots, workers + 1).astype(int).tolist()
        try:
            for number, (first, last) in enumerate(pairwise(edges)):
                self._workers.append(self._launch(number, first, last))
            for w in self._workers:
                self._brief(w, self._share.again)
            for _, fault in self._answers(self._workers):
                self._fail(fault)
        except BaseException:
            self.close()
            raise

    def _launch(self, number: int, first: int, last: int) -> Worker:
        name = f"environment worker {self._share.worker + number}{self._share.where}"
        return launch.start(number, first, last, self._memory.descriptor, self._guard, name)

    def _brief(self, w: Worker, again: bool = False) -> None:
        if self._cores:
            with contextlib.suppress(OSError):  # it has ended: waiting for its answer will tell
                os.sched_setaffinity(w.process.pid, {self._cores[w.number]})
        _send(w, _message({**self._job, "number": w.number, "first": w.first, "last": w.last, "again": again}))

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        self._orders["reset"][:] = False
        self._orders["reset"][slots] = True
        self._orders["asked"][slots] = seeds
        self._command(_RESET, self._orders["reset"])

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        self._orders["actions"][...] = actions
        self._orders["active"][...] = active
        self._command(_STEP, active)
        if self.worker_restarts:
            self._deaths[active & (self.arrays.terminated | self.arrays.truncated)] = 0

    def _command(self, what: bytes, concerned: np.ndarray) -> None:
        """Send a command to the workers of the ``concerned`` slots, and wait until it is done."""
        with self._under_way():
            busy = [w for w in self._workers if concerned[w.first : w.last].any()]
            for w in busy:
                _send(w, what)
            for w, fault in self._answers(busy):
                self._replace(w, fault, lambda w, slot: self._mark_lost(w, slot, concerned, what))

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        try:
            with super()._under_way():
                yield
        finally:
            self._warnings.read(self._share.warn)

    def room(self, layout: Layout) -> dict[str, np.ndarray]:
        """Return arrays of zeros in memory that the workers share."""
        group = self._memory.add(layout)
        self._rooms.append((group.arrays(self._memory.descriptor), group))
        return self._rooms[-1][0]

    def _group(self, arrays: dict[str, np.ndarray]) -> Group | None:
        return next((group for known, group in self._rooms if known is arrays), None)

    def play(self, store: EpisodeStore, job: Job, actor: Actor) -> None:
        """Play ``job`` in the workers, whose actors act there; one that has no arrays acts in this process."""
        if actor.arrays is None or actor.recipe is None:
            return super().play(store, job, actor)
        self._publish(actor.arrays)
        request = {
            "store": [self._group(x) for x in (store.cursor, store.endings, store.steps)],
            "recipe": actor.recipe, "policies": self._group(self._policies),
        }  # fmt: skip
        finished = np.zeros(self.n_slots, np.int64)

        def send(w: Worker, job: Job) -> None:
            own = job if job.plan is None else replace(job, plan=job.plan[w.first : w.last])
            _send(w, _PLAY + _message({**request, "job": own}))

        def recover(w: Worker, slot: int) -> None:
            nonlocal job
            own = slice(w.first, w.last)
            self._deaths[own][store.cursor["done"][own] > finished[own]] = 0
            finished[own] = store.cursor["done"][own]
            job = remaining_job(job, store, range(w.first, w.last))

        with self._under_way():
            busy = list(self._workers)
            for w in busy:
                send(w, job)
            while busy:
                failed = []
                for w, fault in self._answers(busy):
                    failed.append(self._replace(w, fault, recover))
                busy = failed
                for w in busy:
                    send(w, job)
        if self.worker_restarts:
            self._deaths[store.cursor["done"] > finished] = 0
        return None

    def _publish(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy the policies' arrays into memory that the workers share."""
        layout = {name: (x.shape, str(x.dtype)) for name, x in arrays.items()}
        if {name: (x.shape, str(x.dtype)) for name, x in self._policies.items()} != layout:
            self._policies = self.room(layout)
        for name, x in arrays.items():
            self._policies[name][...] = x

    def random_throughput(self, seconds: float, seed: int) -> tuple[int, float]:
        """Measure random play in all workers at once for ``seconds``; returns steps, and seconds."""
        with self._under_way():
            for w in self._workers:
                _send(w, _MEASURE + _message({"seconds": seconds, "seed": seed + w.number}))
            for _, fault in self._answers(self._workers):
                self._fail(fault)
        steps, took = self._orders["throughput"][: self.workers].T
        return round(float((steps / took).sum() * took.max())), float(took.max())

    # -- answers -------------------------------------------------------------------------------------------------

    def _answers(self, busy: list[Worker]) -> Iterator[tuple[Worker, _Fault]]:
        """Take every answer to a command; yield the workers that failed, put away, as soon as they did."""
        late = []
        begun = time.monotonic()
        for w in list(busy):
            if not w.answers.poll(1000 * max(0.0, begun + _SLICE - time.monotonic())):
                late.append(w)
            elif (reply := os.read(w.replies, 1)) != b"K":
                yield w, self._fault(w, reply)
        if late:
            yield from self._late_answers(late)

    def _late_answers(self, late: list[Worker]) -> Iterator[tuple[Worker, _Fault]]:
        """As :meth:`_answers`, under the time limits: a worker's clock starts anew with each call that it makes."""
        piece = min(_SLICE, *(limit / 4 for _, limit in self._limits.values() if limit is not None), _SLICE)
        clocks = {w.number: (self._doing_now(w)[:2], 0.0) for w in late}
        while late:
            begun = time.monotonic()
            ready = _readable([w.replies for w in late], piece)
            # no more than was asked for: while the machine or the job is suspended, no clock runs
            spent = min(piece, time.monotonic() - begun)
            for w in list(late):
                call, waited = clocks[w.number]
                if w.replies in ready:
                    reply = os.read(w.replies, 1)
                elif launch.ended(w):  # with its pipe held open by a child of its own
                    reply = b""
                else:
                    *now, kind = self._doing_now(w)
                    waited = waited + spent if now == call else 0.0
                    clocks[w.number] = now, waited
                    limit = self._limit(now[0], kind)[1]
                    if limit is None or waited < limit:
                        continue
                    reply = _HANGS
                late.remove(w)
                if reply != b"K":
                    yield w, self._fault(w, reply)

    def _fault(self, w: Worker, reply: bytes) -> _Fault:
        """Put a worker that did not answer "K" away and describe its failure."""
        slot, _, kind = self._doing_now(w)
        error = _read_error(w) if reply == b"E" else None
        over = reply != _HANGS and launch.await_end(w, time.monotonic() + launch.CLOSE_SECONDS)
        stack = "" if error else launch.stack_of(w, ask=not over)
        status = launch.put_away(w, self._guard)
        if error is not None and error["user"]:
            return _Fault(error["text"], slot, user=True, final=True)
        if error is not None:
            text = error["text"]
        else:
            within, _ = self._limit(slot, kind)
            exited = f"exit status {status}" if status >= 0 else f"signal {launch.signal_name(-status)}"
            how = f"ended unexpectedly ({exited if over else 'closed its pipe'}) {self._doing(slot, kind)}"
            if reply == _HANGS:
                how = f"gave no answer within {within} seconds {self._doing(slot, kind)}, and was killed"
            first, last = self._share.slot + w.first, self._share.slot + w.last - 1
            text = (
                f"E{w.name[1:]} (process {w.process.pid}) {how}; it held slots {first} to {last}, "
                f"episode seeds {self.seeds[w.first : w.last].tolist()}."
            )
        for title, body in (("its Python stack", stack), (f"last output of {w.name}", "\n".join(w.output.last))):
            text += f"\n--- {title} ---\n{body.rstrip()}" if body.strip() else ""
        return _Fault(text, slot, final=error is not None and error["final"])

    def _limit(self, slot: int, kind: int) -> tuple[str, float | None]:
        """Return the limit of what a worker is doing: its words for messages, and seconds."""
        name, limit = self._limits[kind]
        if limit is not None and kind == BUILDING and slot < 0:
            limit = max(limit, START_SECONDS)
            return f"{limit:g}", limit
        return f"{name}={limit}" if limit is None else f"{name}={limit:g}", limit

    def _doing_now(self, w: Worker) -> list[int]:
        """Return the slot (of this process's, -1: none) that a worker is busy with, the call's number and its kind."""
        slot, call, kind = self._busy[w.number].tolist()
        return [slot - self._share.slot if slot >= 0 else slot, call, kind]

    def _doing(self, slot: int, kind: int) -> str:
        named = self._share.slot + slot
        if kind == BUILDING:
            return "while it started" if slot < 0 else f"while it built the environment of slot {named}"
        if slot < 0:
            return "between two steps"
        doing = "the reset" if kind == RESETTING else f"step {self.steps[slot]}"
        return f"in {doing} of slot {named}, episode seed {self.seeds[slot]}"

    def _fail(self, fault: _Fault) -> NoReturn:
        self._finalizer()
        self._broken = fault.text
        raise (UserError if fault.user else EnvError)(fault.text)

    def _replace(self, w: Worker, fault: _Fault, recover: Callable[[Worker, int], None]) -> Worker:
        """Start a new worker for one that failed, after ``recover`` has marked its lost episodes; or raise."""
        if fault.final or not self._restart:
            self._fail(fault)
        recover(w, fault.slot)
        return self._start_again(w, fault)

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
        self._lose(own & (self.seeds >= 0) & ~over)

    def _start_again(self, w: Worker, fault: _Fault) -> Worker:
        """Put a new worker in the place of ``w``, which was put away, and return it.

        Raises:
            EnvError: too often, without an episode finished in between.
        """
        again: _Fault | None = fault
        while again is not None:
            slot = again.slot if again.slot >= 0 else w.first
            self._deaths[slot] += 1
            if self._deaths[slot] > MOST_RESTARTS:
                times = f"{self._deaths[slot]} times without finishing an episode in between"
                named = self._share.slot + slot
                self._fail(_Fault(f"Slot {named} ended its worker {times}; the last time: {again.text}", slot))
            self.worker_restarts += 1
            name = f"E{w.name[1:]}"
            report(f"{again.text}\n{name} is started again; the episodes in it are lost.")
            self._busy[w.number] = -1, 0, BUILDING
            try:
                w = self._launch(w.number, w.first, w.last)
            except OSError as exc:
                why = exc.strerror or exc
                self._fail(_Fault(f"{name} cannot be started again: {why}.", slot))
            self._workers[w.number] = w
            self._brief(w, again=True)
            again = next((f for _, f in self._answers([w])), None)
            if again is not None and again.final:
                self._fail(again)
        return w

    def close(self) -> None:
        """End the workers; calling it again does nothing."""
        self._finalizer()
        self._broken = self._broken or "The environments are closed."


def _message(content: Any) -> bytes:
    data = pickle.dumps(content)
    return len(data).to_bytes(8, "little") + data


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
    """Return the JSON object after "E", or None where the worker died, or fell silent, in the middle of it."""
    parts: list[bytes] = []
    deadline = time.monotonic() + launch.CLOSE_SECONDS
    while time.monotonic() < deadline:
        over = launch.ended(w)  # looked at before: what it wrote is in the pipe by then
        if not w.answers.poll(100):
            if over:  # a child of its own holds the pipe open
                break
            continue
        part = os.read(w.replies, 65536)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            break
    line = b"".join(parts)
    return json.loads(line) if line.endswith(b"\n") else None
