"""Typed configuration: the keys that a part reads are a frozen dataclass, with values from YAML.

A part declares its keys with :func:`key` (type, range, meaning, no default: values live in
``config/default.yaml`` and the YAMLs above it) and receives an instance made by :func:`read`.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import UserError, closest, nearest, one_of, shown_value
from .members import member

T = TypeVar("T")


def key(
    doc: str,
    *,
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    adds: Mapping[str, type] | None = None,
    only: Mapping[str, Sequence[Any]] | None = None,
    actions: str | None = None,
) -> Any:
    """Declare a configuration key: its meaning, and what values are allowed.

    Args:
        doc: one sentence for the configuration reference.
        choices: the allowed values (where the type has several members, other types pass free).
        low, high: inclusive bounds of a number (of each member, for a list).
        above: exclusive lower bound.
        adds: value of the key -> a dataclass of further keys, which a run with that value reads too.
        only: other keys -> those of their values under which (under all of them) this one has an effect.
        actions: ``continuous`` or ``discrete``: the kind of actions on which it has an effect; None: both.
    """
    bounds = {"low": low, "high": high, "above": above}
    return dataclasses.field(
        metadata={"doc": doc, "choices": choices, **bounds, "adds": adds or {}, "only": only or {}, "actions": actions}
    )


@cache
def hints(cls: type) -> dict[str, Any]:
    """Return the resolved annotations of a dataclass, field by field."""
    resolved = typing.get_type_hints(cls)
    return {f.name: resolved[f.name] for f in dataclasses.fields(cls)}


def type_name(hint: Any) -> str:
    """Return a type as the configuration reference writes it: ``int or null``, ``list of int``."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if any(map(_is_named, args)):
            return one_of(name for a in args for name in (_shown(a) if _is_named(a) else [type_name(a)]))
        return " or ".join(type_name(a) for a in args)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return f"list of {len(args)} ({', '.join(map(type_name, args))})"
    if (origin or hint) is np.ndarray:
        return "list of numbers"
    if (origin or hint) in (list, tuple, set, frozenset):
        return f"list of {type_name(args[0])}" if args else "list"
    if hint is type(None):
        return "null"
    if origin is dict or hint is dict:
        of = f" of {type_name(args[0])}" if args and _choices(args[0]) else ""
        return f"mapping{of}{f' to {type_name(args[1])}' if args and _choices(args[1]) else ''}"
    if _is_named(hint):
        return one_of(_shown(hint))
    return str(getattr(hint, "__name__", hint))


