"""``oamarl runs list``: stored runs, one line each."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from ...analysis.runs import Run, find, moment
from ...analysis.select import chosen
from ...storage.tested_actions import GREEDILY, GREEDY, TEST
from ...utils.console import duration, number
from ...utils.errors import UserError, counted
from ..arguments import Arguments
from ..tables import table

USAGE = """\
usage: oamarl runs [list] [PATH ...] [--filter CONDITION ...]

One line per run: its folder, status, seed, steps, newest mean return of training, of tests by sampled actions and of
tests by greedy (argmax) actions, time, start. Evaluations (evaluate=True) follow in a table of their own: of which run,
at which of its steps, how many episodes of each kind, mean returns. PATH is a folder or a path below results/sacred;
without one, all of results/sacred.

  --filter  only runs for which all of these hold: name, task, kind (training, evaluation), status, seed, steps,
            seconds, path, metrics.NAME (newest value) or a key of the configuration, with = != < <= > >=, such as
            --filter 'config.lr<0.001' name=oappo status=COMPLETED; text may hold * and ?

A run with the status RUNNING whose process no longer exists is shown as DEAD."""

#: headings of the two tables
TRAINING = ("run", "status", "seed", "steps", "training", "test, sampled", "test, greedy", "time", "started (UTC)")
EVALUATION = ("evaluation", "status", "of run", "at step", "episodes", "sampled", "greedy", "started (UTC)")


def results() -> Path:
    """Return the results folder."""
    from ...settings import results_folder

    return Path(results_folder(None))


def shown(run: Run) -> str:
    """Return a run's folder as it is typed on a command line: its path below results/sacred where it is there."""
    return shown_path(run.path)


def shown_path(folder: Path) -> str:
    """Return a folder as it is typed on a command line: its path below results/sacred where it is there."""
    below, path = results() / "sacred", folder.absolute()
    return str(path.relative_to(below)) if path.is_relative_to(below) else str(folder)


def one(word: str) -> Run:
    """Return the run that a word of the command line selects.

    Raises:
        UserError: there is none, or more than one.
    """
    from ...analysis.find_run import find_run

    if word == "latest":
        word = str(find_run(word, results()))
    runs, troubles = find([word], results())
    if not runs:
        raise UserError(troubles[0] if troubles else f"There is no run in {word}.")
    if len(runs) > 1:
        names = ", ".join(shown(run) for run in runs[:4]) + (" ..." if len(runs) > 4 else "")
        raise UserError(f"'{word}' holds {len(runs)} runs ({names}): name one of them.")
    return runs[0]


def returns(run: Run) -> tuple[float, float, float]:
    """Return the newest mean return of training, of sampled and of greedy tests (nan where unknown)."""
    values = run.newest[1]

    def newest(before: str) -> float:
        return values.get(f"{before}return_mean", values.get(f"{before}total_return_mean", math.nan))

    test, greedy = newest(TEST), newest(GREEDY)
    if run.actions(f"{TEST}return_mean") == GREEDILY:  # a foreign run that has no other tests
        test, greedy = math.nan, test
    return newest(""), test, greedy


def training_row(run: Run) -> tuple[str, ...]:
    """Return what is shown of a run that trains."""
    t_max = run.config.get("t_max")
    steps = f"{run.steps:,}" + (f"/{t_max:,}" if isinstance(t_max, int) else "")
    values = [_number(x) for x in returns(run)]
    seed = "-" if run.seed is None else str(run.seed)
    return (shown(run), run.status, seed, steps, *values, duration(run.seconds), started(run))


def evaluation_row(run: Run) -> tuple[str, ...]:
    """Return what is shown of an evaluation: how it ended, of which run, at which step, episodes, returns, start."""
    of, episodes = run.evaluated, run.config.get("test_nepisode")
    played = f"{episodes:,}" if isinstance(episodes, int) else "-"
    values = [_number(x) for x in returns(run)[1:]]
    at = f"{run.steps:,}" if run.newest[1] else "-"
    return (shown(run), run.status, "-" if of is None else shown_path(of), at, played, *values, started(run))


def started(run: Run) -> str:
    """Return when a run began, ``-`` where it is not known."""
    start = moment(run.entry.get("start_time"))
    return f"{start:%Y-%m-%d %H:%M}" if start else "-"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else number(value)


def _count(wanted: list[Run], runs: list[Run], filtered: bool) -> str:
    """Return how many runs are shown, and how many evaluations where there are any."""
    parts = []
    for kind, noun in (("training", "run"), ("evaluation", "evaluation")):
        every, here = (sum(run.kind == kind for run in some) for some in (runs, wanted))
        if every or kind == "training":
            parts.append(f"{here} of {counted(every, noun)}" if filtered else counted(every, noun))
    return ", ".join(parts)


def main(argv: list[str]) -> int:
    """List runs; return the exit status.

    Raises:
        UserError: a path that does not exist, or an invalid condition.
    """
    p = Arguments("runs list")
    p.add_argument("paths", nargs="*")
    p.add_argument("--filter", nargs="+", action="extend", default=[])
    options = p.parse_args(argv)
    below = results() / "sacred"
    if not options.paths and not below.is_dir():
        print(f"There is no run in {below} yet.")
        return 0
    runs, troubles = find(options.paths or [str(below)], results())
    wanted = chosen(runs, options.filter)
    if rows := [training_row(run) for run in wanted if not run.is_evaluation]:
        print(table([TRAINING, *rows], "  rrrrrr "))
    if played := [evaluation_row(run) for run in wanted if run.is_evaluation]:
        print("\n" * bool(rows) + table([EVALUATION, *played], "   rrrr "))
    print(_count(wanted, runs, bool(options.filter)))
    for sentence in dict.fromkeys(troubles + [s for run in wanted for s in run.troubles]):
        print(f"Note: {sentence}", file=sys.stderr)
    return 0
