"""EPyMARL's own training program, with a clock in it: ``python run_epymarl.py SPEC.json``, in EPyMARL's venv.

``folder`` of the specification is the repaired copy.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from clock import Clock, Measured


def main() -> None:
    """Train as ``words`` of the specification say, until the clock ends it."""
    clock = Clock.from_command_line()
    source = Path(clock.spec["folder"]) / "src"
    os.chdir(source.parent)
    sys.path[0] = str(source)
    from learners.ppo_learner import PPOLearner
    from runners.parallel_runner import ParallelRunner

    collect, train = ParallelRunner.run, PPOLearner.train

    def collected(self: Any, test_mode: bool = False) -> Any:
        if not test_mode:
            clock.iteration(self.t_env)
        return collect(self, test_mode=test_mode)

    def trained(self: Any, batch: Any, t_env: int, episode_num: int) -> None:
        if clock.spec["kind"] == "learner":
            import torch

            clock.facts = {
                "obs": list(batch["obs"].shape), "filled": int(batch["filled"][:, :-1].sum()),
                "threads": torch.get_num_threads(),
            }  # fmt: skip
            clock.repeat(lambda: train(self, batch, t_env, episode_num))
        clock.learn(lambda: train(self, batch, t_env, episode_num))

    ParallelRunner.run, PPOLearner.train = collected, trained
    sys.argv = [str(source / "main.py"), *clock.spec["words"]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except Measured:
        sys.exit(0)


if __name__ == "__main__":
    main()
