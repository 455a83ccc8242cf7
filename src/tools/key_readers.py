"""Every configuration dataclass, with the parts that read it, and its keys in words and tables."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

from ..learners.off_policy import OffPolicyConfig
from ..parts import ALONE, ALWAYS
from ..selection import NAMED_BY_LEARNERS, SELECTORS
from ..utils.errors import UserError, one_of
from ..utils.schema.registry import resolve


def parts() -> dict[type, list[str]]:
    """Return every configuration dataclass -> who reads it, in a stable order.

    Raises:
        UserError: a registered class lacks ``Config``.
    """
    found: dict[type, list[str]] = {}
    for target in ALWAYS.values():
        module, _, name = target.partition(":")
        found.setdefault(getattr(importlib.import_module(module, "oamarl"), name), []).append("every run")
    selected = [(cls, name) for name, cls in _selectable()]
    for cls in dict.fromkeys(cls for cls, _ in selected):
        for f in dataclasses.fields(cls):
            for value, more in f.metadata["adds"].items():
                found[more] = [f"every run with {f.name}={value}"]
    for cls, name in selected:
        found.setdefault(cls, []).append(name)
    found.setdefault(OffPolicyConfig, []).append("off-policy learners of your own")
    for name, targets in ALONE.items():
        for target in (target for target in targets.values() if target not in ALWAYS.values()):
            module, _, dataclass = target.partition(":")
            found.setdefault(getattr(importlib.import_module(module, "oamarl"), dataclass), []).append(name)
    return found


def _selectable() -> Iterator[tuple[str, type]]:
    """Yield every name of a registry, with the configuration dataclass of its class.

    Raises:
        UserError: a registered class lacks ``Config``.
    """
    for selector, folder in {**SELECTORS, **NAMED_BY_LEARNERS}.items():
        package = importlib.import_module(f"..{folder}", __package__)
        for name in package.REGISTRY:
            cls = resolve(package.__name__, package.REGISTRY, name, selector)
            if not dataclasses.is_dataclass(getattr(cls, "Config", None)):
                raise UserError(f"The {selector} '{name}' has no dataclass `Config`.")
            yield name, cls.Config


def allowed(hint: Any, meta: Any) -> str:
    """Return the bounds or choices of a key in words."""
    if meta.get("choices") is not None:
        return one_of(f"`{c}`" for c in meta["choices"])
    words = []
    if meta.get("above") is not None:
        words.append(f"> {meta['above']:g}")
    if meta.get("low") is not None:
        words.append(f"≥ {meta['low']:g}")
    if meta.get("high") is not None:
        words.append(f"≤ {meta['high']:g}")
    return " and ".join(words)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])
