"""Commands: one file each with ``main(argv) -> int``, imported when called."""

from __future__ import annotations

import importlib
from collections.abc import Callable

#: command -> (module of this package, one line for the help)
COMMANDS = {
    "list": ("list", "algorithms and environments"),
    "config": ("config", "the merged configuration with where each value came from, without running"),
    "showcase": ("showcase", "results, learned routes and reuse of a finished run (a folder, or `latest`)"),
}


def load(name: str) -> Callable[[list[str]], int]:
    """Return the ``main`` of a command."""
    main: Callable[[list[str]], int] = importlib.import_module(f".{COMMANDS[name][0]}", __package__).main
    return main
