"""Signatures of constructors: arguments, types and defaults, also of those that ``**kwargs`` are passed on to.

Nothing is called: signatures are read, and of functions with ``**kwargs`` the source, to see where these go.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from .annotations import plain_hint

#: stands for a default that is not there
EMPTY = inspect.Parameter.empty
#: classes that keep what they are given, to be pickled by it, and take any of it
_KEEPERS = {"EzPickle"}
_DEEPEST = 12


@dataclass(frozen=True)
class Parameter:
    """An argument of a constructor: its type (Any: none is declared, or none that can be known here), its default (or
    EMPTY), and whether it must be given."""

    hint: Any = Any
    default: Any = EMPTY
    required: bool = False


@dataclass(frozen=True)
class Signature:
    """The arguments that a constructor takes by name; ``open``: it takes other names too, which cannot be seen here."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    open: bool = False

    def without(self, names: set[str]) -> Signature:
        """Return the same without some of the names."""
        return replace(self, parameters={n: p for n, p in self.parameters.items() if n not in names})

    def beside(self, other: Signature) -> Signature:
        """Return the arguments of both; where both have one, what this one says of it holds."""
        both = {**other.parameters, **self.parameters}
        for name in self.parameters.keys() & other.parameters.keys():
            here, there = self.parameters[name], other.parameters[name]
            hint = there.hint if here.hint is Any else here.hint
            default = there.default if here.default is EMPTY else here.default
            both[name] = Parameter(hint, default, here.required and there.required)
        return Signature(both, self.open or other.open)


@dataclass(frozen=True)
class _Code:
    """A function to read: how many of its first arguments are given already; the class that is built, and the one of
    its bases that the function is written in."""

    function: Callable[..., Any]
    given: int = 0
    cls: type | None = None
    owner: type | None = None


def constructor_signature(make: Any, follow: bool = True) -> Signature:
    """Return the arguments that ``make`` takes by name.

    Args:
        make: a class or a function.
        follow: look where ``**kwargs`` go; otherwise a function that has them takes any name.

    Raises:
        TypeError, ValueError: it has no signature.
    """
    try:
        return _cached(make, follow)
    except TypeError:
        if getattr(make, "__hash__", None) is not None:
            raise
        return _read(make, follow, _DEEPEST)  # an object that cannot be kept by


@functools.lru_cache(maxsize=256)
def _cached(make: Any, follow: bool) -> Signature:
    return _read(make, follow, _DEEPEST)


def _read(make: Any, follow: bool, depth: int) -> Signature:
    if isinstance(make, functools.partial):
        inner = _read(make.func, follow, depth)
        taken = set(list(inner.parameters)[: len(make.args)])
        bound = {
            n: replace(inner.parameters.get(n, Parameter()), default=v, required=False)
            for n, v in make.keywords.items()
        }
        return Signature({**inner.parameters, **bound}, inner.open).without(taken)
    return _arguments(_code(make), follow, depth)


def _code(make: Any) -> _Code:
    if inspect.isclass(make):
        for name in ("__init__", "__new__"):
            found = _in_bases(make, name)
            if found is not None:
                return found
        return _Code(make)
    if inspect.ismethod(make):
        return _Code(make.__func__, 1, make.__self__ if inspect.isclass(make.__self__) else type(make.__self__))
    if not inspect.isroutine(make) and callable(make):
        return _in_bases(type(make), "__call__") or _Code(make)
    return _Code(make)


def _in_bases(cls: type, name: str, after: type | None = None) -> _Code | None:
    """Return the method ``name`` of a class, of the first base ``after`` one; None where only object has it."""
    order = cls.__mro__
    for base in order[order.index(after) + 1 if after in order else 0 :]:
        if base is not object and name in vars(base):
            found = vars(base)[name]
            if isinstance(found, staticmethod) and name != "__new__":
                return _Code(found.__func__)
            return _Code(getattr(found, "__func__", found), 1, cls, base)
    return None


def _arguments(code: _Code, follow: bool, depth: int) -> Signature:
    function = inspect.unwrap(code.function)
    signature = inspect.signature(function)
    found: dict[str, Parameter] = {}
    rest = None
    for i, (name, p) in enumerate(signature.parameters.items()):
        if p.kind is p.VAR_KEYWORD:
            rest = name
        elif i >= code.given and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            found[name] = Parameter(_hint(p.annotation, function, code), p.default, p.default is EMPTY)
    own = Signature(found)
    if rest is None:
        return own
    beyond = _beyond(code, function, rest, depth) if follow and depth else Signature(open=True)
    return own.beside(beyond.without(set(signature.parameters)))


def _hint(annotation: Any, function: Any, code: _Code) -> Any:
    """Return an annotation that can be checked; Any for one that is missing, or names what cannot be found."""
    if annotation is EMPTY:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    around = {**(vars(code.owner) if code.owner else {}), **_closure(function)}
    try:
        return plain_hint(typing.get_type_hints(holder, getattr(function, "__globals__", {}), around)["it"])
    except Exception:  # a name that only type checkers import, or one of a function that has returned
        return Any


