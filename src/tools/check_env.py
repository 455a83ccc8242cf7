"""``oamarl check-env ENV``: play random actions in an environment and report everything that is wrong with it."""

from __future__ import annotations

import contextlib
import pickle
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..components.experience import action_shape
from ..envs.build import check_env_args, is_native, make_env, notices
from ..envs.checks import FIELDS, Player, Report, Step, Stop, check_info, check_step, difference
from ..envs.closing import CLOSE_SECONDS
from ..envs.info_metrics import logging_notices, naming_warnings
from ..envs.own_random import global_state, seed_global, set_global_state
from ..envs.vector.base import VecEnv
from ..envs.vector.make import make_vec
from ..envs.vector.opposed import RewardRecord, names_of
from ..modules.acting import random_actions
from ..utils import signals
from ..utils.errors import UserError, counted, sizes_text
from ..utils.layout import fit, hanging, line_width
from ..utils.schema import vocabulary, yamls
from ..utils.schema.command_line import parse
from ..utils.schema.layers import environment
from ..utils.waiting import within
from ..utils.warn_once import KINDS, begin_run
from .arguments import Arguments, at_least

USAGE = """usage: oamarl check-env ENVIRONMENT [--episodes=N] [--seed=N] [with env_args.KEY=VALUE ...]
Plays random actions in an environment and prints each error as one sentence. ENVIRONMENT is a name (see `oamarl list`),
a YAML file, or package.module:Factory. Exit status: 0 nothing is wrong, 1 something is, 2 a user error on the command
line. Warnings (properties that may be intended) do not change it."""

#: steps of the episodes that are played again through each backend
_BACKEND_STEPS = 200
_SPEED_SECONDS, _OPPOSED_SECONDS = 1.0, 4.0


class Checks:
    """The checks of one environment, in order; each uses the episodes that the earlier ones have played."""

    def __init__(self, env: str, args: Mapping[str, Any], seed: int, episodes: int, report: Report) -> None:
        self.env, self.args, self.report = env, dict(args), report
        self.seeds = list(range(seed, seed + max(episodes, 3)))
        self.reference: dict[int, list[Step]] = {}
        self.speed = 0.0
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
                with contextlib.suppress(Exception):
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
        most = min(_BACKEND_STEPS, *(len(self.reference[s]) - 1 for s in seeds))
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
        if self.report.kinds & {"seed", "leftover", "shared", "endless"}:
            return  # they would differ, or stop, for that reason
        for backend in ("serial", "process", "native") if is_native(self.env) else ("serial", "process"):
            try:
                with self.report.during(f"backend={backend}"):
                    vec = make_vec(self.env, self.args, 3, backend=backend, workers=2)
                    try:
                        self._play_backend(vec, backend)
                    finally:
                        vec.close()
            except Stop:
                return

    def _play_backend(self, vec: VecEnv, backend: str) -> None:
        seeds, a = self.seeds[:3], vec.arrays
        rngs = [np.random.default_rng(s) for s in seeds]
        # slots are reset one after another, which shows whether the rows of other slots stay unchanged
        for b, s in enumerate(seeds):
            before = {n: np.array(getattr(a, n)) for n in FIELDS}
            vec.reset(np.array([b]), np.array([s]))
            if any(not np.array_equal(np.delete(getattr(a, n), b, 0), np.delete(before[n], b, 0)) for n in FIELDS):
                self.report.find("rows", f"backend={backend}: reset of slot {b} changes rows of other slots.")
        for t in range(_BACKEND_STEPS):
            for b, s in enumerate(seeds):
                wanted = self.reference[s]
                if t < len(wanted):
                    now = {n: np.array(getattr(a, n)[b]) for n in FIELDS}
                    if differs := difference([wanted[t]], [now]):
                        self.report.find(
                            "backend",
                            f"backend={backend} gives other numbers than one instance alone: {differs.split()[0]} "
                            f"differs {f'after step {t}' if t else 'at reset'} (seed {s}).",
                        )
                        return
            active = ~(a.terminated | a.truncated)
            if not active.any():
                return
            shape, dtype = action_shape(vec.info)
            actions = np.zeros((len(seeds), *shape), dtype)
            for b in np.flatnonzero(active).tolist():
                actions[b] = random_actions(vec.info, a.avail[b], rngs[b])
            vec.step(actions, active)

    def _speed(self, first: Player) -> None:
        """Steps per second with random actions, resets included, without most of the check's own work."""
        rng, steps, began, seed = np.random.default_rng(0), 0, time.perf_counter(), self.seeds[0]
        with self.report.during("playing on"):
            while (spent := time.perf_counter() - began) < _SPEED_SECONDS or not steps:
                p = first.plain
                for cleared in (p.reward, p.terminated, p.truncated, p.agent_terminated, p.metrics):
                    cleared[...] = 0
                first.env.reset(seed, p)
                for _ in range(first.info.episode_limit):
                    if first.info.continuous:
                        actions = random_actions(first.info, p.avail, rng)
                    else:  # quicker
                        actions = np.where(p.avail, rng.random(p.avail.shape), -1.0).argmax(-1)
                    first.env.step(actions, p)
                    steps += 1
                    if p.terminated or p.truncated or time.perf_counter() - began > _SPEED_SECONDS:
                        break
                seed += 1
        self.speed = steps / max(spent, 1e-9)

    def _opposed(self, first: Player) -> None:
        """Whether what some agents win, others lose, over the episodes so far and more of them."""
        record, began, seed = RewardRecord(first.info), time.perf_counter(), max(self.seeds)
        episodes = list(self.reference.values())
        while record.open:
            steps = episodes.pop() if episodes else first.play(seed)
            found, seed = record.add(np.array([step["reward"] for step in steps[1:]])), seed + 1
            late = time.perf_counter() - began > _OPPOSED_SECONDS
            found = found or (record.so_far() if late and record.open else None)
            if found is not None:
                self.report.warn("opposed", found.sentence(names_of(first.env, first.info)))
            if found is not None or late:
                return


