"""What ``oamarl bench`` shows: tables of a result, and how it compares with an earlier one."""

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


#: What a table says of one case: heading -> figure (below the first heading stands the name, if there are several).
Row = dict[str, str]


def speed_row(case: Mapping[str, Any]) -> Row:
    """Return steps a second, with the lowest and highest round, and the share of the limit."""
    found = case["speed"]
    medians = {shown: speed(found[name]["median"]) for name, shown in SPEEDS.items()}
    span = f"{speed(found['training']['low'])} .. {speed(found['training']['high'])}"
    of_limit = found["collection"]["median"] / found["random_all"]["median"]
    return {
        "steps a second": "", "end to end": medians["end to end"], "lowest .. highest": span, **medians,
        "collection / random": f"{of_limit:.2f}",
    }  # fmt: skip


def time_row(case: Mapping[str, Any]) -> Row:
    """Return what the time goes into, what a step and a processed sample cost, and memory."""
    parts = ("environment", "inference", "learning", "logging", "other")
    each = case["microseconds"]
    return {
        "time": "", **{part: f"{100 * case['split'][part]:.1f} %" for part in parts},
        "us/step": f"{each['step']:,.1f}", "us/sample": f"{each['learning_per_sample']:.3g}",
        "memory, MB": memory(case["memory_mb"]),
    }  # fmt: skip


def compare_row(case: Mapping[str, Any], old: Mapping[str, Any]) -> Row:
    """Return new / earlier.

    ``per limit`` is the ratio of end-to-end speeds, each divided by its own random stepping on one core, since other
    load on the machine affects both. ``~`` marks ratios within the rounds' spread.
    """
    ratios = {name: case["speed"][name]["median"] / old["speed"][name]["median"] for name in SPEEDS}
    costs = [c["microseconds"]["learning_per_sample"] for c in (case, old)]
    sizes = [_all_memory(c["memory_mb"]) for c in (case, old)]
    return {
        "new / earlier": "",
        **{shown: f"{ratios[name]:.2f}{'~' if _overlap(case['speed'][name], old['speed'][name]) else ''}"
           for name, shown in SPEEDS.items()},
        "per limit": f"{ratios['training'] / ratios['random_one_core']:.2f}",
        "us/sample": f"{costs[0] / costs[1]:.2f}" if costs[1] else "-",
        "memory": f"{sizes[0] / sizes[1]:.2f}" if all(sizes) else "-",
    }  # fmt: skip


def pairs(
    cases: Sequence[Mapping[str, Any]], earlier: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return cases and the earlier ones they are compared with: of equal name, or the only one of both results."""
    old = {case["name"]: case for case in earlier["cases"]}
    if len(cases) == len(old) == 1:
        return [(cases[0], next(iter(old.values())))]
    return [(case, old[case["name"]]) for case in cases if case["name"] in old]


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
        for case in found["cases"]:
            compare_row(case, case)
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
