"""Train for a long time and see whether anything grows: memory, files, or the time that a stretch of steps takes.

    .venv/bin/python benchmarks/soak.py                        # two million steps of the maze with MAPPO
    .venv/bin/python benchmarks/soak.py --config=oappo --steps=500000

The run is an ordinary one, in a process of its own; its memory is read while it runs, its clocks from its curve. The
first fifth is left out of the verdict: buffers are filled and pages touched for the first time there. Exit status 1
means that something grew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
#: what counts as growth, from the first fifth's end to the end: memory (MB), and CPU time for a stretch (share)
MEMORY, TIME = 8.0, 0.25


@dataclass
class Soak:
    """What was seen: (steps, resident memory in MB) while it ran; steps and CPU seconds of its points; file sizes."""

    memory: list[tuple[int, float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def stretches(self, n: int = 5) -> list[tuple[int, float, float]]:
        """Of each n-th of the run: its last step, the largest memory (MB), seconds per 10,000 steps."""
        edges = np.linspace(0, self.steps[-1], n + 1)
        took = np.interp(edges, [0, *self.steps], [0.0, *self.seconds])
        rows = []
        for a, b, before, after in zip(edges, edges[1:], took, took[1:], strict=False):
            held = [m for t, m in self.memory if a < t <= b]
            rows.append((int(b), max(held, default=float("nan")), float(after - before) / (b - a) * 1e4))
        return rows

    def growth(self) -> list[str]:
        """What grew after the first fifth, one sentence each."""
        _, *rows = self.stretches()
        found = []
        memory = rows[-1][1] - rows[0][1]
        if memory > MEMORY:
            found.append(f"memory grew by {memory:.1f} MB between the second fifth and the last")
        slower = rows[-1][2] / rows[0][2] - 1
        if slower > TIME:
            found.append(f"10,000 steps took {slower:.0%} more time in the last fifth than in the second")
        return found


def resident(pid: int) -> float:
    """Resident memory of a process in MB (Linux); nan once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return float("nan")
    return pages * 4096 / 1e6


def soak(words: list[str], results: Path, every: float = 0.2) -> Soak:
    """Run the program with ``words`` and watch it.

    Raises:
        RuntimeError: it failed; its words are the message.
    """
    from oamarl.components.records import parse_metrics

    seen, rest, run = Soak(), b"", None
    command = [sys.executable, str(ROOT / "src" / "main.py"), *words, f"local_results_path={results}"]
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        curve = None
        while child.poll() is None or curve is not None:
            over = child.poll() is not None
            if curve is None and (found := list(results.glob("sacred/*/*/*/metrics.jsonl"))):
                run, curve = found[0].parent, open(found[0], "rb")  # noqa: SIM115
            if curve is not None:
                lines = rest + curve.read()
                rest = lines[lines.rfind(b"\n") + 1 :]
                for point in parse_metrics(lines):
                    # the learner's, the environment's and the network's own seconds: a busy machine slows all alike
                    took = [v for k, v in point["metrics"].items() if k.startswith("time_") and k != "time_testing"]
                    if took:
                        seen.steps.append(point["t"])
                        seen.seconds.append(sum(took))
                if seen.steps and not over:
                    seen.memory.append((seen.steps[-1], resident(child.pid)))
                if over:
                    curve.close()
                    curve = None
                    break
            time.sleep(every)
        if child.returncode:
            said.seek(0)
            raise RuntimeError(said.read()[-2000:])
    assert run is not None
    seen.memory = [(t, m) for t, m in seen.memory if m == m and m > 1]
    seen.sizes = {str(p.relative_to(run)): p.stat().st_size for p in sorted(run.rglob("*")) if p.is_file()}
    return seen


def main(argv: list[str] | None = None) -> int:
    """Print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mappo")
    parser.add_argument("--env-config", default="maze")
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("more", nargs="*", help="further settings, key=value")
    asked = parser.parse_args(argv)
    words = [f"--config={asked.config}", f"--env-config={asked.env_config}", "with", "seed=1", f"t_max={asked.steps}",
             "use_cuda=False", *asked.more]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        seen = soak(words, Path(folder))
    print("steps       memory (MB)  seconds per 10,000 steps")
    for t, memory, took in seen.stretches(10):
        print(f"{t:>10,}  {memory:>11.1f}  {took:>8.2f}")
    print("\nfile                                      bytes")
    for name, size in seen.sizes.items():
        print(f"{name:<36}  {size:>9,}")
    found = seen.growth()
    print("\n" + ("; ".join(found) if found else "Nothing grew."))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