def asked(argv: list[str]) -> tuple[str, dict[str, Any], dict[str, int]]:
    """Return the environment, its arguments (checked), and the numbers of the flags.

    Raises:
        UserError: an invalid command line.
    """
    p = Arguments("check-env")
    p.add_argument("--episodes", type=at_least(0), default=3)
    p.add_argument("--seed", type=at_least(0), default=0)
    numbers, words = p.parse_known_args(argv)
    at = words.index("with") if "with" in words else len(words)
    names = [word for word in words[:at] if not word.startswith("-")]
    request, _ = parse([word for word in words[:at] if word.startswith("-")] + words[at:])
    names += [request.env_config] if request.env_config else []
    if len(names) != 1:
        raise UserError(f"`oamarl check-env` takes one environment, {'none' if not names else ', '.join(names)} given.")
    for name in request.overrides:
        if name != "env_args":
            raise UserError(
                f"'{name}' is not an argument of an environment: only env_args.KEY=VALUE may follow `with`."
            )
    layer = environment(names[0])
    args = {**(layer.values.get("env_args") or {}), **request.overrides.get("env_args", {})}
    for name in [n for n in vocabulary.REFUSED if n.startswith("env_args.") and n[9:] in args]:
        vocabulary.refuse(name, args.pop(name[9:]), "command line", {})
    return str(layer.values["env"]), check_env_args(str(layer.values["env"]), args, request.typed), vars(numbers)


def main(argv: list[str]) -> int:
    """Check an environment; return the exit status."""
    if not argv:
        print(fit(USAGE, line_width()))
        return 0
    env, args, numbers = asked(argv)
    report = Report()
    checks = Checks(env, args, numbers["seed"], numbers["episodes"], report)
    for sentence in notices(env, args):
        report.warn(sentence, sentence)
    try:
        with signals.Stop().listening():
            player = checks.run()
    except Stop:
        player = None
    said = [f"{env}  {yamls.inline(args) if args else ''}".rstrip()]
    if player is not None:
        i, lengths = player.info, [len(s) - 1 for s in checks.reference.values()]
        said.append(
            f"{counted(i.n_agents, 'agent')}, observations {sizes_text(i.obs_sizes)}, actions "
            f"{sizes_text(i.action_sizes)}, state {i.state_size}, at most {i.episode_limit} steps; episodes of "
            f"{min(lengths)} to {max(lengths)} steps at random, {checks.speed:,.0f} steps a second."
        )
        said += logging_notices(player.summary)
    width = line_width()
    for sentence in said:
        print("\n".join(hanging(sentence, width)))
    for kind, sentences in (("wrong: ", report.findings), ("note:  ", report.warnings)):
        for sentence in sentences:
            print("\n".join(hanging(sentence, width, 7, kind)))
    print(f"{len(report.findings)} wrong, {len(report.warnings)} to note.")
    sys.stdout.flush()
    return 1 if report.findings else 0
