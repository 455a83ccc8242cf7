"""Commands: a file, or a folder with ``command.py``, with ``USAGE`` and ``main(argv) -> int``; imported when called."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType

from ..utils.errors import UserError, nearest
from ..utils.layout import fit, line_width

#: command -> (module of this package, one line for the help)
COMMANDS = {
    "list": ("list", "algorithms and environments"),
    "config": ("config", "the merged configuration with where each value came from; `config KEY` explains a key"),
    "bench": ("bench.command", "steps per second, time of each phase, and the limit of this machine"),
    "check-env": ("check_env", "check an environment and report errors: masks, seeds, NaN, ends, workers ..."),
    "evaluate": ("evaluate", "play N episodes with a trained team: statistics, JSON, video"),
    "showcase": ("showcase.command", "results, learned routes and reuse of a finished run (a folder, or `latest`)"),
    "plot": ("plot.command", "pictures of many runs: curves, profiles, comparisons, reuse"),
    "report": ("report.command", "one HTML page about a sweep or any runs"),
    "sweep": (
        "sweep.command",
        "many runs from one file: algorithms x environments x seeds, on cores or a Ray cluster; search",
    ),
    "doctor": (
        "doctor.command",
        "what works on this machine: environments, devices, compiler, servers, packages, each really started",
    ),
    "install": ("install.command", "games that pip alone cannot install: sc2, sc2v2, smaclite, football"),
    "completion": ("completion.command", "a script that completes command lines: bash, zsh, fish"),
    "zoo": ("zoo.command", "trained teams: list, get, evaluate, add"),
    "runs": ("runs.command", "stored runs: list, show, compare, delete, export to MongoDB and back"),
}


def load(name: str) -> Callable[[list[str]], int]:
    """Return what runs a command, given its words."""
    module = importlib.import_module(f".{COMMANDS[name][0]}", __package__)
    # these have subcommands with usages of their own
    return module.main if name in ("runs", "zoo") else lambda argv: with_help(module, argv)


def with_subcommands(command: str, subcommands: Mapping[str, str], more: str, package: str, argv: list[str]) -> int:
    """Run a subcommand, `list` where none is named; return the exit status.

    Args:
        command: `oamarl`'s word.
        subcommands: name -> one line for the help; its module in ``package`` has ``USAGE`` and ``main(argv) -> int``.
        more: the help's last lines.

    Raises:
        UserError: there is no such subcommand, or what it has to say.
    """
    if argv and argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<8} {line}" for name, line in subcommands.items())
        print(fit(f"usage: oamarl {command} [SUBCOMMAND] ...\n\n{lines}\n\n{more}", line_width()))
        return 0
    if not argv or argv[0].startswith("-"):
        argv = ["list", *argv]
    if argv[0] not in subcommands:
        known = [*subcommands]  # `list` is a module here, once that has been imported
        use = f"use {', '.join(known)}{nearest(argv[0], known)}"
        raise UserError(f"`oamarl {command}` does not know '{argv[0]}': {use}")
    return with_help(importlib.import_module(f".{argv[0]}", package), argv[1:])


def with_help(module: ModuleType, argv: list[str]) -> int:
    """Run a command, or print its usage where that is asked for; return the exit status."""
    if "-h" in argv or "--help" in argv:
        print(fit(module.USAGE, line_width()))
        return 0
    return int(module.main(argv))
