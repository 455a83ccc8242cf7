"""The suite itself: an environment is played at random, and what breaks its contract is reported.

| what is checked | where |
|---|---|
| sizes, numbers, masks, padding, ends, limits, at every step | :mod:`.rules` |
| shapes and types of what is written, actions left as they are, close(), time | :mod:`.player` |
| the seed alone decides: a second instance, other episodes before, other generators, two at once | here |
| every backend, slots that begin at different times | :mod:`.batched` |
| opposed rewards, names of metrics, ends by the clock | here, as warnings |
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...modules.acting import random_actions
from ...utils.waiting import within
from ...utils.warn_once import KINDS, begin_run
from ..build import is_native, make_env
from ..closing import CLOSE_SECONDS
from ..info_metrics import naming_warnings
from ..own_random import global_state, seed_global, set_global_state
from ..vector.make import make_vec
from ..vector.opposed import RewardRecord, names_of
from .batched import MOST_STEPS, SLOTS, BatchedPlay
from .player import Player, Step, difference
from .report import Report, Stop
from .rules import check_info, check_step

SPEED_SECONDS, OPPOSED_SECONDS = 1.0, 4.0


class Conformance:
    """The checks of one environment, in order; each uses the episodes that the earlier ones have played.

    Args:
        env: name in the registry, or ``package.module:Class``.
        args: its arguments, checked.
        seed: of the first episode.
        episodes: how many are checked step by step, at least 3.
        report: takes what is found.
        speed: measure the speed too.

    Attributes:
        reference: seed -> the steps of its episode, the reset first.
        steps_per_second: with random actions; 0 where it is not measured.
    """

    def __init__(
        self, env: str, args: Mapping[str, Any], seed: int, episodes: int, report: Report, speed: bool = True
    ) -> None:
        self.env, self.args, self.report = env, dict(args), report
        self.seeds = list(range(seed, seed + max(episodes, 3)))
        self.reference: dict[int, list[Step]] = {}
        self.measures, self.steps_per_second = speed, 0.0
        self._players: list[Player] = []

    def player(self) -> Player:
        """A fresh instance."""
        self._players.append(Player(lambda: make_env(self.env, self.args), self.report))
        return self._players[-1]

    def run(self) -> Player:
        """Run every check that the results of the earlier ones allow; returns the first instance.

        Raises:
            Stop: the environment cannot be built or played at all.
        """
        outer = global_state()
        try:
            first = self._episodes()
            begin_run(known=KINDS)  # each warning is a finding here, or a note
            for check in (self._again, self._seeds_matter, self._two_at_once, self._backends):
                try:
                    check(first)
                except Stop:
                    continue
            if self.measures:
                self._speed(first)
            self._opposed(first)
            first.close()
            return first
        finally:
            set_global_state(outer)
            self._leave()

    def _leave(self) -> None:
        """Close what an aborted check has left open: games would keep running."""
        for player in self._players:
            if not player.closed:
                with contextlib.suppress(Exception, SystemExit):
                    within(CLOSE_SECONDS, player.env.close, "close() of the environment")

    def _episodes(self) -> Player:
        """Whole episodes, checked step by step."""
        report = self.report
        seed_global(1)
        before = pickle.dumps(global_state())
        first = self.player()
        check_info(first.info, report)
        for seed in self.seeds:
            self.reference[seed] = first.play(
                seed, check=lambda steps, s=seed: check_step(steps, s, first.info, report)
            )
        for sentence in first.complaints:
            report.find(" ".join(sentence.split()[:8]), sentence)
        if pickle.dumps(global_state()) != before:
            report.warn(
                "global",
                "the global generators of numpy or Python were drawn from or seeded: a generator of the environment's "
                "own, np.random.default_rng(seed) in reset, keeps episodes apart.",
            )
        ends = [steps[-1] for steps in self.reference.values()]
        limit = first.info.episode_limit
        for sentence in naming_warnings(first.summary):
            report.warn(sentence, sentence)
        if (
            limit > 1
            and all(e["terminated"] for e in ends)
            and all(len(s) - 1 == limit for s in self.reference.values())
        ):
            report.warn(
                "limit",
                f"all episodes are terminated at exactly episode_limit={limit}: an end by the clock is truncated, not "
                "terminated (the value of what would have come is lost otherwise).",
            )
        return first

    def _again(self, first: Player) -> None:
        """The same seed again: in a second instance, after the global generators moved, and after other episodes."""
        seed, report = self.seeds[0], self.report
        seed_global(2)
        other = self.player()
        if differs := difference(self.reference[seed], other.play(seed)):
            seed_global(1)
            third = self.player()
            if difference(self.reference[seed], third.play(seed)):
                report.differs(
                    "seed",
                    f"the same seed ({seed}) gives another episode in a second instance; first difference: {differs}.",
                )
            else:
                report.differs(
                    "seed",
                    f"episodes depend on the global generators of numpy or Python (first difference: {differs}): use a "
                    "generator of its own, or global_random=True (env_args of gymma, a class attribute otherwise).",
                )
            third.close()
            other.close()
            return
        other.play(self.seeds[1], most=2)
        if differs := difference(self.reference[seed], other.play(seed)):
            report.differs(
                "leftover",
                f"reset in the middle of an episode leaves something behind: seed {seed} then gives another episode "
                f"(first difference: {differs}).",
            )
        elif differs := difference(self.reference[seed], first.play(seed)):
            report.differs(
                "leftover",
                f"an episode that has ended leaves something behind: seed {seed} then gives another episode (first "
                f"difference: {differs}).",
            )
        other.close()

    def _seeds_matter(self, first: Player) -> None:
        a, b = (first.play(s, action_seed=0) for s in self.seeds[:2])
        if not difference(a, b):
            self.report.warn("same", "different seeds give the same episode: nothing in it is random.")

    def _two_at_once(self, first: Player) -> None:
        """Two instances stepped in turn in one process: neither may affect the other."""
        if self.report.kinds & {"seed", "leftover"}:
            return  # they would differ for that reason
        players, seeds = [self.player(), self.player()], self.seeds[:2]
        rngs = [np.random.default_rng(s) for s in seeds]
        played = [[p.reset(s)] for p, s in zip(players, seeds, strict=True)]
        most = min(MOST_STEPS, *(len(self.reference[s]) - 1 for s in seeds))
        for t in range(1, most + 1):
            for p, s, rng, steps in zip(players, seeds, rngs, played, strict=True):
                steps.append(p.step(s, t, rng))
        for s, steps in zip(seeds, played, strict=True):
            if differs := difference(self.reference[s][: most + 1], steps):
                self.report.find(
                    "shared",
                    f"two instances in one process disturb each other (first difference: {differs}, seed {s}).",
                )
        for p in players:
            p.close()

    def _backends(self, first: Player) -> None:
        """The same episodes through each backend that the environment can have."""
        try:
            pickle.dumps(self.args)
        except Exception as exc:
            self.report.find("pickle", f"env_args cannot be sent to a worker process: {exc}.")
            return
        kinds = self.report.kinds
        if kinds & {"seed", "leftover", "shared", "endless"} or any(kind.startswith("finite ") for kind in kinds):
            return  # they would differ, or stop, for that reason
        for backend in ("serial", "process", "native") if is_native(self.env) else ("serial", "process"):
            try:
                with self.report.during(f"backend={backend}"):
                    vec = make_vec(self.env, self.args, SLOTS, backend=backend, workers=2)
                    try:
                        BatchedPlay(vec, backend, self.reference, self.seeds[:SLOTS], self.report).run()
                    finally:
                        vec.close()
            except Stop:
                return

    def _speed(self, first: Player) -> None:
        """Steps per second with random actions, resets included, without most of the check's own work."""
        rng, steps, began, seed = np.random.default_rng(0), 0, time.perf_counter(), self.seeds[0]
        with self.report.during("playing on"):
            while (spent := time.perf_counter() - began) < SPEED_SECONDS or not steps:
                p = first.plain
                first.clear()
                first.env.reset(seed, p)
                for _ in range(first.info.episode_limit):
                    if first.info.continuous:
                        actions = random_actions(first.info, p.avail, rng)
                    else:  # quicker
                        actions = np.where(p.avail, rng.random(p.avail.shape), -1.0).argmax(-1)
                    first.env.step(actions, p)
                    steps += 1
                    if p.terminated or p.truncated or time.perf_counter() - began > SPEED_SECONDS:
                        break
                seed += 1
        self.steps_per_second = steps / max(spent, 1e-9)

    def _opposed(self, first: Player) -> None:
        """Whether what some agents win, others lose, over the episodes so far and more of them."""
        record, began, seed = RewardRecord(first.info), time.perf_counter(), max(self.seeds)
        episodes = list(self.reference.values())
        while record.open:
            steps = episodes.pop() if episodes else first.play(seed)
            found, seed = record.add(np.array([step["reward"] for step in steps[1:]])), seed + 1
            late = time.perf_counter() - began > OPPOSED_SECONDS
            found = found or (record.so_far() if late and record.open else None)
            if found is not None:
                self.report.warn("opposed", found.sentence(names_of(first.env, first.info)))
            if found is not None or late:
                return
