"""BenchMARL's own experiment, with a clock in it: ``python run_benchmarl.py SPEC.json``, in BenchMARL's venv.

``folder`` of the specification is where its files may go; ``suite`` and ``task`` say what is played.
"""

from __future__ import annotations

import sys
from typing import Any

import benchmarl.environments
import torch
from benchmarl.algorithms import MappoConfig
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models import MlpConfig
from clock import Clock, Measured

CLOCK = Clock.from_command_line()


class Ticks(Callback):
    """Tells the clock of each collected batch; pickled by the experiment, so it holds no clock."""

    frames = 0

    def on_batch_collected(self, batch: Any) -> None:
        self.frames += batch.numel()
        CLOCK.iteration(self.frames)


def main() -> None:
    """Train MAPPO as the specification says, until the clock ends it."""
    spec = CLOCK.spec
    torch.set_num_threads(spec["threads"])

    config = ExperimentConfig.get_from_yaml()
    for name, value in spec["experiment"].items():
        if not hasattr(config, name):
            raise AttributeError(f"BenchMARL's experiment has no setting '{name}'")
        setattr(config, name, value)
    config.save_folder = spec["folder"]
    algorithm = MappoConfig.get_from_yaml()
    for name, value in spec["algorithm"].items():
        if not hasattr(algorithm, name):
            raise AttributeError(f"BenchMARL's MAPPO has no setting '{name}'")
        setattr(algorithm, name, value)
    model = MlpConfig(
        num_cells=spec["cells"], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh, num_feature_dims=1
    )
    task = getattr(getattr(benchmarl.environments, spec["suite"]), spec["task"]).get_from_yaml()
    task.config.update(spec["task_config"])
    try:
        Experiment(
            task=task, algorithm_config=algorithm, model_config=model, critic_model_config=model, seed=1,
            config=config, callbacks=[Ticks()],
        ).run()  # fmt: skip
    except Measured:
        sys.exit(0)


if __name__ == "__main__":
    main()
