"""``oamarl runs show``: configuration, versions and results of one run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ...analysis.curves import best, final, metric_of
from ...analysis.runs import Run, moment
from ...storage.tested_actions import GREEDY, TEST, is_plain
from ..arguments import Arguments
from ..tables import table

USAGE = """\
usage: oamarl runs show RUN [--config]

RUN is a run's folder, its path below results/sacred (oappo/black_red/1), a curve file, or `latest`.

  --config  the whole configuration too"""


def size(path: Path) -> int:
    """Return the bytes of a file or of everything in a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(p.lstat().st_size for p in path.rglob("*") if p.is_symlink() or p.is_file())


def bytes_text(count: int) -> str:
    """Return a number of bytes with a suitable unit."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} bytes"


def facts(run: Run) -> list[tuple[str, str]]:
    """Return names and texts about a run."""
    from ...utils.console import duration, number

    start, stop = moment(run.entry.get("start_time")), moment(run.entry.get("stop_time"))
    host, versions = run.entry.get("host"), run.facts.get("versions")
    said = {
        "run": str(run.path),
        "algorithm": run.name,
        "task": run.task,
        "seed": "-" if run.seed is None else str(run.seed),
        "status": run.status
        + (": its status is RUNNING, but its process no longer exists" if run.status == "DEAD" else ""),
        "label": str(run.config.get("label") or ""),
        "started": f"{start:%Y-%m-%d %H:%M:%S} UTC" if start else "",
        "ended": f"{stop:%Y-%m-%d %H:%M:%S} UTC" if stop else "",
        "time": duration(run.seconds),
        **_played(run),
        "machine": str(host.get("hostname") or "") if isinstance(host, Mapping) else "",
        "command": run.command,
        "commit": str(run.facts.get("commit") or ""),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, Mapping) else "",
        "resumed from": str(run.facts.get("resumed_from") or ""),
        "size": bytes_text(size(run.path)),
    }
    if run.is_evaluation:
        return [(name, text) for name, text in said.items() if text]
    for metric in ("return_mean", "test_return_mean", "test_greedy_return_mean"):
        if name := metric_of(run, metric):
            text = f"{number(final(run, metric))} (last 10 %), {number(best(run, metric))} (best 10 %)"
            said[name] = f"{text}, {run.actions(name)}"
    return [(name, text) for name, text in said.items() if text]


def _played(run: Run) -> dict[str, str]:
    """Return how long a run has trained; of an evaluation whose policies played, how many episodes, and the returns."""
    from ...utils.console import number
    from .list import shown_path

    if not run.is_evaluation:
        return {"environment steps": f"{run.steps:,}"}
    of, values, episodes = run.evaluated, run.newest[1], run.config.get("test_nepisode")
    said = {"evaluation of": "" if of is None else f"{shown_path(of)}, step {run.steps:,}"}
    for before in (TEST, GREEDY):
        name = next((n for n in (f"{before}return_mean", f"{before}total_return_mean") if n in values), "")
        if name:
            spread = values.get(name.replace("_mean", "_std"))
            text = f"{number(values[name])}" + ("" if spread is None else f", standard deviation {number(spread)}")
            count = f"{episodes:,} episodes, " if isinstance(episodes, int) else ""
            said[name] = f"{text} ({count}{run.actions(name)})"
    return said


def main(argv: list[str]) -> int:
    """Show a run; return the exit status.

    Raises:
        UserError: there is no such run.
    """
    from ...utils.console import PLAIN_WIDTH, columns, plain_table, rows_of
    from ...utils.layout import line_width
    from ...utils.schema import yamls
    from .list import one

    p = Arguments("runs show", "one run")
    p.add_argument("run", metavar="RUN")
    p.add_argument("--config", action="store_true")
    options = p.parse_args(argv)
    run = one(options.run)
    print(table(facts(run), heads=False))
    steps, newest = run.newest
    if newest:
        title = f"Newest values, step {steps:,}"
        if any(is_plain(name) for name in newest):
            title += f"; test_*: {run.actions(TEST)}"
        print("\n".join(plain_table(title, columns(rows_of(newest), line_width() or PLAIN_WIDTH))))
    if options.config:
        print(f"Configuration\n{yamls.dump(run.config)}".rstrip())
    for sentence in run.troubles:
        print(f"Note: {sentence}", file=sys.stderr)
    return 0
