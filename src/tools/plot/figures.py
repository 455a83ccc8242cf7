"""The figures of ``oamarl plot`` and ``oamarl report``, drawn from computed data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...analysis.curves import AXES, Line
from ...analysis.methods import Style, styles
from ...analysis.names import metric_name
from .axes import count_axes, time_axes, value_axis
from .style import Legend, new_figure, plain, width_of, wrapped
from .view import PLAIN, View

_PANEL = (3.9, 2.9)  # inches
#: points up to which each of a line has a mark
_FEW = 12
Styles = Mapping[str, Style]
#: of the bars of pairs, which are of no method
_PAIR = Style("#777777", "-", "o")


def own_styles(labels: Sequence[str]) -> Styles:
    """Return the looks of lines that are called as their methods are."""
    return styles({label: label for label in labels})


def _handle(style: Style) -> Line2D:
    return Line2D([], [], color=style.colour, linestyle=style.dash, marker=style.marker, markersize=4.5,
                  markerfacecolor=style.face)  # fmt: skip


def _draw(axes: Any, line: Line, style: Style, offset: float, limited: bool = False) -> None:
    """Draw a line with its band, and a marker at some places, which differ from line to line; a single point as a mark
    with a bar, whole at the edge too unless the axes are ``limited``."""
    x, low, high = line.x, line.low, line.high
    marks = {"color": style.colour, "marker": style.marker, "markerfacecolor": style.face}
    if len(x) == 1:
        if low is not None and high is not None:
            axes.plot([x[0], x[0]], [low[0], high[0]], color=style.colour, alpha=0.45, linewidth=1.6)
        axes.plot(x, line.centre, linestyle="none", markersize=6, **marks, clip_on=limited)
        return
    if low is not None:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0)
    every = (int(offset * len(x) / 8), max(1, len(x) // 8)) if len(x) > _FEW else None
    axes.plot(x, line.centre, linestyle=style.dash, markersize=4.5, markevery=every, **marks)


def _columns(panels: int) -> int:
    return min(3, panels) if panels != 4 else 2


def _grid(count: int, below: Sequence[str], title: str = "") -> tuple[Figure, list[Any], Legend]:
    """Return a figure of ``count`` panels, at most three beside each other, their axes, and its legend.

    Args:
        below: what the legend below them will say.
        title: above them; "" for none.
    """
    columns = _columns(count)
    rows = math.ceil(count / columns)
    width = _PANEL[0] * columns + (1.2 if columns == 1 else 0)
    legend, above = Legend(width, below), wrapped(title, width - 0.4, 11) if title else ""
    height = _PANEL[1] * rows + legend.height + (0.2 * (above.count("\n") + 1) + 0.05 if title else 0)
    figure = new_figure(width, height)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    if title:
        figure.suptitle(plain(above), fontsize=11)
    return figure, axes[:count], legend


def curves_figure(
    lines: Sequence[Line], axis: str, metric: str, statistic: str, actions: str = "", look: Styles | None = None,
    view: View = PLAIN,
) -> Figure:  # fmt: skip
    """Draw lines, one panel per task, with one legend.

    Args:
        axis: of :data:`AXES`.
        statistic: how the centre is called; what follows a semicolon is said apart.
        actions: how they were chosen, in words.
        look: of every label; None: labels are the keys of methods.
        view: title, limits and logarithmic axes.
    """
    tasks, labels = (sorted(found, key=str.casefold) for found in ({x.task for x in lines}, {x.label for x in lines}))
    look = look or own_styles(labels)
    runs = {label: sorted({x.runs for x in lines if x.label == label}) for label in labels}
    texts = [f"{label} ({_range(runs[label])})" for label in labels]
    figure, panels, legend = _grid(len(tasks), texts, view.title)
    shown = _what(metric, statistic if any(x.runs > 1 for x in lines) else "", actions)
    columns, limited = _columns(len(tasks)), (view.xlim, view.ylim) != (PLAIN.xlim, PLAIN.ylim)
    for k, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
        here = [view.visible(x) for x in lines if x.task == task]
        for x in here:
            _draw(axes, x, look[x.label], labels.index(x.label) / len(labels), limited)
        if len(tasks) > 1 or not view.title:
            axes.set_title(plain(wrapped(task, _PANEL[0] - 0.7, 9.5)))
        axes.set_xlim(left=0, right=max(float(x.x[-1]) for x in here) * 1.02 or 1)
        if k % columns == 0:  # the same in all of a row
            axes.set_ylabel(shown)
        view.apply(axes)
        _fit(axes, here, view)
        value_axis(axes)
    if axis == "time":
        for axes, name in zip(panels, time_axes(panels), strict=True):
            axes.set_xlabel(f"{AXES[axis][1]} ({name})")
    else:
        count_axes(panels)
        for axes in panels:
            axes.set_xlabel(AXES[axis][1])
    legend.draw(figure, [_handle(look[label]) for label in labels])
    return figure


def _what(metric: str, statistic: str, actions: str) -> str:
    """Return the text of a y axis: the metric, how runs were taken together, and how actions were chosen."""
    of, _, rest = statistic.partition("; ")
    first = metric_name(metric, actions).removesuffix(f", {actions}") + (f" ({of} of runs)" if of else "")
    return "\n".join(x for x in (first, rest, actions) for x in [wrapped(x, _PANEL[1] - 0.2, 9)] if x)


def _fit(axes: Any, lines: Sequence[Line], view: View) -> None:
    """Fit the y axis to what the asked limits of x leave to see, and a logarithmic x axis to what is above 0."""
    if "x" in view.log and view.xlim[0] is None:
        above = [x.x[x.x > 0] for x in lines]
        axes.set_xlim(left=min((float(x.min()) for x in above if len(x)), default=1.0) * 0.95)
    if view.ylim != (None, None) or view.xlim == (None, None):
        return
    left, right = axes.get_xlim()
    seen = [values[(x.x >= left) & (x.x <= right)] for x in lines for values in (x.centre, x.low, x.high)
            if values is not None]  # fmt: skip
    every = np.concatenate(seen)
    every = every[np.isfinite(every)]
    every = every[every > 0] if "y" in view.log else every
    if len(every):
        room = 0.05 * (every.max() - every.min()) or 0.05 * abs(every.max()) or 0.5
        ends = (every.min() / 1.1, every.max() * 1.1) if "y" in view.log else (every.min() - room, every.max() + room)
        axes.set_ylim(*ends)


def _range(counts: Sequence[int]) -> str:
    return f"n={counts[0]}" if len(counts) == 1 else f"n={counts[0]}-{counts[-1]}"


def profile_figure(lines: Sequence[Line], name: str, look: Styles | None = None, view: View = PLAIN) -> Figure:
    """Draw performance profiles: x is the threshold, y the share of runs above it."""
    labels = [x.label for x in lines]
    look = look or own_styles(labels)
    texts = [f"{x.label} (n={x.runs})" for x in lines]
    figure, (axes,), legend = _grid(1, texts, view.title)
    for x in map(view.visible, lines):
        _draw(axes, x, look[x.label], labels.index(x.label) / len(labels))
    axes.set_ylim(0.01 if "y" in view.log else -0.02, 1.02)
    axes.set_xlim(float(lines[0].x[0]), float(lines[0].x[-1]))
    view.apply(axes)
    value_axis(axes, "x")
    value_axis(axes)
    axes.set_xlabel(wrapped(f"threshold: {name}", _PANEL[0] + 0.6, 9))
    axes.set_ylabel("share of runs above it")
    legend.draw(figure, [_handle(look[label]) for label in labels])
    return figure


#: label -> (value, low, high); bounds are None where unknown
Bars = Mapping[str, tuple[float, float | None, float | None]]


def _interval_panel(axes: Any, rows: Bars, look: Styles) -> None:
    """Draw each row as its interval, a bar, with its value, a line across."""
    for y, (label, (value, low, high)) in enumerate(rows.items()):
        style = look[label]
        if low is not None and high is not None:
            axes.barh(y, high - low, left=low, height=0.55, color=style.colour, alpha=0.35, linewidth=0)
        axes.plot([value, value], [y - 0.34, y + 0.34], color="black", linewidth=1.4)
        axes.plot([value], [y], color=style.colour, marker=style.marker, markersize=5, markeredgecolor="black",
                  markeredgewidth=0.6, markerfacecolor=style.face)  # fmt: skip
    axes.use_sticky_edges = False  # room beside a bar that ends where the axis would
    axes.margins(x=0.06)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


#: inches that the names of rows take at most, and a row of one line
_NAMES, _BAR = 2.6, 0.32


def _row_names(labels: Sequence[str]) -> tuple[list[str], float, float]:
    """Return the names of rows, broken where they are long; the inches that they take; and those of all rows."""
    names = [wrapped(label, _NAMES, 8.0) for label in labels]
    rows = max(1, *(name.count("\n") + 1 for name in names))
    return names, max(width_of(name, 8.0) for name in names), len(names) * max(_BAR, 0.15 * rows + 0.06)


def aggregate_figure(panels: Mapping[str, Bars], name: str, look: Styles | None = None, title: str = "") -> Figure:
    """Draw aggregate scores: one panel per statistic, one row per algorithm."""
    labels = list(next(iter(panels.values())))
    look = look or own_styles(labels)
    names, beside, height = _row_names(labels)
    figure = new_figure(2.05 * len(panels) + beside + 0.3, height + 1.0 + 0.25 * bool(title))
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for k, (axes, (head, rows)) in enumerate(zip(every, panels.items(), strict=True)):
        _interval_panel(axes, rows, look)
        axes.set_title(head)
        value_axis(axes, "x", 4)
        if k == 0:
            axes.set_yticks(range(len(labels)), [plain(x) for x in names])
    figure.supxlabel(name, fontsize=9)
    if title:
        figure.suptitle(plain(wrapped(title, figure.get_figwidth() - 0.4, 11)), fontsize=11)
    return figure


def improvement_figure(pairs: Mapping[tuple[str, str], Any], name: str, title: str = "") -> Figure:
    """Draw probabilities of improvement: one row per pair of algorithms."""
    bars = {f"{x} over {y}": bar for (x, y), bar in pairs.items()}
    names, beside, height = _row_names(list(bars))
    figure = new_figure(4.0 + beside, 0.85 * height + 0.9 + 0.25 * bool(title))
    axes = figure.subplots()
    _interval_panel(axes, bars, dict.fromkeys(bars, _PAIR))
    axes.axvline(0.5, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_yticks(range(len(bars)), [plain(x) for x in names])
    axes.set_xlabel(f"probability that the first scores higher\n({name})")
    if title:
        figure.suptitle(plain(wrapped(title, figure.get_figwidth() - 0.4, 11)), fontsize=11)
    return figure
