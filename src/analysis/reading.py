"""Readers of stored metrics: metrics.jsonl, sacred's JSON, and the lists of curve files.

Damaged parts are left out, and reported in one sentence.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.records import METRICS_FILE, parse_metrics
from ..storage.run_files import CURVES_FILE
from ..storage.series import Series, sacred_metrics
from ..utils.errors import counted

#: steps [K], values [K], seconds since 1970 [K] (nan where unknown)
Points = tuple[np.ndarray, np.ndarray, np.ndarray]


def mapping(path: Path, troubles: list[str]) -> dict[str, Any]:
    """Return the mapping in a JSON file; {} and a sentence where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        troubles.append(f"{path} cannot be read: {error.strerror or error}.")
        return {}
    except (ValueError, RecursionError):
        troubles.append(f"{path} is damaged: it is no JSON.")
        return {}
    if isinstance(content, dict):
        return content
    troubles.append(f"{path} is damaged: it holds no mapping.")
    return {}


#: the largest value and step of a curve
LARGEST, LAST_STEP = 1e38, 2**53

#: bytes at the end of metrics.jsonl that hold the newest values of all metrics, tests included
_TAIL = 1 << 18


def tail(path: Path) -> tuple[int, dict[str, float]] | None:
    """Return the newest step and values of a ``metrics.jsonl``; None where its end does not hold them."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            data = file.read()
    except OSError:
        return None
    steps, values = 0, dict[str, float]()
    for record in parse_metrics(data if size <= _TAIL else data.partition(b"\n")[2]):
        try:
            values |= {str(name): float(value) for name, value in record["metrics"].items()}
            steps = max(steps, int(record["t"]))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            continue
    return (steps, values) if values else None


def read_folder(folder: Path, troubles: list[str]) -> dict[str, Points]:
    """Return every metric of a run's folder: of ``metrics.jsonl``, or of sacred's ``metrics.json`` without one."""
    found: dict[str, Series] = {}
    try:
        if (folder / METRICS_FILE).is_file():
            _own(folder / METRICS_FILE, found, troubles)
        elif (folder / CURVES_FILE).is_file():
            _sacred(mapping(folder / CURVES_FILE, troubles), found)
    except OSError as error:
        troubles.append(f"The metrics of {folder} cannot be read: {error.strerror or error}.")
    curves = {}
    stored = {name: series.points() for name, series in found.items()}
    troubles += left_out(folder, {name: (steps, values) for name, (steps, values, _) in stored.items()})
    for name, (steps, values, times) in stored.items():
        points = points_of(steps, values, [t / 1000 if t else math.nan for t in times])
        if len(points[0]):
            curves[name] = points
    return curves


def _own(path: Path, found: dict[str, Series], troubles: list[str]) -> None:
    damaged = 0
    for record in parse_metrics(path.read_bytes()):
        try:
            t, time = int(record["t"]), round(1000 * float(record.get("time") or 0))
            values = {str(name): float(value) for name, value in record["metrics"].items()}
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            damaged += 1
            continue
        for name, value in values.items():
            found.setdefault(name, Series()).append(t, value, time)
    if damaged:
        troubles.append(f"{path} is damaged: {counted(damaged, 'line', 'were')} left out.")


def _sacred(content: Mapping[str, Any], found: dict[str, Series]) -> None:
    for name, columns in content.items():
        if not isinstance(columns, Mapping) or not isinstance(columns.get("values"), list):
            continue
        # older sacred stores numpy's numbers as objects; times may be missing
        values = [v.get("value") if isinstance(v, Mapping) else v for v in columns["values"]]
        times = columns.get("timestamps")
        timed = isinstance(times, list) and len(times) == len(values)
        steps = columns.get("steps")
        plain = {"steps": steps if isinstance(steps, list) else [], "values": values,
                 "timestamps": times if timed else ["1970-01-01"] * len(values)}  # fmt: skip
        for _, (s, v, t) in sacred_metrics({name: plain}):
            series = found.setdefault(name, Series())
            for point in zip(s, v, t, strict=True):
                series.append(*point)


def points_of(steps: Iterable[Any], values: Iterable[Any], times: Iterable[float] | None = None) -> Points:
    """Return points in order of steps, without those that are no number (nan) or :func:`absurd`."""
    s, v = np.array(list(steps), np.int64), np.array(list(values), np.float64)
    t = np.full(len(s), np.nan) if times is None else np.array(list(times), np.float64)
    order = np.argsort(s, kind="stable")
    order = order[~np.isnan(v[order]) & ~absurd(s[order], v[order])]
    return s[order], v[order], t[order]


def absurd(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return [K] bool: points of a run that no run can have and no picture can show: infinite, or beyond float32."""
    return (steps < 0) | (steps > LAST_STEP) | (np.abs(values) > LARGEST)


def left_out(path: Path, curves: Mapping[str, tuple[Iterable[Any], Iterable[Any]]]) -> list[str]:
    """Return one sentence about the points of all ``curves`` that :func:`points_of` leaves out as absurd, if any."""
    counts = {}
    for name, (steps, values) in curves.items():
        found = absurd(np.array(list(steps), np.int64), np.array(list(values), np.float64))
        if found.any():
            counts[name] = int(found.sum())
    if not counts:
        return []
    some = ", ".join(list(counts)[:3]) + (" ..." if len(counts) > 3 else "")
    number = counted(sum(counts.values()), "point", "are")
    return [f"{path}: {number} left out: infinite, beyond {LARGEST:g} or of an impossible step ({some})."]


def columns_of(value: Any) -> tuple[Any, Any] | None:
    """Return steps and values of ``[[step, value], ...]`` or ``{"steps": [...], "values": [...]}``; None: neither."""
    try:
        if isinstance(value, Mapping):
            columns = value["steps"], value["values"]
        elif isinstance(value, list) and value and all(len(pair) == 2 for pair in value):
            steps, values = zip(*value, strict=True)
            columns = steps, values
        else:
            return None
        points_of(*columns)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return columns
