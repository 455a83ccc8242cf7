"""The tables of docs/results.md, from the curve files of a sweep file's runs.

    oamarl sweep experiments/trust-region.yaml    # trains what is missing
    .venv/bin/python benchmarks/seeds.py          # prints a table for each environment

Columns: the mean return of the last 10 % of training divided by the optimum, mean and standard deviation over
seeds; seeds whose last 10 % are at least 0.95 of their best 10 %; seeds that end within 1 % of the optimum; the area
under the curve; environment steps until 0.9 of the optimum was first reached (median over the seeds that did).

Of battles (docs/smax.md), seed by seed: the highest win rate of a greedy test and the mean of the last five tests; the
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
#: names in curve files' names, and the largest possible return of each
ENVIRONMENTS = {"lbf-8x8-2p-2f-coop": 1.0}

#: the same where battles are won or lost
BATTLES = ("smax-3m", "smax-2s3z")
TESTS = "test_greedy_battle_won_mean"


def row(name: str, curves: list[dict[str, Any]], optimum: float) -> str:
    """One line of the table."""
    last = np.array([c["tenths"][-1] for c in curves]) / optimum
    best = np.array([c["best_tenth"] for c in curves]) / optimum
    stable = int(((last >= 0.95 * best) & (best > 0)).sum())
    area = [np.mean([v for _, v in c["return_mean"]]) for c in curves]
    reached = [next((t for t, v in c["return_mean"] if v >= 0.9 * optimum), None) for c in curves]
    there = [t for t in reached if t is not None]
    when = f"{int(np.median(there)):,} ({len(there)})" if there else "-"
    return (
        f"| {name} | {last.mean():.3f} ± {last.std():.3f} | {stable}/{len(curves)} "
        f"| {int((last >= 0.99).sum())}/{len(curves)} | {np.mean(area):.2f} ± {np.std(area):.2f} | {when} "
        f"| {np.mean([c['processed_samples'] for c in curves]) / 1e6:.1f} M |"
    )


def of_methods(environment: str) -> dict[str, list[dict[str, Any]]]:
    """The curves of ``environment`` in docs/results/data, those of each method in the order of their seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(DATA.glob(f"{environment}-*-seed*.json")):
        name = path.stem.removeprefix(f"{environment}-").rsplit("-seed", 1)[0]
        curves = read(path)
        assert curves is not None, path
        groups.setdefault(name, []).append(curves)
    return {name: sorted(curves, key=lambda c: c["config"]["seed"]) for name, curves in groups.items()}


def table(environment: str, optimum: float) -> str:
    """The table of all curves of ``environment`` in docs/results/data, one row for each method."""
    groups = of_methods(environment)
    head = (
        "| method | normalised final return (last 10 %) | not collapsed | at the optimum | area under the curve "
        "| steps to 0.9 (seeds) | processed samples |\n|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(row(name, curves, optimum) for name, curves in groups.items())])


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
    for environment, optimum in ENVIRONMENTS.items():
        print(f"{environment}\n\n{table(environment, optimum)}\n")
    for environment in BATTLES:
        print(f"{environment}\n\n{battles(environment)}\n")
