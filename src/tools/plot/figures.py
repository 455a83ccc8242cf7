"""The figures of ``oamarl plot`` and ``oamarl report``, drawn from computed data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...analysis.curves import AXES, Line
from .style import count_axis, legend, legend_height, metric_name, new_figure, styles, time_axis

_PANEL = (3.9, 2.9)  # inches


def _handle(style: Any) -> Line2D:
    return Line2D([], [], color=style.colour, linestyle=style.dash, marker=style.marker, markersize=4)


def _draw(axes: Any, x: np.ndarray, line: Any, style: Any, offset: float) -> None:
    """Draw a line with its band, and a marker at some places, which differ from line to line."""
    low, high = line.low, line.high
    if low is not None:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0)
    every = (int(offset * len(x) / 8), max(1, len(x) // 8))
    axes.plot(
        x, line.centre, color=style.colour, linestyle=style.dash, marker=style.marker, markersize=4,
        markevery=every if len(x) > 1 else None,
    )  # fmt: skip


def _grid(count: int, below: Sequence[str]) -> tuple[Figure, list[Any]]:
    """Return a figure of ``count`` panels, at most three beside each other, and their axes.

    Args:
        below: what the legend below them will say.
    """
    columns = min(3, count) if count != 4 else 2
    rows = math.ceil(count / columns)
    width = _PANEL[0] * columns + (1.2 if columns == 1 else 0)
    figure = new_figure(width, _PANEL[1] * rows + legend_height(width, below))
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def curves_figure(lines: Sequence[Line], axis: str, metric: str, statistic: str, actions: str = "") -> Figure:
    """Draw lines, one panel per task, with one legend.

    Args:
        axis: of :data:`AXES`.
        statistic: how the centre is called.
        actions: how they were chosen, in words.
    """
    tasks, labels = sorted({x.task for x in lines}), sorted({x.label for x in lines})
    style = styles(labels)
    runs = {label: sorted({x.runs for x in lines if x.label == label}) for label in labels}
    texts = [f"{label} ({_range(runs[label])})" for label in labels]
    figure, panels = _grid(len(tasks), texts)
    for axes, task in zip(panels, tasks, strict=True):
        here = [x for x in lines if x.task == task]
        for x in here:
            _draw(axes, x.x, x, style[x.label], labels.index(x.label) / len(labels))
        axes.set_title(task)
        longest = max(float(x.x[-1]) for x in here)
        name = AXES[axis][1]
        if axis == "time":
            name += f" ({time_axis(axes, longest)})"
        else:
            count_axis(axes)
        axes.set_xlabel(name)
        axes.set_xlim(left=0, right=longest * 1.01 or 1)
        name = metric_name(metric, actions).replace(f", {actions}", f"\n{actions}") if actions else metric_name(metric)
        axes.set_ylabel(f"{name} ({statistic})")
    legend(figure, [_handle(style[label]) for label in labels], texts)
    return figure


def _range(counts: Sequence[int]) -> str:
    return f"n={counts[0]}" if len(counts) == 1 else f"n={counts[0]}-{counts[-1]}"


def profile_figure(lines: Sequence[Line], name: str) -> Figure:
    """Draw performance profiles: x is the threshold, y the share of runs above it."""
    labels = [x.label for x in lines]
    style = styles(labels)
    texts = [f"{x.label} (n={x.runs})" for x in lines]
    figure, (axes,) = _grid(1, texts)
    for x in lines:
        _draw(axes, x.x, x, style[x.label], labels.index(x.label) / len(labels))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(float(lines[0].x[0]), float(lines[0].x[-1]))
    axes.set_xlabel(f"threshold: {name}")
    axes.set_ylabel("share of runs above it")
    legend(figure, [_handle(style[label]) for label in labels], texts)
    return figure


#: label -> (value, low, high); bounds are None where unknown
Bars = Mapping[str, tuple[float, float | None, float | None]]


def _interval_panel(axes: Any, rows: Bars, colours: Mapping[str, Any]) -> None:
    """Draw each row as its interval, a bar, with its value, a line across."""
    for y, (label, (value, low, high)) in enumerate(rows.items()):
        style = colours[label]
        if low is not None and high is not None:
            axes.barh(y, high - low, left=low, height=0.55, color=style.colour, alpha=0.35, linewidth=0)
        axes.plot([value, value], [y - 0.34, y + 0.34], color="black", linewidth=1.4)
        axes.plot([value], [y], color=style.colour, marker=style.marker, markersize=5, markeredgecolor="black",
                  markeredgewidth=0.6)  # fmt: skip
    axes.use_sticky_edges = False  # room beside a bar that ends where the axis would
    axes.margins(x=0.06)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def aggregate_figure(panels: Mapping[str, Bars], name: str) -> Figure:
    """Draw aggregate scores: one panel per statistic, one row per algorithm."""
    labels = list(next(iter(panels.values())))
    style = styles(labels)
    figure = new_figure(2.05 * len(panels) + 0.09 * max(map(len, labels)) + 0.3, 0.32 * len(labels) + 1.0)
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for k, (axes, (title, rows)) in enumerate(zip(every, panels.items(), strict=True)):
        _interval_panel(axes, rows, style)
        axes.set_title(title)
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        if k == 0:
            axes.set_yticks(range(len(labels)), labels)
    figure.supxlabel(name, fontsize=9)
    return figure


def improvement_figure(pairs: Bars, name: str) -> Figure:
    """Draw probabilities of improvement: one row per pair of algorithms."""
    style = styles(["x"])["x"]
    figure = new_figure(4.4 + 0.075 * max(map(len, pairs)), 0.27 * len(pairs) + 0.9)
    axes = figure.subplots()
    _interval_panel(axes, pairs, dict.fromkeys(pairs, style))
    axes.axvline(0.5, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_yticks(range(len(pairs)), list(pairs))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"probability that the first scores higher\n({name})")
    return figure
