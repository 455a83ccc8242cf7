"""Train for a long time and see whether anything grows: memory, files, or the time that a stretch of steps takes.

    .venv/bin/python benchmarks/soak.py                        # two million steps of the maze with MAPPO
    .venv/bin/python benchmarks/soak.py --config=oappo --steps=500000

The run is an ordinary one, in a process of its own whose memory and CPU time are read while it runs (Linux). The first
fifth is left out of the verdict: buffers are filled and pages touched for the first time there. Exit status 1 means
that something grew.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
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
    """What was seen while it ran: steps so far, resident memory (MB), CPU seconds used; and its files' sizes (bytes).

    CPU seconds, since those of the wall are as much the machine's as the run's.
    """

    steps: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def stretches(self, n: int = 5) -> list[tuple[int, float, float]]:
        """Of each n-th of the run: its last step, the largest memory (MB), CPU seconds per 10,000 steps."""
        edges = np.linspace(self.steps[0], self.steps[-1], n + 1)
        took = np.interp(edges, self.steps, self.seconds)
        rows = []
        for k, (a, b) in enumerate(itertools.pairwise(edges)):
            held = [m for t, m in zip(self.steps, self.memory, strict=True) if a < t <= b]
            rows.append((int(b), max(held, default=float("nan")), float(took[k + 1] - took[k]) / (b - a) * 1e4))
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
            found.append(f"10,000 steps took {slower:.0%} more CPU time in the last fifth than in the second")
        return found


def used(pid: int) -> tuple[float, float] | None:
    """Resident memory (MB) and CPU seconds of a living process (Linux); None once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return (pages * os.sysconf("SC_PAGE_SIZE") / 1e6, seconds) if pages else None


def soak(words: list[str], results: Path, every: float = 0.1) -> Soak:
    """Run the program with ``words`` and watch it; one sample for each point of its curve, at most ``every`` seconds.

    Raises:
        RuntimeError: it failed; its words are the message.
    """
    from oamarl.storage.records import parse_metrics

    seen, rest, curve = Soak(), b"", None
    command = [sys.executable, str(ROOT / "src" / "main.py"), *words, f"local_results_path={results}"]
    with tempfile.TemporaryFile("w+") as said, contextlib.ExitStack() as files:
        child = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        while child.poll() is None:
            found = next(results.glob("sacred/*/*/*/metrics.jsonl"), None)
            if curve is None and found is not None:
                curve = files.enter_context(open(found, "rb"))
            lines = rest + (curve.read() if curve is not None else b"")
            rest = lines[lines.rfind(b"\n") + 1 :]
            points, now = parse_metrics(lines), used(child.pid)
            if points and now is not None and points[-1]["t"] > (seen.steps or [0])[-1]:
                seen.steps.append(points[-1]["t"])
                seen.memory.append(now[0])
                seen.seconds.append(now[1])
            time.sleep(every)
        if child.returncode:
            said.seek(0)
            raise RuntimeError(said.read()[-2000:])
    run = next(results.glob("sacred/*/*/*/metrics.jsonl")).parent
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
    print("steps       memory (MB)  CPU seconds per 10,000 steps")
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
