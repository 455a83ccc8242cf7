"""Whether a part keeps its contract: the methods of a Protocol, callable with the arguments that they will get.

A contract is a :class:`typing.Protocol`. Its methods show how they are called, its annotated attributes (and
properties) what a built part has. The classes of a run are compared with it before anything is built, so that a missing
method or a forgotten argument costs no training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import UserError, closest


def check_class(kind: str, name: str, cls: Any, made: type, contract: type, hooks: type) -> None:
    """Refuse a class that does not keep the contract of its kind.

    Args:
        kind, name: of the class in the configuration, such as ``learner`` and ``package.module:Class``.
        cls: the class.
        made: a Protocol whose ``__call__`` shows how the class is called to build one.
        contract: the Protocol of its kind.
        hooks: a Protocol of methods that the class may have; those that it has are compared.

    Raises:
        UserError: a method is missing, or cannot be called as the contract says; the sentence names it.
    """
    methods = dict(_methods(contract))
    missing = [m for m in methods if not callable(getattr(cls, m, None))]
    if missing:
        hint = _other_name(missing[0], [m for m in vars(cls) if m not in methods])
        raise UserError(f"{kind}={name} has no method {' or '.join(missing)}: every {kind} needs one{hint}.")
    for method, expected in [*_methods(made), *methods.items(), *_methods(hooks)]:
        found = _signature(cls, method, of_class=_is_of_class(hooks, method))
        if found is not None and not _accepts(found, expected):
            called, done = (cls.__name__, "built") if method == "__call__" else (method, "called")
            raise UserError(
                f"{kind}={name}: every {kind} is {done} as {called}{_shown(expected)}, and this one takes "
                f"{_shown(list(found.parameters.values()))}."
            )


def check_built(kind: str, name: str, part: Any, contract: type) -> None:
    """Refuse a part that lacks an attribute of its contract once it is built.

    Raises:
        UserError: naming the attribute.
    """
    properties = [n for n, x in vars(contract).items() if isinstance(x, property)]
    names = [*vars(contract).get("__annotations__", {}), *properties]
    missing = [n for n in names if not n.startswith("_") and not hasattr(part, n)]
    if missing:
        hint = _other_name(missing[0], vars(part) if hasattr(part, "__dict__") else ())
        raise UserError(
            f"{kind}={name}: a built {type(part).__name__} has no attribute {' or '.join(missing)}, which every {kind} "
            f"needs{hint}."
        )


def _other_name(missing: str, there: Iterable[str]) -> str:
    near = closest(missing, [n for n in there if not n.startswith("_")])
    return f" (is it '{near}'?)" if near else ""


def _methods(contract: type) -> Iterator[tuple[str, list[inspect.Parameter]]]:
    """Yield the methods of a contract with the parameters that a caller gives."""
    for name, value in vars(contract).items():
        if name == "__call__" or (not name.startswith("_") and not isinstance(value, property)):
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if inspect.isfunction(function):
                given = list(inspect.signature(function).parameters.values())
                yield name, given[0 if isinstance(value, staticmethod) else 1 :]


def _is_of_class(contract: type, method: str) -> bool:
    """Whether a method is called on the class, before there is an object."""
    return isinstance(vars(contract).get(method), (classmethod, staticmethod))


def _signature(cls: Any, method: str, of_class: bool) -> inspect.Signature | None:
    """Return the parameters that callers of a class's method give; None where the class lacks it or hides them.

    ``of_class``: the method is called on the class, so that a ``self`` would have to be given.
    """
    try:
        if method == "__call__":
            return inspect.signature(cls)
        found = inspect.getattr_static(cls, method)
        if inspect.isfunction(found) and not of_class:  # bound when it is called on an object
            parameters = list(inspect.signature(found).parameters.values())
            takes_all = bool(parameters) and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
            return inspect.Signature(parameters if takes_all else parameters[1:])
        return inspect.signature(getattr(cls, method))
    except (AttributeError, TypeError, ValueError):
        return None


def _accepts(found: inspect.Signature, expected: list[inspect.Parameter]) -> bool:
    """Whether a call with the expected arguments is possible, with all of them and without those that have defaults."""
    needed = [p for p in expected if p.default is inspect.Parameter.empty]
    return all(_binds(found.bind, given) for given in (expected, needed))


def _binds(bind: Callable[..., Any], given: list[inspect.Parameter]) -> bool:
    named = {p.name: None for p in given if p.kind is inspect.Parameter.KEYWORD_ONLY}
    try:
        bind(*[None] * (len(given) - len(named)), **named)
    except TypeError:
        return False
    return True


def _shown(parameters: list[inspect.Parameter]) -> str:
    """The parameters in brackets, without types."""
    words = []
    for p in parameters:
        stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(p.kind.name, "")
        words.append(f"{stars}{p.name}{'=...' if p.kind is inspect.Parameter.KEYWORD_ONLY else ''}")
    return f"({', '.join(words)})"
