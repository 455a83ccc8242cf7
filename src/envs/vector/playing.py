"""The loop that everything played goes through: look, choose, step, write down.

It runs where the slots are: in an environment worker on the worker's slots alone, so that nobody waits for anybody at
every step, or in the training process on all of them. Which of the two changes no number: an episode's start and its
action noise come from (seed, slot, number), and a slot's policies are evaluated by themselves.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ...components.seeding import action_noise, episode_seed
from ...modules.kernels.numpy_policy import choose
from ..base import Arrays
from ..notes import Notes
from .episode_store import AFTER, BEFORE, FINAL, Course, Job, common

#: (obs [S, N, O], last actions [S, N], hidden [S, N, H]) -> logits [S, N, A], the next hidden state
Policies = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

#: steps of an episode whose noise is drawn at once: two to the power of _BITS
_BITS = 5
_BLOCK = 1 << _BITS
_LEAST = np.float32(1e-30)  # an exponential draw may be 0


class Stepper(Protocol):
    """S slots: a worker's, or all of them (``VecEnv``)."""

    arrays: Arrays
    notes: Notes
    seeds: np.ndarray
    lost: np.ndarray

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k]."""

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` [S, N] in the slots where ``active`` [S]."""


class ActionNoise:
    """Gumbel noise [S, N, A] for the present step of each slot's episode: a function of the episode and the step.

    Args:
        first: number of the first slot in the whole run.
        shape: S, N, A.
    """

    def __init__(self, first: int, shape: tuple[int, int, int]) -> None:
        slots, *each = shape
        self.first, self._slots = first, np.arange(slots)
        self._noise = np.zeros((slots, _BLOCK, *each), np.float32)
        self._streams: list[np.random.Generator | None] = [None] * slots
        self._number, self._block = np.full(slots, -1), np.full(slots, -1)
        self._of: tuple[int, str] | None = None
        self._drawn = b""

    def __call__(self, job: Job, number: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the noise of steps ``step`` [S] of the episodes ``number`` [S]."""
        if self._of != (job.seed, job.purpose):
            self._of = job.seed, job.purpose
            self._number[:], self._drawn = -1, b""
        block = step >> _BITS
        if block.tobytes() + number.tobytes() != self._drawn:
            for b in np.flatnonzero((self._number != number) | (self._block != block)).tolist():
                self._draw(job, b, int(number[b]), int(block[b]))
            self._drawn = block.tobytes() + number.tobytes()
        return self._noise[self._slots, step & (_BLOCK - 1)]

    def _draw(self, job: Job, b: int, number: int, block: int) -> None:
        stream = self._streams[b]
        if stream is None or number != self._number[b] or block <= self._block[b]:
            stream = action_noise(job.seed, job.purpose, self.first + b, max(number, 0))
            self._number[b], self._block[b] = number, -1
        for _ in range(block - int(self._block[b])):
            drawn = stream.standard_exponential(self._noise.shape[1:], np.float32)
        self._noise[b] = -np.log(np.maximum(drawn, _LEAST))
        self._streams[b], self._block[b] = stream, block


class Player:
    """Plays jobs in S slots.

    Args:
        stepper: the slots.
        course: where everything is written down, S slots of it.
        first: number of the first slot in the whole run.
    """

    def __init__(self, stepper: Stepper, course: Course, first: int) -> None:
        self.stepper, self.course, self.first = stepper, course, first
        self.out = stepper.arrays
        self.noise = ActionNoise(first, self.out.avail.shape)

    def play(self, job: Job, act: Policies) -> None:
        """Play ``job``, or what is left of it as the course has it, with the policies ``act``."""
        began, at, self.job = time.perf_counter(), self.course.at, job
        acting = 0.0
        self.todo = [deque(numbers[done:]) for numbers, done in zip(job.plan or (), at["done"].tolist(), strict=False)]
        self.active = np.array([bool(p) for p in self.todo]) if job.plan is not None else np.ones(len(at["row"]), bool)
        self._begin(np.flatnonzero(at["fresh"] & self.active))
        if job.plan is None:
            self.active = at["column"] < job.steps
        self._look()
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are not finite are told elsewhere
            while self.active.any():
                now = time.perf_counter()
                logits, hidden = act(self.out.obs, at["last"], at["hidden"])
                if hidden is not at["hidden"]:
                    at["hidden"][...] = hidden
                noise = None if job.greedy else self.noise(job, at["number"], at["step"])
                actions, log_prob = choose(logits, self.out.avail, noise)
                acting += time.perf_counter() - now
                self._step(actions, log_prob)
                if job.plan is None:  # all slots are at the same one
                    self.active = at["column"] < job.steps
        if job.plan is None and job.keep:
            for name in FINAL:
                self.course.store[name][at["row"], job.steps] = getattr(self.out, name)
        at["acting"][0] += acting
        at["playing"][0] += time.perf_counter() - began

    def _step(self, actions: np.ndarray, log_prob: np.ndarray) -> None:
        """Make one step in every active slot, and begin new episodes where old ones have ended."""
        job, at, out, store, active = self.job, self.course.at, self.out, self.course.store, self.active
        place, taken = self._places() if job.keep else (None, active)
        if job.keep:
            for name in BEFORE:
                store[name][place] = getattr(out, name)[taken]
            store["actions"][place] = actions[taken]
            store["log_prob"][place] = log_prob[taken]
        self.stepper.step(actions, active)
        lost = self.stepper.lost
        any_lost = lost.any()
        real = active & ~lost if any_lost else active
        reward = common(job.rewards, out.reward)
        if job.keep:
            if any_lost:
                place, taken = (at["row"][real], at["column"][real]), real
            store["filled"][place] = True
            store["reward"][place] = reward[taken]
            for name in AFTER:
                store[name][place] = getattr(out, name)[taken]
        at["returns"] += reward if self.everywhere and not any_lost else np.where(real[:, None], reward, 0)
        at["last"][...] = actions
        if at["played"].shape[1]:
            where = np.flatnonzero(real)
            at["played"][where, at["step"][where]] = actions[where]
        at["step"] += real
        at["column"] += active
        over = real & (out.terminated | out.truncated)
        if any_lost or over.any():
            self._turn(over, active & lost)
            self._look()

    def _places(self) -> tuple[tuple[Any, Any], Any]:
        """Where in the store this step of the slots goes, and which of the slots it is (slices where they will do)."""
        at = self.course.at
        if self.rows is not None:
            return (self.rows, int(at["column"][0])), slice(None)
        return (at["row"][self.active], at["column"][self.active]), self.active

    def _look(self) -> None:
        """Find out, whenever episodes begin or end, whether all slots are at the same step of theirs."""
        row, column = self.course.at["row"], self.course.at["column"]
        self.everywhere = bool(self.active.all())
        apart = np.diff(row)
        even = len(row) < 2 or (apart[0] > 0 and (apart == apart[0]).all())
        together = self.everywhere and even and bool((column == column[0]).all())
        self.rows = slice(int(row[0]), int(row[-1]) + 1, int(apart[0]) if len(row) > 1 else 1) if together else None

    def _turn(self, over: np.ndarray, lost: np.ndarray) -> None:
        """Close the episodes that are ``over`` [S] and those that were ``lost`` [S], and begin the slots' next ones."""
        at, plan = self.course.at, self.job.plan is not None
        for b in np.flatnonzero(over).tolist():
            self._end(b)
            if plan:
                at["row"][b] += 1
                at["column"][b] = 0
        for b in np.flatnonzero(lost).tolist():
            at["lost"][b] += 1
            if plan:
                self.todo[b].append((self.todo[b][-1] if self.todo[b] else int(at["number"][b])) + 1)
                at["column"][b] = 0
                if self.job.keep:
                    self.course.forget(int(at["row"][b]))
        due = over | lost
        at["fresh"][due] = True
        if plan:
            self.active[[b for b in np.flatnonzero(due).tolist() if not self.todo[b]]] = False
        self._begin(np.flatnonzero(due & self.active))

    def _end(self, b: int) -> None:
        """Write down what slot b's episode ended with."""
        at, ends, out = self.course.at, self.course.ends, self.out
        k, row, column = int(at["done"][b]), int(at["row"][b]), int(at["column"][b])
        ends["length"][b, k], ends["seed"][b, k] = at["step"][b], self.stepper.seeds[b]
        ends["row"][b, k], ends["column"][b, k] = row, column - 1
        ends["returns"][b, k], ends["metrics"][b, k] = at["returns"][b], out.metrics[b]
        ends["notes"][b, k] = self.stepper.notes.values[b]
        for name in FINAL if self.job.keep else ():
            if self.job.plan is not None:
                self.course.store[name][row, column] = getattr(out, name)[b]
            else:
                ends[name][b, k] = getattr(out, name)[b]
        at["done"][b] = k + 1  # the last: what is counted is whole

    def _begin(self, slots: np.ndarray) -> None:
        """Begin the next episodes in ``slots`` [k]."""
        if not len(slots):
            return
        at, job = self.course.at, self.job
        if job.plan is not None:
            at["number"][slots] = [self.todo[b].popleft() for b in slots.tolist()]
        else:
            at["number"][slots] += 1
        at["step"][slots], at["returns"][slots], at["last"][slots], at["hidden"][slots] = 0, 0.0, -1, 0.0
        numbers = at["number"][slots].tolist()
        seeds = [
            episode_seed(job.seed, job.purpose, self.first + b, k) for b, k in zip(slots.tolist(), numbers, strict=True)
        ]
        self.stepper.reset(slots, np.array(seeds, np.int64))
        at["fresh"][slots] = False
