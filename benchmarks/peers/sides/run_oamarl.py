"""This project's own training program, with a clock in it: ``python run_oamarl.py SPEC.json``."""

from __future__ import annotations

import copy
import sys
from typing import Any

from clock import Clock


def replay_sizes(replay: Any) -> dict[str, float]:
    """Bytes of a full replay: with episodes as long as those that it holds on average, and as long as they can be."""
    row = replay.ring.row_bytes()
    mean = replay.n_steps / len(replay)
    return {"replay_bytes": replay.capacity * (mean + 1) * row, "replay_most_bytes": replay.ring.most * row}


def main() -> int:
    """Train as ``words`` of the specification say, until the clock ends it; returns the exit status."""
    clock = Clock.from_command_line()
    import torch

    from oamarl import run
    from oamarl.main import main as program

    built = run.build

    def build(*args: Any, **kwargs: Any) -> Any:
        runner, mac, learner = built(*args, **kwargs)
        collect, train = runner.run, learner.train

        def collected() -> Any:
            if hasattr(learner, "replay") and len(learner.replay):
                clock.facts |= replay_sizes(learner.replay)
            clock.iteration(runner.t_env)
            return collect()

        def trained(batch: Any, t_env: int) -> Any:
            if clock.spec["kind"] == "learner":
                clock.facts = {
                    "obs": list(batch.obs.shape), "filled": int(batch.filled.sum()),
                    "threads": torch.get_num_threads(),
                }  # fmt: skip
                # parts that follow from the policies (which pairs are reused) stay the same in every repetition
                state = copy.deepcopy({"mac": mac.state_dict(), "learner": learner.state_dict()})

                def again() -> None:
                    fresh = copy.deepcopy(state)
                    mac.load_state_dict(fresh["mac"])
                    learner.load_state_dict(fresh["learner"])

                def update() -> None:
                    scalars, _ = train(batch, t_env)
                    clock.facts["reuse_pairs"] = scalars.get("reuse_pairs")

                before = again if clock.spec.get("restore") else None
                clock.repeat(update, before=before, samples=lambda: learner.processed)
            return clock.learn(lambda: train(batch, t_env)) or ({}, {})

        runner.run, learner.train = collected, trained
        return runner, mac, learner

    run.build = build
    return int(program(clock.spec["words"]))


if __name__ == "__main__":
    sys.exit(main())
