"""The output of ``oamarl bench``: tables of results, and their ratios to earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...utils.errors import UserError

#: Of the JSON file; another number is another layout.
FORMAT = 1
#: Measures with their headings.
SPEEDS = {"training": "end to end", "collection": "collection", "random_one_core": "random, 1 core",
          "random_all": "random, all"}  # fmt: skip


def speed(value: float) -> str:
    """Return steps per second as text for a table."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def memory(found: Mapping[str, Any]) -> str:
    """Return the memory of a case: main process, and workers times the largest of them."""
    if not found.get("main"):
        return "-"
    workers = found.get("workers")
    return f"{found['main']:,.0f}" + (f" + {len(workers)} x {max(workers):,.0f}" if workers else "")


def speed_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return headings and rows: steps a second, with the lowest and highest round, and the share of the limit."""
    rows = [("steps a second", "end to end", "lowest .. highest", *list(SPEEDS.values())[1:], "collection / random")]
    for case in cases:
        found = case["speed"]
        medians = [found[name]["median"] for name in SPEEDS]
        span = f"{speed(found['training']['low'])} .. {speed(found['training']['high'])}"
        of_limit = f"{medians[1] / medians[3]:.2f}"
        rows.append((case["name"], speed(medians[0]), span, *map(speed, medians[1:]), of_limit))
    return rows


def time_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return headings and rows: time of each phase, cost of a step and of a processed sample, and memory."""
    parts = ("environment", "inference", "learning", "logging", "other")
    rows: list[tuple[str, ...]] = [("time", *parts, "us/step", "us/sample", "memory, MB")]
    for case in cases:
        each = case["microseconds"]
        rows.append(
            (
                case["name"], *(f"{100 * case['split'][part]:.1f} %" for part in parts),
                f"{each['step']:,.1f}", f"{each['learning_per_sample']:.3g}", memory(case["memory_mb"]),
            )
        )  # fmt: skip
    return rows


def compare_rows(cases: Sequence[Mapping[str, Any]], earlier: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return headings and rows: new / earlier, for each case that both have.

    ``per limit`` is the ratio of end-to-end speeds, each divided by its own random stepping on one core, since other
    load on the machine affects both. ``~`` marks ratios within the rounds' spread.
    """
    rows = [("new / earlier", *SPEEDS.values(), "per limit", "us/sample", "memory")]
    for case, old in pairs(cases, earlier):
        ratios = {name: case["speed"][name]["median"] / old["speed"][name]["median"] for name in SPEEDS}
        shown = [
            f"{ratio:.2f}{'~' if _overlap(case['speed'][name], old['speed'][name]) else ''}"
            for name, ratio in ratios.items()
        ]
        costs = [c["microseconds"]["learning_per_sample"] for c in (case, old)]
        sizes = [_all_memory(c["memory_mb"]) for c in (case, old)]
        rows.append(
            (
                case["name"], *shown, f"{ratios['training'] / ratios['random_one_core']:.2f}",
                f"{costs[0] / costs[1]:.2f}" if costs[1] else "-",
                f"{sizes[0] / sizes[1]:.2f}" if all(sizes) else "-",
            )
        )  # fmt: skip
    return rows


def pairs(
    cases: Sequence[Mapping[str, Any]], earlier: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the cases that can be compared with their earlier ones: of equal name, or the only one on both sides."""
    old = {case["name"]: case for case in earlier["cases"]}
    found = [(case, old[case["name"]]) for case in cases if case["name"] in old]
    if not found and len(cases) == len(old) == 1:
        return [(cases[0], next(iter(old.values())))]
    return found


def _overlap(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a["low"] <= b["high"] and b["low"] <= a["high"]


def _all_memory(found: Mapping[str, Any]) -> float:
    return (found.get("main") or 0.0) + sum(found.get("workers") or [])


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Return a sentence with the differences between two machines, or nothing."""
    names = ("cpu", "cores", "python", "torch", "numpy", "omp_num_threads")
    differ = [f"{n} {then.get(n)} -> {now.get(n)}" for n in names if then.get(n) != now.get(n)]
    return f"The earlier result is of another machine or software: {', '.join(differ)}." if differ else ""


def machine_line(found: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    threads = f", OMP_NUM_THREADS={found['omp_num_threads']}" if found["omp_num_threads"] else ""
    load = "unknown" if found["load"] is None else f"{found['load']:.1f}"
    gpu = f", {found['gpu']}" if found.get("gpu") else ""
    return (
        f"{found['cpu'] or 'unknown processor'}, {found['cores']} of {found['cores_all']} cores, "
        f"{found['ram_gb'] or '?'} GB{gpu}, {found['system']}, Python {found['python']}, torch {found['torch']}, numpy "
        f"{found['numpy']}{threads}; load before: {load}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return an earlier result.

    Raises:
        UserError: there is none, or it is another program's.
    """
    try:
        found = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--compare {path} cannot be read: {error.strerror or error}.") from None
    except ValueError:
        raise UserError(f"--compare {path} is not a JSON file.") from None
    try:
        if found["bench"] != FORMAT or not found["cases"]:
            raise ValueError
        compare_rows(found["cases"], found)
        differences(found["machine"], found["machine"])
    except (LookupError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        raise UserError(f"--compare {path} is not a result of `oamarl bench --json` of this version.") from None
    return dict(found)


def load_line(found: Mapping[str, Any]) -> str:
    """Return a sentence if other programs used much of the machine, or nothing."""
    load, cores = found["load"], found["cores_all"] or found["cores"]
    if load is None or load <= 0.5 * cores:
        return ""
    return (
        f"The load was {load:.1f} on {cores} cores before anything was measured: other programs slow all of this down, "
        "and only ratios between columns mean much."
    )


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print headings and rows as a table, and an empty line; a single row has no name (it stands above all tables)."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, padding=(0, 1), header_style="bold")
    for k, name in enumerate(rows[0]):
        grid.add_column(name, justify="right" if k else "left", no_wrap=bool(k))
    for row in rows[1:]:
        grid.add_row("" if len(rows) == 2 else row[0], *row[1:])
    # a wide table is worth more with its lines folded by the terminal than with its cells cut off
    console = Console(highlight=False, markup=False, width=300)
    console.print(grid)
    console.print()
