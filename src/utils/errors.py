"""Exceptions that are reported in one sentence, and the search for the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A user error in the configuration, the files or the installation, reported in one sentence.

    The command line prints the sentence alone (no traceback) and exits with status 2.
    """


class RunError(Exception):
    """An error that ends a run (numbers that are not finite, a full disk), reported in one sentence.

    The run is FAILED and the exit status 1; there is no traceback, since the error is not in the program.
    """


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory (of the machine, or of its GPU)."""
    return isinstance(error, MemoryError) or any(
        text in f"{type(error).__name__} {error}" for text in ("OutOfMemory", "allocate memory", "bad_alloc")
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its type where the message is empty."""
    return str(error).split("\n")[0].rstrip(".") or type(error).__name__


def reason(error: BaseException) -> str:
    """The first line of an exception's message, after its type where that tells more than that a value is wrong."""
    line = first_line(error)
    return line if isinstance(error, (UserError, ValueError)) else f"{type(error).__name__}: {line}"


def closest(name: str, options: Iterable[str]) -> str | None:
    """Return the one of ``options`` that is written most like ``name``, None where none is close."""
    close = difflib.get_close_matches(str(name), [str(o) for o in options], n=1, cutoff=0.5)
    return close[0] if close else None


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``options``, or ``""`` where none is close."""
    close = closest(name, options)
    return f"; did you mean '{close}'?" if close else ""


def one_of(options: Iterable[object]) -> str:
    """Return the options as a readable list: ``a, b or c``."""
    names = [str(o) for o in options]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
