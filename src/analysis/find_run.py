"""The search for the stored run that a word on the command line selects."""

from __future__ import annotations

from pathlib import Path

from ..storage.run_files import read_json
from ..utils.errors import UserError, nearest


def find_run(word: str, results: Path) -> Path:
    """Return the run folder that ``word`` selects.

    Args:
        word: a folder, a path below ``results/sacred``, or ``latest``, which is the newest that trained.
        results: the results folder.

    Raises:
        UserError: there is no such run.
    """
    runs = results / "sacred"
    known = {p.parent: p.stat().st_mtime for p in runs.glob("*/*/*/config.json")}  # written once, when a run starts
    if word == "latest":
        if not known:
            raise UserError(f"There is no run in {runs} yet.")
        newest = sorted(known, key=lambda p: known[p], reverse=True)
        trained = (p for p in newest if not read_json(p / "config.json").get("evaluate"))
        return next(trained, newest[0])
    for folder in (Path(word), runs / word):
        if (folder / "config.json").is_file():
            return folder
    names = [str(p.relative_to(runs)) for p in known]
    raise UserError(f"There is no run at '{word}': a run's folder or `latest` is expected{nearest(word, names) or '.'}")
