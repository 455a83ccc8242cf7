"""Members of enumerations from values that YAML can hold: their names, or their values."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, Flag
from typing import Any


def member(kind: type[Enum], value: Any) -> Enum | None:
    """Return the member of ``kind`` that ``value`` names, or None.

    A name takes precedence, then a value, then a name or a value in other case (``global`` for ``GLOBAL``) where that
    is unambiguous. Members of a Flag may be combined: ``RED|BLUE``, or a list of them.
    """
    if isinstance(value, kind):
        return value
    if issubclass(kind, Flag) and (isinstance(value, list) or (isinstance(value, str) and "|" in value)):
        return _joined(kind, value if isinstance(value, list) else [part.strip() for part in value.split("|")])
    named: dict[str, Enum] = dict(kind.__members__)
    if value is None or isinstance(value, bool):  # how YAML reads None, True and False, which may be names
        found = _by_value(named, value)
        return found if found is not None else _in_other_letters(named, str(value))
    if not isinstance(value, str):
        return _whole(kind, value) if issubclass(kind, Flag) else _by_value(named, value)
    name = value.removeprefix(f"{kind.__name__}.")  # as Python prints a member
    if name in named:
        return named[name]
    found = _by_value(named, value)
    return found if found is not None else _in_other_letters(named, name)


def _by_value(named: dict[str, Enum], value: Any) -> Enum | None:
    if isinstance(value, list):
        value = tuple(value)
    for one in named.values():
        # True equals 1, but is not accepted as a number
        if isinstance(one.value, bool) == isinstance(value, bool) and one.value == value:
            return one
    return None


def _in_other_letters(named: dict[str, Enum], text: str) -> Enum | None:
    folded = text.casefold()
    found = {id(one): one for name, one in named.items() if name.casefold() == folded}
    found |= {
        id(one): one
        for one in named.values()
        if not found and isinstance(one.value, str) and one.value.casefold() == folded
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _whole(kind: type[Flag], value: Any) -> Enum | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    known = 0
    for one in kind.__members__.values():
        known |= one.value
    # an IntFlag would take any number
    return kind(value) if isinstance(value, int) and value >= 0 and not value & ~known else None


def _joined(kind: type[Flag], parts: Iterable[Any]) -> Enum | None:
    whole = kind(0)
    for part in parts:
        one = member(kind, part)
        if not isinstance(one, kind):
            return None
        whole |= one
    return whole
