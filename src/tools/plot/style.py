"""The style of figures: readable in print and for colour-blind readers, with embedded fonts.

Lines differ in dashes and markers as well as in colour.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...storage.tested_actions import GREEDY, TEST
from ...utils.errors import UserError

#: Okabe and Ito's colours, without their yellow, which is too light for a line on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES: tuple[Any, ...] = (
    "-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 2, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 2))
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 300
FORMATS = ("png", "svg", "pdf")

_RC: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,  # whole fonts, not outlines: text can be searched and edited
    "svg.fonttype": "path",  # a picture in a page finds no font of ours
    "svg.hashsalt": "oamarl",  # the same picture, the same file
}


@dataclass(frozen=True)
class Style:
    """How a label is drawn wherever it appears."""

    colour: str
    dash: Any
    marker: str


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Return a style for each label; no two are alike up to 49 of them."""
    n = len(COLOURS)
    found = {}
    for k, label in enumerate(labels):
        turn = k // n
        found[label] = Style(COLOURS[k % n], DASHES[(k + turn) % len(DASHES)], MARKERS[(k + turn) % len(MARKERS)])
    return found


def look() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved."""
    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches, whose parts do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _columns(width: float, labels: Sequence[str]) -> int:
    """Return how many columns of a legend fit ``width`` inches."""
    characters = width * 72 / 4.6
    return max(1, min(len(labels), int(characters / (max(map(len, labels), default=1) + 9))))


def legend_height(width: float, labels: Sequence[str]) -> float:
    """Return the inches that :func:`legend` takes."""
    return 0.18 * -(-len(labels) // _columns(width, labels)) + 0.1


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend below everything, in as many columns as fit."""
    columns = _columns(figure.get_figwidth(), labels)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2)


def save(figure: Figure, path: Path, dpi: int = DPI) -> Path:
    """Write a figure in the format that the file's ending names; returns the path.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, dpi=dpi, format=path.suffix[1:], metadata=metadata)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"Cannot write the picture {path}: {error.strerror or error}.") from None
    return path


def count(t: float, _: Any = None) -> str:
    """Return a count in the short form of an axis: 800, 20k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(t) >= size:
            return f"{t / size:.3g}{letter}"
    return f"{t:.3g}"


def count_axis(axes: Any) -> None:
    """Write the x axis in counts, with few enough ticks for their labels to stand apart."""
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(count)


def time_axis(axes: Any, longest: float) -> str:
    """Write an x axis of seconds in a unit that suits the longest; returns the unit."""
    units = ((86400, "days", 3 * 86400), (3600, "hours", 2 * 3600), (60, "minutes", 180), (1, "seconds", 0))
    size, unit = next((size, unit) for size, unit, least in units if longest >= least)
    axes.xaxis.set_major_locator(_Scaled(size))
    axes.xaxis.set_major_formatter(lambda t, _: f"{t / size:.3g}")
    return unit


class _Scaled(MaxNLocator):
    """Round ticks in another unit."""

    def __init__(self, size: float) -> None:
        super().__init__(5, steps=[1, 2, 3, 5, 6, 10])
        self.size = size

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return np.asarray(super().tick_values(vmin / self.size, vmax / self.size)) * self.size


def metric_name(metric: str, actions: str = "") -> str:
    """Return the label of a metric on an axis.

    Args:
        actions: how they were chosen, in words; "" to leave that out.
    """
    known = {"return_mean": "mean return", "total_return_mean": "mean team return"}
    name = metric.removeprefix(GREEDY).removeprefix(TEST)
    if name not in known:
        text = (metric.replace(GREEDY, TEST) if actions else metric).replace("_", " ")
    elif metric.startswith(TEST):
        text = f"{known[name]} of tests"
    else:
        text = f"{known[name]} of training" if actions else known[name]
    return f"{text}, {actions}" if actions else text
