"""One run:

resume from a checkpoint, or take weights                    where asked for
prepare                                                      what has to be found out before there can be networks
build the controller, the learner and the runner
train                                                        (:mod:`training.loop`)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from .controllers.contract import preparation_of
from .envs.build import notices as env_notices
from .learners.value.reciprocity import without_partners
from .runners.random_play import random_play
from .settings import Settings
from .storage import checkpoints, sacred_run
from .storage.log import RunLog
from .storage.tested_actions import MARK
from .storage.trackers import TrackersConfig
from .training import at_once
from .training.building import PartError, affordable, build, kernel, sizes
from .training.faults import in_one_sentence
from .training.loop import Training
from .training.payload_check import unfit
from .training.preparing import prepare
from .training.resume import load_weights, resumption
from .training.run_config import RunConfig
from .training.seeds import seeds_of
from .utils.errors import UserError
from .utils.machine import keep_freed_memory
from .utils.signals import Stop


def run(settings: Settings) -> int:
    """Train as ``settings`` say, in one sacred run; returns the exit status.

    Raises:
        UserError: a mistake of the request, found before the run or in it.
    """
    if seeds_of(settings):
        return at_once.run(settings, Run)
    with in_one_sentence(settings.values):
        one = Run(settings)
    try:
        # a preparation that has to play is made in the run: it has its log, its time and its end
        if not one.has_to_play:
            with in_one_sentence(settings.values):
                one.build()
        return sacred_run.execute(
            settings.values, one.notices, one.train, info=one.facts(), stop=one.stop,
            trackers=settings.part(TrackersConfig), close=one.close,
        ).exit_code  # fmt: skip
    finally:
        one.close()


class Run:
    """A run from its settings to its end.

    Args:
        settings: of the run.
        seat: its place among several runs that train together; None: it trains alone.

    Attributes:
        notices: sentences to show when it begins.
        stop: asks it to end early.

    Raises:
        UserError: a mistake of the request.
    """

    def __init__(self, settings: Settings, seat: at_once.Seat | None = None) -> None:
        self.settings, self.notices, self.seat = settings, list(settings.notices), seat
        self.training: Training | None = None
        self._failure: PartError | None = None
        config = settings.part(RunConfig)
        self.stop = Stop(config.stop_seconds, config.max_seconds) if seat is None else seat.stop
        self.device = set_up(config)
        if config.use_cuda and self.device.type == "cpu" and settings.source["use_cuda"] != "default.yaml":
            self.notices.append("use_cuda=True, but torch finds no GPU here: the run uses the CPU.")
        self.path: Path | None
        self.saved: dict[str, Any] | None
        self.path, self.saved = resumption(settings, config, self.notices)
        self.config = settings.part(RunConfig)  # a resumed run may have brought its seed
        self.notices += env_notices(settings.values["env"], settings.values["env_args"])
        self.weights: dict[str, Any] | None = None
        if config.init_from and self.saved is None:
            self.weights = checkpoints.load_newest(config.init_from, self.notices.append, unfit)[1]
        with affordable():
            self.info = sizes(settings)
        self.preparation = preparation_of(settings.mac, settings.values, self.info)
        self.prepared = None
        if self.preparation is not None:
            self.prepared = self.preparation.known(self.saved, self.weights, self.notices.append)

    @property
    def has_to_play(self) -> bool:
        """Whether something has to be played before the networks can be built."""
        return self.preparation is not None and self.prepared is None

    def build(self) -> None:
        """Build the parts. What fails in a user-supplied part is kept for :meth:`train`, where there is a log."""
        try:
            with affordable():
                make = None if self.seat is None else self.seat.make_vec
                runner, mac, learner = build(self.settings, self.device, self.prepared, self.info, make)
        except PartError as failure:
            self._failure = failure
            return
        self.training = Training(self.config, self.settings.values, runner, mac, learner, self.stop, self.seat)
        self.training.files.newest = self.path
        said = learner.notices() if hasattr(learner, "notices") else []
        if not isinstance(said, list) or not all(isinstance(x, str) for x in said):
            raise UserError(f"{type(learner).__name__}.notices must return a list of sentences, not {said!r}.")
        self.notices += [*said, *without_partners(self.settings.values, self.info)]
        self.notices += self.settings.of_other_actions(self.info)
        if self.weights is not None:
            self.notices += load_weights(mac, learner, self.weights, self.config.init_from, runner.info)

    def train(self, log: RunLog) -> dict[str, float]:
        """Prepare and build where that is still to be done, and train; returns the result."""
        if self.preparation is not None and self.has_to_play:
            said = len(self.notices)
            play = partial(random_play, self.settings.values, self.info)
            with in_one_sentence(self.settings.values):
                self.prepared = prepare(self.preparation, play, self.stop, log)
                self.build()
            for notice in self.notices[said:]:
                log.info(notice)
            if self.training is not None:
                self.training.curve.before(self.prepared)
        if self._failure is not None:
            log.note(self._failure.trace)
            raise self._failure
        assert self.training is not None
        return self.training.run(log, self.saved)

    def facts(self) -> dict[str, Any]:
        """Return what is stored with the run, beside its configuration."""
        found: dict[str, Any] = {"networks": kernel(self.settings, self.device), **MARK}
        if self.info.agent_types:
            found["agent_types"] = list(self.info.agent_types)
        return found if self.path is None else found | {"resumed_from": str(self.path)}

    def close(self) -> None:
        """Release the environments."""
        training, self.training = self.training, None
        if training is not None:
            training.runner.close()


def set_up(config: RunConfig) -> torch.device:
    """Prepare torch for a run; returns the device of its networks."""
    torch.set_num_threads(config.torch_threads)
    keep_freed_memory()
    # acting and learning use different recurrent kernels: at reduced precision their ratios would not start at 1
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if config.use_cuda and torch.cuda.is_available() else "cpu")
