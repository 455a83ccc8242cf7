"""``oamarl runs list``: stored runs, one line each."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from ...analysis.runs import Run, find, moment
from ...analysis.select import chosen
from ...storage.tested_actions import GREEDILY, GREEDY, TEST
from ...utils.errors import UserError, counted
from ..arguments import Arguments
from ..tables import table

USAGE = """\
usage: oamarl runs [list] [PATH ...] [--filter CONDITION ...]

One line per run: its folder, status, seed, steps, newest mean return of training, of tests by sampled actions and of
tests by greedy (argmax) actions, time, start. PATH is a folder or a path below results/sacred; without one, all of
results/sacred.

  --filter  only runs for which all of these hold: name, task, status, seed, steps, seconds, path, metrics.NAME
            (newest value) or a key of the configuration, with = != < <= > >=, such as
            --filter 'config.lr<0.001' name=oappo status=COMPLETED; text may hold * and ?

A run with the status RUNNING whose process no longer exists is shown as DEAD."""


def results() -> Path:
    """Return the results folder."""
    from ...settings import results_folder

    return Path(results_folder(None))


def shown(run: Run) -> str:
    """Return a run's folder as it is typed on a command line: its path below results/sacred where it is there."""
    below = results() / "sacred"
    path = run.path.absolute()
    return str(path.relative_to(below)) if path.is_relative_to(below) else str(run.path)


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


def main(argv: list[str]) -> int:
    """List runs; return the exit status.

    Raises:
        UserError: a path that does not exist, or an invalid condition.
    """
    from ...utils.console import duration, number

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
    rows = []
    for run in wanted:
        start = moment(run.entry.get("start_time"))
        t_max = run.config.get("t_max")
        steps = f"{run.steps:,}" + (f"/{t_max:,}" if isinstance(t_max, int) else "")
        values = ["-" if math.isnan(x) else number(x) for x in returns(run)]
        rows.append((
            shown(run), run.status, "-" if run.seed is None else str(run.seed), steps, *values, duration(run.seconds),
            f"{start:%Y-%m-%d %H:%M}" if start else "-",
        ))  # fmt: skip
    if rows:
        head = ("run", "status", "seed", "steps", "training", "test, sampled", "test, greedy", "time", "started (UTC)")
        print(table([head, *rows], "  rrrrrr "))
    every = counted(len(runs), "run")
    print(f"{len(wanted)} of {every}" if options.filter else every)
    for sentence in dict.fromkeys(troubles + [s for run in wanted for s in run.troubles]):
        print(f"Note: {sentence}", file=sys.stderr)
    return 0