# -- where **kwargs go -----------------------------------------------------------------------------------------------


def _beyond(code: _Code, function: Any, rest: str, depth: int) -> Signature:
    """Return the arguments that a function takes by its ``**rest``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no source, or a lambda in the middle of something
        return Signature(open=True)
    uses = {id(n) for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == rest}
    if not uses:
        return Signature(open=True)  # it takes what it does not use
    found = Signature()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (passed := [k for k in node.keywords if _is(k.value, rest) and not k.arg]):
            uses -= {id(k.value) for k in passed}
            found = found.beside(_target(node, code, function, tree, depth))
        elif (picked := _picked(node, rest, lambda n: _value(n, code, function, tree))) is not None:
            name, default, use = picked
            uses.discard(id(use))
            found = Signature({name: Parameter(default=default)}).beside(found)
    return replace(found, open=found.open or bool(uses))


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _value(node: ast.expr, code: _Code, function: Any, tree: ast.AST) -> Any:
    """Return what a default stands for: a literal, or a member of an enumeration; EMPTY where it is not known."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    try:
        found = _called(node, code, function, tree)
    except Exception:  # what only running the code can tell
        return EMPTY
    return found if isinstance(found, Enum) else EMPTY


def _picked(node: ast.AST, rest: str, value: Callable[[ast.expr], Any]) -> tuple[str, Any, ast.AST] | None:
    """Return (name, default, the use) where ``rest`` is asked for one name: ``rest.get("x", 1)``, ``rest["x"]``;
    ``value`` knows what the default's expression stands for."""
    name: ast.AST | None = None
    default, use = EMPTY, None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is(node.func.value, rest):
        if node.func.attr in ("get", "pop", "setdefault") and node.args:
            name, use = node.args[0], node.func.value
            default = value(node.args[1]) if len(node.args) > 1 else EMPTY
    elif isinstance(node, ast.Subscript) and _is(node.value, rest):
        name, use = node.slice, node.value
    elif isinstance(node, ast.Compare) and len(node.comparators) == 1 and _is(node.comparators[0], rest):
        name, use = node.left, node.comparators[0]
    if use is None or not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    return name.value, default, use


def _target(call: ast.Call, code: _Code, function: Any, tree: ast.AST, depth: int) -> Signature:
    """Return the arguments of the callable that ``**kwargs`` are passed on to, without those that the call gives."""
    try:
        to = _called(call.func, code, function, tree)
        home = to.owner if isinstance(to, _Code) else to
        if to is None or (isinstance(home, type) and home.__name__ in _KEEPERS):
            return Signature()
        found = _arguments(to, True, depth - 1) if isinstance(to, _Code) else _read(to, True, depth - 1)
    except Exception:  # a local variable, an import that fails, a function without a signature
        return Signature(open=True)
    starred = any(isinstance(a, ast.Starred) for a in call.args)
    first = set() if starred else set(list(found.parameters)[: len(call.args)])
    return found.without(first | {k.arg for k in call.keywords if k.arg})


def _called(node: ast.AST, code: _Code, function: Any, tree: ast.AST) -> Any:
    """Return the function or class that an expression names; None: a base that takes nothing.

    Raises:
        LookupError: it cannot be known without running the code.
    """
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Call) and _is(node.value.func, "super") and code.cls and code.owner:
            return _in_bases(code.cls, node.attr, code.owner)
        first = next(iter(inspect.signature(function).parameters), "")
        if code.cls is not None and _is(node.value, first):
            return _in_bases(code.cls, node.attr) or _raise(node.attr)
        holder = _called(node.value, code, function, tree)
        if inspect.isclass(holder) and node.attr in ("__init__", "__new__"):
            found = _in_bases(holder, node.attr)
            # self is among what the call gives
            return None if found is None else replace(found, given=0, cls=code.cls or holder)
        return getattr(holder, node.attr)
    if not isinstance(node, ast.Name):
        raise LookupError(ast.dump(node))
    around = _closure(function)
    if node.id in around:
        return around[node.id]
    variables = function.__code__.co_varnames + function.__code__.co_cellvars
    if node.id in variables:
        return _imported(node.id, function, tree)
    return function.__globals__[node.id] if node.id in function.__globals__ else vars(builtins)[node.id]


def _raise(name: str) -> Any:
    raise LookupError(name)


def _closure(function: Any) -> dict[str, Any]:
    """Return the variables that a function has from the function around it."""
    names = function.__code__.co_freevars if hasattr(function, "__code__") else ()

    def filled() -> Iterator[tuple[str, Any]]:
        for name, cell in zip(names, function.__closure__ or (), strict=False):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue

    return dict(filled())


def _imported(name: str, function: Any, tree: ast.AST) -> Any:
    """Return what a function imports as ``name`` when it is called."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                module = importlib.import_module(alias.name)
                return module if alias.asname else importlib.import_module(alias.name.partition(".")[0])
            home = "." * node.level + (node.module or "")
            module = importlib.import_module(home, function.__globals__.get("__package__"))
            return getattr(module, alias.name, None) or importlib.import_module(f"{module.__name__}.{alias.name}")
    raise LookupError(name)
