"""``oamarl zoo evaluate``: play with teams of the zoo, and compare with their stored scores."""

from __future__ import annotations

from typing import Any

from ...evaluation import zoo
from ...utils.errors import NotInstalled, counted
from .. import evaluate
from ..arguments import Arguments, at_least
from ..tables import table

USAGE = """\
usage: oamarl zoo evaluate [NAME ...] [--episodes N] [--sample]

Plays the episodes of the stored score again with each team (default: all of them), and compares: `equal` (each of the
first ten episodes has the stored return, and all 100 the stored mean), `within bounds` (the mean is at most three
standard errors away, as on another machine), or `differs`. The exit status is 1 if one differs. A team whose
environment is not installed is named and left out.

  --episodes N  number of episodes (100, as in the stored scores); the first of them are the same for any N
  --sample      sampled actions in place of greedy (argmax) ones"""


def replay(team: zoo.Entry, episodes: int, sampled: bool = False) -> tuple[dict[str, Any], str]:
    """Play the first episodes of a team's stored score again.

    Returns:
        the report (:func:`oamarl.evaluation.play.report`), and how it agrees (:func:`oamarl.evaluation.zoo.agreement`).

    Raises:
        NotInstalled: its environment is not.
        UserError: it cannot be evaluated.
    """
    stored = team.facts["score"]["sampled" if sampled else "greedy"]
    words = [str(team.checkpoint), "--episodes", str(episodes), "--seed", str(stored["seed"])]
    options = evaluate.parser().parse_args([*words, *(["--sample"] if sampled else [])])
    found = evaluate.played(options, team.checkpoint)
    return found, zoo.agreement(stored, [one["return"] for one in found["episodes"]])


def main(argv: list[str]) -> int:
    """Evaluate teams; return the exit status.

    Raises:
        UserError: an invalid command line, no such team, or one that cannot be evaluated.
    """
    from ...utils.signals import Stop

    parser = Arguments("zoo evaluate")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--episodes", type=at_least(1), default=100)
    parser.add_argument("--sample", action="store_true")
    options = parser.parse_args(argv)
    teams = [zoo.find(name) for name in options.names] or zoo.entries()
    lines: list[tuple[str, ...]] = [("team", "stored mean", "mean", "")]
    with Stop().listening():
        for team in teams:
            stored = team.facts["score"]["sampled" if options.sample else "greedy"]
            try:
                found, verdict = replay(team, options.episodes, options.sample)
            except NotInstalled as missing:
                lines.append((team.name, f"{stored['mean']:.4f}", "-", str(missing)))
                continue
            mean, compared = found["statistics"]["return"]["mean"], min(options.episodes, len(stored["first"]))
            if verdict == "equal" and options.episodes < stored["episodes"]:
                verdict += f" (the first {counted(compared, 'episode')})"
            lines.append((team.name, f"{stored['mean']:.4f}", f"{mean:.4f}", verdict))
    print(table(lines, " rr"))
    return int(any(line[-1] == "differs" for line in lines))
