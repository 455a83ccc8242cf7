"""Validation of an environment by random play: every finding is one sentence."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ..modules.acting import random_actions
from ..utils.errors import UserError
from ..utils.waiting import within
from .base import Arrays, Env, EnvInfo
from .build import faulty_size
from .closing import CLOSE_SECONDS
from .info_metrics import NOT_BACK, InfoSummary, attach, summarise
from .own_random import OwnRandom
from .spaces import AgentSpaces
from .vector.slots import FOR_GOOD, beyond_limit

#: what an episode is compared by, in the order in which differences are named
FIELDS = tuple(f.name for f in fields(Arrays) if f.name != "extra")
_FLOATS = ("obs", "state", "reward", "metrics")
_FLAGS = ("avail", "terminated", "truncated", "agent_terminated", "alive")


BUILDING = "building the environment"


class Stop(Exception):
    """Raised where the environment is too broken to continue a check."""


@dataclass
class Report:
    """The findings (something is wrong) and warnings (something is worth knowing) of a validation, one of each kind.

    ``excuse`` is why an episode need not depend on its seed alone, where the environment declares that.
    """

    findings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    excuse: str = ""
    _reported: set[str] = field(default_factory=set)

    @property
    def kinds(self) -> set[str]:
        """The kinds reported so far."""
        return set(self._reported)

    def find(self, kind: str, sentence: str) -> None:
        """Add a finding unless one of this kind is there."""
        if kind not in self._reported:
            self._reported.add(kind)
            self.findings.append(sentence)

    def warn(self, kind: str, sentence: str) -> None:
        """Add a warning unless one of this kind is there."""
        if kind not in self._reported:
            self._reported.add(kind)
            self.warnings.append(sentence)

    def differs(self, kind: str, sentence: str) -> None:
        """Add a finding about episodes that should be the same; an excuse makes it a warning."""
        if self.excuse:
            self.warn(kind, f"{sentence} {self.excuse}")
        else:
            self.find(kind, sentence)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Turn an exception into a finding that says where it came from, and stop the check."""
        try:
            yield
        except Stop:
            raise
        except UserError as exc:
            if what == BUILDING:
                raise  # wrong arguments, or something that is not installed: a mistake on the command line
            self.find("raises", f"{what}: {exc}")
            raise Stop from exc
        except (Exception, SystemExit) as exc:
            frames = traceback.extract_tb(exc.__traceback__)
            at = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
            self.find("raises", f"{what} raises {type(exc).__name__}: {' '.join(str(exc).split())}{at}.")
            raise Stop from exc


class _Field(np.ndarray):
    """An array that an environment writes into, which inspects every value written over the whole of it."""

    look: Callable[[Any], None] | None = None

    def __setitem__(self, where: Any, value: Any) -> None:
        if self.look is not None and (where is Ellipsis or (isinstance(where, slice) and where == slice(None))):
            self.look(value)
        super().__setitem__(where, value)


def _watched(array: np.ndarray, name: str, info: EnvInfo, report: Report) -> np.ndarray:
    """Return a view of ``array`` that reports writes which numpy would repeat or convert in silence."""
    view = array.view(_Field)

    def look(value: Any) -> None:
        given = np.asarray(value)
        if name in _FLAGS and given.dtype != bool and not np.isin(given, (0, 1)).all():
            report.find(f"flag {name}", f"out.{name} is given {given.ravel()[:3].tolist()}: it holds True and False.")
        meant = getattr(value, "strides", None) and 0 in value.strides  # np.broadcast_to says that it is meant
        if name in ("obs", "state", "reward") and 1 < given.size < array.size and not meant:
            report.find(
                f"repeats {name}",
                f"out.{name} of shape {array.shape} is given numbers of shape {given.shape}, which numpy repeats in "
                "silence: write every entry (np.broadcast_to says that repeating is meant).",
            )
        if name == "reward" and given.size == 1 < array.size and not info.team_reward and given.any():
            report.find(
                "one reward",
                f"out.reward is given one number for {array.size} agents, which a common reward then adds up: give one "
                "an agent, or say team_reward=True in EnvInfo.",
            )

    view.look = look
    return view


