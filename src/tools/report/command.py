"""``oamarl report``: one HTML page about many runs."""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path
from typing import Any

from ...analysis.names import metric_name
from ...storage.run_files import write_whole
from ...utils.errors import UserError, counted
from ..arguments import Arguments, add_selection
from ..plot import data as plot_data
from ..plot import scores as plot_scores
from ..plot.naming import Names, names

USAGE = """\
usage: oamarl report [PATH ...] [--out FILE.html] [--title TEXT] [--metric NAME] [--by KEY,...] [--best]
                     [--filter CONDITION ...] [--iqm] [--smooth SHARE]

Writes one page that holds everything (nothing is fetched when it is opened): results with intervals, curves,
comparisons, reuse, configurations, versions, time spent, every run with its command line.

PATH, --metric, --by, --best, --filter, --iqm and --smooth are those of `oamarl plot`; PATH may be a sweep file.

  --out    the page to write (report.html)
  --title  its title"""


def parser() -> Arguments:
    """Return the command line's parser."""
    from ..arguments import share

    p = Arguments("report")
    add_selection(p)
    p.add_argument("--out", type=Path, default=Path("report.html"))
    p.add_argument("--title")
    p.add_argument("--iqm", action="store_true")
    p.add_argument("--best", action="store_true")
    p.add_argument("--smooth", type=share, default=0.0)
    return p


def main(argv: list[str]) -> int:
    """Write a page; return the exit status.

    Raises:
        UserError: an invalid command line, nothing to report, or a file that cannot be written.
    """
    options = parser().parse_args(argv)
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out takes a file that ends in .html, and not '{options.out}'.")
    content, runs = build(options, argv)
    path = options.out.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.encode())
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from None
    print(f"Wrote {path} ({counted(runs, 'run')}, {len(content) / 1e6:.1f} MB)")
    return 0


def build(options: Any, argv: list[str]) -> tuple[str, int]:
    """Return the page and the number of runs on it.

    Raises:
        UserError: there is nothing to report.
    """
    from ... import __version__
    from ..plot.style import look
    from .html import Html, folded, notes, page, paragraph, section, text

    selection = plot_data.select(options.paths, options.filter, options.by, options.metric)
    named = names(selection)
    selection.groups = named.groups(selection.groups)
    told: list[str] = []
    if options.best:
        selection.groups, told = plot_data.best_configurations(selection.groups, options.metric, "final")
    selection.notices += plot_data.mixed(selection.groups)
    groups = selection.groups
    runs = [run for tasks in groups.values() for some in tasks.values() for run in some]
    with look():
        parts = _sections(options, selection, named)
    unfinished = [run for run in runs if run.status != "COMPLETED"]
    if unfinished:
        some = ", ".join(f"{run.path} ({run.status})" for run in unfinished[:5]) + " ..." * (len(unfinished) > 5)
        selection.notices.append(f"{counted(len(unfinished), 'run', 'are')} not complete: {some}.")
    title = options.title or "Results: " + (_names(options.paths) or "all runs")
    metric = metric_name(options.metric, selection.actions)
    sub = [
        f"{counted(len(runs), 'run')} of {'; '.join(groups)} on {', '.join(selection.tasks)}; {metric}",
        f"Made by oamarl {__version__} on {dt.datetime.now():%Y-%m-%d %H:%M}",
    ]
    command = paragraph(Html(f"<code>{text(shlex.join(['oamarl', 'report', *argv]))}</code>"))
    body = notes(told + list(dict.fromkeys(selection.notices)))
    body = Html(
        folded("Command of this page", command)
        + body
        + "".join(section(name, shown, *pieces) for name, shown, pieces in parts)
    )
    return page(title, sub, [(name, shown) for name, shown, _ in parts], body), len(runs)


def _names(paths: list[str]) -> str:
    return ", ".join(Path(p).stem for p in paths[:3]) + (" ..." if len(paths) > 3 else "")


def _sections(options: Any, selection: Any, named: Names) -> list[tuple[str, str, list[str]]]:
    from . import parts as report_parts
    from .html import heading, paragraph

    groups, metric = selection.groups, options.metric
    finals, bests = (plot_scores.scores(groups, metric, which) for which in ("final", "best"))
    name = metric_name(metric, selection.actions)
    results: list[str] = [paragraph(f"{name[:1].upper()}{name[1:]}; {report_parts.RESULTS_CAPTION}")]
    for task in selection.tasks:
        results += [heading(task), report_parts.results_table(task, finals, bests, groups)]
    every = [run for tasks in groups.values() for some in tasks.values() for run in some]
    sections: list[tuple[str, str, list[str]]] = [
        ("results", "Results", results),
        ("curves", "Curves", _curves(options, selection, named)),
        ("comparison", "Comparison", _comparison(selection, finals, metric, named)),
        ("reuse", "Reuse", _reuse(selection)),
        ("configurations", "Configurations", [
            heading("Tasks"), report_parts.tasks_table(groups),
            heading("What differs"), report_parts.configurations(groups),
        ]),
        ("time", "Time spent", [report_parts.times(groups)]),
        ("versions", "Versions", [report_parts.versions(every)]),
        ("runs", "Runs", [report_parts.runs_table(groups, metric, name)]),
    ]  # fmt: skip
    return [(name, shown, pieces) for name, shown, pieces in sections if pieces]


