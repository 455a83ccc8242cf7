"""Slots that several runs have in common: one vectorised environment, of which each run sees B slots as if they were
all there are.

Runs play together where they ask for it at the same time (:meth:`SharedVec.play_together`): episodes, noise and
policies are those of each run alone, so its numbers are too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ...modules.acting import Actor
from ...modules.grouped import GroupedActor, Groups
from .base import VecEnv
from .episode_store import EpisodeStore, Job
from .memory import Layout


@dataclass
class Play:
    """A run's request to play: its view of the slots, its part of the store, its job and its actor."""

    view: SharedSlots
    store: EpisodeStore
    job: Job
    actor: Actor


class Meeting(Protocol):
    """How a run waits for the others."""

    def play(self, request: Play) -> None:
        """Have a request played, together with others where they are there."""


class SharedVec:
    """The slots of R runs, B of each.

    Args:
        make: builds the vectorised environment with a number of slots.
        runs: R.
        n_slots: B.
    """

    def __init__(self, make: Callable[[int], VecEnv], runs: int, n_slots: int) -> None:
        self.vec, self.runs, self.n_slots = make(runs * n_slots), runs, n_slots
        self._rooms: dict[str, dict[str, np.ndarray]] = {}
        self._open = set(range(runs))

    def room(self, layout: Layout) -> dict[str, np.ndarray]:
        """Return the arrays [R * n, ...] of which each run has a part [n, ...] of this ``layout``."""
        name = repr(layout)
        if name not in self._rooms:
            # found again by what is asked for: all runs ask for the same
            whole = {k: ((self.runs * shape[0], *shape[1:]), dtype) for k, (shape, dtype) in layout.items()}
            self._rooms[name] = self.vec.room(whole)
        return self._rooms[name]

    def close(self, run: int) -> None:
        """Release the environments once no run needs them any more."""
        self._open.discard(run)
        if not self._open:
            self.vec.close()

    def play_together(self, requests: Sequence[Play]) -> None:
        """Play several runs' requests, in one go where they are of one kind.

        Raises:
            UserError, EnvError: as ``VecEnv.step``; they concern all of the runs.
        """
        kinds: dict[Any, list[Play]] = {}
        for one in requests:
            job = one.job
            kind = (
                job.purpose,
                job.greedy,
                job.rewards,
                job.keep,
                job.plan is None,
                job.steps,
                *one.view.rooms(one.store),
            )
            kinds.setdefault(kind, []).append(one)
        for alike in kinds.values():
            began = time.perf_counter()
            self._play(alike)
            share = (time.perf_counter() - began) / len(alike)
            for one in alike:
                one.view.played = share

    def _play(self, requests: Sequence[Play]) -> None:
        by_run = {one.view.run: one for one in requests}
        any_one = requests[0]
        cursor, endings, steps = any_one.view.rooms_of(any_one.store)
        plans = None
        if any_one.job.plan is not None:
            plans = tuple(
                plan for run in range(self.runs)
                for plan in ((by_run[run].job.plan or ()) if run in by_run else ((),) * self.n_slots)
            )  # fmt: skip
        job = replace(
            any_one.job, plan=plans, slots=self.n_slots,
            runs=tuple(by_run[r].job.seed if r in by_run else 0 for r in range(self.runs)),
            playing=tuple(r in by_run for r in range(self.runs)),
        )  # fmt: skip
        contexts = tuple(by_run[r].job.context if r in by_run else None for r in range(self.runs))
        actors = [by_run[r].actor if r in by_run else None for r in range(self.runs)]
        cursor["acting"][:], cursor["playing"][:] = 0.0, 0.0
        for run, one in by_run.items():  # rows are counted through all runs while they play together
            one.store.cursor["row"] += run * one.view.rows
        self.vec.play(EpisodeStore(cursor, endings, steps), job, GroupedActor(Groups(self.n_slots, contexts), actors))
        acting, playing = float(cursor["acting"].sum()), float(cursor["playing"].sum())
        for run, one in by_run.items():
            mine = one.store.cursor
            mine["row"] -= run * one.view.rows
            mine["acting"][:], mine["playing"][:] = 0.0, 0.0
            mine["acting"][0], mine["playing"][0] = acting / len(by_run), playing / len(by_run)


class SharedSlots(VecEnv):
    """The B slots of one of several runs; see :class:`SharedVec`.

    Args:
        shared: all slots.
        run: number of the run.
        meeting: how it waits for the others.
    """

    def __init__(self, shared: SharedVec, run: int, meeting: Meeting) -> None:
        vec, b = shared.vec, shared.n_slots
        self.shared, self.run, self._meeting = shared, run, meeting
        self._cut = slice(run * b, (run + 1) * b)
        super().__init__(
            vec.info, vec.arrays.part(run * b, (run + 1) * b), vec.seeds[self._cut], vec.steps[self._cut],
            vec.info_metrics.part(run * b, (run + 1) * b),
        )  # fmt: skip
        self.lost = vec.lost[self._cut]
        self.workers, self.native = vec.workers, vec.native
        self.rows = 0
        self._parts: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []

    @property
    def worker_restarts(self) -> int:
        """Workers started again so far, whichever run's slots they held."""
        return self.shared.vec.worker_restarts

    @worker_restarts.setter
    def worker_restarts(self, count: int) -> None:
        pass  # they are counted by the slots in common

    def room(self, layout: Layout) -> dict[str, np.ndarray]:
        """Return this run's part of arrays that have room for all runs."""
        whole = self.shared.room(layout)
        part = {}
        for name, (shape, _) in layout.items():
            part[name] = whole[name][self.run * shape[0] : (self.run + 1) * shape[0]]
        if "filled" in layout:
            self.rows = layout["filled"][0][0]
        self._parts.append((part, whole))
        return part

    def rooms_of(self, store: EpisodeStore) -> tuple[dict[str, np.ndarray], ...]:
        """Return the arrays of all runs that a ``store``'s groups are parts of."""
        found = []
        for group in (store.cursor, store.endings, store.steps):
            found.append(next(whole for part, whole in self._parts if part is group))
        return tuple(found)

    def rooms(self, store: EpisodeStore) -> tuple[int, ...]:
        """Return what tells apart the arrays that stores are parts of."""
        return tuple(id(whole) for whole in self.rooms_of(store))

    def play(self, store: EpisodeStore, job: Job, actor: Actor) -> None:
        """Play ``job`` in the slots of this run, together with the other runs."""
        self._meeting.play(Play(self, store, job, actor))

    def _all(self, mine: np.ndarray) -> np.ndarray:
        """An array [B, ...] of this run's slots among those of all, zeros elsewhere."""
        found = np.zeros((self.shared.vec.n_slots, *mine.shape[1:]), mine.dtype)
        found[self._cut] = mine
        return found

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        self.shared.vec.reset(slots + self._cut.start, seeds)

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        self.shared.vec.step(self._all(actions), self._all(active))

    def close(self) -> None:
        """Give this run's slots back; the last run to do so closes the environments."""
        self.shared.close(self.run)
