"""One run: build the environment, the controller, the learner and the runner, and train (:mod:`training`).

settings -> parts                    resumed, or started from weights, where asked for
prepare                              what has to be found out before the networks are built
build runner, controller, learner
train
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .controllers.contract import Preparation, Prepared, preparation_of
from .envs.base import EnvInfo
from .envs.build import notices as env_notices
from .runners.random_play import random_play
from .settings import Settings
from .storage import checkpoints, sacred_run, snapshots
from .storage.log import RunLog
from .storage.tested_actions import MARK
from .storage.trackers import TrackersConfig
from .training.building import PartError, affordable, build, sizes
from .training.loop import Training
from .training.resume import LATEST, check_same, check_step, find_unfinished, load_weights, open_run, unfit
from .training.run_config import RunConfig
from .utils.errors import RunError, first_line, lacks_memory
from .utils.machine import keep_freed_memory
from .utils.signals import Stop, Terminated


def set_up(config: RunConfig) -> torch.device:
    """Prepare torch for a run; returns the device of its networks."""
    torch.set_num_threads(config.torch_threads)
    keep_freed_memory()
    # acting and learning use different recurrent kernels: at reduced precision their ratios would not start at 1
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if config.use_cuda and torch.cuda.is_available() else "cpu")


def kernel(settings: Settings, device: torch.device) -> str:
    """Return what networks are evaluated by, for their numbers' last digits depend on it: ``C`` or ``torch``."""
    mac, agent = settings.mac, settings.agent
    return str(mac.kernel(agent, settings.part(agent.Config), device)) if hasattr(mac, "kernel") else "torch"


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
    with affordable():
        info = sizes(settings)
    preparation = preparation_of(settings.mac, settings.values, info)
    prepared = None if preparation is None else preparation.known(saved, weights, notices.append)
    trainings: list[Training] = []

    def begin(prepared: Prepared | None) -> list[str]:
        with affordable():
            runner, mac, learner = build(settings, device, prepared, info)
        trainings.append(Training(config, settings.values, runner, mac, learner, stop))
        trainings[0].files.newest = path
        said = list(learner.notices()) if hasattr(learner, "notices") else []
        return said if weights is None else said + load_weights(mac, learner, weights, config.init_from)

    def body(log: RunLog) -> dict[str, float]:
        try:
            if failed:
                raise failed[0]
            if preparation is not None and not trainings:
                found = _find(preparation, settings, info, stop, log)
                for notice in begin(found):
                    log.info(notice)
                trainings[0].curve.before(found)
        except PartError as error:
            log.note(error.trace)
            raise
        return trainings[0].run(log, saved)

    def close() -> None:
        while trainings:
            trainings.pop().runner.close()

    failed: list[PartError] = []
    try:
        # what has to be played to know the networks is played in the run: it has its log, its time and its end
        if preparation is None or prepared is not None:
            try:
                notices += begin(prepared)
            except PartError as error:  # raised again in the run, whose log has the traceback
                failed.append(error)
        facts: dict[str, Any] = {"networks": kernel(settings, device), **MARK}
        if path is not None:
            facts["resumed_from"] = str(path)
        result = sacred_run.execute(
            settings.values, notices, body, info=facts, stop=stop, trackers=settings.part(TrackersConfig), close=close
        )
    finally:
        close()
    return result.exit_code


def _find(preparation: Preparation, settings: Settings, info: EnvInfo, stop: Stop, log: RunLog) -> Prepared:
    """Find out by random play what has to be known before the networks are built, and log it."""
    log.info(preparation.announcement)

    def check_stop() -> None:
        why = stop.why()
        if why:
            stop.settle()
            raise Terminated(f"Ended by {why} before training began: there is nothing to go on from.", stop.exit_code)

    try:
        found = preparation.find(lambda: random_play(settings.values, info), check_stop)
    except Exception as error:
        check_stop()  # a batch system signals all processes of a job: workers may be gone first
        if lacks_memory(error):
            raise RunError(f"There is not enough memory ({first_line(error)}).") from error
        raise
    log.info(str(found))
    return found


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
