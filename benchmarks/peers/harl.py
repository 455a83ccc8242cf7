"""HARL's own learners beside this project's, on this project's Multi-Agent MuJoCo, with HARL's tuned settings."""

from __future__ import annotations

from typing import Any

from .cell import NEVER, Cell, Side, words

#: task -> robot, split, HARL's folder of tuned settings, this project's
TASKS = {
    "halfcheetah": ("HalfCheetah", "2x3", "HalfCheetah-v2-2x3", "mamujoco_halfcheetah_2x3"),
    "hopper": ("Hopper", "3x1", "Hopper-v2-3x1", "mamujoco_hopper_3x1"),
}
#: what is changed in HARL's files: its networks have three hidden layers of 128 and ours two; its evaluation, which our
#: side leaves out as well, and the GPU; each training iteration is one "episode", and the clock ends the run
HARL: dict[str, Any] = {"hidden_sizes": [128, 128], "use_eval": False, "cuda": False, "num_env_steps": NEVER}
#: HARL writes its log every 5 iterations of 20 x 200 steps
OURS: dict[str, Any] = {"seed": 1, "t_max": NEVER, "test_nepisode": 0, "log_interval": 20_000}


def theirs(method: str, task: str, threads: int) -> Side:
    """HARL's training program with its tuned settings of a task, learning with so many torch threads."""
    robot, split, tuned, _ = TASKS[task]
    given = HARL | {"scenario": robot, "agent_conf": split, "torch_threads": threads}
    spec = {"kind": "run", "tuned": f"tuned_configs/mamujoco/{tuned}/{method}/config.json", "given": given}
    return Side(f"HARL, {threads} thread{'s' * (threads > 1)}", "harl", spec)


def ours(method: str, task: str) -> Side:
    """This project's training program with the same settings."""
    robot, split, _, preset = TASKS[task]
    env = {"scenario": robot, "agent_conf": split}
    return Side(
        "oamarl", "oamarl", {"kind": "run", "words": words(f"{preset}/{method}", env, env_config="mamujoco", **OURS)}
    )


def harl_cells() -> list[Cell]:
    """Return the comparisons: HARL on one torch thread (its fastest on two cores) and on its own four.

    On two busy cores two threads wait for one another in turns of the processor, far slower than one; four, more than
    there are cores, do not: OpenMP then sleeps.
    """
    found = []
    for name, method, task in (
        ("mamujoco-happo", "happo", "halfcheetah"),
        ("mamujoco-mappo", "mappo", "halfcheetah"),
        ("mamujoco-hatrpo", "hatrpo", "halfcheetah"),
        ("mamujoco-happo-hopper", "happo", "hopper"),
    ):
        robot, split, _, _ = TASKS[task]
        sides = (ours(method, task), theirs(method, task, 1), theirs(method, task, 4))
        found.append(
            Cell(
                name, f"{robot} {split}, {method.upper()} MLP-128-128, 20 environments x 200 steps, end to end",
                "steps", sides, sides[1].name, (">=", 2),
                note="HARL's runner and learners with its tuned settings, on oamarl's mamujoco",
            )
        )  # fmt: skip
    return found
