"""``oamarl runs``: commands for stored runs; one module for each subcommand."""

from __future__ import annotations

from .. import with_subcommands

#: subcommand -> one line for the help; its module has ``USAGE`` and ``main(argv) -> int``
SUBCOMMANDS = {
    "list": "stored runs, also by condition (the default subcommand)",
    "show": "what is known of one run",
    "compare": "differences between runs, and their results, side by side",
    "delete": "delete the folders of runs",
    "export": "copy runs from their folders to MongoDB, or from MongoDB to folders",
}
#: the help's last lines
MORE = "`oamarl runs SUBCOMMAND --help` says more."


def main(argv: list[str]) -> int:
    """Run a subcommand; return the exit status.

    Raises:
        UserError: there is no such subcommand, or what it has to say.
    """
    return with_subcommands("runs", SUBCOMMANDS, MORE, __package__, argv)
