"""What experience consists of: an environment's sizes, and THE table of fields. No torch is imported here: environment
workers read it.

Everything that holds experience is laid out from the table: what slots show (:class:`oamarl.envs.base.Arrays`), the
memory that workers share, the steps that a player records, :class:`~oamarl.components.batch.Batch` and replay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: name -> (shape, dtype)
Layout = Mapping[str, tuple[tuple[int, ...], str]]

#: When a field is known: read before a step, chosen by the actor, set by the step, noted by the player, or (of the
#: episode so far) read at an episode's end alone.
Known = Literal["before", "actor", "after", "player", "ending"]
_FROM_ENV = ("before", "after", "ending")


@dataclass(frozen=True)
class Field:
    """One field of experience at one step of one slot.

    | field | meaning |
    |---|---|
    | name | of the field |
    | axes | its shape: N agents, O numbers observed, S of the state, A actions (of continuous actions: their numbers D), M metrics, or a size |
    | dtype | numpy's name of its type |
    | known | when it is known; see :data:`Known` |
    | final | an episode's last one is kept too, after the last action |
    """  # noqa: E501

    name: str
    axes: tuple[str | int, ...]
    dtype: str
    known: Known
    final: bool = False

    def shape(self, info: EnvInfo) -> tuple[int, ...]:
        """Return the shape at one step of one slot."""
        sizes = {
            "N": info.n_agents, "O": info.obs_size, "S": info.state_size, "A": info.n_actions, "M": len(info.metrics)
        }  # fmt: skip
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.axes)


#: the table; actions are [N] numbers of discrete actions, or :data:`CONTINUOUS_ACTIONS`
TABLE: tuple[Field, ...] = (
    Field("obs", ("N", "O"), "float32", "before", final=True),
    Field("state", ("S",), "float32", "before", final=True),
    Field("avail", ("N", "A"), "bool", "before", final=True),
    Field("alive", ("N",), "bool", "before"),
    Field("actions", ("N",), "int64", "actor"),
    Field("log_prob", ("N",), "float32", "actor"),
    Field("filled", (), "bool", "player"),
    Field("reward", ("N",), "float32", "after"),
    Field("terminated", (), "bool", "after"),
    Field("truncated", (), "bool", "after"),
    Field("agent_terminated", ("N",), "bool", "after"),
    Field("metrics", ("M",), "float32", "ending"),
)
CONTINUOUS_ACTIONS = Field("actions", ("N", "A"), "float32", "actor")
_NAMES = frozenset(f.name for f in TABLE)


@dataclass(frozen=True)
class EnvInfo:
    """Sizes and names of an environment, after ragged agents were padded to one size.

    ``obs_sizes`` and ``action_sizes`` are the agents' ORIGINAL sizes: agents that differ in either
    can never reuse one another's experience.

    Discrete actions are numbered from 0 to ``n_actions`` - 1. Continuous ones (Box) are vectors of D = ``n_actions``
    numbers, where ``action_sizes`` are the agents' own D and legal "actions" are the dimensions that an agent has.

    ``extra`` are fields that the environment gives beside those of every environment: it writes ``Arrays.extra[name]``,
    and learners read ``Batch.extra[name]``.
    """

    name: str
    n_agents: int
    obs_size: int
    state_size: int
    n_actions: int
    episode_limit: int
    obs_sizes: tuple[int, ...]
    action_sizes: tuple[int, ...]
    metrics: tuple[str, ...] = ()  # names of the per-episode extras, read at an episode's end
    team_reward: bool = False  # each agent's reward entry already IS the one team reward: never add them up
    obs_shape: tuple[int, ...] | None = None  # of one observation, where all agents' are arrays such as images
    action_low: tuple[tuple[float, ...], ...] = ()  # [N][D] bounds of continuous actions; empty: discrete actions
    action_high: tuple[tuple[float, ...], ...] = ()
    clip_actions: bool = True  # continuous ones are clipped to the bounds; False: the environment gets them as drawn
    extra: tuple[Field, ...] = ()
    agent_types: tuple[str, ...] = ()  # [N] what kind each agent is, for labels of figures; empty: not said
    memory: int = 0  # bytes that one instance takes in processes of its own, beside those that step it

    def __post_init__(self) -> None:
        # a checkpoint holds fields as mappings
        stored = (Field(**{**f, "axes": tuple(f["axes"])}) if isinstance(f, Mapping) else f for f in self.extra)
        object.__setattr__(self, "extra", tuple(stored))

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors of numbers (Box)."""
        return bool(self.action_low)

    def agents_match(self) -> np.ndarray:
        """Return [N, N] bool: agents i and j have the same original observation and action space."""
        spaces = np.stack([np.asarray(self.obs_sizes), np.asarray(self.action_sizes)], axis=1)
        return (spaces[:, None] == spaces[None, :]).all(-1)

    def why_alone(self) -> str:
        """Return why no agent can use another one's experience, as the end of a sentence; ``""`` where one can."""
        if self.n_agents == 1:
            return "it has one agent"
        alike = self.agents_match().sum() > self.n_agents
        return "" if alike else "no two agents have observations and actions of equal sizes"

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest continuous actions [N, D] float32; dimensions that an agent lacks are 0."""
        own = np.arange(self.n_actions) < np.asarray(self.action_sizes)[:, None]
        low, high = (np.zeros(own.shape, np.float32) for _ in range(2))
        for array, given in ((low, self.action_low), (high, self.action_high)):
            for i, numbers in enumerate(given):
                array[i, : len(numbers)] = numbers
        return np.where(own, low, 0.0).astype(np.float32), np.where(own, high, 0.0).astype(np.float32)

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest continuous actions that are drawn, [N, D] float32 each, all of them finite.

        An infinite bound lies 2 from the other one, and bounds that are both infinite are -1 and 1. Dimensions that an
        agent lacks have 0 and 0.
        """
        low, high = self.bounds()
        below, above = np.isfinite(low), np.isfinite(high)
        lowest = np.where(below, low, np.where(above, high - 2.0, -1.0))
        return lowest.astype(np.float32), np.where(above, high, lowest + 2.0).astype(np.float32)

    def action_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and half the range (:meth:`action_range`) of the continuous actions, [N, D] float32 each: what
        takes numbers between -1 and 1 to the bounds.
        """
        lowest, highest = self.action_range()
        return (lowest + highest) / 2, (highest - lowest) / 2


def fields_of(info: EnvInfo, extra: Iterable[Field] = ()) -> tuple[Field, ...]:
    """Return the table for an environment, with its own extra fields and ``extra``, which an actor gives."""
    own = tuple(CONTINUOUS_ACTIONS if f.name == "actions" and info.continuous else f for f in TABLE)
    return (*own, *info.extra, *extra)


def action_shape(info: EnvInfo) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of all agents' actions at one step: [N] int64 or [N, D] float32."""
    field = next(f for f in fields_of(info) if f.name == "actions")
    return field.shape(info), field.dtype


