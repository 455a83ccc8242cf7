"""THE playing loop, of training, tests, evaluation and benchmarks: observe, choose actions, step, record.

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

from ...components.experience import EnvInfo, fields_of, no_action
from ...components.seeding import action_noise, episode_seed
from ...modules.acting import Actor
from ...modules.grouped import GroupedActor
from ...modules.selector_contract import DRAW, Noise
from ..base import Arrays
from ..info_metrics import InfoMetrics
from .episode_store import EpisodeStore, Job, learner_rewards

#: steps of an episode whose noise is drawn at once: two to the power of _BITS
_BITS = 5
_BLOCK = 1 << _BITS
#: (slot of the player, whether its episode is over): called at every moment of every episode
Seen = Callable[[int, bool], None]


class Stepper(Protocol):
    """S slots that can be reset and stepped: a worker's, or all of them (``VecEnv``)."""

    info: EnvInfo
    arrays: Arrays
    info_metrics: InfoMetrics
    seeds: np.ndarray
    lost: np.ndarray

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start episodes in ``slots`` [k] from ``seeds`` [k]."""

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` [S, N] (or [S, N, D]) in the slots where ``active`` [S]."""


def within_bounds(info: EnvInfo) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes of chosen actions those that an environment gets: continuous ones are clipped to its bounds,
    unless it does that itself."""
    if not info.continuous or not info.clip_actions:
        return lambda actions: actions
    low, high = info.bounds()
    return lambda actions: np.clip(actions, low, high)


def bring_back(stepper: Stepper, slots: np.ndarray, seeds: np.ndarray, actions: np.ndarray, steps: np.ndarray) -> None:
    """Play episodes again up to a step: of a run that is resumed, or of slots whose worker was lost.

    Args:
        stepper: the slots.
        slots: [k] int64, those of them.
        seeds: [k] int64, of their episodes.
        actions: [S, T, N] (or [S, T, N, D]), of all slots' episodes.
        steps: [S] int64, how many of them were made.
    """
    bounded, out = within_bounds(stepper.info), stepper.arrays
    under_way = np.zeros(len(steps), bool)
    under_way[slots] = True
    stepper.reset(slots, seeds)
    for t in range(int(steps[slots].max(initial=0))):
        # an episode that ends too early is not the one that was played before
        going = under_way & (t < steps) & ~(out.terminated | out.truncated | stepper.lost)
        stepper.step(bounded(actions[:, t]), going)


class ActionNoise:
    """Noise [S, N, W] for the present step of each slot's episode: a function of the episode and the step.

    Args:
        first: number of the first slot in the whole run.
        shape: S, N, W.
        kind: gumbel, normal or uniform.
    """

    def __init__(self, first: int, shape: tuple[int, int, int], kind: Noise = "gumbel") -> None:
        slots, *each = shape
        self.shape, self.kind, self._drawing = shape, kind, DRAW[kind]
        self.first, self._slots = first, np.arange(slots)
        self._noise = np.zeros((slots, _BLOCK, *each), np.float32)
        self._streams: list[np.random.Generator | None] = [None] * slots
        self._number, self._block = np.full(slots, -1), np.full(slots, -1)
        self._of: tuple[int, tuple[int, ...] | None, str] | None = None
        self._drawn = b""

    def __call__(self, job: Job, number: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the noise of steps ``step`` [S] of the episodes ``number`` [S]."""
        if self._of != (job.seed, job.runs, job.purpose):
            self._of = job.seed, job.runs, job.purpose
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
            seed, slot = job.origin(self.first + b) if job.queue is None else (job.seed, 0)
            stream = action_noise(seed, job.purpose, slot, max(number, 0))
            self._number[b], self._block[b] = number, -1
        for _ in range(block - int(self._block[b])):
            drawn = self._drawing(stream, self._noise.shape[1:])
        self._noise[b] = drawn
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
        self.shown = self.out.named()
        self.noise: ActionNoise | None = None
        self.made = 0
        self.active = self.playing = np.zeros(len(stepper.seeds), bool)
        self._none, self._within_bounds = no_action(stepper.info), within_bounds(stepper.info)
        table = fields_of(stepper.info)
        self._before = [f.name for f in table if f.known == "before"]
        self._after = [f.name for f in table if f.known == "after" and f.name != "reward"]
        self._final = [f.name for f in table if f.final]

    def play(self, job: Job, actor: Actor, seen: Seen | None = None, done: Callable[[], None] | None = None) -> None:
        """Play ``job``, from where the store's cursors are, with the policies of ``actor``.

        Args:
            seen: called at every moment of every episode, for pictures.
            done: called at the end of every episode.
        """
        began, cursor = time.perf_counter(), self.store.cursor
        if isinstance(actor, GroupedActor):
            actor = actor.placed(self.first, len(self.active))
        self.job, self.actor, self._seen, self._done, acting = job, actor, seen, done, 0.0
        self._prepare()
        context, noise = job.context, self._noise()
        until = None if job.seconds is None else began + job.seconds
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are not finite are reported elsewhere
            while until is not None or self.active.any():
                now = time.perf_counter()
                if until is not None and now >= until and self.made:
                    break
                drawn = None if noise is None else noise(job, cursor["number"], cursor["step"])
                actions, log_prob, hidden = actor(
                    self.out.obs, self.out.avail, cursor["last"], cursor["hidden"], drawn, context
                )
                if hidden is not cursor["hidden"]:
                    cursor["hidden"][...] = hidden
                if until is not None:
                    self._step_unrecorded(actions)
                    continue
                acting += time.perf_counter() - now
                self._step(actions, log_prob)
                if self.by_steps:  # all slots that play are at the same column
                    self.active = self.playing & (cursor["column"] < job.steps)
        if self.by_steps and job.keep:
            for name in self._final:
                self.store.steps[name][cursor["row"][self.playing], job.steps] = self.shown[name][self.playing]
        cursor["acting"][0] += acting
        cursor["playing"][0] += time.perf_counter() - began

    def _prepare(self) -> None:
        """Find what is to be played, and begin the first episodes."""
        job, cursor = self.job, self.store.cursor
        done = cursor["done"].tolist()
        self.by_steps = job.plan is None and job.queue is None and job.seconds is None
        self.todo = [deque(numbers[k:]) for numbers, k in zip(job.plan or (), done, strict=False)]
        self.queue = deque(job.queue or ())
        self.made = 0
        self.playing = job.plays(self.first, len(done))
        if job.queue is not None:
            self.active = np.arange(len(done)) < len(self.queue)
        else:
            self.active = self.playing if job.plan is None else np.array([bool(p) for p in self.todo])
        self._begin(np.flatnonzero(cursor["fresh"] & self.active))
        if self.by_steps:
            self.active = self.playing & (cursor["column"] < job.steps)
        self._update_alignment()

    def _noise(self) -> ActionNoise | None:
        """Return the action noise that the actor needs in this job."""
        if self.job.greedy or self.actor.noise is None:
            return None
        shape = (*self.out.avail.shape[:2], self.actor.width)
        if self.noise is None or (self.noise.shape, self.noise.kind) != (shape, self.actor.noise):
            self.noise = ActionNoise(self.first, shape, self.actor.noise)
        return self.noise

    def _step_unrecorded(self, actions: np.ndarray) -> None:
        """Step every slot and count the steps, for a measurement."""
        self.stepper.step(actions, self.active)
        lost = self.stepper.lost
        self.made += len(lost) - int(np.count_nonzero(lost))
        over = np.flatnonzero(self.out.terminated | self.out.truncated | lost)
        if len(over):
            self._begin(over)

    def _step(self, actions: np.ndarray, log_prob: np.ndarray) -> None:
        """Step every active slot, record the step, and begin new episodes where old ones have ended."""
        job, cursor, out, steps, active = self.job, self.store.cursor, self.out, self.store.steps, self.active
        place, taken = self._places() if job.keep else (None, active)
        if job.keep:
            for name in self._before:
                steps[name][place] = self.shown[name][taken]
            steps["actions"][place] = actions[taken]
            steps["log_prob"][place] = log_prob[taken]
            for name, given in self.actor.extras.items():
                steps[name][place] = given[taken]
        self.stepper.step(self._within_bounds(actions), active)
        lost = self.stepper.lost
        any_lost = lost.any()
        real = active & ~lost if any_lost else active
        reward = learner_rewards(job.rewards, out.reward)
        if job.keep:
            if any_lost:
                place, taken = (cursor["row"][real], cursor["column"][real]), real
            steps["filled"][place] = True
            steps["reward"][place] = reward[taken]
            for name in self._after:
                steps[name][place] = self.shown[name][taken]
        cursor["returns"] += reward if self.everywhere and not any_lost else np.where(real[:, None], reward, 0)
        if self.everywhere:
            cursor["last"][...] = actions
        else:
            cursor["last"][active] = actions[active]
        if cursor["played"].shape[1]:
            where = np.flatnonzero(real)
            cursor["played"][where, cursor["step"][where]] = actions[where]
        cursor["step"] += real
        cursor["column"] += active
        over = real & (out.terminated | out.truncated)
        if self._seen is not None:
            for b in np.flatnonzero(real).tolist():
                self._seen(b, bool(over[b]))
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
            if self.job.queue is not None:
                self.queue.appendleft(int(cursor["number"][b]))
            if plan:
                self.todo[b].append((self.todo[b][-1] if self.todo[b] else int(cursor["number"][b])) + 1)
                cursor["column"][b] = 0
                if self.job.keep:
                    self.store.clear_row(int(cursor["row"][b]))
        due = over | lost
        cursor["fresh"][due] = True
        if plan:
            self.active[[b for b in np.flatnonzero(due).tolist() if not self.todo[b]]] = False
        elif self.job.queue is not None:
            self.active[np.flatnonzero(due)[len(self.queue) :]] = False
            if lost.any():  # they wait in the queue again, also for slots that had nothing left to play
                idle = np.flatnonzero(~self.active)
                waiting = max(len(self.queue) - int((due & self.active).sum()), 0)
                due[idle[:waiting]] = self.active[idle[:waiting]] = True
        self._begin(np.flatnonzero(due & self.active))

    def _record_ending(self, b: int) -> None:
        """Record how slot b's episode ended."""
        cursor, endings, out = self.store.cursor, self.store.endings, self.out
        k, row, column = int(cursor["done"][b]), int(cursor["row"][b]), int(cursor["column"][b])
        endings["length"][b, k], endings["seed"][b, k] = cursor["step"][b], self.stepper.seeds[b]
        endings["number"][b, k], endings["terminated"][b, k] = cursor["number"][b], out.terminated[b]
        endings["row"][b, k], endings["column"][b, k] = row, column - 1
        endings["returns"][b, k], endings["metrics"][b, k] = cursor["returns"][b], out.metrics[b]
        endings["info_metrics"][b, k] = self.stepper.info_metrics.values[b]
        for name in self._final if self.job.keep else ():
            if self.job.plan is not None:
                self.store.steps[name][row, column] = self.shown[name][b]
            else:
                endings[name][b, k] = self.shown[name][b]
        cursor["done"][b] = k + 1  # the last: what is counted is whole
        if self._done is not None:
            self._done()

    def _begin(self, slots: np.ndarray) -> None:
        """Begin the next episodes in ``slots`` [k]."""
        if not len(slots):
            return
        cursor, job = self.store.cursor, self.job
        if job.plan is not None:
            cursor["number"][slots] = [self.todo[b].popleft() for b in slots.tolist()]
        elif job.queue is not None:
            cursor["number"][slots] = [self.queue.popleft() for _ in slots.tolist()]
        else:
            cursor["number"][slots] += 1
        if job.seconds is not None:  # drawing seeds would count against a fast environment
            self.stepper.reset(slots, (job.seed + slots + len(self.active) * cursor["number"][slots]) % 2**31)
            return
        for name, first in (("step", 0), ("returns", 0.0), ("last", self._none), ("hidden", 0.0)):
            cursor[name][slots] = first
        self.stepper.reset(slots, self._seeds(slots))
        cursor["fresh"][slots] = False
        if self._seen is not None:
            for b in slots.tolist():
                self._seen(b, False)

    def _seeds(self, slots: np.ndarray) -> np.ndarray:
        """Return the seeds [k] of the episodes that begin in ``slots`` [k]."""
        job, given = self.job, []
        for b, k in zip(slots.tolist(), self.store.cursor["number"][slots].tolist(), strict=True):
            seed, slot = job.origin(self.first + b) if job.queue is None else (job.seed, 0)
            given.append(episode_seed(seed, job.purpose, slot, k))
        return np.array(given, np.int64)
