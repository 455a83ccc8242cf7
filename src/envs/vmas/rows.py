"""The rows of VMAS's worlds: its state is spread over tensors [B, ...] in the attributes of many objects.

What belongs to slot b is row b of each tensor whose first axis is the batch. Rows are copied from one environment to
another of the same scenario, or from a snapshot, attribute by attribute.
"""

from __future__ import annotations

import enum
import types
from typing import Any

import numpy as np
import torch

#: attributes that hold no state of a world
_SKIPPED = (
    torch.Tensor, torch.device, torch.dtype, torch.Size, np.ndarray, enum.Enum, type, types.ModuleType,
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, str, bytes, int, float, complex,
)  # fmt: skip


class Holders:
    """The attributes of all objects of an environment, found by walking through it in one order.

    Args:
        root: the scenario, which holds its world.
        n_rows: B.
    """

    def __init__(self, root: Any, n_rows: int) -> None:
        self.n_rows = n_rows
        self.dicts: list[dict[str, Any]] = []
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}  # id of an object -> its place in the list
        seen: set[int] = set()
        waiting: list[Any] = [root]
        while waiting:
            value = waiting.pop(0)
            if value is None or isinstance(value, _SKIPPED) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, dict):
                waiting += [*value.values(), *value.keys()]
            elif isinstance(value, (list, tuple)):
                waiting += value
            elif hasattr(value, "__dict__"):
                self.numbers[id(value)] = len(self.objects)
                self.objects.append(value)
                self.dicts.append(value.__dict__)
                waiting += value.__dict__.values()

    def snapshot(self) -> Snapshot:
        """Return a copy of all rows."""
        return Snapshot(self)

    def take(self, rows: np.ndarray, source: Holders | Snapshot, source_rows: np.ndarray) -> None:
        """Make ``rows`` [k] those of ``source_rows`` [k] of the same scenario's ``source``."""
        writer = _Writer(rows, source_rows, self.n_rows, source.n_rows)
        for mine, others in zip(self.dicts, source.dicts, strict=True):
            for name, value in others.items():
                writer.put(mine, name, value)

    def scalars(self) -> list[dict[str, Any]]:
        """Return the plain numbers and the objects that attributes hold, which all worlds share."""
        return [{n: v for n, v in d.items() if _is_shared(v, self)} for d in self.dicts]

    def share(self, source: Holders, before: list[dict[str, Any]]) -> None:
        """Set shared numbers and objects to those that have changed in ``source`` since ``before``."""
        for mine, others, old in zip(self.dicts, source.scalars(), before, strict=True):
            for name, value in others.items():
                if name in mine and (name not in old or (old[name] is not value and old[name] != value)):
                    number = source.numbers.get(id(value))
                    mine[name] = value if number is None else self.objects[number]


def _is_shared(value: Any, of: Holders) -> bool:
    return isinstance(value, (bool, int, float)) or id(value) in of.numbers


class Snapshot:
    """Copies of the tensors [B, ...] of an environment, in the same order of objects."""

    def __init__(self, of: Holders) -> None:
        self.n_rows = of.n_rows
        self.dicts: list[dict[str, Any]] = [{n: self._copy(v) for n, v in d.items()} for d in of.dicts]

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.clone() if value.ndim and value.shape[0] == self.n_rows else None
        if isinstance(value, (list, tuple)):
            return [self._copy(v) for v in value]
        if isinstance(value, dict):
            return {k: self._copy(v) for k, v in value.items()}
        return None


class _Writer:
    def __init__(self, rows: np.ndarray, source_rows: np.ndarray, n_rows: int, n_source: int) -> None:
        self._rows, self._from = rows, source_rows
        self._n, self._m = n_rows, n_source
        self._written: dict[int, int] = {}  # storage -> the one that it was written from

    def put(self, holder: Any, name: Any, value: Any) -> None:
        """Write the rows of ``value`` into ``holder[name]``, an entry of a dict or a list."""
        if isinstance(value, torch.Tensor):
            if value.ndim and value.shape[0] == self._m:
                self._put_tensor(holder, name, value)
        elif isinstance(value, (list, tuple)):
            inner = _entry(holder, name)
            if isinstance(inner, (list, tuple)) and len(inner) == len(value):
                for i, v in enumerate(value):
                    self.put(inner, i, v)
        elif isinstance(value, dict):
            inner = _entry(holder, name)
            if isinstance(inner, dict):
                for (_, v), key in zip(value.items(), list(inner), strict=False):
                    self.put(inner, key, v)

    def _put_tensor(self, holder: Any, name: Any, value: torch.Tensor) -> None:
        mine, shape = _entry(holder, name), (self._n, *value.shape[1:])
        if isinstance(mine, torch.Tensor) and mine.shape[:1] != shape[:1]:
            return  # its length is the batch's by chance
        if not isinstance(mine, torch.Tensor) or mine.shape != shape:
            mine = torch.zeros(shape, dtype=value.dtype, device=value.device)
        elif mine.dtype != value.dtype:
            mine = mine.to(value.dtype)
        else:
            storage, source = mine.untyped_storage().data_ptr(), value.untyped_storage().data_ptr()
            shared = self._written.setdefault(storage, source) != source
            if shared or 0 in mine.stride():  # written rows must not show elsewhere
                mine = mine.clone(memory_format=torch.contiguous_format)
        if mine.device.type == "cpu":
            # a tenth of the time of indexing in torch
            mine.detach().numpy()[self._rows] = value.detach().numpy()[self._from]
        else:
            mine[torch.from_numpy(self._rows).to(mine.device)] = value[torch.from_numpy(self._from).to(mine.device)]
        if isinstance(holder, (dict, list)):
            holder[name] = mine


def _entry(holder: Any, name: Any) -> Any:
    return holder.get(name) if isinstance(holder, dict) else holder[name]
