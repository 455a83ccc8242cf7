"""Cost as the work grows, in time and memory: agents, slots, width, episodes in replay, seeds at once.

    .venv/bin/python benchmarks/growth.py --out docs/results/growth.json --picture docs/images/growth.png
    .venv/bin/python benchmarks/growth.py --only agents slots --seconds 1     # some axes, quicker
    .venv/bin/python benchmarks/growth.py --from docs/results/growth.json --picture growth.png

The game (crowd.py) costs next to nothing, so that what grows is this project's own work. Each point
is a process of its own (a copy of one that has loaded torch) with one torch thread. Times are CPU time, which other
programs on the machine disturb little; memory is the process's peak, with what Python and torch take by themselves. A
point repeats a batch and its update for `--seconds`, after one that does not count; what is interrupted leaves the
points before it. Of seeds at once, whose parts cannot be told apart, a step's time includes its share of the update.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ENV = "with env=crowd:Crowd backend=native torch_threads=1"
SEGMENTS = "--config=mappo runner=rollout rollout_length=16 batch_size=null learner_threads=1"
WHOLE = "--config={0} runner=parallel batch_size_run=8 learner_threads=1"
REPLAY = "--config=qmix runner=parallel batch_size_run=8 batch_size=32 updates_per_step=null"
#: axis -> label, sizes, and line -> the settings of a point, {n} being its size
AXES: dict[str, tuple[str, tuple[int, ...], dict[str, str]]] = {
    "agents": ("agents", (2, 4, 10, 20, 50, 100), {
        "mappo": f"{WHOLE.format('mappo')} env_args.n_agents={{n}}",
        "oappo": f"{WHOLE.format('oappo')} env_args.n_agents={{n}}",
        "qmix": f"{REPLAY} buffer_size=64 env_args.n_agents={{n}}",
    }),
    "slots": ("slots", (1, 8, 64, 512, 4096, 8192), {
        "mappo": f"{SEGMENTS} env_args.n_agents=4 batch_size_run={{n}}",
        "mappo, GRU": f"{SEGMENTS} env_args.n_agents=4 use_rnn=True batch_size_run={{n}}",
    }),
    "width": ("units of a layer", (16, 64, 256, 1024), {
        "mappo": f"{WHOLE.format('mappo')} env_args.n_agents=4 hidden_dim={{n}}",
        "mappo, GRU": f"{WHOLE.format('mappo')} env_args.n_agents=4 use_rnn=True hidden_dim={{n}}",
    }),
    "replay": ("episodes in replay", (100, 1000, 10_000, 100_000), {
        "qmix": f"{REPLAY} buffer_size={{n}} env_args.n_agents=4",
    }),
    "seeds": ("seeds at once", (1, 2, 4, 8, 16), {
        name: f"{WHOLE.format(name)} env_args.n_agents=4 seeds_at_once={{n}}" for name in ("mappo", "oappo")
    }),
}  # fmt: skip
#: what is measured -> its label and its factor
MEASURED = {"step": ("CPU µs a step", 1e6), "update": ("CPU ms an update", 1e3), "memory": ("memory, MB", 1e-6)}


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else 1024 * most


def words_of(settings: str) -> list[str]:
    """Return the command line of a point's settings."""
    config, *values = settings.split()
    return [config, *ENV.split(), *values, "use_cuda=False", "seed=1", "test_nepisode=0"]


def point(settings: str, size: int, seconds: float) -> dict[str, float]:
    """Measure one point in this process; see :data:`MEASURED` for the keys."""
    import torch

    from oamarl.parts import resolve
    from oamarl.training.building import build
    from oamarl.utils.schema.command_line import parse

    torch.set_num_threads(1)
    runner, _, learner = build(resolve(parse(words_of(settings.format(n=size)))[0]), torch.device("cpu"))
    batch, _ = runner.run()
    if hasattr(learner, "replay"):
        while len(learner.replay) < min(size, learner.config.buffer_size):
            learner.replay.add(batch)
    learner.train(batch, runner.t_env)
    collecting = updating = 0.0
    steps = updates = 0
    while collecting + updating < seconds:
        began, before = time.process_time(), runner.t_env
        batch, _ = runner.run()
        collected, earlier = time.process_time(), learner.updates
        learner.train(batch, runner.t_env)
        collecting, updating = collecting + collected - began, updating + time.process_time() - collected
        steps, updates = steps + runner.t_env - before, updates + learner.updates - earlier
    runner.close()
    return {"step": collecting / steps, "update": updating / max(updates, 1), "memory": peak()}


def seeds_point(settings: str, size: int, seconds: float) -> dict[str, float]:
    """Measure ``size`` seeds at once: the difference of a long and a short run, divided by all seeds' steps."""
    took, steps, peaks = [], (2000, 2000 + max(1, int(100 * seconds / size**0.5)) * 200), []
    with tempfile.TemporaryDirectory() as folder:
        for t_max in steps:
            end = [f"t_max={t_max}", f"local_results_path={folder}", f"checkpoint_interval={10**9}"]
            command = [sys.executable, "-m", "oamarl", *words_of(settings.format(n=size)), *end]
            run = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent)
            _, status, used = os.wait4(run.pid, 0)
            if status:
                sys.exit(f"{' '.join(command)} failed")
            took.append(used.ru_utime + used.ru_stime)
            peaks.append(used.ru_maxrss * (1 if platform.system() == "Darwin" else 1024))
    more = max(took[1] - took[0], 1e-6)  # what is too short to be told from starting costs nothing
    return {"step": more / (size * (steps[1] - steps[0])), "memory": max(peaks)}


