"""``oamarl plot``: pictures of many runs, and the numbers in them."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...analysis.curves import AXES, SCORES, Line
from ...analysis.names import metric_name
from ...utils.errors import UserError, nearest
from ..arguments import Arguments, add_selection, number, share
from . import data as plot_data
from . import scores as plot_scores
from .naming import names
from .view import View, add_view, check_shown, joined, read_view, renamed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data import Selection

USAGE = """\
usage: oamarl plot [PATH ...] [--kind curves|profile|improvement|aggregate|reuse|roles] [--metric NAME]
                   [--x steps|samples|updates|time] [--iqm] [--smooth SHARE] [--pool] [--by KEY,...] [--best]
                   [--filter CONDITION ...] [--score final|best|area] [--normalise auto|none|minmax|LOW:HIGH]
                   [--target X] [--title TEXT] [--labels OLD=NEW,...] [--xlim A:B] [--ylim A:B] [--log x|y]
                   [--out FILE.png|svg|pdf|csv ...] [--marl-eval FILE.json]

PATH is a run's folder, a folder with runs or curve files in it, a curve file, a path below results/sacred (oappo),
or a sweep file; without one, all of results/sacred.

  --kind       curves: a metric over training, one panel per task (default)
               profile: share of runs that score above a threshold
               improvement: probability that a run of one algorithm scores higher than one of another
               aggregate: interquartile mean, median, mean and optimality gap
               reuse: whose experience was learned from, and why: distances, bias, variance, over training
               roles: where ROMA's roles lie, over training
  --metric     metric to draw (return_mean; test_return_mean: sampled actions, test_greedy_return_mean: greedy ones;
               test_greedy_battle_won_mean, entropy ...)
  --x          against environment steps, processed samples, updates or wall-clock time
  --iqm        interquartile mean over seeds instead of the mean; bands are 95 % bootstrap intervals
  --smooth     average every run over this share of its curve (0.05)
  --pool       one line per algorithm over all tasks, on one scale (--normalise)
  --by         what distinguishes lines: keys of the configuration, name, task, seed (name); --by name,lr
  --best       of each algorithm on each task, only the best configuration
  --filter     only runs for which this holds: --filter 'lr<0.001' name=oappo status=COMPLETED
  --score      a run's score: final (last 10 % of its steps), best (best 10 %), area (mean over training)
  --normalise  0 and 1 of the scores' scale (auto: none with one task, else the worst and the best run of a task)
  --target     score from which the optimality gap is measured (1 on a scale, else the best run's score)
  --title      text above the picture
  --labels     other names of lines and tasks in the picture: --labels oappo=Ours,mappo=Theirs
  --xlim       ends of the x axis, 0:2M (time in seconds); one may be left out (500k:); of curves and profiles
  --ylim       ends of the y axis, 0:1
  --log        a logarithmic axis, x or y; may be given twice
  --out        files to write, by their suffixes (KIND.png); may be given several times
  --marl-eval  write the runs as marl-eval reads them; pictures too only with --out"""

KINDS = ("curves", "profile", "improvement", "aggregate", "reuse", "roles")
FORMATS = ("png", "svg", "pdf", "csv")
#: a header and rows
Table = tuple[Sequence[str], Sequence[Sequence[Any]]]


def parser() -> Arguments:
    """Return the command line's parser."""
    p = Arguments("plot")
    add_selection(p)
    p.choice("--kind", KINDS, "curves")
    p.choice("--x", tuple(AXES), "steps")
    p.choice("--score", tuple(SCORES), "final")
    p.add_argument("--iqm", action="store_true")
    p.add_argument("--smooth", type=share, default=0.0)
    p.add_argument("--pool", action="store_true")
    p.add_argument("--best", action="store_true")
    p.add_argument("--normalise", default="auto")
    p.add_argument("--target", type=number)
    add_view(p)
    p.add_argument("--out", action="append", default=[], type=_target)
    p.add_argument("--marl-eval", type=Path)
    return p


def _target(text: str) -> Path:
    path = Path(text).expanduser()
    ending = path.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not allowed: a file that ends in .{', .'.join(FORMATS)} is expected{nearest(ending, FORMATS)}"
        )
    return path.with_suffix(f".{ending}")


