"""The one exception for mistakes a user can mend, and the search for the name they meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the configuration, the files or the installation, told in one sentence.

    The command line prints the sentence alone (no traceback) and exits with status 2.
    """


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``options``, or ``""`` where none is close."""
    close = difflib.get_close_matches(str(name), [str(o) for o in options], n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def one_of(options: Iterable[object]) -> str:
    """Return the options as a readable list: ``a, b or c``."""
    names = [str(o) for o in options]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