Step = dict[str, np.ndarray]


#: seconds that one step may take, and one reset (which may start a game)
STEP_SECONDS, RESET_SECONDS = 60.0, 300.0


class Player:
    """Plays episodes of one environment instance at random and records its arrays at every step."""

    def __init__(self, make: Callable[[], Env], report: Report) -> None:
        with report.during(BUILDING):
            self.env = make()
        self.info, self.report = self.env.info, report
        self.plain = Arrays.allocate(self.info, 1).slot(0)
        watched = {n: _watched(getattr(self.plain, n), n, self.info, report) for n in FIELDS}
        self.out = Arrays.of(watched | self.plain.extra)
        self._given = watched
        self._last: Step | None = None
        self.closed = False
        self.complaints: list[str] = []
        inner = self.env.env if isinstance(self.env, OwnRandom) else self.env
        report.excuse = getattr(inner, "unrepeatable", "")
        found = getattr(inner, "spaces", None)
        if isinstance(found, AgentSpaces):
            found.watch = self.complaints
        self.summary, self._returned = InfoSummary(), ""
        attach(self.env, self)

    def infos(self, infos: Sequence[Any]) -> None:
        """Add an episode's final infos to the summary."""
        summary = summarise(infos)
        for mine, found in ((self.summary.values, summary.values), (self.summary.renamed, summary.renamed),
                            (self.summary.rest, summary.rest)):  # fmt: skip
            mine |= found  # type: ignore[operator]

    def end_taken_back(self, agent: Any) -> None:
        """Note an agent whose end is taken back."""
        self._returned = str(agent)

    def _snapshot(self, at: str) -> Step:
        for name in FIELDS:
            if getattr(self.out, name) is not self._given[name]:
                self.report.find(
                    "rebinds", f"{at} binds out.{name} to another array: write into it, as out.{name}[...] = values."
                )
                raise Stop
        self._last = {n: np.array(getattr(self.plain, n)) for n in FIELDS}
        return self._last

    def reset(self, seed: int) -> Step:
        """Start an episode, with everything in the arrays that an environment must not rely on."""
        p, self._returned = self.plain, ""
        for name in ("reward", "terminated", "truncated", "agent_terminated", "metrics"):
            getattr(p, name)[...] = 0
        p.obs[...] = p.state[...] = np.nan
        p.avail[...] = p.alive[...] = False
        self._call(f"reset (seed {seed})", RESET_SECONDS, lambda: self.env.reset(seed, self.out))
        return self._snapshot(f"reset (seed {seed})")

    def step(self, seed: int, t: int, rng: np.random.Generator) -> Step:
        """Take a random legal action for each agent (action 0 where there is none)."""
        if self._last is not None and any(
            not np.array_equal(getattr(self.plain, n), v, equal_nan=n in _FLOATS) for n, v in self._last.items()
        ):
            self.report.find("written later", "the arrays of one instance change while only another one is stepped.")
        actions = random_actions(self.info, self.plain.avail, rng)
        given = actions.copy()
        self._call(f"step {t} (seed {seed})", STEP_SECONDS, lambda: self.env.step(given, self.out))
        if not np.array_equal(given, actions):
            self.report.find("actions", f"step {t} (seed {seed}) changes the actions that it was given: copy them.")
        if self._returned:
            self.report.find("back", f"after step {t} (seed {seed}) agent {self._returned} {NOT_BACK}: {FOR_GOOD}.")
        return self._snapshot(f"step {t} (seed {seed})")

    def play(
        self, seed: int, action_seed: int | None = None, check: Callable[..., None] | None = None, most: int = 10**9
    ) -> list[Step]:
        """Return the steps of one episode (cut after ``most``), the reset first; ``check(steps)`` sees each."""
        rng = np.random.default_rng(seed if action_seed is None else action_seed)
        steps = [self.reset(seed)]
        if check is not None:
            check(steps)
        while not (steps[-1]["terminated"] or steps[-1]["truncated"]) and len(steps) <= most:
            if len(steps) > self.info.episode_limit:
                break
            steps.append(self.step(seed, len(steps), rng))
            if check is not None:
                check(steps)
        return steps

    def _call(self, what: str, seconds: float, act: Callable[[], None]) -> None:
        with self.report.during(what):
            if not within(seconds, act, what.capitalize()):
                self.report.find("hangs", f"{what} does not return within {seconds:g} seconds.")
                raise Stop

    def close(self) -> None:
        self.closed = True
        with self.report.during("close"):
            if not within(CLOSE_SECONDS, self.env.close, "close() of the environment"):
                self.report.find("close", f"close() does not return within {CLOSE_SECONDS:g} seconds.")
                raise Stop


