"""pymarlzooplus' own training program, with a clock in it: ``python run_pymarlzooplus.py SPEC.json``, in its venv.

``folder`` of the specification is where its results may go.
"""

from __future__ import annotations

import sys
from typing import Any

from clock import Clock, Measured


def main() -> None:
    """Train as ``words`` of the specification say, until the clock ends it."""
    clock = Clock.from_command_line()
    import pymarlzooplus.main  # noqa: F401
    from pymarlzooplus.learners.ppo_learner import PPOLearner
    from pymarlzooplus.runners.parallel_runner import ParallelRunner

    collect, train = ParallelRunner.run, PPOLearner.train

    def collected(self: Any, test_mode: bool = False, **kwargs: Any) -> Any:
        if not test_mode:
            clock.iteration(self.t_env)
        return collect(self, test_mode=test_mode, **kwargs)

    def trained(self: Any, *args: Any, **kwargs: Any) -> Any:
        return clock.learn(lambda: train(self, *args, **kwargs))

    ParallelRunner.run, PPOLearner.train = collected, trained
    # looked up here, since the package replaces names of its modules by functions
    program: Any = sys.modules["pymarlzooplus.main"]
    # it would write beside the program that started it
    program.get_caller_path = lambda: clock.spec["folder"]
    try:
        program.pymarlzooplus(["main.py", *clock.spec["words"]])
    except Measured:
        sys.exit(0)


if __name__ == "__main__":
    main()
