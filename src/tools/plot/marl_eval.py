"""Runs as the JSON that marl-eval reads (Gorsane et al. 2022): environment, task, algorithm, run, evaluation.

    {"maze": {"black_red": {"OAPPO": {"seed_1": {
        "step_0": {"step_count": 6400, "return_mean": [-3.1]}, ...,
        "absolute_metrics": {"return_mean": [2.6]}}}}}}

A task's runs have the same evaluations: at steps spread evenly over the stretch that all of them cover, each run's
points joined by lines. The protocol's lists hold the episodes of an evaluation; here they hold their mean. Its absolute
metric is of the best policy, over ten times as many episodes; here it is the highest mean over 10 % of a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis.curves import best, on_axis
from ...analysis.runs import Run
from ...utils.errors import UserError
from .data import Groups

#: evaluations of each run
EVALUATIONS = 41

Json = dict[str, Any]


def content(groups: Groups, metric: str) -> tuple[Json, list[str]]:
    """Return what the file holds, and sentences about what is left out.

    Args:
        groups: names of algorithms -> names of tasks -> runs.
        metric: which one.
    """
    found: Json = {}
    notices: list[str] = []
    for task in sorted({task for tasks in groups.values() for task in tasks}):
        played = {algorithm: tasks[task] for algorithm, tasks in groups.items() if task in tasks}
        there = {
            algorithm: [(run, curve) for run in runs if (curve := on_axis(run, metric, "steps")) is not None]
            for algorithm, runs in played.items()
        }
        ends = [curve[0] for some in there.values() for _, curve in some]
        if not ends or (first := max(x[0] for x in ends)) > (last := min(x[-1] for x in ends)):
            notices.append(f"The runs of '{task}' have no steps with {metric} in common: left out.")
            continue
        if len(numbers := {len(some) for some in there.values()}) > 1:
            notices.append(
                f"The algorithms have from {min(numbers)} to {max(numbers)} runs on '{task}', and marl-eval wants as "
                "many of each."
            )
        steps = np.unique(np.linspace(first, last, EVALUATIONS).round().astype(np.int64))
        for algorithm, some in there.items():
            for run, curve in some:
                of_env = found.setdefault(str(run.config.get("env", "environment")), {}).setdefault(task, {})
                own = of_env.setdefault(algorithm, {})
                own[_name(run, own)] = _run(run, metric, steps, curve)
    return found, notices


def _name(run: Run, others: Json) -> str:
    """Return a run's name, one of its own."""
    name, k = f"seed_{run.seed}", 2
    while name in others:
        name, k = f"seed_{run.seed}_{k}", k + 1
    return name


def _run(run: Run, metric: str, steps: np.ndarray, curve: tuple[np.ndarray, np.ndarray]) -> Json:
    """Return the evaluations of a run at ``steps``."""
    at = enumerate(zip(steps.tolist(), np.interp(steps, *curve).tolist(), strict=True))
    found: Json = {f"step_{k}": {"step_count": step, metric: [value]} for k, (step, value) in at}
    return found | {"absolute_metrics": {metric: [best(run, metric)]}}


def write(found: Json, path: Path) -> Path:
    """Write ``found`` to ``path``.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from None
    return path
