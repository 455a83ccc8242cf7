"""The playing loop of training, tests and evaluation: observe, choose actions, step, record.

It runs where the slots are: in an environment worker on the worker's slots alone, so that workers do not wait for one
another at every step, or in the training process on all of them. Which of the two changes no number: an episode's start
and its action noise come from (seed, slot, number), and a slot's policies are evaluated by themselves.
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
from ..info_metrics import InfoMetrics
from .episode_store import AFTER, BEFORE, FINAL, EpisodeStore, Job, learner_rewards

#: (obs [S, N, O], last actions [S, N], hidden [S, N, H]) -> logits [S, N, A], the next hidden state
Policies = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

#: steps of an episode whose noise is drawn at once: two to the power of _BITS
_BITS = 5
_BLOCK = 1 << _BITS
_LEAST = np.float32(1e-30)  # an exponential draw may be 0


class Stepper(Protocol):
    """S slots that can be reset and stepped: a worker's, or all of them (``VecEnv``)."""

    arrays: Arrays
    info_metrics: InfoMetrics
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
    """Plays the episodes of a job in S slots and records them.

    Args:
        stepper: the slots.
        store: where the episodes are recorded, S slots of it.
        first: number of the first slot in the whole run.
    """

    def __init__(self, stepper: Stepper, store: EpisodeStore, first: int) -> None:
        self.stepper, self.store, self.first = stepper, store, first
        self.out = stepper.arrays
        self.noise = ActionNoise(first, self.out.avail.shape)

    def play(self, job: Job, act: Policies) -> None:
        """Play ``job``, from where the store's cursors are, with the policies ``act``."""
        began, cursor, self.job = time.perf_counter(), self.store.cursor, job
        acting = 0.0
        done = cursor["done"].tolist()
        self.todo = [deque(numbers[k:]) for numbers, k in zip(job.plan or (), done, strict=False)]
        self.active = np.ones(len(done), bool) if job.plan is None else np.array([bool(p) for p in self.todo])
        self._begin(np.flatnonzero(cursor["fresh"] & self.active))
        if job.plan is None:
            self.active = cursor["column"] < job.steps
        self._update_alignment()
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are not finite are reported elsewhere
            while self.active.any():
                now = time.perf_counter()
                logits, hidden = act(self.out.obs, cursor["last"], cursor["hidden"])
                if hidden is not cursor["hidden"]:
                    cursor["hidden"][...] = hidden
                noise = None if job.greedy else self.noise(job, cursor["number"], cursor["step"])
                actions, log_prob = choose(logits, self.out.avail, noise)
                acting += time.perf_counter() - now
                self._step(actions, log_prob)
                if job.plan is None:  # all slots are at the same column
                    self.active = cursor["column"] < job.steps
        if job.plan is None and job.keep:
            for name in FINAL:
                self.store.steps[name][cursor["row"], job.steps] = getattr(self.out, name)
        cursor["acting"][0] += acting
        cursor["playing"][0] += time.perf_counter() - began

    def _step(self, actions: np.ndarray, log_prob: np.ndarray) -> None:
        """Step every active slot, record the step, and begin new episodes where old ones have ended."""
        job, cursor, out, steps, active = self.job, self.store.cursor, self.out, self.store.steps, self.active
        place, taken = self._places() if job.keep else (None, active)
        if job.keep:
            for name in BEFORE:
                steps[name][place] = getattr(out, name)[taken]
            steps["actions"][place] = actions[taken]
            steps["log_prob"][place] = log_prob[taken]
        self.stepper.step(actions, active)
        lost = self.stepper.lost
        any_lost = lost.any()
        real = active & ~lost if any_lost else active
        reward = learner_rewards(job.rewards, out.reward)
        if job.keep:
            if any_lost:
                place, taken = (cursor["row"][real], cursor["column"][real]), real
            steps["filled"][place] = True
            steps["reward"][place] = reward[taken]
            for name in AFTER:
                steps[name][place] = getattr(out, name)[taken]
        cursor["returns"] += reward if self.everywhere and not any_lost else np.where(real[:, None], reward, 0)
        cursor["last"][...] = actions
        if cursor["played"].shape[1]:
            where = np.flatnonzero(real)
            cursor["played"][where, cursor["step"][where]] = actions[where]
        cursor["step"] += real
        cursor["column"] += active
        over = real & (out.terminated | out.truncated)
        if any_lost or over.any():
            self._finish_episodes(over, active & lost)
            self._update_alignment()

    def _places(self) -> tuple[tuple[Any, Any], Any]:
        """Return where this step goes in ``EpisodeStore.steps``, and its slots; slices where all slots are aligned."""
        cursor = self.store.cursor
        if self.rows is not None:
            return (self.rows, int(cursor["column"][0])), slice(None)
        return (cursor["row"][self.active], cursor["column"][self.active]), self.active

    def _update_alignment(self) -> None:
        """Find whether all slots are at the same column of evenly spaced rows, so that slices can index their steps."""
        row, column = self.store.cursor["row"], self.store.cursor["column"]
        self.everywhere = bool(self.active.all())
        apart = np.diff(row)
        even = len(row) < 2 or (apart[0] > 0 and (apart == apart[0]).all())
        together = self.everywhere and even and bool((column == column[0]).all())
        self.rows = slice(int(row[0]), int(row[-1]) + 1, int(apart[0]) if len(row) > 1 else 1) if together else None

    def _finish_episodes(self, over: np.ndarray, lost: np.ndarray) -> None:
        """Record the episodes that are ``over`` [S], drop those ``lost`` [S], and begin their slots' next ones."""
        cursor, plan = self.store.cursor, self.job.plan is not None
        for b in np.flatnonzero(over).tolist():
            self._record_ending(b)
            if plan:
                cursor["row"][b] += 1
                cursor["column"][b] = 0
        for b in np.flatnonzero(lost).tolist():
            cursor["lost"][b] += 1
            if plan:
                self.todo[b].append((self.todo[b][-1] if self.todo[b] else int(cursor["number"][b])) + 1)
                cursor["column"][b] = 0
                if self.job.keep:
                    self.store.clear_row(int(cursor["row"][b]))
        due = over | lost
        cursor["fresh"][due] = True
        if plan:
            self.active[[b for b in np.flatnonzero(due).tolist() if not self.todo[b]]] = False
        self._begin(np.flatnonzero(due & self.active))

    def _record_ending(self, b: int) -> None:
        """Record how slot b's episode ended."""
        cursor, endings, out = self.store.cursor, self.store.endings, self.out
        k, row, column = int(cursor["done"][b]), int(cursor["row"][b]), int(cursor["column"][b])
        endings["length"][b, k], endings["seed"][b, k] = cursor["step"][b], self.stepper.seeds[b]
        endings["row"][b, k], endings["column"][b, k] = row, column - 1
        endings["returns"][b, k], endings["metrics"][b, k] = cursor["returns"][b], out.metrics[b]
        endings["info_metrics"][b, k] = self.stepper.info_metrics.values[b]
        for name in FINAL if self.job.keep else ():
            if self.job.plan is not None:
                self.store.steps[name][row, column] = getattr(out, name)[b]
            else:
                endings[name][b, k] = getattr(out, name)[b]
        cursor["done"][b] = k + 1  # the last: what is counted is whole

    def _begin(self, slots: np.ndarray) -> None:
        """Begin the next episodes in ``slots`` [k]."""
        if not len(slots):
            return
        cursor, job = self.store.cursor, self.job
        if job.plan is not None:
            cursor["number"][slots] = [self.todo[b].popleft() for b in slots.tolist()]
        else:
            cursor["number"][slots] += 1
        for name, first in (("step", 0), ("returns", 0.0), ("last", -1), ("hidden", 0.0)):
            cursor[name][slots] = first
        numbers = cursor["number"][slots].tolist()
        seeds = [
            episode_seed(job.seed, job.purpose, self.first + b, k) for b, k in zip(slots.tolist(), numbers, strict=True)
        ]
        self.stepper.reset(slots, np.array(seeds, np.int64))
        cursor["fresh"][slots] = False