def no_action(info: EnvInfo) -> float:
    """Return what stands in place of a last action before an episode's first step: -1; NaN for continuous actions."""
    return math.nan if info.continuous else -1


def shown_layout(info: EnvInfo, n_slots: int) -> Layout:
    """Return names, shapes and types of what ``n_slots`` slots show: every field that the environment gives."""
    return {f.name: ((n_slots, *f.shape(info)), f.dtype) for f in fields_of(info) if f.known in _FROM_ENV}


def steps_layout(info: EnvInfo, rows: int, steps: int, extra: Iterable[Field] = ()) -> Layout:
    """Return names, shapes and types of recorded steps: [rows, steps, ...], one more of fields with a final one."""
    return {
        f.name: ((rows, steps + f.final, *f.shape(info)), f.dtype)
        for f in fields_of(info, extra)
        if f.known != "ending"
    }


def faulty_fields(fields: Iterable[Field], known: Iterable[Known] = ("before", "after")) -> str:
    """Return what is wrong with extra fields, the first in one sentence; ``""`` where nothing is.

    Args:
        known: when such fields may be known: an environment's before or after a step, an actor's as it acts.
    """
    seen: set[str] = set()
    for f in fields:
        if not isinstance(f, Field):
            return f"extra holds {f!r}: a Field is expected."
        if f.name in _NAMES or f.name in seen or not f.name.isidentifier():
            return f"the extra field {f.name!r} needs a name of its own."
        wrong = [a for a in f.axes if a not in ("N", "O", "S", "A") and not (isinstance(a, int) and a > 0)]
        if wrong:
            return f"the extra field '{f.name}' has the axis {wrong[0]!r}: use N, O, S, A or a size."
        if f.known not in known or (f.final and f.known != "before"):
            allowed = " or ".join(known)
            return (
                f"the extra field '{f.name}' is known '{f.known}' (final: {f.final}): use {allowed}; final is before."
            )
        try:
            np.dtype(f.dtype)
        except TypeError:
            return f"the extra field '{f.name}' has the type {f.dtype!r}: use numpy's name of one, such as float32."
        seen.add(f.name)
    return ""
