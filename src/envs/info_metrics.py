"""Info metrics: numbers that an environment reports in its info at an episode's end, under names not known before.

Their names and values lie in arrays of fixed size, slot by slot, so that workers can share them with the process that
logs them: a slot's names in the order in which they came, and for the episode that ended last a value for each of
them. A name is written once, before its first value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..utils.errors import listed
from .own_random import OwnRandom
from .vector.memory import Layout

#: most numbers of a slot that are recorded, and the bytes of their names
MAX_METRICS, _NAME_BYTES = 128, 8192
_LONGEST_NAME = 100
#: how an agent is treated whose end an environment of another package takes back
NOT_BACK = "is no longer {flag}, and is taken for ended until the episode is over"
#: in place of a number that an episode did not report
ABSENT = -math.inf
#: ``<name>_mean`` is a metric of the program's own
_RESERVED = re.compile(
    r"(agent_\d+_|total_)?return|ep_length|ratio|target|value|reuse_(distance|bias|chi_square|role)|test_.*"
)


class Listener(Protocol):
    """Receives what an environment of another package reports beside its arrays while it is reset and stepped."""

    def infos(self, infos: Sequence[Any]) -> None:
        """Receive the infos at an episode's end: one, or each agent's last one."""

    def end_taken_back(self, agent: Any, flag: str = "terminated") -> None:
        """Receive that ``agent``, whose ``flag`` (terminated or truncated) had been set, is reported without it."""


class InfoSource:
    """An environment that reports infos to a :class:`Listener`, if one is attached."""

    listener: Listener | None = None


def attach(env: Any, listener: Listener) -> None:
    """Attach ``listener`` to an :class:`InfoSource`, also to one inside an :class:`OwnRandom`; to others nothing."""
    inner = env.env if isinstance(env, OwnRandom) else env
    if isinstance(inner, InfoSource):
        inner.listener = listener


@dataclass
class InfoSummary:
    """The contents of an episode's final infos, sorted into metrics and the rest.

    | field | meaning |
    |---|---|
    | values | name in the log, without ``_mean`` -> number; one that is not finite is NaN |
    | renamed | key -> its name, where that is another one because the program has a metric of the key's own name |
    | rest | keys of what is no number -> its kind |
    """

    values: dict[str, float] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    rest: dict[str, str] = field(default_factory=dict)


def summarise(infos: Iterable[Any]) -> InfoSummary:
    """Summarise infos; a number that several of them hold (agents' infos) becomes their mean.

    Booleans count 0 and 1. Arrays, texts and what is nested are left out, as is a key whose name in the log an earlier
    key has.
    """
    summary, found = InfoSummary(), dict[str, list[float]]()
    for info in infos:
        mine: set[str] = set()
        for key, value in info.items() if isinstance(info, Mapping) else ():
            number, name = _number(value), _name(key)
            if number is None or name in mine or not name:
                summary.rest.setdefault(str(key), type(value).__name__)
                continue
            if is_reserved(name):
                name = summary.renamed[str(key)] = f"info_{name}"
            mine.add(name)
            found.setdefault(name, []).append(number if math.isfinite(number) else math.nan)
    summary.values = {name: math.fsum(x) / len(x) for name, x in sorted(found.items())}
    return summary


def renaming(names: Mapping[str, str]) -> str:
    """Return how keys are logged whose own names in the log are taken: key -> its name."""
    logged, own = listed(f"{name}_mean" for name in names.values()), listed(f"{key}_mean" for key in names)
    if len(names) == 1:
        return f"it is logged as {logged}, for {own} is a metric of the program's own"
    return f"they are logged as {logged}, for {own} are metrics of the program's own"


def logging_notices(summary: InfoSummary) -> list[str]:
    """Return sentences: which numbers of infos are logged, and what else is in them."""
    sentences, at = [], "info at an episode's end"
    if summary.values:
        sentences.append(f"{at}: {listed(f'{name}_mean' for name in summary.values)} will be logged.")
    if summary.rest:
        kinds = listed(f"{key} ({kind})" for key, kind in summary.rest.items())
        sentences.append(f"{at}: {kinds} will not be logged, for only single numbers under names of their own are.")
    return sentences


def naming_warnings(summary: InfoSummary) -> list[str]:
    """Return sentences about numbers of infos that are logged under another name, or are not finite."""
    sentences = [f"info['{key}']: {renaming({key: name})}." for key, name in summary.renamed.items()]
    odd = [name for name, value in summary.values.items() if not math.isfinite(value)]
    return sentences + [f"info tells {name} as a number that is not finite: a mean with it is none." for name in odd]


def is_reserved(name: str) -> bool:
    """Whether ``<name>_mean`` is a metric of the program's own."""
    return bool(_RESERVED.fullmatch(name))


def _number(value: Any) -> float | None:
    """Return ``value`` as a float, None where it is not one number."""
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind not in "biuf":
        return None
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", None) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except Exception:  # an object of another package's, which only looks like a number
        return None


def _name(key: Any) -> str:
    """Return a key as a part of a metric's name: letters, digits, ``_``, ``-`` and ``/``."""
    return re.sub(r"[^\w/-]+", "_", str(key)).strip("_/-")[:_LONGEST_NAME]


def info_metrics_layout(n_slots: int) -> Layout:
    """Return names, shapes and types of the arrays of :class:`InfoMetrics`."""
    return {"values": ((n_slots, MAX_METRICS), "float64"), "names": ((n_slots, _NAME_BYTES), "uint8")}


class InfoMetrics:
    """Info metrics of S slots.

    Attributes:
        values: [S, W] float64, of each slot's episode, ABSENT where it has reported nothing (yet); W is 0
            where environments report nothing.
    """

    def __init__(self, values: np.ndarray, names: np.ndarray) -> None:
        """Use the arrays of :func:`info_metrics_layout`, with what is in them."""
        self.values, self._names = values, names
        self._places: list[dict[str, int] | None] = [None] * len(values)

    @classmethod
    def none(cls, n_slots: int) -> InfoMetrics:
        """Return those of slots whose environments report none."""
        return cls(np.zeros((n_slots, 0)), np.zeros((n_slots, 0), np.uint8))

    @classmethod
    def allocate(cls, n_slots: int) -> InfoMetrics:
        """Return empty ones in this process's memory."""
        return cls(**{k: np.zeros(shape, dtype) for k, (shape, dtype) in info_metrics_layout(n_slots).items()})

    def part(self, first: int, last: int) -> InfoMetrics:
        """Return a view of slots ``first`` to ``last - 1``."""
        return InfoMetrics(self.values[first:last], self._names[first:last])

    @property
    def width(self) -> int:
        """Numbers of a slot that can be recorded, W."""
        return int(self.values.shape[1])

    def recorded(self) -> dict[str, np.ndarray] | None:
        """Return the arrays, the names without the bytes that no slot uses, for :meth:`receive`; None without any."""
        used = np.flatnonzero(self._names.any(0))
        return {"values": self.values, "names": self._names[:, : used[-1] + 1]} if len(used) else None

    def receive(self, first: int, recorded: Mapping[str, np.ndarray] | None) -> None:
        """Take over the numbers of slots ``first``, ``first + 1``, ..., which another process recorded."""
        if recorded is None:
            return
        names = recorded["names"]
        own = slice(first, first + len(names))
        self.values[own] = recorded["values"]
        self._names[own] = 0
        self._names[own, : names.shape[1]] = names

    def begin(self, slots: np.ndarray) -> None:
        """Forget the numbers of ``slots`` [k]; their names stay."""
        self.values[slots] = ABSENT

    def write(self, slot: int, values: Mapping[str, float]) -> bool:
        """Write an episode's numbers; returns whether all of them had a place."""
        places = self._places[slot]
        if places is None:  # what a worker before this one has written stays
            places = self._places[slot] = {name: k for k, name in enumerate(self._read_names(slot))}
        whole = True
        for name, value in values.items():
            if name not in places and not self._add(slot, places, name):
                whole = False
                continue
            self.values[slot, places[name]] = value
        return whole

    def _add(self, slot: int, places: dict[str, int], name: str) -> bool:
        data = f"{name}\n".encode(errors="replace")
        begin = sum(len(n.encode(errors="replace")) + 1 for n in places)
        if len(places) >= self.width or begin + len(data) > self._names.shape[1]:
            return False
        rest = self._names[slot, begin:]
        rest[len(data) :] = 0
        rest[: len(data)] = np.frombuffer(data, np.uint8)
        places[name] = len(places)
        return True

    def _read_names(self, slot: int) -> list[str]:
        data = self._names[slot].tobytes()
        return data[: data.rfind(b"\n") + 1].decode(errors="replace").split("\n")[:-1]  # a name ends with its line

    def read(self, slot: int, row: np.ndarray | None = None) -> dict[str, float]:
        """Return the numbers of a slot's episode, by name; of ``row`` [W], a copy of its values made earlier."""
        row = self.values[slot] if row is None else row
        reported = np.flatnonzero(row != ABSENT).tolist()
        if not reported:
            return {}
        names = self._read_names(slot)
        return dict(sorted((names[k], float(row[k])) for k in reported))