def main(argv: list[str]) -> int:
    """Draw; return the exit status.

    Raises:
        UserError: an invalid command line, nothing to draw, or a file that cannot be written.
    """
    options = parser().parse_args(joined(argv))
    view = read_view(options)
    from .style import look, save

    selection = plot_data.select(options.paths, options.filter, options.by, options.metric)
    told: list[str] = []
    if options.best:
        selection.groups, told = plot_data.best_configurations(selection.groups, options.metric, options.score)
    elif options.kind not in ("reuse", "roles"):
        selection.notices += plot_data.mixed(selection.groups)
    if options.marl_eval is not None:
        from . import marl_eval

        groups = names(selection, options.labels).groups(selection.groups)
        found, notices = marl_eval.content(groups, options.metric)
        selection.notices += notices
        print(f"Wrote {marl_eval.write(found, options.marl_eval.expanduser())}")
        if not options.out:
            for notice in selection.notices:
                print(f"Note: {notice}", file=sys.stderr)
            return 0
    with look():
        pictures = list(_DRAW[options.kind](options, selection, view))
        for notice in selection.notices:
            print(f"Note: {notice}", file=sys.stderr)
        for line in told:
            print(line)
        for path in options.out or [Path(f"{options.kind}.png")]:
            for name, figure, table in pictures:
                if options.kind not in ("reuse", "roles"):
                    table = with_actions(table, options.metric, selection.actions)
                target = path if not name else path.with_stem(f"{path.stem}-{_word(name)}")
                print(f"Wrote {_write_csv(table, target) if target.suffix == '.csv' else save(figure(), target)}")
    return 0


