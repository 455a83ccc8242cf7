"""Thinned curves in bounded memory, from a run's ``metrics.jsonl`` to ``metrics.json`` and MongoDB."""

from __future__ import annotations

import datetime as dt
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .records import METRICS_FILE, parse_metrics

#: Points of one metric that are kept at most.
LIMIT = 5000
_CHUNK = 8_000_000  # bytes of metrics.jsonl read at once
_EPOCH = dt.datetime(1970, 1, 1)

#: steps, values, times in milliseconds since 1970
Points = tuple[Sequence[int], Sequence[float], Sequence[int]]


class Series:
    """One metric's points, thinned evenly where there are more than ``limit``.

    Of the points number 0, 1, 2, ... those are kept whose number is a multiple of ``stride``, which doubles when the
    limit is passed. So what is kept depends on the points alone, and grows at its end only while the stride stays.

    | field | shape | meaning |
    |---|---|---|
    | steps, values, times | [K] | the kept points: environment step, value, milliseconds since 1970 |
    | count | | points seen in all |
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.steps, self.values, self.times = array("q"), array("d"), array("q")
        self.count, self.stride = 0, 1
        self.newest = (0, math.nan, 0)

    def append(self, step: int, value: float, time: int) -> None:
        """Take the next point."""
        self.newest = (step, value, time)
        if self.count % self.stride == 0:
            self.steps.append(step)
            self.values.append(value)
            self.times.append(time)
            # with the newest, what was thinned is within the limit too: thinning it again changes nothing
            if len(self.steps) > self.limit - (self.stride > 1):
                self.steps, self.values, self.times = self.steps[::2], self.values[::2], self.times[::2]
                self.stride *= 2
        self.count += 1

    def points(self, start: int = 0, newest: bool = True) -> Points:
        """Return the kept points from number ``start`` of them on, and the newest one where that is not kept."""
        steps, values, times = self.steps[start:].tolist(), self.values[start:].tolist(), self.times[start:].tolist()
        if newest and (self.count - 1) % self.stride:
            step, value, time = self.newest
            return [*steps, step], [*values, value], [*times, time]
        return steps, values, times


class Curves:
    """All metrics of a run, read from its folder as they are written.

    Args:
        folder: a run's folder, with ``metrics.jsonl`` or, of other programs, sacred's ``metrics.json``.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit
        self.series: dict[str, Series] = {}
        self._position = 0  # bytes of metrics.jsonl that have been read

    def update(self) -> bool:
        """Read what is new; return whether there was anything.

        Raises:
            OSError: the file is there and cannot be read.
        """
        before = self._position
        try:
            file = open(self.folder / METRICS_FILE, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return not self.series and self._read_sacred()
        with file:
            file.seek(self._position)
            whole = True
            while whole and (lines := file.readlines(_CHUNK)):
                whole = lines[-1].endswith(b"\n")
                if not whole:
                    lines.pop()  # being written at this moment: the next update begins with it
                self._position += sum(map(len, lines))
                for record in parse_metrics(b"".join(lines)):
                    time = round(1000 * record["time"])
                    for name, value in record["metrics"].items():
                        self.append(name, record["t"], value, time)
        return self._position > before

    def append(self, name: str, step: int, value: float, time: int) -> None:
        """Take the next point of one metric."""
        series = self.series.get(name)
        if series is None:
            series = self.series[name] = Series(self.limit)
        series.append(step, value, time)

    def _read_sacred(self) -> bool:
        try:
            content = json.loads((self.folder / "metrics.json").read_text())
        except (OSError, ValueError):
            return False
        for name, columns in sacred_metrics(content):
            for step, value, time in zip(*columns, strict=True):
                self.append(name, step, value, time)
        return bool(self.series)

    def sacred(self) -> dict[str, Any]:
        """Return the content of sacred's ``metrics.json``."""
        found = {}
        for name, series in self.series.items():
            steps, values, times = series.points()
            found[name] = {"steps": steps, "values": values, "timestamps": [iso(time) for time in times]}
        return found


def sacred_metrics(content: Any) -> Iterator[tuple[str, Points]]:
    """Yield names and points of sacred's ``metrics.json``; what is no point with a number is left out."""
    for name, columns in content.items() if isinstance(content, Mapping) else ():
        points = []
        for row in zip(*(columns.get(key, []) for key in ("steps", "values", "timestamps")), strict=False):
            try:
                points.append((int(row[0]), float(row[1]), milliseconds(row[2])))
            except (TypeError, ValueError):
                continue
        if points:
            steps, values, times = zip(*points, strict=True)
            yield name, (list(steps), list(values), list(times))


def moment(time: int) -> dt.datetime:
    """Return milliseconds since 1970 as sacred's naive UTC time."""
    return _EPOCH + dt.timedelta(milliseconds=time)


def iso(time: int) -> str:
    """Return milliseconds since 1970 as ISO text, UTC."""
    return moment(time).isoformat(timespec="milliseconds")


def milliseconds(value: Any) -> int:
    """Return a time (datetime or ISO text, UTC) as milliseconds since 1970.

    Raises:
        TypeError, ValueError: it is none.
    """
    value = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(value, dt.datetime):
        raise TypeError(f"{value!r} is no time")
    return (value.replace(tzinfo=None) - _EPOCH) // dt.timedelta(milliseconds=1)  # cut off, as in BSON
