"""The exceptions that are told in one sentence, and the search for the name that a user meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the configuration, the files or the installation, told in one sentence.

    The command line prints the sentence alone (no traceback) and exits with status 2.
    """


class RunError(Exception):
    """What a run cannot go on from (numbers that are not finite, a full disk), told in one sentence.

    The run is FAILED and the exit status 1; there is no traceback, since no line of the program is to blame.
    """


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory (of the machine, or of its GPU)."""
    return isinstance(error, MemoryError) or any(
        text in f"{type(error).__name__} {error}" for text in ("OutOfMemory", "allocate memory", "bad_alloc")
    )


def first_line(error: BaseException) -> str:
    """What an exception says, without what follows its first line; its kind where it says nothing."""
    return str(error).split("\n")[0].rstrip(".") or type(error).__name__


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
