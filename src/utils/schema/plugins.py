"""Algorithms and environments of other packages, found by their entry points; nothing of theirs is imported here.

A package declares ``NAME = "package.module:Class"`` in the group ``oamarl.algorithms`` or ``oamarl.environments``,
and may put ``NAME.yaml`` beside that module. Packages are read one by one, so that damaged metadata of one
hides no other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import yamls

#: kind -> (entry point group, the key that names the class)
GROUPS = {"algorithm": ("oamarl.algorithms", "learner"), "environment": ("oamarl.environments", "env")}


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, what it names (``package.module:Class``, or a package alone) and whose it is."""

    name: str
    target: str
    package: str

    @property
    def names_class(self) -> bool:
        """Whether the target is a class or function, rather than a package whose YAML says everything."""
        return ":" in self.target


@lru_cache(maxsize=8)
def _scan(group: str, path: tuple[str, ...]) -> dict[str, tuple[Plugin, ...]]:
    found: dict[str, dict[str, Plugin]] = {}
    for distribution in importlib.metadata.distributions(path=list(path)):
        try:
            for entry in distribution.entry_points:
                if entry.group == group:
                    package = f"{distribution.metadata['Name']} {distribution.version}"
                    # a package that lies on the path twice (installed and editable) counts once: the first
                    target = "".join(str(entry.value).split())
                    found.setdefault(entry.name, {}).setdefault(
                        distribution.metadata["Name"], Plugin(entry.name, target, package)
                    )
        except Exception:  # any error in the metadata of another package
            continue
    return {name: tuple(by.values()) for name, by in sorted(found.items())}


def installed(kind: str) -> dict[str, tuple[Plugin, ...]]:
    """Return name -> the packages' entries of that name, in alphabetical order; ``kind`` is a key of GROUPS."""
    return _scan(GROUPS[kind][0], tuple(sys.path))


def find(kind: str, name: str) -> Plugin | None:
    """Return the entry called ``name``, or None.

    Raises:
        UserError: several packages have one of this name.
    """
    entries = installed(kind).get(name, ())
    if len(entries) > 1:
        raise UserError(
            f"The {kind} '{name}' is offered by {' and by '.join(e.package for e in entries)}: uninstall one of them, "
            f"or use its own name ({' or '.join(e.target for e in entries)})."
        )
    return entries[0] if entries else None


def yaml_of(plugin: Plugin) -> Path | None:
    """Return the YAML beside the module (or in the package) that an entry names, or None; nothing is imported."""
    top, *rest = plugin.target.partition(":")[0].split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    bases = [Path(p) for p in spec.submodule_search_locations or ()]
    if not bases and spec.origin:
        bases = [Path(spec.origin).parent]
    for base in bases:
        for folder in (base.joinpath(*rest), base.joinpath(*rest[:-1])):
            file = folder / f"{plugin.name}.yaml"
            if file.is_file():
                return file
    return None


def values(kind: str, plugin: Plugin) -> tuple[dict[str, Any], str]:
    """Return what an entry sets (its YAML's values, and the class that it names), and how messages call the source.

    Raises:
        UserError: a YAML that cannot be read, or an entry that names neither a class nor a YAML with one.
    """
    file, selector = yaml_of(plugin), GROUPS[kind][1]
    shown = f"{plugin.name}.yaml of {plugin.package}" if file else plugin.package
    found = yamls.load(file, shown) if file else {}
    if selector not in found:
        if not plugin.names_class:
            raise UserError(
                f"The {kind} '{plugin.name}' of {plugin.package} is incomplete: its entry point '{plugin.target}' "
                f"names no class, and no {plugin.name}.yaml beside it says `{selector}:`."
            )
        found = {selector: plugin.target if kind == "algorithm" else plugin.name, **found}
    return found, shown
