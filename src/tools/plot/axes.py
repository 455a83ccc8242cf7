"""Axes of figures: ticks of one format in all panels (0.5M, 1M), and axes of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import Formatter, LogFormatter, LogLocator, MaxNLocator, NullFormatter

#: sizes of counts and their letters
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
#: from here on numbers of an axis are written as counts (500, 1000, but 5k, 10k); below the second as powers of ten
_LARGE, _SMALL = 5e3, 1e-3
#: panels of one figure have one unit where the shortest axis is at least this share of it
_SHARE = 0.04


def unit(top: float) -> tuple[float, str]:
    """Return the size and letter in which counts up to ``top`` are written."""
    return next(x for x in _UNITS if top >= x[0] or x[0] == 1.0)


def _axis_unit(top: float) -> tuple[float, str]:
    """Return the unit of an axis that ends there: none where whole numbers are short."""
    return unit(top) if top >= _LARGE else (1.0, "")


def count(t: float, _: Any = None) -> str:
    """Return a count in the short form of an axis: 800, 20k, 1.5M."""
    size, letter = unit(abs(t))
    return f"{t / size:.3g}{letter}"


class Ticks(Formatter):
    """Numbers of an axis, all in one unit and with equally many decimals, without an offset at its end.

    Args:
        size, letter: the unit; None: what suits the values.
    """

    def __init__(self, size: float | None = None, letter: str = "") -> None:
        self.size, self.letter = size, letter

    def __call__(self, x: float, pos: Any = None) -> str:
        """Return one number."""
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the numbers of all ticks."""
        top = max((abs(float(v)) for v in values), default=0.0)
        size, letter = self.size, self.letter
        if size is None and 0 < top < _SMALL:
            return [f"{v:.1e}".replace(".0e", "e").replace("e-0", "e-") if v else "0" for v in values]
        if size is None:
            size, letter = _axis_unit(top)
        if letter:  # 0.5M, 1M
            return [f"{v / size:.4g}{letter}".replace("-", "\N{MINUS SIGN}") if v else "0" for v in values]
        decimals = next((d for d in range(8) if all(abs(round(v, d) - v) <= 1e-6 * max(top, 1e-9) for v in values)), 8)
        return [f"{v + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for v in values]


def count_axes(panels: Sequence[Any], axis: str = "x") -> None:
    """Write axes in counts of one unit, with few enough ticks for their labels to stand apart; where panels are too
    far apart in size for one unit, each has its own."""
    ends = [max(map(abs, getattr(p, f"get_{axis}lim")())) for p in panels]
    size, letter = _axis_unit(max(ends))
    for panel, end in zip(panels, ends, strict=True):
        own = (size, letter) if min(ends) >= max(_SHARE * size, _LARGE) else _axis_unit(end)
        one = getattr(panel, f"{axis}axis")
        if one.get_scale() == "log":
            log_axis(one)
        else:
            one.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
            one.set_major_formatter(Ticks(*own))


def value_axis(axes: Any, axis: str = "y", most: int = 6) -> None:
    """Write an axis of values, each panel in decimals or counts as suits them.

    Args:
        most: intervals between its ticks.
    """
    one = getattr(axes, f"{axis}axis")
    if one.get_scale() == "log":
        log_axis(one)
    else:
        one.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
        one.set_major_formatter(Ticks())


class _LogTicks(LogFormatter):
    """Numbers of a logarithmic axis, as on others: 0.1, 10, 1k, 1M."""

    def __call__(self, x: float, pos: Any = None) -> str:
        return count(x) if super().__call__(x, pos) else ""


def log_axis(one: Any) -> None:
    """Write a logarithmic axis; within a decade or two there are numbers between the powers of ten too."""
    low, high = one.get_view_interval()
    if low > 0 and high / low < 4:  # hardly a round number of a logarithm lies in between
        one.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        one.set_major_formatter(Ticks())
        one.set_minor_formatter(NullFormatter())
        return
    narrow = low > 0 and high / low < 150
    one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=7))
    one.set_major_formatter(_LogTicks(minor_thresholds=(np.inf, np.inf)))
    one.set_minor_formatter(NullFormatter())


def time_axes(panels: Sequence[Any]) -> list[str]:
    """Write x axes of seconds in one unit that suits the longest, or each in its own; returns the unit of each."""
    units = ((86400, "days", 3 * 86400), (3600, "hours", 2 * 3600), (60, "minutes", 180), (1, "seconds", 0))
    ends = [max(p.get_xlim()) for p in panels]
    found = []
    for panel, end in zip(panels, ends, strict=True):
        longest = max(ends) if min(ends) >= 0.1 * max(ends) else end
        size, name = next((size, name) for size, name, least in units if longest >= least)
        if panel.xaxis.get_scale() == "log":
            size, name = 1, "seconds"
            log_axis(panel.xaxis)
        else:
            panel.xaxis.set_major_locator(_Scaled(size))
            panel.xaxis.set_major_formatter(_ScaledTicks(size))
        found.append(name)
    return found


class _ScaledTicks(Ticks):
    """Numbers in another unit."""

    def __init__(self, scale: float) -> None:
        super().__init__(1.0)
        self.scale = scale

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        return super().format_ticks([v / self.scale for v in values])


class _Scaled(MaxNLocator):
    """Round ticks in another unit."""

    def __init__(self, size: float) -> None:
        super().__init__(5, steps=[1, 2, 3, 5, 6, 10])
        self.size = size

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return np.asarray(super().tick_values(vmin / self.size, vmax / self.size)) * self.size