def _curves(options: Any, selection: Any, named: Names) -> list[str]:
    """Curves against steps, and against the other axes that the runs record."""
    from ...analysis.curves import AXES
    from ..plot.figures import curves_figure
    from .html import heading, picture

    parts: list[str] = []
    name = plot_data.statistic(options.iqm)[1]
    for axis, (_, shown) in AXES.items():
        notices: list[str] = []
        try:
            lines = plot_data.lines(selection.groups, options.metric, axis, options.iqm, options.smooth, notices)
        except UserError:
            if axis == "steps":
                raise
            continue
        if axis == "steps":
            selection.notices += notices
        alt = f"{metric_name(options.metric)} of {', '.join(selection.groups)} against {shown}"
        caption = f"{name.capitalize() if name == 'mean' else name} over runs and 95 % bootstrap interval"
        left = sum("left out" in notice for notice in notices)
        caption += f"; {counted(left, 'run', 'do')} not record {shown}." if left and axis != "steps" else "."
        parts += [
            heading(f"Against {shown}"),
            picture(curves_figure(lines, axis, options.metric, name, selection.actions, named.styles()), alt, caption),
        ]
    return parts


def _comparison(selection: Any, finals: Any, metric: str, named: Names) -> list[str]:
    """Comparisons in pairs, over all tasks, and profiles, where there are several algorithms."""
    from ..plot.figures import aggregate_figure, improvement_figure, profile_figure
    from . import parts as report_parts
    from .html import heading, picture

    if len(finals) < 2:
        return []
    name = f"{metric_name(metric, selection.actions)}, last 10 %"
    parts: list[str] = []
    try:
        pairs = plot_scores.pairs(finals, [])
        parts += [heading("Two by two"), picture(improvement_figure(pairs, name), "probabilities of improvement"),
                  report_parts.pairs_table(pairs),
                  report_parts.differences_table(plot_scores.differences(finals))]  # fmt: skip
        parts += _areas(selection, metric)
        shared = plot_scores.common(finals, selection.notices)
    except UserError as error:
        selection.notices.append(str(error))
        return parts
    scales, scale = plot_scores.scale("auto", shared)
    ready = plot_scores.normalised(shared, scales)
    shown = f"{name}\n({scale})" if scale else name
    target = 1.0 if scale else max(float(x.max()) for tasks in ready.values() for x in tasks)
    look = named.styles()
    parts += [
        heading("Aggregates"),
        picture(aggregate_figure(plot_scores.aggregates(ready, target), shown, look), "aggregates"),
        heading("Performance profiles"),
        picture(profile_figure(plot_scores.profiles(ready), shown, look), "performance profiles"),
    ]  # fmt: skip
    return parts


def _areas(selection: Any, metric: str) -> list[str]:
    """Areas under the curves, over all steps and at equal cost."""
    from . import parts as report_parts
    from .html import heading, paragraph

    name = metric_name(metric, selection.actions)
    told = {
        "Area under the curve": (f"Mean over all of training: {name}.",
                                 plot_scores.scores(selection.groups, metric, "area")),
        "Area at equal processed samples": (
            f"Mean over the rows that updates evaluated, up to where the first run of a task ends: {name}.",
            plot_scores.equal_cost(selection.groups, metric),
        ),
    }  # fmt: skip
    parts: list[str] = []
    for title, (words, scores) in told.items():
        if len(scores) > 1:
            tables = report_parts.areas_table(scores), report_parts.differences_table(plot_scores.differences(scores))
            parts += [heading(title), paragraph(words), *tables]
    return parts


def _reuse(selection: Any) -> list[str]:
    from ..plot.reuse import read_reuse, reuse_figure
    from .html import paragraph, picture

    found = [read_reuse(label, task, runs) for label, tasks in selection.groups.items() for task, runs in tasks.items()]
    parts = [picture(reuse_figure(x), f"reuse of {x.label} on {x.task}") for x in found if x is not None]
    told = (
        "Row: learner; column: source. M is the share of experience, D the distance of the two policies (where σ is "
        "marked, nothing is reused beyond it), b what reuse may bias (total variation), c what it costs in variance "
        "(chi-square), role how far the agents' roles disagree (F, 1: not at all)."
    )
    return [paragraph(told), *parts] if parts else []
