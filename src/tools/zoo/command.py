"""``oamarl zoo``: commands for trained teams; one module for each subcommand."""

from __future__ import annotations

from .. import with_subcommands

#: subcommand -> one line for the help; its module has ``USAGE`` and ``main(argv) -> int``
SUBCOMMANDS = {
    "list": "the teams, their tasks and scores (the default subcommand)",
    "get": "copy a team's folder: policies, curve, command and score",
    "evaluate": "play with teams, and compare with the stored scores",
    "add": "make a team of the zoo from a finished run",
}
#: the help's last lines
MORE = (
    "`oamarl zoo SUBCOMMAND --help` says more. "
    '`oamarl evaluate zoo:NAME` and oamarl.load("zoo:NAME") use a team where it is.'
)


def main(argv: list[str]) -> int:
    """Run a subcommand; return the exit status.

    Raises:
        UserError: there is no such subcommand, or what it has to say.
    """
    return with_subcommands("zoo", SUBCOMMANDS, MORE, __package__, argv)
