"""Whether a part keeps its contract: the methods of a Protocol, callable with the arguments that they will get.

A contract is a :class:`typing.Protocol`. Its ``__init__`` shows how a part is built, its methods how they are called,
its annotated attributes (and properties) what a built part has. The classes of a run are compared with it before
anything is built, so that a missing method or a forgotten argument costs no training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import UserError, closest


def check_class(kind: str, name: str, cls: Any, contract: type, hooks: type | None = None) -> None:
    """Refuse a class that does not keep the contract of its kind.

    Args:
        kind, name: of the class in the configuration, such as ``learner`` and ``package.module:Class``.
        cls: the class.
        contract: the Protocol of its kind.
        hooks: a Protocol of methods that the class may have; those that it has are compared.

    Raises:
        UserError: a method is missing, or cannot be called as the contract says; the sentence names it.
    """
    methods = dict(_methods(contract))
    missing = [m for m in methods if m != "__init__" and not callable(getattr(cls, m, None))]
    if missing:
        public = [m for m in vars(cls) if not m.startswith("_") and m not in methods]
        near = closest(missing[0], public)
        hint = f" (its '{near}' is another name)" if near else ""
        raise UserError(f"{kind}={name} has no method {' or '.join(missing)}: every {kind} needs one{hint}.")
    for method, expected in [*methods.items(), *(_methods(hooks) if hooks is not None else ())]:
        found = _signature(cls, method)
        if found is not None and not _accepts(found, expected):
            called = cls.__name__ if method == "__init__" else method
            how = "is built" if method == "__init__" else "is called"
            raise UserError(
                f"{kind}={name}: every {kind} {how} as {called}{_shown(expected)}, which its own {called}"
                f"{str(found).partition(' -> ')[0]} does not accept."
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
        near = closest(
            missing[0], [n for n in vars(part) if not n.startswith("_")] if hasattr(part, "__dict__") else []
        )
        hint = f" (its '{near}' is another name)" if near else ""
        raise UserError(
            f"{kind}={name}: a built {type(part).__name__} has no attribute {' or '.join(missing)}, which every {kind} "
            f"needs{hint}."
        )


def _methods(contract: type) -> Iterator[tuple[str, list[inspect.Parameter]]]:
    """Yield the methods of a contract with the parameters that a caller gives."""
    for name, value in vars(contract).items():
        if name == "__init__" or (not name.startswith("_") and not isinstance(value, property)):
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if inspect.isfunction(function):
                given = list(inspect.signature(function).parameters.values())
                yield name, given[0 if isinstance(value, staticmethod) else 1 :]


def _signature(cls: Any, method: str) -> inspect.Signature | None:
    """Return the parameters that callers of a class's method give; None where the class lacks it or hides them."""
    try:
        if method == "__init__":
            return inspect.signature(cls)
        found = inspect.getattr_static(cls, method)
        if inspect.isfunction(found):  # bound when it is called on an object
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


def _shown(expected: list[inspect.Parameter]) -> str:
    words = [f"{p.name}=..." if p.kind is inspect.Parameter.KEYWORD_ONLY else p.name for p in expected]
    return f"({', '.join(words)})"
