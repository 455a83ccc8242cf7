"""The style of figures: readable in print and for colour-blind readers, with embedded fonts.

Lines differ in dashes and markers as well as in colour (:mod:`oamarl.analysis.methods`).
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ...utils.errors import UserError

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


def look() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved."""
    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches, whose parts do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


#: inches of a legend beside and between its texts: a line's sample, and the gap to the next column
_SAMPLE, _GAP, _ROW = 0.47, 0.28, 0.172
_LEGEND_FONT = 8.5


def plain(text: str) -> str:
    """Return a text as matplotlib shows it literally, dollars included."""
    return text.replace("$", r"\$")


def width_of(text: str, size: float) -> float:
    """Return the inches that the longest line of a text takes.

    Args:
        size: of the font, in points.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    font = FontProperties(size=size)
    measure = text_to_path.get_text_width_height_descent  # outlines of letters would take ten times as long
    return max((measure(line, font, False)[0] / 72 for line in lines), default=0.0)


def wrapped(text: str, width: float, size: float) -> str:
    """Return a text in lines of at most ``width`` inches each; a word that is longer is broken.

    Args:
        size: of the font, in points.
    """
    if width_of(text, size) <= width:
        return text
    least = max(int(width / (width_of(text, size) / max(map(len, text.splitlines())))), 4)
    for characters in range(least, 3, -1):
        # a letter may be wider than the mean of all
        found = "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, characters))
        if width_of(found, size) <= width:
            break
    return found


class Legend:
    """A legend below everything, in as many columns as fit, long texts broken.

    Args:
        width: of the figure, in inches.
        labels: its texts.
    """

    def __init__(self, width: float, labels: Sequence[str]) -> None:
        self.labels = [wrapped(label, width - _SAMPLE - 0.3, _LEGEND_FONT) for label in labels]
        widest = max((width_of(label, _LEGEND_FONT) for label in self.labels), default=0.0)
        most = max(1, min(len(labels), int((width - 0.1) / (widest + _SAMPLE + _GAP))))
        rows = -(-len(labels) // most)
        self.columns = -(-len(labels) // max(rows, 1))  # no more than so many rows need: they are about equally full
        tallest = [max(self.labels[k].count("\n") + 1 for k in range(r, len(labels), rows)) for r in range(rows)]
        self.height = _ROW * sum(tallest) + 0.12

    def draw(self, figure: Figure, handles: Sequence[Any]) -> None:
        """Put it into a figure."""
        # matplotlib leaves out texts that begin with an underscore
        texts = [f"\N{ZERO WIDTH SPACE}{x}" if x.startswith("_") else x for x in map(plain, self.labels)]
        figure.legend(
            handles, texts, loc="outside lower center", ncols=self.columns,
            frameon=False, handlelength=3.2, fontsize=_LEGEND_FONT,
        )  # fmt: skip


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
