"""What the code computes for each configuration whose curves are shown: does it still compute what made them?

    .venv/bin/python benchmarks/fingerprints.py             # says which configurations compute something else
    .venv/bin/python benchmarks/fingerprints.py --write     # takes down what is computed now, with new curves

A fingerprint is what the first update makes of a run's first batch (docs/results/fingerprints.json): the batch's mean
reward, the norm of each kind of parameters before it, and of their change. Machines differ in last digits; a changed
method differs by far more.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from oamarl.parts import resolve
from oamarl.tools.sweep.file import Cell
from oamarl.tools.sweep.file import load as read_sweep
from oamarl.training.building import build
from oamarl.utils.schema.command_line import parse

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "results" / "fingerprints.json"
#: the sweeps whose curves are compared on the pages
SWEEPS = (
    "maze-black-red", "maze-black-blue-red", "maze-rules", "maze-sigma", "maze-lambda", "alike", "alike-batches",
    "smax-3m", "smax-3s5z_vs_3s6z", "value-based",
)  # fmt: skip
#: relative differences up to this are of the machine
TOLERANCE = 1e-3
#: so are these of battles, where last digits decide what happens later (0.035 between a processor's instruction sets).
#: They show that a battle or a configuration has changed; small changes of a method show on the other games
BATTLE_TOLERANCE = 0.1
#: batches until a learner with a replay learns
_BATCHES = 40

Fingerprint = dict[str, float]


def groups(sweep: str) -> dict[str, Cell]:
    """Each configuration of a sweep by its name, and its first run."""
    found: dict[str, Cell] = {}
    for cell in read_sweep(ROOT / "experiments" / f"{sweep}.yaml").cells:
        found.setdefault(cell.group, cell)
    return found


def fingerprint(cell: Cell) -> Fingerprint:
    """What the first update of a run computes, with a seed of its own."""
    request, _ = parse(cell.words)
    request.overrides.update(seed=1000, use_cuda=False, backend="serial", learner_threads=1)
    if cell.config["env"] == "smax":  # compiled for 32 slots
        request.overrides.update(backend="native", batch_size_run=32)
    if "seps_steps" in cell.config:
        request.overrides["seps_steps"] = 400
    runner, _, learner = build(resolve(request), torch.device("cpu"))
    try:
        before = {name: x.detach().clone() for name, x in learner.parameters()}
        for _ in range(_BATCHES):
            batch, _ = runner.run()
            learner.train(batch, runner.t_env)
            if learner.updates:
                break
    finally:
        runner.close()
    found = {"reward": float(batch.reward[batch.filled].mean())}
    for name, x in learner.parameters():
        found |= {
            f"{name} before": float(before[name].norm()),
            f"{name} change": float((x.detach() - before[name]).norm()),
        }
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def differences(was: Fingerprint, now: Fingerprint, cell: Cell) -> list[str]:
    """In words, what differs by more than machines do."""
    battles = cell.config["env"] == "smax"

    def alike(name: str) -> bool:
        tolerance = BATTLE_TOLERANCE if battles and not name.endswith(" before") else TOLERANCE
        return name in was and name in now and math.isclose(was[name], now[name], rel_tol=tolerance, abs_tol=1e-6)

    names = sorted({*was, *now})
    return [f"{name}: {was.get(name)} then, {now.get(name)} now" for name in names if not alike(name)]


def stored() -> dict[str, Any]:
    """The fingerprints that were taken down with the curves, by configuration."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    cells = {name: cell for sweep in SWEEPS for name, cell in groups(sweep).items()}
    made = {name: fingerprint(cell) for name, cell in cells.items()}
    if sys.argv[1:] == ["--write"]:
        FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in made.items()) + "\n}\n")
    else:
        known = stored()
        for name, now in made.items():
            for words in differences(known.get(name, {}), now, cells[name]):
                print(f"{name}: {words}")
