"""Train methods on the maze over seeds, and keep a thinned curve of each run under docs/results/data.

    .venv/bin/python benchmarks/maze_seeds.py                         # all six methods, seeds 1 to 10, two at a time
    .venv/bin/python benchmarks/maze_seeds.py oappo oatrpo --seeds 5
    .venv/bin/python benchmarks/maze_seeds.py --table                 # only the table of what is there

A run whose curve is there with the same command and configuration counts as done. The table's columns: the mean
return of the last tenth of training as a share of the optimum, mean and standard deviation over seeds; seeds whose
last tenth is at least 0.95 of their best tenth; seeds that end within 1 % of the optimum; the area under the curve;
environment steps until 0.9 of the optimum was first reached (median over the seeds that did).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "results" / "data"
METHODS = ("ippo", "mappo", "happo", "hatrpo", "oappo", "oatrpo")
POINTS = 60
#: settings that are not part of what was learned
NOT_LEARNING = ("local_results_path", "checkpoint_path", "label", "beat_interval")


def words(method: str, seed: int, overrides: list[str]) -> list[str]:
    """The command line of one run, without the interpreter."""
    return ["src/main.py", f"--config={method}", "--env-config=maze", "with", f"seed={seed}", *overrides]


def configuration(command: list[str]) -> dict[str, Any]:
    """The merged configuration that a command would run with."""
    from oamarl.components.request import parse
    from oamarl.settings import resolve

    values = resolve(parse(command[1:])[0]).values
    return {k: v for k, v in values.items() if k not in NOT_LEARNING}


def thinned(steps: np.ndarray, values: np.ndarray) -> list[list[float]]:
    """At most POINTS points, each the mean of its stretch of the curve."""
    parts = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return [[int(steps[p[-1]]), round(float(values[p].mean()), 4)] for p in parts]


def train(method: str, seed: int, overrides: list[str], tag: str) -> Path:
    """Run one seed unless its curve is there; returns the curve's file."""
    command = words(method, seed, overrides)
    path = DATA / f"maze-{method}{tag}-seed{seed}.json"
    config = configuration(command)
    if path.exists():
        known = json.loads(path.read_text())
        if known["command"] == "python " + " ".join(command) and known["config"] == config:
            return path
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, *command, f"local_results_path={folder}", "test_nepisode=0"],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        run = next(Path(folder).glob("sacred/*/*/1"))
        from oamarl.components.records import curve, read_metrics

        records = read_metrics(run)
        steps, returns = curve(records, "return_mean")
        facts = json.loads((run / "info.json").read_text())
        last = records[-1]["metrics"]
    content = {
        "command": "python " + " ".join(command), "config": config, "commit": facts["commit"],
        "versions": facts["versions"], "wall_clock": round(last["wall_clock"], 1),
        "processed_samples": last["processed_samples"], "updates": last["updates"],
        "tenths": [round(float(p.mean()), 4) for p in np.array_split(returns, 10)],
        "best_tenth": round(best_tenth(returns), 4), "return_mean": thinned(steps, returns),
    }  # fmt: skip
    DATA.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")
    return path


def best_tenth(returns: np.ndarray) -> float:
    """The largest mean over a tenth of training, wherever it begins."""
    k = max(1, len(returns) // 10)
    return float(np.convolve(returns, np.ones(k) / k, "valid").max())


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


def table() -> str:
    """The table of all curves in docs/results/data, one row for each method."""
    from oamarl.envs.maze import Maze

    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(DATA.glob("maze-*-seed*.json")):
        name = path.stem.removeprefix("maze-").rsplit("-seed", 1)[0]
        groups.setdefault(name, []).append(json.loads(path.read_text()))
    optimum = Maze(n_slots=1).optimum().team_return
    head = (
        "| method | last tenth / optimum | not collapsed | at the optimum | area under the curve "
        "| steps to 0.9 (seeds) | processed samples |\n|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(row(name, curves, optimum) for name, curves in groups.items())])


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description="Methods on the maze over seeds.")
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tag", default="", help="suffix of the curve files, for overrides")
    parser.add_argument("--set", nargs="*", default=[], help="overrides, key=value")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if not args.table:
        with ThreadPoolExecutor(args.jobs) as pool:
            jobs = [(m, s) for s in range(1, args.seeds + 1) for m in args.methods]
            for path in pool.map(lambda job: train(*job, args.set, args.tag), jobs):
                print(path.relative_to(ROOT), flush=True)
    print(table())


if __name__ == "__main__":
    main()
