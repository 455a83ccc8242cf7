"""The classes that a configuration names, each compared with the contract of its kind."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from .modules import action_selectors
from .utils.errors import UserError
from .utils.schema.contracts import check_built, check_class
from .utils.schema.registry import resolve as look_up

#: key that names a class -> the package with its registry
SELECTORS = {"runner": "runners", "mac": "controllers", "agent": "modules", "learner": "learners"}
#: key that a learner may read -> the package with the registry of the classes that it names
NAMED_BY_LEARNERS = {"critic": "modules.critics"}
#: kinds that may be any torch.nn.Module, with or without a ``Config``
NETWORKS = ("agent", "critic")
#: the contract of each kind of class; beside it in its module stand how it is built, and further methods (hooks)
CONTRACTS = {
    "runner": ".runners.contract:Runner",
    "mac": ".controllers.contract:Controller",
    "learner": ".learners.contract:Learner",
}


def shipped_class(cls: Any) -> bool:
    """Whether a class is of this package, not user-supplied."""
    return str(cls.__module__).partition(".")[0] == __name__.partition(".")[0]


def import_class(target: str) -> type:
    """Return the class that ``".module:Class"`` names, the module relative to this package."""
    module, _, name = target.partition(":")
    cls: type = getattr(importlib.import_module(module, __package__), name)
    return cls


def select(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the classes that ``runner``, ``mac``, ``agent`` and ``learner`` name, and those that the learner reads.

    Raises:
        UserError: there is none of that name, or it does not keep its contract.
    """
    found: dict[str, Any] = {}
    for name, package in SELECTORS.items():
        found[name] = _named(name, package, values[name])
    read = {f.name for f in dataclasses.fields(found["learner"].Config)}
    for name, package in NAMED_BY_LEARNERS.items():
        if name in read and name in values:
            found[name] = _named(name, package, values[name])
    return found


def _named(kind: str, package: str, name: str) -> Any:
    """Return the class that ``name`` names in the registry of a package, or outside."""
    module = importlib.import_module(f".{package}", __package__)
    cls = look_up(module.__name__, module.REGISTRY, name, kind)
    _check_part(kind, name, cls)
    return cls


def own_selector(values: Mapping[str, Any]) -> dict[str, type]:
    """Return the dataclass of a user-supplied action selector's keys, if it has one, as the part action_selector."""
    name = values.get("action_selector")
    if not isinstance(name, str) or ":" not in name:
        return {}
    declared = getattr(action_selectors.selector_class(name, continuous=False), "Config", None)
    return {} if declared is None else {"action_selector": declared}


def _check_part(kind: str, name: str, cls: Any) -> None:
    """Refuse a user-supplied class that lacks what every part of its kind has.

    Raises:
        UserError: no dataclass ``Config`` with keys declared by ``key(...)``, or a method that is missing or cannot be
            called as the kind's contract says.
    """
    declared = getattr(cls, "Config", None)
    if kind in NETWORKS and not isinstance(cls, type):
        raise UserError(f"{kind}={name} is not a class: a torch.nn.Module is expected.")
    if declared is None and kind in NETWORKS:
        return
    if not (isinstance(declared, type) and dataclasses.is_dataclass(declared)):
        raise UserError(f"{kind}={name} has no dataclass `Config` with the keys that it reads.")
    for f in dataclasses.fields(declared):
        if "doc" not in f.metadata:
            raise UserError(f"{kind}={name}: its Config declares '{f.name}' without key(...).")
    if kind in CONTRACTS:
        module, _, contract = CONTRACTS[kind].partition(":")
        made, kept, hooks = (import_class(f"{module}:{n}") for n in (f"Make{contract}", contract, f"{contract}Hooks"))
        check_class(kind, name, cls, made, kept, hooks)


def check_part(kind: str, name: str, part: Any) -> None:
    """Refuse a part that lacks what its kind's contract says a built one has.

    Raises:
        UserError: naming the attribute.
    """
    check_built(kind, name, part, import_class(CONTRACTS[kind]))