def _choices(hint: Any) -> list[str]:
    """Return the names that a type allows: of an enumeration's members, of a Literal's values."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return list(hint.__members__)
    if typing.get_origin(hint) is typing.Literal:
        return ["null" if v is None else str(v) for v in typing.get_args(hint)]
    return [name for inner in typing.get_args(hint) for name in _choices(inner)]


def _is_named(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Literal or (isinstance(hint, type) and issubclass(hint, Enum))


def _shown(hint: Any) -> list[str]:
    names = _choices(hint)
    return names if len(names) <= _MOST_NAMES else [*names[:_MOST_NAMES], f"another of its {len(names)}"]


_LARGEST, _LARGEST_INT = 1e38, 2**63 - 1
#: names of an enumeration that a sentence shows
_MOST_NAMES = 12
#: values that other YAML readers take for booleans and that are none here: the words of YAML 1.1, and numbers
_WORDS = {"yes": True, "on": True, "true": True, "1": True, "no": False, "off": False, "false": False, "0": False}


class _Mismatch(Exception):
    pass


def _number(value: Any, hint: type) -> Any:
    if isinstance(value, bool):
        raise _Mismatch
    if hint is int:
        if isinstance(value, int):
            return value
        # 1e6 is a float in YAML; a whole float is accepted as a count
        if isinstance(value, float) and value.is_integer():
            return int(value)
    else:
        if isinstance(value, (int, float)):
            try:
                return float(value)
            except OverflowError:
                raise _Mismatch from None
    if isinstance(value, str) and value.isascii():  # YAML 1.1 reads 1e-3 (no dot) as a string; float() reads any digits
        try:
            number = float(value)
        except ValueError:
            raise _Mismatch from None
        if math.isinf(number) and "inf" not in value.lower():  # beyond what a float holds
            raise _Mismatch
        return _number(number, hint)
    raise _Mismatch


def _union(value: Any, members: tuple[Any, ...]) -> Any:
    """Return ``value`` as a member where it names one, as it is where its own type is among several, else as the first
    of them that takes it."""
    if value is None and type(None) in members:
        return None
    named = [m for m in members if _choices(m)]
    # 3 stays an int where a float may be given too
    exact = [m for m in members if m in (bool, int, float, str) and type(value) is m]
    for kind in (*named, *exact, *members):
        try:
            return _convert(value, kind)
        except _Mismatch:
            continue
    raise _Mismatch


def _literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    for one in allowed:
        # True equals 1, but is not accepted as a number
        if isinstance(one, bool) == isinstance(value, bool) and (one == value or (one is None and value is None)):
            return one
    for one in allowed:
        if isinstance(one, Enum) and member(type(one), value) is one:
            return one
    raise _Mismatch


def _sequence(value: Any, kind: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple, kind)) or isinstance(value, np.ndarray):
        raise _Mismatch
    if kind is tuple and args and args[-1] is not Ellipsis:
        wanted = () if args == ((),) else args
        if len(value) != len(wanted):
            raise _Mismatch
        return tuple(_convert(v, a) for v, a in zip(value, wanted, strict=True))
    return kind(_convert(v, args[0]) for v in value) if args else kind(value)


def _array(value: Any, args: tuple[Any, ...]) -> np.ndarray:
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise _Mismatch
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unlike lengths
        raise _Mismatch from None
    if array.dtype.kind not in "biuf":
        raise _Mismatch
    entry = next((a for a in typing.get_args(args[1]) if isinstance(a, type)), None) if len(args) > 1 else None
    if entry is None or not issubclass(entry, np.generic) or entry in (np.number, np.generic):
        return array
    if array.size and not np.can_cast(array.dtype, entry, "same_kind"):
        raise _Mismatch
    return array.astype(entry)


def _mapping(value: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _Mismatch
    return {_convert(k, args[0]): _convert(v, args[1]) for k, v in value.items()} if args else dict(value)


def _convert(value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(value, args)
    if hint is Any:
        return value
    if hint is type(None):
        if value is not None:
            raise _Mismatch
        return None
    kind = origin or hint
    if origin is typing.Literal:
        return _literal(value, args)
    if kind in (list, tuple, set, frozenset):
        return _sequence(value, kind, args)
    if kind is dict:
        return _mapping(value, args)
    if kind is np.ndarray:
        return _array(value, args)
    if hint in (int, float):
        return _number(value, hint)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        found = member(hint, value)
        if found is None:
            raise _Mismatch
        return found
    if not isinstance(kind, type) or not isinstance(value, kind):
        raise _Mismatch
    return value


def _wrong(name: str, value: Any, hint: Any) -> UserError:
    """Return the sentence about a value that is not of its type: what is allowed, and the nearest of it."""
    inside = [*value, *value.values()] if isinstance(value, Mapping) else value
    names, texts = _choices(hint), [str(v) for v in _leaves(inside)]
    if names:
        near = ""
        for text in texts:
            folded = {n.casefold(): n for n in names}
            if text.casefold() not in folded and (close := closest(text.casefold(), folded)):
                near = f"; did you mean '{folded[close]}'?"
                break
        return UserError(f"{name}={shown_value(value)} is not allowed: use {type_name(hint)}{near}")
    word = boolean_word(value) if "bool" in type_name(hint) else None
    near = "." if word is None else f"; did you mean {word}?"
    if str in (hint, *typing.get_args(hint)) and isinstance(value, (bool, int, float)):
        near = f"; text that is written like a number or a boolean stands in quotes, such as '{value}'."
    return UserError(f"{name}={shown_value(value)} has the wrong type: {type_name(hint)} is expected{near}")


def boolean_word(value: Any) -> bool | None:
    """Return the boolean that a word of YAML 1.1 (``yes``, ``off``) or a number means, None where it means none."""
    return _WORDS.get(str(value).casefold())


def _leaves(value: Any) -> list[Any]:
    return [x for v in value for x in _leaves(v)] if isinstance(value, list) else [value]


def check_value(name: str, value: Any, hint: Any, meta: Mapping[str, Any]) -> Any:
    """Return ``value`` converted to its declared type.

    Args:
        name: of the key.
        value: as YAML reads it.
        hint: the declared type.
        meta: of :func:`key`, or nothing.

    Raises:
        UserError: wrong type, not among the choices, or out of range.
    """
    try:
        value = _convert(value, hint)
    except _Mismatch:
        raise _wrong(name, value, hint) from None
    choices = meta.get("choices")
    if choices is not None:
        for leaf in _leaves(value):
            same_kind = leaf is not None and any(type(leaf) is type(c) for c in choices)
            if same_kind and leaf not in choices:
                near = nearest(leaf, choices)
                raise UserError(f"{name}={shown_value(value)} is not allowed: use {one_of(choices)}{near}")
    for leaf in _leaves(value):
        if isinstance(leaf, bool) or not isinstance(leaf, (int, float)):
            continue
        low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
        # what comes after it in arithmetic is float32 or int64; infinity has a meaning of its own
        most = _LARGEST if isinstance(leaf, float) else _LARGEST_INT
        allowed = ""
        # written so that NaN fails every bound
        if low is not None and not leaf >= low:
            allowed = f"at least {_bound(low)}"
        elif high is not None and not leaf <= high:
            allowed = f"at most {_bound(high)}"
        elif above is not None and not leaf > above:
            allowed = f"more than {_bound(above)}"
        elif meta and most < abs(leaf) and not math.isinf(leaf):
            allowed = f"at most {_bound(most)}"
        if allowed and math.isnan(leaf):
            raise UserError(f"{name}={shown_value(leaf)} is not a number.")
        if allowed:
            raise UserError(f"{name}={shown_value(leaf)} is out of range: {allowed} is allowed.")
    return value


def as_typed(value: Any, hint: Any, typed: str | None) -> Any:
    """Return ``typed``, which the command line has read as ``value``, where a type takes text and no such value.

    So ``label=007`` is the text ``007``. What both or neither are of, the value decides.
    """
    for one in () if typed is None else (value, typed):
        try:
            _convert(one, hint)
        except _Mismatch:
            continue
        return one
    return value


def _bound(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


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