def _word(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def with_actions(table: Table, metric: str, actions: str) -> Table:
    """Return a table with the metric that it is of, and how the actions behind it were chosen, in its last columns."""
    head, rows = table
    return (*head, "metric", "actions"), [(*row, metric, actions) for row in rows]


def _write_csv(table: Table, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table[0])
            writer.writerows(["" if v is None else v for v in row] for row in table[1])
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from None
    return path


#: end of the file's name ("" for the only picture), the figure when it is asked for, and the numbers in it
Picture = tuple[str, Callable[[], "Figure"], Table]


def _curves(options: Any, selection: Selection, view: View) -> Iterable[Picture]:
    from .figures import curves_figure

    scales, scale = None, ""
    named = names(selection, options.labels)
    if options.pool:
        raw = plot_scores.common(plot_scores.scores(selection.groups, options.metric, "best"), selection.notices)
        scales, scale = plot_scores.scale(options.normalise, raw)
        selection.groups = {x: {t: runs for t, runs in ts.items() if t in raw[x]} for x, ts in selection.groups.items()}
    found = plot_data.lines(
        selection.groups, options.metric, options.x, options.iqm, options.smooth, selection.notices, scales
    )
    selection.notices += check_shown(view, found)
    of = plot_data.statistic(options.iqm)[1] + (f"; {scale}" if scale else "")
    head = ("task", "label", "runs", options.x, of.partition(";")[0].lower(), "low", "high")
    rows = [(x.task, x.label, x.runs, *point) for x in found for point in _points(x)]
    shown = renamed(found, named.labels, named.tasks)
    yield "", lambda: curves_figure(
        shown, options.x, options.metric, of, selection.actions, named.styles(), view
    ), (head, rows)  # fmt: skip


def _points(line: Line) -> Iterable[Sequence[Any]]:
    for k in range(len(line.x)):
        low, high = (None, None) if line.low is None or line.high is None else (line.low[k], line.high[k])
        yield line.x[k], line.centre[k], low, high


def _scored(options: Any, selection: Selection) -> tuple[Any, str]:
    """Return label -> scores on a scale, and how they are called."""
    raw = plot_scores.common(plot_scores.scores(selection.groups, options.metric, options.score), selection.notices)
    scales, scale = plot_scores.scale(options.normalise, raw)
    name = _score_name(options, selection)
    return plot_scores.normalised(raw, scales), f"{name}\n({scale})" if scale else name


def _score_name(options: Any, selection: Selection) -> str:
    part = {"final": "last 10 %", "best": "best 10 %", "area": "mean over training"}[options.score]
    return f"{metric_name(options.metric, selection.actions)}, {part}"


def _profile(options: Any, selection: Selection, view: View) -> Iterable[Picture]:
    from .figures import profile_figure

    ready, name = _scored(options, selection)
    found, named = plot_scores.profiles(ready), names(selection, options.labels)
    selection.notices += check_shown(view, found)
    rows = [(x.label, x.runs, *point) for x in found for point in _points(x)]
    shown = renamed(found, named.labels, {})
    head = ("label", "runs", "threshold", "share", "low", "high")
    yield "", lambda: profile_figure(shown, name, named.styles(), view), (head, rows)


def _aggregate(options: Any, selection: Selection, view: View) -> Iterable[Picture]:
    from .figures import aggregate_figure

    ready, name = _scored(options, selection)
    target = options.target
    if target is None:
        target = 1.0 if name.endswith(")") else max(float(x.max()) for tasks in ready.values() for x in tasks)
    found, named = plot_scores.aggregates(ready, target), names(selection, options.labels)
    rows = [(label, kind, *bar, sum(map(len, ready[label]))) for kind, bars in found.items()
            for label, bar in bars.items()]  # fmt: skip
    shown = {kind: {named.label(x): bar for x, bar in bars.items()} for kind, bars in found.items()}
    head = ("label", "statistic", "value", "low", "high", "runs")
    yield "", lambda: aggregate_figure(shown, name, named.styles(), view.title), (head, rows)


def _improvement(options: Any, selection: Selection, view: View) -> Iterable[Picture]:
    from .figures import improvement_figure

    found = plot_scores.pairs(plot_scores.scores(selection.groups, options.metric, options.score), selection.notices)
    named, name = names(selection, options.labels), _score_name(options, selection)
    shown = {(named.label(x), named.label(y)): bar for (x, y), bar in found.items()}
    rows = [(x, y, *bar) for (x, y), bar in found.items()]
    head = ("label", "over", "probability", "low", "high")
    yield "", lambda: improvement_figure(shown, name, view.title), (head, rows)


def _reuse(options: Any, selection: Selection, view: View) -> Iterable[Picture]:
    from .reuse import Reuse, read_reuse, reuse_figure

    def rows(x: Reuse) -> list[Sequence[Any]]:
        return [
            (x.label, x.task, x.runs, name, int(x.steps[k]), i, j, float(values[k, i, j]))
            for name, values in x.arrays.items()
            for k in range(len(x.steps)) for i in range(values.shape[1]) for j in range(values.shape[2])
        ]  # fmt: skip

    head = ("label", "task", "runs", "matrix", "step", "learner", "source", "value")
    missing = "None of these runs has a file reuse.arrays: folders of off-agent runs (oappo) are expected."
    yield from _each(options, selection, view, (read_reuse, reuse_figure), missing, (head, rows))


def _roles(options: Any, selection: Selection, view: View) -> Iterable[Picture]:
    from .roles import Roles, read_roles, roles_figure

    def rows(x: Roles) -> list[Sequence[Any]]:
        return [
            (x.label, x.task, x.run, int(t), s, i, float(places[s, i, 0]), float(places[s, i, 1]))
            for t, places in zip(x.steps, x.places, strict=True)
            for s in range(places.shape[0]) for i in range(places.shape[1])
        ]  # fmt: skip

    head = ("label", "task", "run", "step", "sample", "agent", "first", "second")
    missing = "None of these runs has a file roles.arrays: folders of runs of roma are expected."
    yield from _each(options, selection, view, (read_roles, roles_figure), missing, (head, rows))


def _each(
    options: Any, selection: Selection, view: View, of: tuple[Callable[..., Any], Callable[..., Figure]],
    missing: str, table: tuple[Sequence[str], Callable[[Any], list[Sequence[Any]]]],
) -> Iterable[Picture]:  # fmt: skip
    """A picture for each method and task, of arrays that runs keep.

    Args:
        of: what reads them from a method's runs of a task (None: they have none), and what draws them.
        missing: what is said where no run has them.
        table: the head, and the rows of what was read.
    """
    (read, draw), (head, rows), named = of, table, names(selection, options.labels)
    found = [read(label, task, runs) for label, tasks in selection.groups.items() for task, runs in tasks.items()]
    there = [x for x in found if x is not None]
    if not there:
        raise UserError(missing)
    for x in there:
        name = f"{x.label}-{x.task}" if len(there) > 1 else ""
        shown = dataclasses.replace(x, label=named.label(x.label), task=named.task(x.task))
        yield name, functools.partial(draw, shown, view.title), (head, rows(x))


_DRAW: dict[str, Callable[[Any, Selection, View], Iterable[Picture]]] = {
    "curves": _curves, "profile": _profile, "improvement": _improvement, "aggregate": _aggregate, "reuse": _reuse,
    "roles": _roles,
}  # fmt: skip
