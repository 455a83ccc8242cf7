"""Convert env_args for a constructor: plain YAML values, checked against its declared types.

What a run stores are the plain values; what an environment is made with are the converted ones (members of
enumerations, tuples, arrays). Every process makes them anew from the plain ones.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import UserError, nearest
from ..utils.schema.keys import as_typed, boolean_word, check_value
from .annotations import kind_of
from .signatures import EMPTY, Parameter, Signature

_BARE = (dict, dict[str, Any])


@dataclass
class ConvertedArgs:
    """Arguments as they are stored (``plain``) and as constructors get them (``objects``), with notices."""

    plain: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def take(self, name: str, value: Any, converted: Any) -> None:
        """Add an argument."""
        self.objects[name] = converted
        self.plain[name] = converted if _is_plain(converted) else value


def convert_args(
    takes: Signature,
    given: Mapping[str, Any],
    to: str,
    registered: Mapping[str, Any] | None = None,
    typed: Mapping[str, str] | None = None,
) -> ConvertedArgs:
    """Check the arguments ``given`` against a constructor's signature and convert them.

    A declared type holds. Where none is declared, the types of the default and of what an id is ``registered`` with
    tell what is surely wrong: text for a number, a boolean, a member or a list. What they leave open (a fraction where
    the default is whole, a list for a number, null) is passed on with a notice; so is a value of no known type.

    Args:
        takes: the constructor; a name that it does not have is passed on.
        given: name -> value, as YAML reads it.
        to: what is made, for messages.
        registered: arguments that the constructor gets where they are not given.
        typed: ``env_args.NAME`` -> what was typed for a value that is not text.

    Raises:
        UserError: a value of a wrong type.
    """
    result = ConvertedArgs()
    for name, value in given.items():
        parameter = takes.parameters.get(name)
        shown, hint = f"env_args.{name}", parameter.hint if parameter else Any
        known = [(registered or {}).get(name, EMPTY), parameter.default if parameter else EMPTY]
        evidence = [v for v in known if v is not EMPTY]
        telling = any(kind_of(v) is not None for v in evidence)
        # what a mapping holds only the default's entries can tell
        if telling and (hint is Any or (hint in _BARE and isinstance(value, Mapping))):
            value = as_typed(value, _kinds(evidence), (typed or {}).get(shown))
            converted = _as_default(shown, value, evidence, to, result.notices)
        elif hint is not Any:
            declared = _declared(hint, evidence)
            value = as_typed(value, declared, (typed or {}).get(shown))
            converted = check_value(shown, value, declared, {})
            result.notices += _a_word(shown, converted, hint, to)
        else:
            converted = value
            if value is not None or not any(v is None for v in evidence):
                result.notices.append(_untold(shown, name, value, to, takes, parameter))
        result.take(name, value, converted)
    return result


def _a_word(shown: str, value: Any, hint: Any, to: str) -> list[str]:
    """Return a sentence about text that may be meant for a boolean, where both are declared."""
    if type(value) is not str or not {bool, str} <= {*_members(hint)} or (meant := boolean_word(value)) is None:
        return []
    passed = f"{shown} is passed to {to} as the text {value!r}"
    return [f"{passed}: its constructor takes text and booleans; {meant} is the boolean."]


def _untold(shown: str, name: str, value: Any, to: str, takes: Signature, parameter: Parameter | None) -> str:
    passed = f"{shown} is passed to {to} as it is, {_described(value)}"
    if parameter is not None:
        return f"{passed}: its constructor declares no type for it."
    return f"{passed}: its constructor names no such argument and takes any{nearest(name, takes.parameters) or '.'}"


def _described(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"the number {value!r}"
    return "null" if value is None else repr(value)


def _is_plain(value: Any) -> bool:
    """Return whether YAML and JSON can hold the value as it is."""
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(k) is str and _is_plain(v) for k, v in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _declared(hint: Any, evidence: list[Any]) -> Any:
    """Return a declared type, widened by the type of the constructor's own default."""
    for value in evidence:
        kind = kind_of(value)
        if value is None:
            hint = typing.Union[hint, None]  # noqa: UP007
        elif isinstance(value, Enum) and isinstance(value, str) and hint is str:
            hint = kind  # any text would pass for a member
        elif kind is not None and not _allows(hint, value, kind):
            hint = typing.Union[kind, hint]  # noqa: UP007
        else:
            hint = _entries(hint, kind)
    return hint


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _allows(hint: Any, value: Any, kind: Any) -> bool:
    if isinstance(value, Enum):  # a member may also be an int, or text; but its names are not
        return kind in _members(hint)
    try:
        check_value("", value, hint, {})
    except UserError:
        return False
    return True


def _entries(hint: Any, kind: Any) -> Any:
    """Return a declared ``list`` with the kind of its default's entries, where that implies one."""
    kinds = [kind if typing.get_origin(kind) is m and m in (list, tuple, set, frozenset) else m for m in _members(hint)]
    return typing.Union[tuple(kinds)]  # noqa: UP007


# -- types implied by defaults ---------------------------------------------------------------------------------------


def _kinds(evidence: list[Any]) -> Any:
    """Return the type that the values of ``evidence`` are of."""
    kinds = [k for k in map(kind_of, evidence) if k is not None]
    if any(v is None for v in evidence):
        kinds.append(type(None))
    return typing.Union[tuple(kinds)]  # noqa: UP007


def _as_default(shown: str, value: Any, evidence: list[Any], to: str, notices: list[str]) -> Any:
    """Return ``value`` converted to the type of the default, of a constructor that declares no types.

    Raises:
        UserError: what cannot be meant.
    """
    if any(type(value) is type(v) and not isinstance(v, (list, tuple, dict)) for v in evidence):
        return value
    main = next(v for v in evidence if kind_of(v) is not None)
    if isinstance(value, Mapping) and isinstance(main, dict) and main:
        notices += [_beside(shown, key, to, main) for key in value if key not in main]
        return {
            key: _as_default(f"{shown}.{key}", inner, [main[key]], to, notices)
            if kind_of(main.get(key)) is not None
            else inner
            for key, inner in value.items()
        }
    try:
        return check_value(shown, value, _kinds(evidence), {})
    except UserError:
        if any(_surely_wrong(value, v) for v in evidence if v is not None):
            raise
    notices.append(
        f"{shown} is passed to {to} as it is, {_described(value)}, where its default is {main!r}: its constructor "
        "declares no type for it."
    )
    return value


def _beside(shown: str, key: Any, to: str, default: Mapping[Any, Any]) -> str:
    """Say that an entry of a mapping is one that its default does not have."""
    near = nearest(str(key), [str(known) for known in default]) or "."
    return f"{shown}.{key} is passed to {to} as it is: the default of {shown} has no such entry{near}"


def _surely_wrong(value: Any, default: Any) -> bool:
    """Return whether a value that is not of its default's type must be a mistake."""
    if isinstance(value, (str, bool)) or isinstance(default, Enum):
        return True
    if isinstance(default, (bool, np.bool_)):
        return value not in (0, 1)
    if isinstance(default, (str, Path)):
        return isinstance(value, (int, float))
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple, set, frozenset)):
        # an entry of it is wrong, unless it is one that a number's place leaves open
        return any(_surely_wrong(v, d) or _is_list(v) != _is_list(d) for v in value for d in default)
    return False


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))
