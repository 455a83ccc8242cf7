"""The sections of ``oamarl report``: tables of results, configurations, versions, times and runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...analysis import reliable
from ...analysis.curves import best, final
from ...analysis.runs import Run
from ...analysis.select import configuration, flat
from ...settings import learned
from ...utils.console import duration, number
from ...utils.errors import counted
from ...utils.schema import yamls
from ..plot.data import Groups, below_here
from ..plot.scores import Bar, Scores, estimate
from .html import Html, folded, heading, paragraph, table


def _shown(bar: Bar) -> str:
    value, low, high = bar
    return number(value) + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")


def _interval(bar: Bar) -> tuple[float, float] | None:
    return None if bar[1] is None or bar[2] is None else (bar[1], bar[2])


def results_table(task: str, finals: Scores, bests: Scores, groups: Groups) -> Html:
    """Return the table of a task: final and best performance with intervals, and which overlap that of the highest."""
    found = []
    for label in (x for x in groups if task in groups[x]):
        end, peak = finals[label][task][:, None], bests[label][task][:, None]
        runs = groups[label][task]
        seconds = [run.seconds for run in runs if math.isfinite(run.seconds)]
        samples = [x for run in runs if math.isfinite(x := run.last("processed_samples"))]
        rest = (
            _shown(estimate([end], reliable.iqm)),
            _shown(estimate([peak], reliable.mean)),
            f"{max(run.steps for run in runs):,}",
            f"{np.mean(samples) / 1e6:.3g} M" if samples else "-",
            duration(float(np.mean(seconds))) if seconds else "-",
        )
        found.append((label, len(runs), estimate([end], reliable.mean), rest))
    found.sort(key=lambda row: -row[2][0])
    first = _interval(found[0][2])
    rows = []
    for k, (label, n, mean, rest) in enumerate(found):
        same = reliable.overlap(first, _interval(mean))
        mark = "highest" if k == 0 else "one run" if n < 2 else "overlaps" if same else "lower"
        rows.append((label, n, _shown(mean), mark, *rest))
    head = ("", "runs", "final: mean", "to the highest", "final: IQM", "best: mean", "steps", "samples", "time a run")
    return table(head, rows, kinds="knnknnnnn", best=0)


RESULTS_CAPTION = (
    "final: last 10 % of training; best: best consecutive 10 %; IQM: interquartile mean. In brackets 95 % "
    "bootstrap intervals over runs. 'overlaps': the interval overlaps that of the highest, so these runs do "
    "not show which of the two is better."
)


def pairs_table(pairs: Mapping[tuple[str, str], Bar]) -> Html:
    """Return the probabilities of improvement, with inconclusive ones marked."""
    rows = []
    for (x, y), bar in pairs.items():
        told = "-" if bar[1] is None else "yes" if bar[1] > 0.5 else "no: 0.5 lies within"
        rows.append((x, y, f"{bar[0]:.2f}", "-" if bar[1] is None else f"{bar[1]:.2f} to {bar[2]:.2f}", told))
    head = ("first", "second", "P(first scores higher)", "95 % interval", "above 0.5")
    return table(head, rows, "Probability that a run of the first scores higher than one of the second.", "kknnk")


def areas_table(scores: Scores) -> Html:
    """Return each algorithm's mean score on each task, with its interval."""
    rows = [
        (task, label, len(own[task]), _shown(estimate([own[task][:, None]], reliable.mean)))
        for task in sorted({task for own in scores.values() for task in own})
        for label, own in sorted(scores.items(), key=lambda item: -item[1].get(task, np.array([-np.inf])).mean())
        if task in own
    ]
    return table(("task", "", "runs", "mean"), rows, kinds="kknn")


def differences_table(found: Mapping[tuple[str, str], reliable.Difference]) -> Html:
    """Return the differences of mean scores, with intervals and tests."""
    rows = []
    for (x, y), apart in found.items():
        told = ("-", "-", "-")
        if apart.low is not None and apart.high is not None and apart.p is not None:
            bounds = f"{number(apart.low)} to {number(apart.high)}"
            told = bounds, f"{apart.p:.2g}", "yes" if apart.shows else "no: 0 lies within"
        rows.append((x, y, number(apart.value), *told))
    head = ("first", "second", "first - second", "95 % interval", "p", "differ")
    return table(head, rows, DIFFERENCES_CAPTION, "kknnnk")


DIFFERENCES_CAPTION = (
    "Difference of means over runs (of several tasks: mean of the differences); interval of the bootstrap within "
    "tasks; p of a two-sided permutation test, not corrected for the number of pairs."
)


def _values(runs: Sequence[Run], configs: Mapping[int, Mapping[str, Any]], key: str) -> str:
    """Return the values of a key among runs."""
    found = Counter(yamls.inline(configs[id(run)][key]) if key in configs[id(run)] else "-" for run in runs)
    if len(found) == 1:
        return next(iter(found))
    some = ", ".join(f"{value} ({counted(n, 'run')})" for value, n in found.most_common(4))
    return some + (" ..." if len(found) > 4 else "")


