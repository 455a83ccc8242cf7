"""The measurement behind ``oamarl bench``: one training run, interrupted by the other measures.

A round is some seconds of the training loop, of collection without learning, and of random stepping (in this process,
and with the configured workers). Measures are interleaved, so that other load on the machine affects all of them alike.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ...envs.vector.base import VecEnv
from ...envs.vector.make import make_vec
from ...run import build, set_up
from ...settings import Settings
from ...storage.log import RunLog
from ...training.loop import Training
from ...training.run_config import RunConfig
from ...utils import machine
from ...utils.console import Screen
from ...utils.hints import hints
from ...utils.signals import Stop, Terminated

#: Measures, in the order of a round, with their share of the time of the first one.
MEASURES = {"training": 1.0, "collection": 0.25, "random_one_core": 0.25, "random_all": 0.25}
#: Phases of training whose time is measured.
PARTS = ("environment", "inference", "learning", "logging", "other")


class Slice(Stop):
    """Ends the training loop after ``seconds``, between two iterations, and not before ``runner`` has made a step."""

    def __init__(self, seconds: float, runner: Any) -> None:
        super().__init__(max_seconds=seconds)
        self.runner, self.first = runner, runner.t_env
        self.ended = 0.0  # time.perf_counter() at that moment

    def why(self) -> str:
        """Return the reason to end now, or nothing."""
        why = super().why() if self.runner.t_env > self.first else ""
        if why and not self.ended:
            self.ended = time.perf_counter()
        return why


class Bench:
    """The parts of one run, with timers around them.

    Args:
        settings: the run. Tests are off, and it never reaches t_max.
        folder: where the run's records and checkpoints go.
        stack: closes environments and files.
    """

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        settings.values.update(test_nepisode=0, t_max=max(settings.values["t_max"], 10**12))
        self.settings, self.stack, config = settings, stack, settings.part(RunConfig)
        runner, mac, self.learner = build(settings, set_up(config))
        self.runner: Any = runner  # a shipped one, whose environments are looked at
        stack.callback(self.runner.close)
        # as a run writes them, without output on the terminal
        self.log = RunLog(folder, screen=Screen(io.StringIO(), io.StringIO(), live=False))
        stack.callback(self.log.close)
        self.loop = Training(config, settings.values, self.runner, mac, self.learner)
        self.limits: dict[str, VecEnv] = {}

    def build_limits(self) -> None:
        """Build the environments of random stepping; one set where the main process steps them anyway."""
        values, vec = self.settings.values, self.runner.vec

        def random_steps(backend: str) -> VecEnv:
            made = make_vec(
                values["env"], values["env_args"], vec.n_slots, backend=backend, workers=vec.workers or None
            )
            self.stack.callback(made.close)
            return made

        one = random_steps("native" if vec.native else "serial")
        self.limits = {"random_one_core": one, "random_all": random_steps("process") if vec.workers else one}

    def train(self, seconds: float) -> dict[str, float]:
        """Continue the training loop; returns its steps, samples, seconds, and the seconds of :data:`PARTS`."""
        loop, runner = self.loop, self.runner

        def counters() -> dict[str, float]:
            split = loop.curve.split()
            return {"steps": runner.t_env, "samples": self.learner.processed, **{p: split[p] for p in PARTS[:-1]}}

        before = counters()
        loop.stop = stop = Slice(seconds, runner)
        began = time.perf_counter()
        try:
            loop.run(self.log, None)
        except Terminated:
            if not stop.ended:
                raise
        took = stop.ended - began
        found = {name: value - before[name] for name, value in counters().items()}
        return {**found, "seconds": took, "other": max(0.0, took - sum(found[p] for p in PARTS[:-1]))}

    def collect(self, seconds: float) -> tuple[int, float]:
        """Return the steps of whole batches, collected and discarded, and the seconds they took."""
        runner, first = self.runner, self.runner.t_env
        # what is due in training, and its time split, go by these: they are set back
        counters = {
            name: getattr(runner, name) for name in ("t_env", "episodes", "agent_steps", "time_env", "time_act")
        }
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < seconds or runner.t_env == first:
            runner.run()
        steps = runner.t_env - first
        vars(runner).update(counters)
        return steps, now - began

    def speed(self, measure: str, seconds: float) -> tuple[int, float]:
        """Return steps and seconds of a measure other than training."""
        if measure == "collection":
            return self.collect(seconds)
        return self.limits[measure].random_throughput(seconds, self.settings.values["seed"])


def measure(
    settings: Settings, folder: Path, seconds: float, rounds: int, progress: Callable[[float], Any] = lambda share: None
) -> dict[str, Any]:
    """Measure one configuration.

    Args:
        settings: what to measure.
        folder: an empty folder that the caller removes.
        seconds: of training, in all rounds together, after the warm-up; the other measures get as much time again, all
            together, or a little less.
        progress: called with the share that is done.

    Returns:
        ``speed`` (steps a second of each of :data:`MEASURES`: median, low, high, and each round's), ``split`` (shares
        of :data:`PARTS`), ``microseconds`` (of each part for an environment step, and of learning for a processed
        sample), ``memory_mb``, the slots and workers, ``hints`` and the whole ``config``.

    Raises:
        UserError: the parts contradict one another or the environment.
    """
    asked = dict(settings.values)
    with ExitStack() as stack:
        bench = Bench(settings, folder, stack)
        bench.train(seconds / rounds / 4)  # warm-up: what is built and compiled when first needed
        speeds: dict[str, list[float]] = {name: [] for name in MEASURES}
        trained: list[dict[str, float]] = []
        memory: dict[str, Any] = {}
        for number in range(rounds):
            trained.append(bench.train(seconds / rounds))
            speeds["training"].append(trained[-1]["steps"] / trained[-1]["seconds"])
            if not bench.limits:
                memory = _memory(bench.runner.vec.workers)  # before there are environments that no run would have
                bench.build_limits()
                for name in ("random_one_core", "random_all"):
                    bench.limits[name].random_throughput(0.1, 0)
            for name, share in list(MEASURES.items())[1:]:
                if name == "random_all" and not bench.runner.vec.workers:  # the same measure
                    speeds[name].append(speeds["random_one_core"][-1])
                else:
                    steps, took = bench.speed(name, share * seconds / rounds)
                    speeds[name].append(steps / took)
            progress((number + 1) / rounds)
        total = {name: sum(x[name] for x in trained) for name in trained[0]}
        use = bench.runner.use()
    return {
        "speed": {name: spread(found) for name, found in speeds.items()},
        **_costs(total),
        "memory_mb": memory,
        "slots": asked["batch_size_run"], "workers": use.workers, "native": use.native, "device": use.device,
        "gpu": torch.cuda.get_device_name() if use.device == "cuda" else None,
        "seconds": total["seconds"], "steps": int(total["steps"]), "samples": int(total["samples"]),
        "hints": hints({part: total[part] for part in PARTS}, asked, use),
        "config": asked,
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, Any]:
    """Return median, lowest and highest of some rounds' values, and the values."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": values}


def _costs(total: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the shares of all time, and microseconds for a step and a processed sample."""
    each = {part: 1e6 * total[part] / total["steps"] for part in PARTS}
    each["step"] = 1e6 * total["seconds"] / total["steps"]
    each["learning_per_sample"] = 1e6 * total["learning"] / max(total["samples"], 1)
    return {"split": {part: total[part] / total["seconds"] for part in PARTS}, "microseconds": each}


def _memory(workers: int) -> dict[str, Any]:
    """Return the most memory that this process and its environment workers (with their children) have had, in 10^6
    bytes; None where the system does not tell."""
    # the workers' guard is a child too, and the smallest
    below = machine.peak_memory_below(os.getpid())[:workers]
    own = machine.peak_memory(os.getpid())
    told = len(below) == workers
    return {"main": own / 1e6 if own else None, "workers": [x / 1e6 for x in below] if told else None}
