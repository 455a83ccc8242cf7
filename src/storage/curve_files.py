"""Curve files: a finished run in a few kB of JSON, small enough for a git repository.

| field | what |
|---|---|
| command | the run's command line, `oamarl --config=... with seed=1 ...` |
| config | the keys that determine its numbers (`settings.learned`) |
| commit, versions, machine | git commit, package versions, processor and system |
| wall_clock, processed_samples, updates, t_env | last values: seconds, rows evaluated in updates, updates, steps |
| tenths | bin averages of the team return over each tenth of the points, in order |
| best_tenth | the largest mean over any consecutive tenth of the points |
| return_mean | [[steps, mean team return], ...], at most 60 points, each a bin average |
| metrics | {name: [[steps, value], ...]}: other metrics in the same bins (counters: the last value of each bin) |
| test_actions | `sampled`: actions of `test_*` metrics (`test_greedy_*`: greedy); without it they are greedy tests |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import UserError
from .records import curve
from .run_files import INFO_FILE, RUN_FILE, read_json
from .tested_actions import MARK, greedy_name, named, run_records

POINTS = 60
#: counters: of each bin the last value is kept, so that curves can be drawn against them
COUNTERS = ("wall_clock", "processed_samples", "updates")
#: other metrics that are kept where a run has them, beside win rates (found by their names)
_TESTS = ("test_return_mean", "test_total_return_mean")
#: of tables: how far agents are from one another and from the solution (`tabular.measures`)
_TABLES = ("policy_mse", "q_mse", "q_error", "own_q_error", "team_regret", "own_regret")
ALSO = (*_TESTS, *map(greedy_name, _TESTS), "ep_length_mean", "entropy", *_TABLES)


def thinned(steps: np.ndarray, values: np.ndarray, last: bool = False) -> list[list[float]]:
    """Return at most POINTS points [step, value], each a bin average (``last``: the bin's last value)."""
    parts = np.array_split(np.arange(len(steps)), min(POINTS, max(len(steps), 1)))
    return [[int(steps[p[-1]]), _short(values[p[-1]] if last else values[p].mean())] for p in parts if len(p)]


def _short(value: float) -> float:
    return round(float(value), 4) if abs(value) >= 0.1 else float(f"{value:.4g}")


def tenths(values: np.ndarray) -> list[float]:
    """Return bin averages over each tenth of a curve's points (fewer bins where there are fewer points)."""
    return [_short(p.mean()) for p in np.array_split(values, min(10, max(len(values), 1))) if len(p)]


def best_tenth(values: np.ndarray) -> float:
    """Return the largest mean over any consecutive tenth of the points."""
    k = max(1, len(values) // 10)
    return _short(np.convolve(values, np.ones(k) / k, "valid").max())


def content(folder: Path, command: str, config: Mapping[str, Any], metrics: Sequence[str] = ()) -> dict[str, Any]:
    """Return the curve file of the run in ``folder``.

    Args:
        metrics: names to keep beside the usual ones.

    Raises:
        UserError: the run has logged no returns.
    """
    records = run_records(folder)
    team = "return_mean" if config.get("common_reward", True) else "total_return_mean"
    steps, returns = curve(records, team)
    if not len(steps):
        raise UserError(f"The run {folder} has logged no returns: log_interval is longer than the run.")
    facts, host = read_json(folder / INFO_FILE), read_json(folder / RUN_FILE).get("host") or {}
    system = host.get("os")
    last: dict[str, float] = {}
    for record in records:
        last |= record["metrics"]
    kept = {}
    for name in sorted(last):
        if name in metrics or name in ALSO or name in COUNTERS or "won" in name:
            kept[name] = thinned(*curve(records, name), last=name in COUNTERS)
    return {
        "command": command, "config": dict(config), "commit": facts.get("commit"),
        "versions": facts.get("versions", {}),
        "machine": {"cpu": host.get("cpu"), "system": system[-1] if isinstance(system, list) and system else None},
        "wall_clock": round(last.get("wall_clock", 0.0), 1),
        "processed_samples": last.get("processed_samples"), "updates": last.get("updates"),
        "t_env": int(records[-1]["t"]),
        "tenths": tenths(returns), "best_tenth": best_tenth(returns), "return_mean": thinned(steps, returns),
        "metrics": kept, **MARK,
    }  # fmt: skip


def final(curves: Mapping[str, Any], metric: str) -> float | None:
    """Return the mean of a metric over the last 10 % of the steps, None where the file does not have it."""
    points = curves["return_mean"] if metric == "return_mean" else curves.get("metrics", {}).get(metric)
    if not points:
        return None
    end = points[-1][0]
    return float(np.mean([v for t, v in points if t > 0.9 * end]))


def write(path: Path, curves: Mapping[str, Any]) -> None:
    """Write a curve file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(curves, separators=(",", ":")) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"The curve file {path} cannot be written: {error.strerror or error}.") from None


def read(path: Path) -> dict[str, Any] | None:
    """Return a curve file's content, metrics under the names they have now; None: there is no complete one."""
    found = read_json(path)
    if not isinstance(found.get("config"), dict) or not found.get("return_mean"):
        return None
    metrics = found.get("metrics")
    return {**found, "metrics": named(metrics if isinstance(metrics, dict) else {}, found["config"], found)}
