"""Closing environments in this process: a close() that raises or never returns does not end the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from ..utils.waiting import say, within

#: Seconds that one environment's close() may take.
CLOSE_SECONDS = 5.0


def close_all(closes: Iterable[Callable[[], Any]], name: str) -> None:
    """Close environments one after another; a failure is reported once and not raised.

    Once one of them has not come back, none of the others is called: they would take as long, one after another.

    Args:
        closes: what closes each of them.
        name: of the environment.
    """
    reported = False
    for close in closes:
        try:
            if not within(CLOSE_SECONDS, close, f"close() of the environment '{name}'"):
                say(f"close() of the environment '{name}' did not return within {CLOSE_SECONDS:g} seconds: left alone.")
                return
        except (Exception, SystemExit) as error:
            if not reported:
                text = " ".join(str(error).split())
                said = f": {text[:500]}" if text else ""
                say(f"close() of the environment '{name}' failed ({type(error).__name__}{said}); nothing else is lost.")
            reported = True


def only_here(process: int) -> None:
    """End this process if it is not ``process``: a copy forked by an environment that returned from its call.

    It would play and write as a second run beside the first.
    """
    if os.getpid() != process:
        os._exit(0)