def configurations(groups: Groups) -> Html:
    """Return the keys that differ between algorithms, and those that are the same for all."""
    members = {label: [run for runs in tasks.values() for run in runs] for label, tasks in groups.items()}
    configs = {id(run): configuration(run, learned) for runs in members.values() for run in runs}
    keys = sorted({key for config in configs.values() for key in config} - {"name"})
    rows = [(key, *(_values(runs, configs, key) for runs in members.values())) for key in keys]
    differ = [row for row in rows if len(set(row[1:])) > 1 or " runs)" in row[1]]
    same = [row[:2] for row in rows if row not in differ]
    parts = [table(("key", *members), differ, kinds="k") if differ else paragraph("No key differs.")]
    if same:
        parts.append(folded(f"Keys that are the same for all: {len(same)}", table(("key", "value"), same, kinds="k")))
    return Html("".join(parts))


def tasks_table(groups: Groups) -> Html:
    """Return what was played: the environment's arguments."""
    rows = []
    for task in sorted({task for tasks in groups.values() for task in tasks}):
        runs = [run for tasks in groups.values() for run in tasks.get(task, ())]
        configs = {id(run): flat(run.config) for run in runs}
        keys = sorted({k for config in configs.values() for k in config if k.startswith("env_args.")})
        keys = [k for k in keys if k != "env_args.seed"]
        told = {k: [run for run in runs if k in configs[id(run)]] for k in keys}
        args = ", ".join(f"{k.removeprefix('env_args.')}={_values(told[k], configs, k)}" for k in keys)
        rows.append((task, _values(runs, configs, "env"), args))
    return table(("task", "environment", "arguments"), rows, kinds="kk")


def versions(runs: Sequence[Run]) -> Html:
    """Return versions of packages and code, and the machines, with a note where runs differ in them."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        told = run.facts.get("versions")
        for name, version in told.items() if isinstance(told, Mapping) else ():
            found.setdefault(str(name), Counter())[str(version)] += 1
        found.setdefault("git commit", Counter())[str(run.facts.get("commit") or "unknown")] += 1
        found.setdefault("machine", Counter())[_machine(run)] += 1
    rows = []
    for name, counts in sorted(found.items()):
        some = ", ".join(v if len(counts) == 1 else f"{v} ({counted(n, 'run')})" for v, n in counts.most_common(6))
        rows.append((name, some + (" ..." if len(counts) > 6 else "")))
    mixed = sorted(name for name, counts in found.items() if len(counts) > 1)
    said = f"Runs differ in: {', '.join(mixed)}." if mixed else "The same for all runs."
    return Html(paragraph(said) + table(("what", "version"), rows, kinds="kp"))


def _machine(run: Run) -> str:
    host = run.entry.get("host")
    host = host if isinstance(host, Mapping) else {}
    machine = run.facts.get("machine")
    machine = machine if isinstance(machine, Mapping) else {}
    parts = [host.get("hostname"), host.get("cpu") or machine.get("cpu"), machine.get("system")]
    return ", ".join(str(part) for part in parts if part) or "unknown"


#: phases whose time a run records
_SPLIT = ("environment", "inference", "learning", "testing", "logging", "other")


def times(groups: Groups) -> Html:
    """Return the time spent: in total, per run, and in each phase."""
    rows, shares, total = [], [], 0.0
    for label, tasks in groups.items():
        for task, runs in tasks.items():
            known = [run for run in runs if math.isfinite(run.seconds)]
            seconds = sum(run.seconds for run in known)
            total += seconds
            speed = [run.steps / run.seconds for run in known if run.seconds > 0]
            rows.append((
                label, task, len(runs), duration(seconds) if known else "-",
                duration(seconds / len(known)) if known else "-",
                number(round(float(np.mean(speed)))) if speed else "-",
            ))  # fmt: skip
            shares.append((label, task, *_shares(known)))
    told = [row for row in shares if row[2] != "-"]
    parts = [
        paragraph(f"In all {duration(total)} of wall-clock time, as if one run had followed another."),
        table(("", "task", "runs", "in all", "a run", "steps a second"), rows, kinds="kknnnn"),
    ]
    if told:
        caption = "Share of training time of each phase: means over the runs that record it."
        parts.append(table(("", "task", *_SPLIT), told, caption, "kk" + "n" * len(_SPLIT)))
    return Html("".join(parts))


def _shares(runs: Sequence[Run]) -> list[str]:
    shares = []
    for run in runs:
        parts = np.array([run.last(f"time_{name}") for name in _SPLIT])
        if np.isfinite(parts).all() and parts.sum() > 0:
            shares.append(parts / parts.sum())
    return [f"{x:.0%}" for x in np.mean(shares, axis=0)] if shares else ["-"] * len(_SPLIT)


def runs_table(groups: Groups, metric: str, name: str) -> Html:
    """Return all runs with their commands; ``name`` is the metric's name in the table."""
    rows, commands = [], []
    for label, tasks in groups.items():
        for task, runs in tasks.items():
            for run in sorted(
                runs, key=lambda r: (not isinstance(r.seed, int), r.seed if isinstance(r.seed, int) else 0)
            ):
                rows.append((label, task, "-" if run.seed is None else run.seed, run.status, f"{run.steps:,}",
                             number(final(run, metric)), number(best(run, metric)), duration(run.seconds),
                             below_here(run.path)))  # fmt: skip
                commands.append((label, task, "-" if run.seed is None else run.seed, run.command or "unknown"))
    head = ("", "task", "seed", "status", "steps", "final", "best", "time", "path")
    return Html(
        folded(counted(len(rows), "run"), table(head, rows, f"final, best: {name}.", "kknknnnnp"))
        + heading("Commands")
        + folded("The command line of each run", table(("", "task", "seed", "command"), commands, kinds="kknp"))
    )
