"""Random play of one environment instance, with a record of everything that it shows at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ...modules.acting import random_actions
from ...utils.waiting import within
from ..base import Arrays, Env, EnvInfo
from ..closing import CLOSE_SECONDS
from ..info_metrics import NOT_BACK, InfoSummary, attach, summarise
from ..own_random import OwnRandom
from ..spaces import AgentSpaces
from ..vector.slots import FOR_GOOD
from .report import BUILDING, Report, Stop

#: what every environment shows, in the order in which differences are named; its extra fields come after them
FIELDS = tuple(f.name for f in fields(Arrays) if f.name != "extra")
_FLAGS = ("avail", "terminated", "truncated", "agent_terminated", "alive")

#: everything that one slot shows at one moment, by name
Step = dict[str, np.ndarray]
#: seconds that one step may take, and one reset (which may start a game)
STEP_SECONDS, RESET_SECONDS = 60.0, 300.0


def snapshot(arrays: Arrays) -> Step:
    """Return copies of the arrays of one slot."""
    return {name: np.array(x) for name, x in arrays.named().items()}


def in_out(name: str) -> str:
    """Return how an environment writes an array: ``out.obs``, or an extra field as ``out.extra['name']``."""
    return f"out.{name}" if name in FIELDS else f"out.extra['{name}']"


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays hold the same numbers; two NaN are the same."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


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


class Player:
    """Plays episodes of one environment instance at random and records its arrays at every step."""

    def __init__(self, make: Callable[[], Env], report: Report) -> None:
        with report.during(BUILDING):
            self.env = make()
        self.info, self.report = self.env.info, report
        self.plain = Arrays.allocate(self.info, 1).slot(0)
        watched = {n: _watched(getattr(self.plain, n), n, self.info, report) for n in FIELDS}
        self.out = Arrays.of(watched | self.plain.extra)
        self._given = self.out.named()
        self._shown_first = [f.name for f in self.info.extra if f.known == "before"]
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

    def end_taken_back(self, agent: Any, flag: str = "terminated") -> None:
        """Note an agent whose end is taken back."""
        self._returned = f"{agent} {NOT_BACK.format(flag=flag)}"

    def _snapshot(self, at: str) -> Step:
        for name, array in self.out.named().items():
            if array is not self._given[name]:
                shown = in_out(name)
                self.report.find(
                    "rebinds", f"{at} binds {shown} to another array: write into it, as {shown}[...] = values."
                )
                raise Stop
        self._last = snapshot(self.plain)
        return self._last

    def clear(self) -> None:
        """Zero what is zero at the start of an episode, whatever the environment writes."""
        for name in ("reward", "terminated", "truncated", "agent_terminated", "metrics"):
            getattr(self.plain, name)[...] = 0
        for extra in self.info.extra:
            if extra.known == "after":
                self.plain.extra[extra.name][...] = 0

    def reset(self, seed: int) -> Step:
        """Start an episode, with everything in the arrays that an environment must not rely on."""
        p, self._returned = self.plain, ""
        self.clear()
        p.obs[...] = p.state[...] = np.nan
        p.avail[...] = p.alive[...] = False
        for name in self._shown_first:
            p.extra[name][...] = np.nan if p.extra[name].dtype.kind == "f" else 0
        self._call(f"reset (seed {seed})", RESET_SECONDS, lambda: self.env.reset(seed, self.out))
        return self._snapshot(f"reset (seed {seed})")

    def step(self, seed: int, t: int, rng: np.random.Generator) -> Step:
        """Take a random legal action for each agent (action 0 where there is none)."""
        if self._last is not None and not all(equal(x, self._last[n]) for n, x in self.plain.named().items()):
            self.report.find("written later", "the arrays of one instance change while only another one is stepped.")
        actions = random_actions(self.info, self.plain.avail, rng)
        given = actions.copy()
        self._call(f"step {t} (seed {seed})", STEP_SECONDS, lambda: self.env.step(given, self.out))
        if not np.array_equal(given, actions):
            self.report.find("actions", f"step {t} (seed {seed}) changes the actions that it was given: copy them.")
        if self._returned:
            self.report.find("back", f"after step {t} (seed {seed}) agent {self._returned}: {FOR_GOOD}.")
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
        """Close the environment, within a limited time."""
        self.closed = True
        with self.report.during("close"):
            if not within(CLOSE_SECONDS, self.env.close, "close() of the environment"):
                self.report.find("close", f"close() does not return within {CLOSE_SECONDS:g} seconds.")
                raise Stop


def difference(a: list[Step], b: list[Step]) -> str:
    """Describe where two episodes differ first, ``""`` where they do not."""
    for t, (x, y) in enumerate(zip(a, b, strict=False)):
        for name in x:
            if not equal(x[name], y[name]):
                return f"{name} {'at reset' if t == 0 else f'after step {t}'}"
    return "" if len(a) == len(b) else "their lengths"
