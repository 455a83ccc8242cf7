"""``oamarl zoo get``: copy a team."""

from __future__ import annotations

import shutil
from pathlib import Path

from ...evaluation import zoo
from ...utils.errors import UserError
from ..arguments import Arguments

USAGE = """\
usage: oamarl zoo get NAME [--to DIR]

Copies a team's folder: its checkpoint, team.json (command, versions, score) and curve.json.

  --to DIR  the folder to make (default: ./NAME)"""


def main(argv: list[str]) -> int:
    """Copy a team; return the exit status.

    Raises:
        UserError: an invalid command line, no such team, or a folder that exists or cannot be written.
    """
    parser = Arguments("zoo get", "one team")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args(argv)
    team = zoo.find(options.name)
    target = (options.to or Path(team.name)).expanduser()
    if target.exists():
        raise UserError(f"{target} exists already: name another folder with --to DIR.")
    try:
        shutil.copytree(team.folder, target)
    except OSError as error:
        raise UserError(f"The folder {target} cannot be written: {error.strerror or error}.") from None
    print(f"{team.name}: {target}")
    print(f"Use it: oamarl evaluate {target}, or oamarl.load({str(target)!r}) in Python")
    print(f"Train such a team: {team.facts['command']}")
    return 0