def difference(a: list[Step], b: list[Step]) -> str:
    """Describe where two episodes differ first, ``""`` where they do not."""
    for t, (x, y) in enumerate(zip(a, b, strict=False)):
        for name in FIELDS:
            if not np.array_equal(x[name], y[name], equal_nan=name in _FLOATS):
                return f"{name} {'at reset' if t == 0 else f'after step {t}'}"
    return "" if len(a) == len(b) else "their lengths"


def check_info(info: EnvInfo, report: Report) -> None:
    """Validate an environment's sizes."""
    fault = faulty_size(info)
    if fault:
        report.find("info", fault)
        raise Stop


def check_step(steps: list[Step], seed: int, info: EnvInfo, report: Report) -> None:
    """Validate the newest of ``steps``: everything that must hold at every step."""
    t, now = len(steps) - 1, steps[-1]
    at = f"at reset (seed {seed})" if t == 0 else f"after step {t} (seed {seed})"
    over = bool(now["terminated"] or now["truncated"])
    for name in _FLOATS:
        bad = np.argwhere(~np.isfinite(now[name]))
        if len(bad):
            what = f"out.{name}{bad[0].tolist()} is {now[name][tuple(bad[0])]}"
            why = ", or was not written" if t == 0 and name in ("obs", "state") else ""
            report.find(f"finite {name}", f"{at} {what}{why}.")
    for i in range(info.n_agents):
        legal, alive, size = now["avail"][i], bool(now["alive"][i]), info.action_sizes[i]
        if alive and not legal.any() and not over:
            report.find("no action", f"{at} agent {i} is alive and has no legal action.")
        if not alive and legal.sum() != 1 and not over and not info.continuous:
            report.find(
                "dead actions",
                f"{at} agent {i} is not alive and has {legal.sum()} legal actions: it needs exactly one.",
            )
        if legal[size:].any():
            report.find(
                "padded actions", f"{at} agent {i} may take action {size + int(legal[size:].argmax())}: it has {size}."
            )
        if (now["obs"][i, info.obs_sizes[i] :] != 0).any():
            report.find(
                "padded obs", f"{at} agent {i} sees more than its {info.obs_sizes[i]} numbers: padding must be 0."
            )
        if now["agent_terminated"][i] and alive and not over:
            report.find("dead and alive", f"{at} agent {i} is agent_terminated and alive at once.")
        if t and steps[-2]["agent_terminated"][i]:
            if not now["agent_terminated"][i]:
                report.find("back", f"{at} agent {i} is no longer agent_terminated: {FOR_GOOD}.")
            if now["reward"][i] != 0 and not info.team_reward:
                report.warn(
                    "late reward", f"{at} agent {i} is rewarded after its end: individual rewards do not count that."
                )
    if t == 0 and over:
        report.find("over at reset", f"{at} the episode is over already.")
    if not now["alive"].any() and not over:
        report.find(
            "nobody",
            f"{at} no agent is alive{' (reset writes out.alive)' if t == 0 else ' and the episode continues'}.",
        )
    if t >= info.episode_limit and not over:
        report.find("endless", f"{at} {beyond_limit(info)}.")
