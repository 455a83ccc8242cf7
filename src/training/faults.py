"""Exceptions of user-supplied parts in the middle of a run, as one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..utils.errors import PartFailed, RunError, UserError, first_line, lacks_memory, raised_at, raised_in

#: keys that name classes
KINDS = ("learner", "mac", "runner", "agent", "critic", "action_selector")


def user_supplied(values: Mapping[str, Any], built: Mapping[str, Any]) -> dict[str, str]:
    """Return the packages (or modules) of a run's user-supplied parts, each with how messages call its part.

    Args:
        values: the configuration.
        built: parts by their key, for names that an installed package offers.
    """
    ours, found = __name__.partition(".")[0], dict[str, str]()
    for kind in KINDS:
        name = values.get(kind)
        module = type(built[kind]).__module__ if kind in built else ours
        if isinstance(name, str) and ":" in name:
            module = name.partition(":")[0]
        package = module.partition(".")[0]
        if package != ours:
            found[package] = f"{found[package]} or {kind}={name}" if package in found else f"{kind}={name}"
    return found


def part_failure(error: Exception, supplied: Mapping[str, str]) -> PartFailed | None:
    """Return what an exception is called in a run with user-supplied parts; None: it is none of theirs.

    Args:
        error: what was raised.
        supplied: package -> part, from :func:`user_supplied`.
    """
    if isinstance(error, PartFailed):
        return error
    if not supplied:
        return None
    said = f"{type(error).__name__}: {first_line(error)} ({raised_at(error, supplied)})"
    package = raised_in(error, supplied)
    if package:
        return PartFailed(f"{supplied[package]} failed with {said}.")
    # not in their code, but maybe by what it gave: a gradient that cannot be computed, an array of another shape
    return PartFailed(f"It failed with {said}; user-supplied are {', '.join(supplied.values())}.")


@contextlib.contextmanager
def in_one_sentence(values: Mapping[str, Any]) -> Iterator[None]:
    """Turn exceptions of user-supplied parts, before training begins, into sentences.

    Args:
        values: the configuration.

    Raises:
        UserError: such a part raised something else.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        failure = None if lacks_memory(error) else part_failure(error, user_supplied(values, {}))
        if failure is None:
            raise
        raise UserError(str(failure)) from error