def measure(axes: list[str], seconds: float, out: Path | None) -> dict[str, Any]:
    """Measure ``axes``, each point in a process of its own; returns axis -> line -> a list of points.

    Args:
        axes: of :data:`AXES`.
        seconds: CPU time of a point.
        out: file that is written after each point.
    """
    import oamarl.learners.off_policy
    import oamarl.learners.ppo  # noqa: F401

    forks = multiprocessing.get_context("fork")
    found: dict[str, Any] = {}
    for axis in axes:
        _, sizes, lines = AXES[axis]
        for size in sizes:
            for line, settings in lines.items():
                if axis == "seeds":
                    values = seeds_point(settings, size, seconds)
                else:
                    with concurrent.futures.ProcessPoolExecutor(1, forks) as pool:
                        values = pool.submit(point, settings, size, seconds).result()
                found.setdefault(axis, {}).setdefault(line, []).append({"size": size, **values})
                print(f"{axis:8} {line:12} {size:>7}  {shown(values)}", file=sys.stderr, flush=True)
                if out is not None:
                    store(found, seconds, out)
    return found


def store(found: dict[str, Any], seconds: float, out: Path) -> None:
    """Write the figures and where they are from."""
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    out.write_text(json.dumps({"machine": machine, "seconds": seconds, "points": found}, indent=1) + "\n", "utf-8")


def shown(values: dict[str, float]) -> str:
    """Return a point's figures in their units."""
    return "  ".join(
        f"{values[key] * factor:,.1f} ({label})" for key, (label, factor) in MEASURED.items() if key in values
    )


def exponent(points: list[dict[str, float]], key: str) -> float:
    """Return the slope between the last two points in logarithms: 1 is linear, 0 constant."""
    (a, b) = points[-2:]
    return math.log(b[key] / a[key]) / math.log(b["size"] / a["size"])


def table(found: dict[str, Any]) -> str:
    """Return the figures as a Markdown table, with each update's (of seeds: step's) slope since the size before."""
    lines = [
        "| axis | line | size | µs a step | ms an update | MB | slope |",
        "|---|---|---|---|---|---|---|",
    ]
    for axis, its in found.items():
        for line, points in its.items():
            for k, p in enumerate(points):
                what = "step" if axis == "seeds" else "update"
                slope = f"{exponent(points[: k + 1], what):.2f}" if k else ""
                figures = " | ".join(
                    f"{p[key] * factor:,.1f}" if key in p else "" for key, (_, factor) in MEASURED.items()
                )
                lines.append(f"| {axis} | {line} | {p['size']:,} | {figures} | {slope} |")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw a row of panels for each figure that is measured, a column for each axis, on logarithmic scales."""
    from matplotlib.ticker import NullFormatter

    from oamarl.tools.plot.style import DPI, look, new_figure

    marks = ("o-", "s--", "^:")
    with look():
        figure = new_figure(2.4 * len(found), 6.0)
        panels = figure.subplots(len(MEASURED), len(found), squeeze=False, sharex="col")
        for row, (key, (label, factor)) in enumerate(MEASURED.items()):
            for column, (axis, its) in enumerate(found.items()):
                panel = panels[row][column]
                every = [p[key] * factor for points in its.values() for p in points if key in p]
                if not every:
                    panel.set_axis_off()
                    continue
                for mark, (line, points) in zip(marks, its.items(), strict=False):
                    sizes, values = [p["size"] for p in points], [p[key] * factor for p in points]
                    panel.plot(sizes, values, mark, label=line, markersize=3.5)
                panel.set(xscale="log", yscale="log")
                panel.set_ylim(10 ** math.floor(math.log10(min(every))), 10 ** math.ceil(math.log10(max(every))))
                for side in (panel.xaxis, panel.yaxis):
                    side.set_minor_formatter(NullFormatter())
                if column == 0:
                    panel.set_ylabel(label)
                if row == 0:
                    panel.legend(frameon=False)
                if row == len(MEASURED) - 1:
                    panel.set_xlabel(AXES[axis][0])
        figure.savefig(path, dpi=DPI // 2)


def main() -> None:
    """Measure, store and draw what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--from", dest="stored", type=Path, help="figures measured before, in place of measuring")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.stored and not options.stored.is_file():
        parser.error(f"--from {options.stored}: there is no such file")
    stored = options.stored and json.loads(options.stored.read_text(encoding="utf-8"))["points"]
    found = stored or measure(list(options.only), options.seconds, options.out)
    if options.picture:
        draw(found, options.picture)
    print(table(found))


if __name__ == "__main__":
    main()
