"""``oamarl runs delete``: delete folders of runs, after a confirmation."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ...analysis.runs import Run, find
from ...analysis.select import chosen
from ...utils.errors import UserError
from ..arguments import Arguments

USAGE = """\
usage: oamarl runs delete RUN ... [--yes] [--force]
       oamarl runs delete [PATH ...] --filter CONDITION ... [--yes] [--force]

Deletes the folders of these runs, checkpoints included, after a confirmation. With --filter (as for `oamarl runs
list`), all runs in PATH (all of results/sacred) for which the conditions hold.

  --yes    do not ask
  --force  also runs that are running"""


def main(argv: list[str]) -> int:
    """Delete runs; return the exit status: 0 done, 1 the answer was no.

    Raises:
        UserError: a run that does not exist, is running, or cannot be deleted; no terminal for the confirmation.
    """
    from .list import results, shown
    from .show import bytes_text, size

    p = Arguments("runs delete")
    p.add_argument("runs", nargs="*")
    p.add_argument("--filter", nargs="+", action="extend", default=[])
    p.add_argument("--yes", action="store_true")
    p.add_argument("--force", action="store_true")
    options = p.parse_args(argv)
    runs = _meant(options.runs, options.filter)
    alive = [run for run in runs if run.status in ("RUNNING", "RUNNING?")]
    if alive and not options.force:
        raise UserError(f"{shown(alive[0])} is running: stop it first, or use --force.")
    if not runs:
        print(f"No run in {results() / 'sacred'} meets this.")
        return 0
    if not options.yes:
        for run in runs:
            what = "an evaluation" if run.is_evaluation else f"{run.steps:,} steps"
            print(f"{shown(run)}  {run.status}, {what}, {bytes_text(size(run.path))}")
        if not sys.stdin.isatty():
            raise UserError("No terminal to ask for confirmation: use --yes to delete them.")
        answer = input(f"Delete {'this run' if len(runs) == 1 else f'these {len(runs)} runs'}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was deleted.")
            return 1
    for run in runs:
        try:
            shutil.rmtree(run.path)
        except OSError as error:
            raise UserError(f"Cannot delete {run.path}: {error.strerror or error}.") from None
        print(f"Deleted {shown(run)}")
    return 0


def _meant(words: list[str], conditions: list[str]) -> list[Run]:
    """Return the runs to delete; only folders of runs."""
    from .list import one, results, shown

    if conditions:
        below = results() / "sacred"
        if not words and not below.is_dir():
            return []
        found = find(words or [str(below)], results())[0]
        return [run for run in chosen(found, conditions) if run.is_folder]
    if not words:
        raise UserError("`oamarl runs delete` needs a run: a folder, `latest`, or --filter CONDITION.")
    runs = {}
    for word in words:
        run = one(word)
        if word != "latest" and run.path.resolve() not in (
            Path(word).resolve(),
            (results() / "sacred" / word).resolve(),
        ):
            raise UserError(f"'{word}' is not a run's folder: name the run itself, {shown(run)}.")
        runs[run.path.resolve()] = run
        if not run.is_folder:
            raise UserError(f"{run.path} is a curve file, not a run's folder: delete it yourself.")
        if run.path.is_symlink():
            raise UserError(f"{run.path} is a link: name the folder itself.")
    return list(runs.values())
