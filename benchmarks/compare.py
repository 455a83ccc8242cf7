"""Measure this project against other frameworks on this machine: interleaved rounds, medians, spread and ratios.

    .venv/bin/python benchmarks/compare.py --list
    .venv/bin/python benchmarks/compare.py --epymarl PATH --quick              # one or two minutes
    .venv/bin/python benchmarks/compare.py --epymarl PATH --json compare.json  # everything
    .venv/bin/python benchmarks/compare.py --epymarl PATH 'lbf-*' rware-gru    # some cells

benchmarks/README.md describes what is measured and how.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from peers import install, report, rounds
from peers.cell import Cell
from peers.cells import cells

from oamarl.storage.provenance import commit
from oamarl.utils import machine


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Side by side with other frameworks.")
    parser.add_argument("cells", nargs="*", help="names or patterns of cells; none: all (or those of --quick)")
    parser.add_argument("--list", action="store_true", help="print the cells and end")
    parser.add_argument("--epymarl", type=Path, help="a checkout of EPyMARL, or its bare git directory; only read")
    parser.add_argument("--harl", type=Path, help="the same of HARL, for the mamujoco cells")
    parser.add_argument("--quick", action="store_true", help="one short round of some cells, shorter RWARE episodes")
    parser.add_argument("--rounds", type=int, help="rounds of each cell (5; quick: 1)")
    parser.add_argument("--seconds", type=float, help="measured time of each side in a round (10; quick: 2)")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which one side has failed")
    parser.add_argument("--json", type=Path, help="write everything here, after each cell")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oamarl-benchmarks"
    parser.add_argument("--cache", type=Path, default=cache, help=f"folder of the other frameworks' venvs ({cache})")
    return parser.parse_args(argv)


def chosen(every: list[Cell], patterns: list[str], quick: bool) -> list[Cell]:
    """Return the cells that are meant, in their order.

    Raises:
        SystemExit: a pattern that fits none.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatch(cell.name, pattern) for cell in every):
            sys.exit(f"There is no cell '{pattern}': use {', '.join(cell.name for cell in every)}.")
    if patterns:
        return [cell for cell in every if any(fnmatch.fnmatch(cell.name, p) for p in patterns)]
    return [cell for cell in every if cell.quick or not quick]


def timing(args: argparse.Namespace) -> dict[str, float]:
    """Return how long each side is measured; its first iteration (EPyMARL's first test is in it) never counts."""
    return {
        "seconds": args.seconds or (2.0 if args.quick else 10.0), "warm_seconds": 0.5 if args.quick else 3.0,
        "warm_iterations": 1, "min_iterations": 1 if args.quick else 2,
    }  # fmt: skip


class Programs(dict[str, install.Program]):
    """The programs by name, each set up when first asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.args = args

    def __missing__(self, name: str) -> install.Program:
        cache = self.args.cache.absolute()
        if name in ("oamarl", "random"):
            self[name] = install.own()
        elif name in ("epymarl", "harl"):
            checkout = getattr(self.args, name)
            self[name] = getattr(install, name)(checkout and checkout.absolute(), cache)
        else:
            self[name] = getattr(install, name)(cache)
        return self[name]


def main(argv: list[str] | None = None) -> int:
    """Run the cells that were asked for; returns 1 if one of them failed."""
    args = arguments(argv)
    cores = len(os.sched_getaffinity(0))
    every = cells(args.quick, cores)
    if args.list:
        for cell in every:
            print(f"{cell.name:24} {'quick  ' if cell.quick else '       '} {cell.title}")
        return 0
    programs, failed = Programs(args), False
    count = args.rounds or (1 if args.quick else 5)
    told: dict[str, Any] = {
        "machine": machine.facts(cores), "commit": commit(), "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "rounds": count, "timing": timing(args), "quick": args.quick, "cells": {},
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in told["machine"].items()), flush=True)
    for cell in chosen(every, args.cells, args.quick):
        try:
            for name in sorted(cell.programs):
                if name not in programs:
                    print(f"  setting up {name}", file=sys.stderr, flush=True)
                programs[name]
            measured = rounds.rounds(
                cell,
                programs,
                timing(args),
                count,
                args.timeout,
                lambda text: print(f"  {text}", file=sys.stderr, flush=True),
            )
        except (install.SetupError, rounds.SideError) as error:
            print(f"\n{cell.name} was left out: {error}.", flush=True)
            told["cells"][cell.name] = {"title": cell.title, "failed": str(error)}
            failed = True
        else:
            found = report.summarise(cell.measure, cell.reference, measured)
            print("\n" + report.table(cell.title, cell.measure, cell.reference, cell.target, found), flush=True)
            if cell.note:
                print(f"\n({cell.note})", flush=True)
            told["cells"][cell.name] = {
                "title": cell.title, "measure": report.MEASURES[cell.measure][0], "reference": cell.reference,
                "target": cell.target, "note": cell.note, "summary": found, "rounds": measured,
                "configuration": {side.name: {"program": side.program, **side.spec} for side in cell.sides},
            }  # fmt: skip
        if args.json:
            args.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
