"""What is wrong with the keys of a merged configuration: unknown, of a wrong type, read by nothing, without effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ..errors import UserError, nearest, one_of
from ..project import page
from . import keys, vocabulary, yamls
from .layers import Layer, shipped


def known_names(found: list[Layer], read: Iterable[str]) -> set[str]:
    """Return every top-level key that exists: in ``read``, EPyMARL's vocabulary, or with a value in a shipped YAML."""
    known = {*vocabulary.KNOWN, *read}
    known.update(*(layer.values for layer in found if layer.origin in ("default", "shipped")))
    for path in shipped("algs").values():
        known.update(yamls.load(path, path.name))
    return known


def check_names(values: Mapping[str, Any], origin: Mapping[str, Layer], known: set[str]) -> None:
    """Refuse keys that do not exist, and mappings in place of values.

    Raises:
        UserError: there is one.
    """
    for name, value in values.items():
        if name in known and not isinstance(value, Mapping):
            continue
        where = next((layer.name for k, layer in origin.items() if k == name or k.startswith(f"{name}.")), "")
        if name not in known:
            see = f"; see {page('configuration.md')}"
            raise UserError(f"Unknown key '{name}' ({where}){nearest(name, known) or see}")
        if isinstance(value, Mapping) and value and name != "env_args":
            inner = next(iter(value))
            raise UserError(f"'{name}.{inner}' ({where}) is not a key: '{name}' holds one value, not a mapping.")


def unread(values: dict[str, Any], origin: Mapping[str, Layer], read: Container[str], who: str) -> list[str]:
    """Remove the keys that are not in ``read`` from ``values``; return notices about them.

    Raises:
        UserError: a refused value, or a key on the command line that the chosen parts do not read.
    """
    inert, others, given = [], [], dict(values)
    for name in [n for n in values if n not in read]:
        value, layer = values.pop(name), origin[name]
        if name in vocabulary.REFUSED:
            vocabulary.refuse(name, value, layer.name, given)
        elif name in vocabulary.INERT:
            if layer.origin in ("user", "command"):
                inert.append(name)
        elif layer.origin == "command":
            raise UserError(f"'{name}' is not read by {who}: take it off the command line.")
        elif layer.origin == "user" and value is not False and value is not None:  # what is off has no effect to miss
            others.append(name)
    notices = []
    if inert:
        notices.append(f"Without effect here: {'; '.join(f'{k} ({vocabulary.INERT[k]})' for k in sorted(inert))}.")
    if others:
        notices.append(f"Not read by {who}: {', '.join(sorted(others))}.")
    return notices


def check_values(values: dict[str, Any], origin: Mapping[str, Layer], parts: Mapping[str, type]) -> None:
    """Convert each value that a part declares, in place.

    Raises:
        UserError: a missing or a wrong one; the sentence names its YAML.
    """
    for cls in parts.values():
        for f in dataclasses.fields(cls):
            if f.name not in values:
                raise UserError(f"The configuration lacks '{f.name}': {f.metadata['doc']}")
            layer = origin.get(f.name)
            try:
                hint = keys.hints(cls)[f.name]
                value = keys.as_typed(values[f.name], hint, layer.typed.get(f.name) if layer else None)
                values[f.name] = keys.check_value(f.name, value, hint, f.metadata)
            except UserError as error:
                if layer is None or layer.origin == "command":
                    raise
                raise UserError(f"{error} (in {layer.name})") from None


def check_returns(values: Mapping[str, Any], origin: Mapping[str, Layer]) -> None:
    """Refuse both or neither of ``q_nstep`` (n-step returns) and ``gae_lambda`` (GAE), where both are read."""
    names = ("q_nstep", "gae_lambda")
    if not all(name in values for name in names):
        return
    given = [f"{name}={values[name]} ({origin[name].name})" for name in names if values[name] is not None]
    if len(given) == 2:
        raise UserError(f"{' and '.join(given)} are both set: set one of them to null.")
    if not given:
        raise UserError("q_nstep and gae_lambda are both null: set q_nstep for n-step returns or gae_lambda for GAE.")


def without_effect(values: Mapping[str, Any], origin: Mapping[str, Layer], parts: Mapping[str, type]) -> list[str]:
    """Return a notice about each key of a user's YAML that has no effect under the value of another key.

    Raises:
        UserError: such a key on the command line.
    """
    notices = []
    asked = {f.name: f.metadata["only"] for cls in parts.values() for f in dataclasses.fields(cls)}
    for name, (other, allowed) in ((name, pair) for name, only in asked.items() for pair in only.items()):
        if name not in origin or values.get(other) in allowed:
            continue
        now = "null" if values.get(other) is None else values[other]
        text = f"'{name}' has an effect with {other}={one_of(allowed)}, not with {now}"
        if origin[name].origin == "command":
            raise UserError(f"{text}: take it off the command line, or add {other}={allowed[0]}.")
        if origin[name].origin == "user":
            notices.append(f"{text}.")
    return notices
