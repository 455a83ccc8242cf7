"""One training run: build the environment, the controller, the learner and the runner, then

while t_env < t_max:
    batch = runner.run()                  collect whole episodes with the acting policies
    learner.train(batch, t_env)           update
    test, log, save                       at their intervals
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import experiment
from .components import checkpoints
from .components.config import key
from .components.errors import UserError
from .components.generators import generator
from .components.logging import RunLog
from .envs.vec import make_info
from .runners.episode import Episodes
from .settings import Settings

#: Folder of permanent snapshots, inside a run's folder.
MODELS = "models"

#: Keys that a resumed run may change: they steer when to stop, look and write, not what is learned.
MAY_DIFFER = frozenset(
    {
        "t_max", "checkpoint_path", "init_from", "checkpoint_interval", "test_nepisode", "test_interval", "test_greedy",
        "log_interval", "save_model", "save_model_interval", "label", "local_results_path", "beat_interval", "backend",
        "workers",
    }
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """What the training loop reads."""

    seed: int = key("Seed of everything random in the run; null draws one.", low=0)
    t_max: int = key("Environment steps to train for.", low=1)
    common_reward: bool = key("All agents are rewarded for the team's reward; otherwise each for its own.")
    test_nepisode: int = key("Episodes of a test, exactly; 0 for no tests.", low=0)
    test_interval: int = key("Environment steps between tests.", low=1)
    test_greedy: bool = key("Tests take the most probable actions; otherwise they sample.")
    log_interval: int = key("Environment steps between logged points and tables.", low=1)
    save_model: bool = key("Keep permanent snapshots too, in the run's folder models/.")
    save_model_interval: int = key("Environment steps between snapshots.", low=1)
    checkpoint_interval: int = key("Environment steps between resume checkpoints (the newest two are kept).", low=1)
    checkpoint_path: str = key("Resume from this run's folder, folder of checkpoints, or checkpoint file.")
    init_from: str = key("Start from the weights (alone) of this run, folder or checkpoint file.")
    use_cuda: bool = key("Learn and act on the GPU, where there is one.")
    torch_threads: int = key("Threads of torch's operations on the CPU.", low=1)


def build(settings: Settings, device: torch.device) -> tuple[Any, Any, Any]:
    """Return runner, controller and learner of a run.

    Raises:
        UserError: the parts contradict one another or the environment.
    """
    values = settings.values
    info = make_info(values["env"], values["env_args"])
    settings.check(info)
    seed, net = values["seed"], settings.part(settings.agent.Config)
    mac = settings.mac(settings.part(settings.mac.Config), settings.agent, net, info, generator(seed, "init policies"))
    mac.to(device)
    learner = settings.learner(
        settings.part(settings.learner.Config), net, mac, info,
        common_reward=values["common_reward"], device=device, seed=seed,
    )  # fmt: skip
    runner = settings.runner(
        settings.part(settings.runner.Config), values["env"], values["env_args"], mac, device, seed
    )
    return runner, mac, learner


def run(settings: Settings) -> int:
    """Train as ``settings`` say, in one sacred run; returns the exit status.

    Raises:
        UserError: a mistake found before or while the run was going on.
    """
    config = settings.part(RunConfig)
    torch.set_num_threads(config.torch_threads)
    # acting and learning use different recurrent kernels: at reduced precision their ratios would not start at 1
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if config.use_cuda and torch.cuda.is_available() else "cpu")
    notices = list(settings.notices)
    if config.use_cuda and device.type == "cpu" and settings.source["use_cuda"] != "default.yaml":
        notices.append("use_cuda=True, but torch finds no GPU here: the run uses the CPU.")
    info: dict[str, Any] = {}
    saved: dict[str, Any] | None = None
    if config.checkpoint_path:
        path = checkpoints.find(config.checkpoint_path, notices.append)
        saved = checkpoints.load(path)
        if settings.source["seed"] == "worked out":
            settings.values["seed"] = saved["config"]["seed"]  # none was asked for: the run's own goes on
            config = settings.part(RunConfig)
        check_same(settings.values, saved["config"], path)
        if path.parent.name in (checkpoints.FOLDER, MODELS):
            saved["folder"] = str(path.parent.parent)  # where the run is now: it may have been moved
        info["resumed_from"] = str(path)
        notices.append(f"Resumed from {path}, step {saved['runner']['t_env']:,}.")
    weights = None
    if config.init_from and saved is None:
        weights = checkpoints.load(checkpoints.find(config.init_from, notices.append))
    runner, mac, learner = build(settings, device)
    try:
        if weights is not None:
            notices += load_weights(mac, learner, weights, config.init_from)
        loop = Training(config, settings.values, runner, mac, learner)
        result = experiment.execute(settings.values, notices, lambda log: loop.run(log, saved), info=info)
    finally:
        runner.close()
    return result.exit_code


def check_same(values: Mapping[str, Any], saved: Mapping[str, Any], path: Path) -> None:
    """Refuse to resume under another configuration.

    Raises:
        UserError: naming the keys that differ.
    """
    differ = sorted(k for k in {*values, *saved} - MAY_DIFFER if values.get(k) != saved.get(k))
    if differ:
        shown = ", ".join(f"{k}={values.get(k)!r} (was {saved.get(k)!r})" for k in differ[:4])
        more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
        raise UserError(
            f"Cannot resume from {path} under another configuration: {shown}{more}; init_from takes weights alone."
        )


def load_weights(mac: Any, learner: Any, saved: Mapping[str, Any], where: str) -> list[str]:
    """Take policies and critic from a checkpoint, nothing else; returns a notice where the critic does not fit.

    Raises:
        UserError: the policies' shapes are other ones.
    """
    if saved["mac"]["theta"].shape != mac.network.theta.shape:
        raise UserError(f"init_from={where} holds policies of another shape than this configuration's.")
    mac.load_state_dict(saved["mac"])
    if learner.value.load_weights(saved["learner"]["value"]):
        return []
    return [f"init_from={where}: the policies were taken; its critic does not fit and starts anew."]


def over_updates(name: str, values: list[float]) -> float:
    """What a point says of the updates since the last one: the extreme of ``*_min`` and ``*_max``, else the mean."""
    if name.endswith("_max"):
        return max(values)
    return min(values) if name.endswith("_min") else float(np.mean(values))


class Training:
    """The loop, with what it must remember between iterations."""

    def __init__(self, config: RunConfig, values: Mapping[str, Any], runner: Any, mac: Any, learner: Any) -> None:
        self.config, self.values = config, values
        self.runner, self.mac, self.learner = runner, mac, learner
        # what is due next, in environment steps; the first test comes before the first update
        self.next = {"test": 0, "log": config.log_interval, "checkpoint": config.checkpoint_interval,
                     "model": config.save_model_interval}  # fmt: skip
        self.seconds = {"environment": 0.0, "inference": 0.0, "learning": 0.0, "logging": 0.0, "testing": 0.0}
        self.elapsed = 0.0
        self.window = Episodes()
        self.sums: dict[str, list[float]] = {}
        self.latest_return = float("nan")

    def run(self, log: RunLog, saved: Mapping[str, Any] | None) -> dict[str, float]:
        """Train to t_max; returns the result that is stored with the run."""
        if saved is not None:
            self.load(saved, log)
        c, runner = self.config, self.runner
        began, start_t = time.perf_counter() - self.elapsed, runner.t_env
        recent = (time.perf_counter(), runner.t_env)
        while runner.t_env < c.t_max:
            self._due_test(log)
            t_begin = runner.t_env
            batch, played = runner.run()
            clock = time.perf_counter()
            # schedules go by the step at which the batch began: the first update has their first value
            scalars, arrays = self.learner.train(batch, t_begin)
            self.seconds["learning"] += time.perf_counter() - clock
            clock = time.perf_counter()
            self._remember(played, scalars)
            for name, values in arrays.items():
                log.arrays(name, runner.t_env, **values)
            self.elapsed = clock - began
            if self._is_due("log", c.log_interval):
                self._log(log)
            # speed over the last few seconds, so that it follows what the machine does now
            if clock - recent[0] > 5.0 or recent[1] == start_t:
                speed = (runner.t_env - recent[1]) / max(clock - recent[0], 1e-9)
                recent = (clock, runner.t_env)
            log.progress(runner.t_env, c.t_max, speed, self.latest_return)
            self._due_files(log)
            self.seconds["logging"] += time.perf_counter() - clock
        self.elapsed = time.perf_counter() - began
        # before the closing point and test, which a run resumed to a later t_max has not
        self.save(log, log.folder / checkpoints.FOLDER, keep=2)
        return self._finish(log)

    # -- logging ---------------------------------------------------------------------------------------------

    def _remember(self, played: Episodes, scalars: Mapping[str, float]) -> None:
        for name in ("returns", "lengths", "metrics"):
            getattr(self.window, name).extend(getattr(played, name))
        for name, value in scalars.items():
            self.sums.setdefault(name, []).append(value)
        self.latest_return = float(np.mean([self._team(r) for r in played.returns]))

    def _team(self, returns: np.ndarray) -> float:
        return float(returns[0] if self.config.common_reward else returns.sum())

    def _is_due(self, what: str, interval: int) -> bool:
        """Whether `what` is due at this step; its next time is then the next multiple of its interval."""
        t = self.runner.t_env
        if t < self.next[what]:
            return False
        self.next[what] = (t // interval + 1) * interval
        return True

    def _log(self, log: RunLog) -> None:
        """Store what happened since the last point: means over its episodes and updates, counters, the time split."""
        runner, t = self.runner, self.runner.t_env
        self.seconds["environment"], self.seconds["inference"] = runner.time_env, runner.time_act
        metrics = self.window.scalars(runner.info, self.config.common_reward)
        metrics |= {name: over_updates(name, values) for name, values in self.sums.items()}
        metrics |= {
            "episode": float(runner.episodes), "agent_steps": float(runner.agent_steps),
            "updates": float(self.learner.updates), "processed_samples": float(self.learner.processed),
            "wall_clock": self.elapsed,
        }  # fmt: skip
        metrics |= {f"time_{name}": seconds for name, seconds in self.seconds.items()}
        log.scalars(metrics, t)
        log.table(t)
        self.window, self.sums = Episodes(), {}

    def _due_test(self, log: RunLog) -> None:
        if self.config.test_nepisode and self._is_due("test", self.config.test_interval):
            self._test(log)

    def _test(self, log: RunLog) -> dict[str, float]:
        clock = time.perf_counter()
        played = self.runner.test(self.config.test_nepisode, self.config.test_greedy)
        metrics = played.scalars(self.runner.info, self.config.common_reward, "test_")
        log.scalars(metrics, self.runner.t_env)
        self.seconds["testing"] += time.perf_counter() - clock
        return metrics

    def _finish(self, log: RunLog) -> dict[str, float]:
        """The last point and the last test."""
        if self.sums:
            self._log(log)
        result = self._test(log) if self.config.test_nepisode else {}
        log.progress(
            self.runner.t_env, self.config.t_max, self.runner.t_env / max(self.elapsed, 1e-9), self.latest_return
        )
        return {"t_env": float(self.runner.t_env), "return_mean": self.latest_return, **result}

    # -- files -----------------------------------------------------------------------------------------------

    def _due_files(self, log: RunLog) -> None:
        if self._is_due("model", self.config.save_model_interval) and self.config.save_model:
            self.save(log, log.folder / MODELS, keep=None)
        # last: it must know that everything else was done
        if self._is_due("checkpoint", self.config.checkpoint_interval):
            self.save(log, log.folder / checkpoints.FOLDER, keep=2)

    def save(self, log: RunLog, folder: Path, keep: int | None) -> None:
        """Write everything that a resumed run needs to go on with the same numbers."""
        payload = {
            "config": dict(self.values),
            "folder": str(log.folder),
            "position": log.checkpoint_position(),
            "mac": self.mac.state_dict(),
            "learner": self.learner.state_dict(),
            "runner": self.runner.state_dict(),
            "loop": {
                "next": dict(self.next), "elapsed": self.elapsed, "seconds": dict(self.seconds), "sums": self.sums,
                "window": {
                    "returns": [r.tolist() for r in self.window.returns], "lengths": list(self.window.lengths),
                    "metrics": [m.tolist() for m in self.window.metrics],
                },
                "latest_return": self.latest_return,
                "time_runner": [self.runner.time_env, self.runner.time_act],
            },
        }  # fmt: skip
        checkpoints.save(folder, self.runner.t_env, payload, keep=keep)

    def load(self, saved: Mapping[str, Any], log: RunLog) -> None:
        """Go on from a checkpoint, its run's curve first."""
        log.carry_over(saved["folder"], saved["position"])
        self.mac.load_state_dict(saved["mac"])
        self.learner.load_state_dict(saved["learner"])
        self.runner.load_state_dict(saved["runner"])
        loop = saved["loop"]
        t = self.runner.t_env
        for what, interval in (
            ("test", self.config.test_interval), ("log", self.config.log_interval),
            ("checkpoint", self.config.checkpoint_interval), ("model", self.config.save_model_interval),
        ):  # fmt: skip
            # an interval may have changed: the stored time holds unless the new interval comes sooner
            self.next[what] = min(int(loop["next"][what]), (t // interval + 1) * interval)
        self.elapsed, self.seconds = loop["elapsed"], dict(loop["seconds"])
        self.sums = {k: list(v) for k, v in loop["sums"].items()}
        window = loop["window"]
        self.window = Episodes(
            [np.array(r) for r in window["returns"]], list(window["lengths"]), [np.array(m) for m in window["metrics"]]
        )
        self.latest_return = loop["latest_return"]
        self.runner.time_env, self.runner.time_act = loop["time_runner"]
