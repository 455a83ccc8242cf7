"""A run's progress as one line: the live line of a terminal, and the line that each log interval prints."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..utils.console import duration, number
from .tested_actions import GREEDY, TEST

#: headings are printed again after so many lines
HEAD_EVERY = 25
#: heading -> prefix of the metrics that the column shows
RETURNS = {"return": "", "test": TEST, "greedy": GREEDY}


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    | field | meaning |
    |---|---|
    | t, t_max | environment steps done and in all |
    | steps_per_second | recent speed (nan or 0: not known yet) |
    | return_mean | mean return of the newest training episodes (None or nan: not known yet) |
    """

    t: int
    t_max: int
    steps_per_second: float
    return_mean: float | None

    @property
    def done(self) -> float:
        """The share of steps that is done, 0 to 1."""
        return min(1.0, self.t / self.t_max) if self.t_max else 1.0

    @property
    def percent(self) -> str:
        """The share of steps that is done, such as ``12%``."""
        return f"{int(100 * self.done)}%"

    @property
    def speed(self) -> str:
        """Steps a second, ``-`` where they are not known."""
        speed = self.steps_per_second
        known = math.isfinite(speed) and speed > 0
        return number(round(speed) if speed >= 10 else speed) if known else "-"

    def left(self, short: bool = False) -> str:
        """Return the time that is left, ``?`` where the speed is not known."""
        if self.speed == "-":
            return "?"
        return duration(max(self.t_max - self.t, 0) / self.steps_per_second, short)

    def text(self, width: int) -> str:
        """Return the progress in one line, with fewer words where a line of ``width`` columns needs it."""
        shown = value_text(self.return_mean)
        steps = f"{self.t:,}/{self.t_max:,}"
        forms = (
            f"{steps} steps  {self.percent}  {self.speed} steps/s  {self.left()} left  return {shown}",
            f"{steps}  {self.percent}  {self.speed}/s  {self.left(True)} left  return {shown}",
            f"{steps}  {self.percent}  {self.speed}/s  {self.left(True)} left",
        )
        return next((form for form in forms if len(form) <= width), f"{self.percent}  {self.left(True)} left")


def value_text(value: float | None) -> str:
    """Return a return in about four digits, ``-`` where there is none."""
    if value is None or math.isnan(value):
        return "-"
    size = abs(value)
    if not math.isfinite(value) or size >= 1e7 or 0 < size < 5e-4:
        return f"{value:.1e}"
    return f"{value:,.0f}" if size >= 1e3 else f"{value:.1f}" if size >= 100 else f"{value:.{2 if size >= 10 else 3}f}"


def newest_return(values: Mapping[str, float], prefix: str) -> float | None:
    """Return the mean return among ``values``: of the team, or of individual rewards the agents' sum; None: neither."""
    return values.get(f"{prefix}return_mean", values.get(f"{prefix}total_return_mean"))


class ProgressLines:
    """The lines of a run's log intervals, in columns under headings: steps, share, returns, speed, time left.

    A test's return stands in the first line after the test alone. Which columns there are follows from the metrics.
    """

    def __init__(self) -> None:
        self._head = ""
        self._since = 0

    def lines(
        self, progress: Progress, values: Mapping[str, float], fresh: Collection[str], width: int | None = None
    ) -> list[str]:
        """Return the next line, with the headings before it where they are new or long ago.

        Args:
            values: newest value of each metric.
            fresh: names of those that are newer than the line before.
            width: columns of the terminal; columns that do not fit are left out, None: there is room.
        """
        steps = max(len(f"{progress.t_max:,}"), len("steps"))
        cells = [("steps", f"{progress.t:,}", steps), ("done", progress.percent, 4)]
        for name, prefix in RETURNS.items():
            value = newest_return(values, prefix)
            if not prefix:
                value = progress.return_mean if value is None else value
            elif value is None:
                continue
            new = not prefix or newest_return(dict.fromkeys(fresh, 0.0), prefix) is not None
            cells.append((name, value_text(value) if new else "", 7))
        cells += [("steps/s", progress.speed, 7), ("left", progress.left(short=True), 6)]
        for name in ("steps/s", "greedy", "done", "test"):  # the first are missed least
            if width is not None and sum(wide + 2 for *_, wide in cells) - 2 > width:
                cells = [cell for cell in cells if cell[0] != name]
        head, line = ("  ".join(f"{cell[i]:>{cell[2]}}" for cell in cells).rstrip() for i in (0, 1))
        repeat = head != self._head or self._since >= HEAD_EVERY
        self._head, self._since = head, 1 if repeat else self._since + 1
        return [head, line] if repeat else [line]
