"""One run: build the environment, the controller, the learner and the runner, and train (:mod:`training`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .components.generators import generator
from .controllers.seps import SELECTIVE, AgentGroups, find, obvious, stored
from .envs.build import make_info
from .envs.build import notices as env_notices
from .modules.kernels import compiled
from .runners.random_play import random_play
from .settings import Settings
from .storage import checkpoints, sacred_run, snapshots
from .storage.log import RunLog
from .storage.tested_actions import MARK
from .storage.trackers import TrackersConfig
from .training.loop import Training
from .training.resume import LATEST, check_same, check_step, find_unfinished, load_weights, open_run, unfit
from .training.run_config import RunConfig
from .utils.errors import RunError, UserError, first_line, lacks_memory
from .utils.machine import keep_freed_memory
from .utils.signals import Stop, Terminated


def build(settings: Settings, device: torch.device, chosen: AgentGroups | None = None) -> tuple[Any, Any, Any]:
    """Return runner, controller and learner of a run.

    Args:
        settings: of the run.
        device: of the networks.
        chosen: with sharing=selective, the groups of agents that share a network; None: found now.

    Raises:
        UserError: the parts contradict one another or the environment.
    """
    values = settings.values
    info = make_info(values["env"], values["env_args"])
    settings.check(info)
    seed, net, sharing = values["seed"], settings.part(settings.agent.Config), settings.part(settings.mac.Config)
    if selective(settings):
        chosen = chosen or find(values, info, partial(random_play, values, info))
        sharing = replace(sharing, sharing=chosen.index)
    mac = settings.mac(sharing, settings.agent, net, info, generator(seed, "init policies"))
    mac.select_by(values)
    mac.to(device)
    learner = settings.learner(
        settings.part(settings.learner.Config), net, mac, info,
        common_reward=values["common_reward"], device=device, seed=seed,
    )  # fmt: skip
    runner = settings.runner(
        settings.part(settings.runner.Config), values["env"], values["env_args"], mac, device, seed
    )
    if chosen is not None:
        runner.t_env += chosen.t_env
        runner.agent_steps += chosen.agent_steps
        runner.time_env += chosen.environment
        runner.time_act += chosen.inference
    return runner, mac, learner


def selective(settings: Settings) -> bool:
    """Return whether the groups of agents that share a network are found before training."""
    return "selective" in settings.parts


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
        UserError: a mistake of the request, found before the run or in it.
    """
    config = settings.part(RunConfig)
    stop = Stop(config.stop_seconds, config.max_seconds)
    device = set_up(config)
    notices = list(settings.notices)
    if config.use_cuda and device.type == "cpu" and settings.source["use_cuda"] != "default.yaml":
        notices.append("use_cuda=True, but torch finds no GPU here: the run uses the CPU.")
    path, saved = resumption(settings, config, notices)
    config = settings.part(RunConfig)  # a resumed run may have brought its seed
    notices += env_notices(settings.values["env"], settings.values["env_args"])
    weights = None
    if config.init_from and saved is None:
        weights = checkpoints.load_newest(config.init_from, notices.append, unfit)[1]
    chosen = known_groups(settings, saved, weights, notices)
    trainings: list[Training] = []

    def begin(chosen: AgentGroups | None) -> list[str]:
        runner, mac, learner = _affordable(settings, device, chosen)
        trainings.append(Training(config, settings.values, runner, mac, learner, stop))
        trainings[0].files.newest = path
        return [] if weights is None else load_weights(mac, learner, weights, config.init_from)

    def body(log: RunLog) -> dict[str, float]:
        if not trainings:
            found = _find(settings, stop, log)
            for notice in begin(found):
                log.info(notice)
            trainings[0].curve.before(found.seconds, found.learning, found.scalars(), found.arrays())
        return trainings[0].run(log, saved)

    def close() -> None:
        while trainings:
            trainings.pop().runner.close()

    try:
        # what has to be played to know the networks is played in the run: it has its log, its time and its end
        if chosen is not None or not selective(settings):
            notices += begin(chosen)
        info: dict[str, Any] = {"networks": networks(settings, device), **MARK}
        if path is not None:
            info["resumed_from"] = str(path)
        result = sacred_run.execute(
            settings.values, notices, body, info=info, stop=stop, trackers=settings.part(TrackersConfig), close=close
        )
    finally:
        close()
    return result.exit_code


