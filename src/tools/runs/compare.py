"""``oamarl runs compare``: differences between runs, and their results, side by side."""

from __future__ import annotations

import math
import sys

from ...analysis.curves import best, final, kinds
from ...analysis.runs import Run
from ...analysis.select import differing, flat
from ...utils.errors import UserError
from ...utils.layout import line_width
from ..arguments import Arguments
from ..tables import table

USAGE = """\
usage: oamarl runs compare RUN RUN ... [--all]

RUN is as for `oamarl runs show`. Shown are the keys of the configuration that differ, then versions that differ, then
the mean of every metric over the last 10 % (and over the best 10 % of returns; the last value of counters).

  --all  also metrics of time, losses and the reuse"""

#: metrics that only grow, and what a comparison begins with; the rest comes with --all
COUNTERS = ("agent_steps", "episode", "processed_samples", "updates", "wall_clock")
_MAIN = ("return", "ep_length", "won", "entropy", "updates", "processed_samples", "wall_clock")


def difference_rows(runs: list[Run]) -> list[tuple[str, ...]]:
    """Return key and value of each run for keys of the configuration and versions that differ."""
    from ...utils.schema import yamls

    configs = [flat(run.config) for run in runs]
    versions = []
    for run in runs:
        told = run.facts.get("versions")
        told = dict(told) if isinstance(told, dict) else {}
        versions.append({**told, "commit": run.facts.get("commit")})
    rows = []
    for before, values in (("", configs), ("version of ", versions)):
        for key in differing(values):
            shown = (("-" if key not in v else str(v[key]) if before else yamls.inline(v[key])) for v in values)
            rows.append((f"{before}{key}", *shown))
    return rows


def metric_rows(runs: list[Run], every: bool) -> list[tuple[str, ...]]:
    """Return the mean of every metric over its last 10 %, and of returns over the best 10 %."""
    from ...utils.console import number

    names = sorted({name for run in runs for name in run.curves})
    names = [name for name in names if every or any(part in name for part in _MAIN)]
    rows = []
    for name in names:
        # of what only grows, where it ended
        last = name in COUNTERS or (name.startswith("time_") and not name.endswith("_mean"))  # clocks, not an info's
        values = [(run.last(name) if last else final(run, name)) if name in run.curves else math.nan for run in runs]
        how = [run.actions(name) if name in run.curves else "-" for run in runs]
        told = " | ".join(how) if len(kinds(runs, name)) > 1 else "".join(kinds(runs, name))
        shown = f"{name} ({told})" if told else name
        rows.append((shown, *("-" if math.isnan(x) else number(x) for x in values)))
        if name.endswith("return_mean"):
            peaks = [number(best(run, name)) if name in run.curves else "-" for run in runs]
            rows.append((f"{shown}, best 10 %", *peaks))
    return rows


def main(argv: list[str]) -> int:
    """Compare runs; return the exit status.

    Raises:
        UserError: fewer than two runs, or one that is not there.
    """
    from .list import one, shown, shown_path

    p = Arguments("runs compare")
    p.add_argument("runs", nargs="*")
    p.add_argument("--all", action="store_true")
    options = p.parse_args(argv)
    if len(options.runs) < 2:
        raise UserError("`oamarl runs compare` needs two runs or more.")
    runs = [one(word) for word in options.runs]
    names, width = [shown(run) for run in runs], line_width()
    if width is not None and sum(len(name) + 2 for name in names) + 24 > width:  # too long to stand side by side
        numbers = [f"[{i}]" for i in range(1, len(runs) + 1)]
        print("\n".join(f"{number} {name}" for number, name in zip(numbers, names, strict=True)), end="\n\n")
        names = numbers
    head = ("", *names)
    about = [
        ("status", *(run.status for run in runs)),
        ("environment steps", *(f"{run.steps:,}" for run in runs)),
    ]
    if any(run.is_evaluation for run in runs):
        of = ["-" if run.evaluated is None else shown_path(run.evaluated) for run in runs]
        about[:0] = [("kind", *(run.kind for run in runs)), ("evaluation of", *of)]
    differ, metrics = difference_rows(runs), metric_rows(runs, options.all)
    blank = [""] * len(runs)
    print(table([head, *about], names=names), end="\n\n")
    if differ:
        print(table([("what differs", *blank), *differ], names=names))
    else:
        print("Nothing differs in configuration and versions.")
    print()
    if metrics:
        print(table([("metrics", *blank), *metrics], " " + "r" * len(runs), names=names))
    else:
        print("Nothing is logged.")
    for sentence in [s for run in runs for s in run.troubles]:
        print(f"Note: {sentence}", file=sys.stderr)
    return 0
