"""``oamarl zoo list``: the teams, their tasks and scores."""

from __future__ import annotations

import json
from typing import Any

from ...analysis.methods import method_name
from ...analysis.names import task_name
from ...evaluation import zoo
from ..arguments import Arguments
from ..tables import table

USAGE = """\
usage: oamarl zoo list [--json]

Lists the teams: task, algorithm, steps of training, and the mean return of 100 episodes with greedy (argmax) and with
sampled actions.

  --json  everything that is known of them, as JSON"""

HEADS = ("team", "task", "algorithm", "steps", "greedy return", "sampled return")


def rows() -> list[tuple[str, ...]]:
    """Return a row for each team, in the order of HEADS."""
    found = []
    for team in zoo.entries():
        score = team.facts["score"]
        means = (f"{score[how]['mean']:.2f}" for how in ("greedy", "sampled"))
        task, method = task_name(team.task, team.facts), method_name(team.facts["algorithm"])
        found.append((team.name, task, method, f"{team.facts['step']:,}", *means))
    return found


def main(argv: list[str]) -> int:
    """Print the list; return the exit status.

    Raises:
        UserError: an invalid command line, or a team that cannot be read.
    """
    parser = Arguments("zoo list")
    parser.add_argument("--json", action="store_true")
    if parser.parse_args(argv).json:
        content: list[dict[str, Any]] = [{"name": team.name, **team.facts} for team in zoo.entries()]
        print(json.dumps(content, indent=1))
        return 0
    found = rows()
    print(table([HEADS, *found], "   rrr") if found else f"There is no team in {zoo.folder()}.")
    return 0
