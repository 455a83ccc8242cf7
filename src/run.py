"""One run: build the environment, the controller, the learner and the runner, and train (:mod:`training`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from . import experiment
from .components import checkpoints
from .components.errors import UserError, first_line, lacks_memory
from .components.generators import generator
from .components.machine import keep_freed_memory
from .components.signals import Stop
from .components.trackers import TrackersConfig
from .envs.vec import make_info
from .modules import compiled
from .resume import LATEST, check_same, find_unfinished, load_weights, open_run, unfit
from .settings import Settings
from .training import RunConfig, Training


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


def set_up(config: RunConfig) -> torch.device:
    """Prepare torch for a run; returns the device of its networks."""
    torch.set_num_threads(config.torch_threads)
    keep_freed_memory()
    # acting and learning use different recurrent kernels: at reduced precision their ratios would not start at 1
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if config.use_cuda and torch.cuda.is_available() else "cpu")


def networks(settings: Settings, device: torch.device) -> str:
    """Return what first-order networks run in, for their numbers' last digits depend on it: ``C`` or ``torch``."""
    width = settings.part(settings.agent.Config).hidden_dim
    return "C" if compiled.available(torch.empty(0, device=device), width) else "torch"


def run(settings: Settings) -> int:
    """Train as ``settings`` say, in one sacred run; returns the exit status.

    Raises:
        UserError: a mistake found before or while the run was going on.
    """
    config = settings.part(RunConfig)
    stop = Stop(config.stop_seconds, config.max_seconds)
    device = set_up(config)
    notices = list(settings.notices)
    if config.use_cuda and device.type == "cpu" and settings.source["use_cuda"] != "default.yaml":
        notices.append("use_cuda=True, but torch finds no GPU here: the run uses the CPU.")
    path, saved = resumption(settings, config, notices)
    config = settings.part(RunConfig)  # a resumed run may have brought its seed
    weights = None
    if config.init_from and saved is None:
        weights = checkpoints.load_newest(config.init_from, notices.append, unfit)[1]
    try:
        runner, mac, learner = build(settings, device)
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise UserError(f"The configuration asks for more memory than there is: {first_line(error)}.") from None
    try:
        if weights is not None:
            notices += load_weights(mac, learner, weights, config.init_from)
        loop = Training(config, settings.values, runner, mac, learner, stop)
        loop.newest = path
        info: dict[str, Any] = {"networks": networks(settings, device)}
        if path is not None:
            info["resumed_from"] = str(path)
        result = experiment.execute(
            settings.values, notices, lambda log: loop.run(log, saved), info=info, stop=stop,
            trackers=settings.part(TrackersConfig),
        )  # fmt: skip
    finally:
        runner.close()
    return result.exit_code


def resumption(
    settings: Settings, config: RunConfig, notices: list[str]
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Return the checkpoint file to resume from and its payload, if the settings name one.

    A run that was started without a seed goes on with its own, which is set in ``settings``.

    Raises:
        UserError: there is none of use, or it is another configuration's.
    """
    asked, any_seed = config.checkpoint_path, settings.source["seed"] == "worked out"
    if asked == LATEST:
        found = find_unfinished(experiment.run_parent(settings.values), settings.values, any_seed, notices.append)
        if found is None:
            notices.append("checkpoint_path=latest: no run of this configuration is there to go on with; a new one.")
        asked = "" if found is None else str(found)
    if not asked:
        return None, None
    path, saved = open_run(asked, notices.append)
    if any_seed:
        settings.values["seed"] = saved["config"]["seed"]
    check_same(settings.values, saved["config"], path)
    notices.append(f"Resumed from {path}, step {saved['runner']['t_env']:,}.")
    return path, saved
