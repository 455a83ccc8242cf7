"""Type annotations and defaults of other packages' code, translated into types that the configuration can check."""

from __future__ import annotations

import collections.abc as abc
import numbers
import os
import pathlib
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

#: what may be annotated -> what a value becomes
_SAME: dict[Any, Any] = {
    object: Any, numbers.Number: int | float, numbers.Complex: int | float, numbers.Real: int | float,
    numbers.Rational: int, numbers.Integral: int, typing.SupportsFloat: int | float, typing.SupportsInt: int | float,
    typing.SupportsIndex: int, os.PathLike: Path, pathlib.PurePath: Path, bytes: Any, complex: int | float,
}  # fmt: skip
_LISTS = (abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, abc.Container, abc.Reversible)
_SETS = (abc.Set, abc.MutableSet)
_MAPPINGS = (abc.Mapping, abc.MutableMapping)


def plain_hint(hint: Any) -> Any:
    """Return an annotation as a type that ``check_value`` knows; Any where nothing of it can be checked."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is None:
        return type(None)
    if isinstance(hint, typing.TypeVar):
        return plain_hint(hint.__bound__) if hint.__bound__ else _either([plain_hint(c) for c in hint.__constraints__])
    if isinstance(hint, typing.NewType):
        return plain_hint(hint.__supertype__)
    if type(hint).__name__ == "TypeAliasType":  # `type Size = int | None`
        return plain_hint(hint.__value__)
    if origin is typing.Annotated:
        return plain_hint(args[0])
    if origin in (typing.Union, types.UnionType):
        return _either([plain_hint(a) for a in args])
    if origin is typing.Literal or isinstance(hint, (str, typing.ForwardRef)):
        return hint if origin else Any
    kind = origin or hint
    if kind in (list, *_LISTS):
        return _of(list, plain_hint(args[0])) if args else list
    if kind in (set, frozenset, *_SETS):
        base = frozenset if kind is frozenset else set
        return _of(base, plain_hint(args[0])) if args else base
    if kind is tuple:
        return _of(tuple, tuple(a if a is Ellipsis else plain_hint(a) for a in args)) if args else tuple
    if kind in (dict, *_MAPPINGS) or typing.is_typeddict(kind):
        return _of(dict, (plain_hint(args[0]), plain_hint(args[1]))) if len(args) == 2 else dict
    if kind in _SAME:
        return _SAME[kind]
    if isinstance(kind, type) and issubclass(kind, np.generic):
        return _scalar(kind)
    checkable = isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
    return hint if checkable else Any


def _scalar(kind: type) -> Any:
    for numpy_kind, plain in ((np.bool_, bool), (np.integer, int), (np.floating, float), (np.number, int | float)):
        if issubclass(kind, numpy_kind):
            return plain
    return str if issubclass(kind, np.str_) else Any


def _either(kinds: list[Any]) -> Any:
    """Return a type that allows any of several; Any where there is none, or one of them is Any."""
    if not kinds or any(k is Any for k in kinds):
        return Any
    return typing.Union[tuple(kinds)]  # noqa: UP007


def kind_of(value: Any) -> Any:
    """Return the type that a default implies: ``bool`` for False; None where it implies none (null, a function)."""
    if isinstance(value, Enum):
        return type(value)
    if isinstance(value, np.generic):
        found = _scalar(type(value))
        return None if found is Any else found
    for kind in (bool, int, float, str):
        if type(value) is kind:
            return kind
    if isinstance(value, Path):
        return Path
    if isinstance(value, np.ndarray):
        # of whole numbers the next one need not be whole
        floats = np.issubdtype(value.dtype, np.floating)
        return np.ndarray[Any, np.dtype[value.dtype.type]] if floats else np.ndarray
    if type(value) is dict:
        return dict
    if type(value) in (list, tuple, set, frozenset):
        inner = _inner(value)
        if inner is not None:
            return _of(type(value), (inner, ...) if type(value) is tuple else inner)
        return type(value)
    return None


def _of(kind: Any, entries: Any) -> Any:
    return kind[entries]


def _inner(values: Any) -> Any:
    """Return the kind of all entries of a list, None where they are of several. Of whole numbers the next one need not
    be whole."""
    kinds = [int | float if kind in (int, float) else kind for kind in map(kind_of, values)]
    first = kinds[0] if kinds else None
    return first if all(k == first for k in kinds) else None
