"""Typed configuration: what a part reads is a frozen dataclass, and its values come from YAML.

A part declares its keys with :func:`key` (type, range, meaning, no default: values live in
``config/default.yaml`` and the YAMLs above it) and receives an instance made by :func:`read`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from .errors import UserError, nearest, one_of

T = TypeVar("T")


def key(
    doc: str,
    *,
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """Declare a configuration key: its meaning, and what values are allowed.

    Args:
        doc: one sentence for the configuration reference.
        choices: the allowed values (where the type has several members, other types pass free).
        low, high: inclusive bounds of a number (of each member, for a list).
        above: exclusive lower bound.
    """
    return dataclasses.field(metadata={"doc": doc, "choices": choices, "low": low, "high": high, "above": above})


@cache
def hints(cls: type) -> dict[str, Any]:
    """Return the resolved annotations of a dataclass, field by field."""
    resolved = typing.get_type_hints(cls)
    return {f.name: resolved[f.name] for f in dataclasses.fields(cls)}


def type_name(hint: Any) -> str:
    """Return a type as the configuration reference writes it: ``int or null``, ``list of int``."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in typing.get_args(hint))
    if origin is list:
        args = typing.get_args(hint)
        return f"list of {type_name(args[0])}" if args else "list"
    if hint is type(None):
        return "null"
    if origin is dict or hint is dict:
        return "mapping"
    return str(getattr(hint, "__name__", hint))


_LARGEST = 1e38


class _Mismatch(Exception):
    pass


def _number(value: Any, hint: type) -> Any:
    if isinstance(value, bool):
        raise _Mismatch
    if hint is int:
        if isinstance(value, int):
            return value
        # 1e6 is a float in YAML; a whole float is what its writer meant as a count
        if isinstance(value, float) and value.is_integer():
            return int(value)
    else:
        if isinstance(value, (int, float)):
            return float(value)
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 (no dot) as a string
        try:
            number = float(value)
        except ValueError:
            raise _Mismatch from None
        return _number(number, hint)
    raise _Mismatch


def _convert(value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(hint)
        if value is None and type(None) in members:
            return None
        for member in members:
            if member is type(None):
                continue
            try:
                return _convert(value, member)
            except _Mismatch:
                continue
        raise _Mismatch
    if hint is Any:
        return value
    if origin is list or hint is list:
        if not isinstance(value, (list, tuple)):
            raise _Mismatch
        args = typing.get_args(hint)
        return [_convert(v, args[0]) for v in value] if args else list(value)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise _Mismatch
        return dict(value)
    if hint in (int, float):
        return _number(value, hint)
    if not isinstance(value, hint):
        raise _Mismatch
    return value


def _leaves(value: Any) -> list[Any]:
    return [x for v in value for x in _leaves(v)] if isinstance(value, list) else [value]


def check_value(name: str, value: Any, hint: Any, meta: Mapping[str, Any]) -> Any:
    """Return ``value`` converted to its declared type.

    Raises:
        UserError: wrong type, not among the choices, or out of range.
    """
    try:
        value = _convert(value, hint)
    except _Mismatch:
        raise UserError(f"{name}={value!r} has the wrong type: {type_name(hint)} is expected.") from None
    choices = meta.get("choices")
    if choices is not None:
        for leaf in _leaves(value):
            same_kind = leaf is not None and any(type(leaf) is type(c) for c in choices)
            if same_kind and leaf not in choices:
                raise UserError(f"{name}={value!r} is not allowed: use {one_of(choices)}{nearest(leaf, choices)}")
    for leaf in _leaves(value):
        if isinstance(leaf, bool) or not isinstance(leaf, (int, float)):
            continue
        low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
        # written so that NaN fails every bound
        if low is not None and not leaf >= low:
            raise UserError(f"{name}={leaf!r} is out of range: at least {low:g} is allowed.")
        if high is not None and not leaf <= high:
            raise UserError(f"{name}={leaf!r} is out of range: at most {high:g} is allowed.")
        if above is not None and not leaf > above:
            raise UserError(f"{name}={leaf!r} is out of range: more than {above:g} is allowed.")
        # what comes after it in arithmetic is float32; infinity has a meaning of its own
        if isinstance(leaf, float) and _LARGEST < abs(leaf) < float("inf"):
            raise UserError(f"{name}={leaf!r} is out of range: at most {_LARGEST:g} is allowed.")
    return value


def read(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass ``cls`` from the merged configuration, taking only the keys it declares.

    Raises:
        UserError: a declared key is missing, of the wrong type or out of range.
    """
    taken = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name not in values:
            raise UserError(f"The configuration lacks '{f.name}': {f.metadata['doc']}")
        taken[f.name] = check_value(f.name, values[f.name], hints(cls)[f.name], f.metadata)  # type: ignore[arg-type]
    return cls(**taken)
