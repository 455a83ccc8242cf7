"""The tables of docs/smax.md, from the curve files of a sweep file's runs.

    oamarl sweep experiments/smax-3m.yaml    # trains what is missing
    .venv/bin/python benchmarks/seeds.py     # prints a table for each map

Seed by seed: the highest win rate of a greedy test and the mean of the last five tests; the
share of battles won in the last 10 % of training, by sampled actions; the first test that won at least 0.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from oamarl.storage.curve_files import final, read

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "results" / "data"
#: names in curve files' names
BATTLES = ("smax-3m", "smax-3s5z_vs_3s6z")
TESTS = "test_greedy_battle_won_mean"


def of_methods(environment: str) -> dict[str, list[dict[str, Any]]]:
    """The curves of ``environment`` in docs/results/data, those of each method in the order of their seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(DATA.glob(f"{environment}-*-seed*.json")):
        name = path.stem.removeprefix(f"{environment}-").rsplit("-seed", 1)[0]
        curves = read(path)
        assert curves is not None, path
        groups.setdefault(name, []).append(curves)
    return {name: sorted(curves, key=lambda c: c["config"]["seed"]) for name, curves in groups.items()}


def battles(environment: str) -> str:
    """The table of win rates of all curves of ``environment``, one row for each method, seed by seed."""

    def cell(values: Iterable[str]) -> str:
        return ", ".join(values) or "-"

    lines = [
        "| method | highest greedy test | mean of the last five greedy tests | last 10 % of training, sampled actions "
        "| first greedy test at 0.9 |",
        "|---|---|---|---|---|",
    ]
    for name, curves in of_methods(environment).items():
        tests = [c["metrics"][TESTS] for c in curves if TESTS in c["metrics"]]
        there = [next((t for t, v in points if v >= 0.9), None) for points in tests]
        sampled = [final(c, "battle_won_mean") for c in curves]
        cells = [
            cell(f"{max(v for _, v in points):.3f}" for points in tests),
            cell(f"{np.mean([v for _, v in points[-5:]]):.3f}" for points in tests),
            cell(f"{won:.2f}" for won in sampled),
            cell("never" if t is None else f"{round(t, -3):,}" for t in there),
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for environment in BATTLES:
        print(f"{environment}\n\n{battles(environment)}\n")
