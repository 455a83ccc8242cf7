"""What a checkpoint's payload must be to resume from it: its parts, counters and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..components.finite import all_finite, floating

#: what a payload consists of
_PARTS = {
    "config": dict, "folder": str, "position": dict, "mac": dict, "learner": dict, "runner": dict, "loop": dict
}  # fmt: skip
#: whole numbers that count something, in any part: steps, episodes, updates
_COUNTERS = frozenset({"agent_steps", "episodes", "iterations", "processed", "t_env", "updates", "worker_restarts"})
_MOST = 2**63 - 1
#: tensors of these are no parameters and no statistics; uint8 ones are states of random streams
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64)
#: statistics and counts that are never below 0; `step` is an optimiser's
_NEVER_NEGATIVE = frozenset({"exp_avg_sq", "var", "count", "step", "skipped"})


def unfit(payload: Mapping[str, Any]) -> str:
    """Return what keeps a payload from being resumed or from being a run's at all, as the end of a sentence."""
    wrong = [name for name, kind in _PARTS.items() if type(payload.get(name)) is not kind]
    if wrong:
        return f"lacks what this program writes ({', '.join(wrong)}): not loaded"
    if not all(type(k) is str and type(v) is int and v >= 0 for k, v in payload["position"].items()):
        return "has no sensible place in its run's records: not loaded"
    steps = payload["runner"].get("t_env")
    if type(steps) is not int or steps < 0 or type(payload["config"].get("seed")) is not int:
        return "lacks its step or its seed: not loaded"
    if not sound(payload):
        return "holds parameters that are not finite: not loaded"
    best = payload["loop"].get("best")  # the rest of the loop's state are metrics, which may be named as they like
    if isinstance(best, Mapping) and (problem := _impossible("loop.best.t_env", best.get("t_env"))):
        return f"holds {problem} (loop.best.t_env): not loaded"
    for part in ("mac", "learner", "runner"):
        if ":" in str(payload["config"].get(part)):  # of a user's own class, whose names mean what they mean there
            continue
        for place, value in named_values(payload[part], part):
            problem = _impossible(place, value)
            if problem:
                return f"holds {problem} ({place}): not loaded"
    return ""


def sound(payload: Mapping[str, Any]) -> bool:
    """Whether all floating-point tensors of policies and learner are finite."""
    return all_finite(floating([payload["mac"], payload["learner"]]))


def named_values(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted place, value) of what nested mappings and lists hold; an entry of a list has the list's name."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from named_values(inner, f"{place}.{name}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from named_values(inner, place)
    else:
        yield place, value


def _impossible(place: str, value: Any) -> str:
    """Return why this cannot be the counter, the parameters or the statistic at a place; "" where it can."""
    name = place.rpartition(".")[2]
    if isinstance(value, Tensor):
        if place.startswith(("mac.", "learner.")) and value.dtype in _WHOLE:
            return "whole numbers where parameters or statistics are expected"
        if name in _NEVER_NEGATIVE and value.numel() and not value.is_complex() and bool((value < 0).any()):
            return "a number below 0 where none can be"
    elif name in _COUNTERS and value is not None and (type(value) is not int or not 0 <= value <= _MOST):
        return "a counter that cannot be"
    return ""
