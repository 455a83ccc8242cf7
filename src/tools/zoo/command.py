"""``oamarl zoo``: commands for trained teams; one module for each subcommand."""

from __future__ import annotations

import importlib

from ...utils.errors import UserError, nearest
from ...utils.layout import fit, line_width
from .. import with_help

#: subcommand -> one line for the help; its module has ``USAGE`` and ``main(argv) -> int``
SUBCOMMANDS = {
    "list": "the teams, their tasks and scores (the default subcommand)",
    "get": "copy a team's folder: policies, curve, command and score",
    "evaluate": "play with teams, and compare with the stored scores",
    "add": "make a team of the zoo from a finished run",
}


def usage() -> str:
    """Return the help text."""
    lines = "\n".join(f"  {name:<8} {line}" for name, line in SUBCOMMANDS.items())
    return (
        f"usage: oamarl zoo [SUBCOMMAND] ...\n\n{lines}\n\n`oamarl zoo SUBCOMMAND --help` says more. "
        '`oamarl evaluate zoo:NAME` and oamarl.load("zoo:NAME") use a team where it is.'
    )


def main(argv: list[str]) -> int:
    """Run a subcommand; return the exit status.

    Raises:
        UserError: there is no such subcommand, or whatever it has to say.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(fit(usage(), line_width()))
        return 0
    if not argv or argv[0].startswith("-"):
        argv = ["list", *argv]
    if argv[0] not in SUBCOMMANDS:
        known = list(SUBCOMMANDS)
        raise UserError(f"`oamarl zoo` does not know '{argv[0]}': use {', '.join(known)}{nearest(argv[0], known)}")
    module = importlib.import_module(f".{argv[0]}", __package__)
    return with_help(module, argv[1:])
