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
    from components.episode_buffer import ReplayBuffer

    import learners
    import runners

    made = ReplayBuffer.__init__

    def allocated(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        arrays = self.data.transition_data.values()
        clock.facts["replay_bytes"] = sum(x.numel() * x.element_size() for x in arrays)

    ReplayBuffer.__init__ = allocated
    for cls in set(runners.REGISTRY.values()):
        clocked_runner(cls, clock)
    for cls in set(learners.REGISTRY.values()):
        clocked_learner(cls, clock)
    sys.argv = [str(source / "main.py"), *clock.spec["words"]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except Measured:
        sys.exit(0)


def clocked_runner(cls: Any, clock: Clock) -> None:
    """Let a runner tell the clock of each training iteration."""
    collect = cls.run

    def collected(self: Any, test_mode: bool = False) -> Any:
        if not test_mode:
            clock.iteration(self.t_env)
        return collect(self, test_mode=test_mode)

    cls.run = collected


def clocked_learner(cls: Any, clock: Clock) -> None:
    """Time a learner's updates."""
    train = cls.train

    def trained(self: Any, batch: Any, t_env: int, episode_num: int) -> None:
        if clock.spec["kind"] == "learner":
            import torch

            clock.facts |= {
                "obs": list(batch["obs"].shape), "filled": int(batch["filled"][:, :-1].sum()),
                "threads": torch.get_num_threads(),
            }  # fmt: skip
            clock.repeat(lambda: train(self, batch, t_env, episode_num))
        clock.learn(lambda: train(self, batch, t_env, episode_num))

    cls.train = trained


if __name__ == "__main__":
    main()