def _affordable(settings: Settings, device: torch.device, chosen: AgentGroups | None) -> tuple[Any, Any, Any]:
    """Build the parts; refuse a configuration that needs more memory than there is."""
    try:
        return build(settings, device, chosen)
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise UserError(f"The configuration asks for more memory than there is: {first_line(error)}.") from None


def known_groups(
    settings: Settings, saved: Mapping[str, Any] | None, weights: Mapping[str, Any] | None, notices: list[str]
) -> AgentGroups | None:
    """Return the groups of agents that share a network under sharing=selective, if known without random play.

    A resumed run has the groups that it had; one that starts from the weights of another such run (``init_from``)
    takes its groups too, for the networks are theirs.

    Raises:
        UserError: the groups do not fit the configuration.
    """
    if not selective(settings):
        return None
    values = settings.values
    info = make_info(values["env"], values["env_args"])
    settings.check(info)
    if saved is not None:
        return stored(saved, info, f"The checkpoint of {saved['folder']}")
    if weights is not None and weights["config"].get("sharing") == SELECTIVE:
        found, k = stored(weights, info, f"init_from={values['init_from']}"), values["seps_clusters"]
        if k not in (None, found.n_networks):
            raise UserError(f"init_from={values['init_from']} has {found.n_networks} groups of agents, not {k}.")
        notices.append(f"init_from={values['init_from']}: its groups of agents were taken, {found.groups()}.")
        return found
    known = obvious(values, info)
    if known is None:
        return None
    notices.append(str(AgentGroups(known)))
    return AgentGroups(known)


def _find(settings: Settings, stop: Stop, log: RunLog) -> AgentGroups:
    """Find the groups of agents that share a network by random play, and log them."""
    values = settings.values
    log.info(f"Selective sharing: {values['seps_steps']:,} steps of random play, to find out which agents are alike.")

    def check_stop() -> None:
        why = stop.why()
        if why:
            stop.settle()
            raise Terminated(f"Ended by {why} before training began: there is nothing to go on from.", stop.exit_code)

    info = make_info(values["env"], values["env_args"])
    try:
        chosen = find(values, info, partial(random_play, values, info), check_stop)
    except Exception as error:
        check_stop()  # a batch system signals all processes of a job: workers may be gone first
        if lacks_memory(error):
            raise RunError(f"There is not enough memory ({first_line(error)}).") from error
        raise
    log.info(str(chosen))
    return chosen


def resumption(
    settings: Settings, config: RunConfig, notices: list[str]
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Return the checkpoint file to resume from and its payload, if the settings name one.

    A run that was started without a seed continues with its own, which is set in ``settings``.

    Raises:
        UserError: there is none of use, or it is another configuration's.
    """
    check_step(config.load_step, config.checkpoint_path, config.init_from)
    asked, any_seed = config.checkpoint_path, settings.source["seed"] == "worked out"
    if asked == LATEST:
        found = find_unfinished(sacred_run.run_parent(settings.values), settings.values, any_seed, notices.append)
        if found is None:
            notices.append("checkpoint_path=latest: no run of this configuration is there to go on with; a new one.")
        asked = "" if found is None else str(found)
    if not asked:
        return None, None
    path, saved = open_run(snapshots.at_step(asked, config.load_step, notices.append), notices.append)
    if any_seed:
        settings.values["seed"] = saved["config"]["seed"]
    check_same(settings.values, saved["config"], path)
    notices.append(f"Resumed from {path}, step {saved['runner']['t_env']:,}.")
    return path, saved
