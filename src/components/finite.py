"""Numbers that are not finite: found in a batch before it is learned from, and in what an update left behind."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch

#: what comes from the environment, in the order in which faults are looked for; `final_*` belong to the same steps
_FROM_OUTSIDE = ("obs", "state", "reward", "final_obs", "final_state")


@dataclass(frozen=True)
class Fault:
    """The first number of a batch that is not finite: its field, row, step in the row, agent, and value.

    The observations that an episode ended with count as its last step's.
    """

    field: str
    row: int
    step: int
    agent: int | None
    value: float

    def __str__(self) -> str:
        who = "" if self.agent is None else f" of agent {self.agent}"
        return f"{self.field}{who} is {self.value:g}"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number is finite, at the price of one sum and one synchronisation with each device."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for x in tensors:
        if x.numel():
            by_device.setdefault(x.device, []).append(x.detach())
    for found in by_device.values():
        # a sum is finite only if all of its terms are; one that merely overflows is looked at again, number by number
        total = torch.stack([x.sum(dtype=torch.float32) for x in found]).sum()
        if not bool(total.isfinite()) and not all(bool(torch.isfinite(x).all()) for x in found):
            return False
    return True


def floating(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors of nested containers."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from floating(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from floating(inner)


def first_fault(batch: Batch) -> Fault | None:
    """Return where a batch first has a number that is not finite, or None.

    What the environment gave (obs, state, reward) is looked at first; log_prob shows policies that are broken.
    """
    if all_finite(getattr(batch, name) for name in (*_FROM_OUTSIDE, "log_prob")):
        return None
    found = [_first(batch, name) for name in _FROM_OUTSIDE]
    known = [fault for fault in found if fault is not None]
    return min(known, key=lambda fault: (fault.step, fault.row)) if known else _first(batch, "log_prob")


def _first(batch: Batch, name: str) -> Fault | None:
    values = getattr(batch, name)
    where = (~torch.isfinite(values)).nonzero()
    if not len(where):
        return None
    place = where[0] if name.startswith("final_") else where[where[:, 1].argmin()]
    row, step = place[:2].tolist()
    if name.startswith("final_"):
        agent = step if name == "final_obs" else None
        row, step = batch.final_index[row].tolist()
    else:
        agent = None if name == "state" else int(place[2])
    return Fault(name.removeprefix("final_"), row, step, agent, float(values[tuple(place.tolist())]))


def broken_scalars(scalars: Mapping[str, float]) -> list[str]:
    """Return the names of an update's scalars that show it went wrong: NaN, or an infinite loss or gradient.

    A probability ratio may well overflow where policies have moved far; by itself it harms nothing.
    """
    return [
        name
        for name, value in scalars.items()
        if not name.startswith("ratio")
        and (math.isnan(value) or (math.isinf(value) and ("loss" in name or "norm" in name)))
    ]


def dump(path: Path, batch: Batch, scalars: Mapping[str, Any]) -> None:
    """Write a batch, and the scalars of its update as JSON text, for :func:`numpy.load`.

    Raises:
        OSError: the file cannot be written (nothing is left of it).
    """
    plain: dict[str, Any] = {name: x.detach().cpu().numpy() for name, x in batch.named().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, scalars=np.array(json.dumps(dict(scalars))), **plain)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
