"""Registries of classes by name; a class is imported when it is first used."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import NotInstalled, UserError, nearest, one_of

#: kind of a registry -> the kind of entry point that may offer names for it
_PLUGINS = {"environment": "environment", "learner": "algorithm"}
_OUTSIDE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def resolve(package: str, registry: Mapping[str, str], name: str, kind: str) -> Any:
    """Return the class (or function) that ``name`` stands for.

    Args:
        package: the registry's package, e.g. ``oamarl.learners`` (its ``__name__``).
        registry: name -> ``".module:Class"``, relative to ``package``.
        name: a registered name, one that an installed package offers (environments and algorithms), or
            ``package.module:Class``. A registered name comes first.
        kind: what is looked up, for the message: ``learner``, ``environment``.

    Raises:
        UserError: unknown name, a Python package that is missing, or a module that fails or lacks that class.
    """
    if not isinstance(name, str):
        raise UserError(f"{kind}={name!r} is not a name: use {one_of(registry)}.")
    target = registry.get(name)
    if target is None:
        return _outside(name, kind) if ":" in name else _offered(registry, name, kind)
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name, package)
    except ModuleNotFoundError as error:
        missing = error.name or "?"
        if missing.split(".")[0] == package.split(".")[0]:
            raise  # a bug of ours, not a package that the user can install
        raise NotInstalled(
            f"The {kind} '{name}' needs the Python package '{missing}', which is not installed: "
            f"run `pip install {missing.split('.')[0]}`."
        ) from error
    return getattr(module, attribute)


def _offered(registry: Mapping[str, str], name: str, kind: str) -> Any:
    """Return the class that an installed package's entry point called ``name`` names."""
    from . import plugins  # with yaml and importlib.metadata, which environment workers do not wait for

    offered = plugins.installed(_PLUGINS[kind]) if kind in _PLUGINS else {}
    plugin = plugins.find(_PLUGINS[kind], name) if name in offered else None
    if plugin is None or not plugin.names_class:
        names = [*registry, *(n for n in offered if n not in registry)]
        raise UserError(f"Unknown {kind} '{name}': use {one_of(names)}{nearest(name, names)}")
    return _outside(plugin.target, f"{kind} '{name}' of {plugin.package},")


def look_here() -> None:
    """Let modules of the current folder be found: behind all others, so that no file there can shadow a library. It
    stays so, because spawned workers inherit it."""
    try:
        here = os.getcwd()
    except OSError:  # an environment may have changed to a folder that is gone: nothing can be found there
        return
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _outside(name: str, kind: str) -> Any:
    """Import ``package.module:Class`` from outside, the current folder included."""
    if not _OUTSIDE.fullmatch(name):
        raise UserError(f"The {kind} '{name}' is not of the form package.module:Class.")
    module_name, _, attribute = name.partition(":")
    look_here()
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"The {kind} '{name}' cannot be imported: {error}.") from error
    except Exception as error:  # it is the user's own module: any failure in it is reported without a traceback
        raise UserError(f"The {kind} '{name}' cannot be imported: {type(error).__name__}: {error}.") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UserError(f"The module '{module_name}' has no '{attribute}'{nearest(attribute, public)}") from error
