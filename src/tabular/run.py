"""One run with tables: build, resume where asked for, train; in the loop, the folders and with the files of every run.

for each episode:
    play it, and update the tables at each step         (:mod:`oamarl.tabular.player`, :mod:`oamarl.tabular.tables`)
    test, log, save at their intervals                  (:mod:`oamarl.training.loop`)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..envs.build import constructor_args, factory, make_info
from ..settings import Settings
from ..storage import checkpoints, sacred_run
from ..storage.log import RunLog
from ..storage.tested_actions import MARK
from ..storage.trackers import TrackersConfig
from ..training.loop import Training
from ..training.payload_check import unfit
from ..training.resume import load_weights, resumption
from ..training.run_config import RunConfig
from ..training.seeds import refuse
from ..utils.errors import RunError
from ..utils.signals import Stop
from .config import TabularConfig, check_finite
from .measures import Measures
from .player import Learner, Player, learned_from
from .tables import Tables


class TabularTraining(Training):
    """The training loop, where an update has been made while the episode was played."""

    def _update(self, batch: Any, t_begin: int, log: RunLog) -> tuple[dict[str, float], dict[str, Any]]:
        scalars, arrays = self.learner.train(batch, t_begin)
        if not np.isfinite(list(scalars.values())).all():  # td_error at once, the tables when they are measured
            raise RunError(f"Stopped at step {self.runner.t_env:,}: the tables hold numbers that are not finite.")
        return scalars, arrays

    def _hint(self, log: RunLog, split: Mapping[str, float]) -> None:
        """There are no workers and no networks that a hint could be about."""


def build(settings: Settings) -> tuple[Player, Tables, Learner]:
    """Return what plays, the tables, and what stands for a learner.

    Raises:
        UserError: the environment cannot be used, or contradicts the keys.
    """
    values = settings.values
    check_finite(values)
    settings.check(make_info(values["env"], values["env_args"]))
    config = settings.part(TabularConfig)
    make = partial(factory(values["env"]), **constructor_args(values["env"], values["env_args"]))
    env = make(1)
    tables = Tables(config, env.views, env.info.n_actions, teams=1)
    model = env.model() if hasattr(env, "model") else None
    if model is not None:
        transitions, reward = model
        model = transitions, np.moveaxis(learned_from(np.moveaxis(reward, 0, -1), config, env.info), -1, 0)
    learner = Learner(tables, Measures(env.views, config.temperature, model, config.gamma))
    return Player(config, make, tables, learner), tables, learner


def run(settings: Settings) -> int:
    """Train as ``settings`` say, in one sacred run; returns the exit status.

    Raises:
        UserError: a mistake of the request.
    """
    refuse(settings, "tables are trained one seed a process")
    notices, config = list(settings.notices), settings.part(RunConfig)
    stop = Stop(config.stop_seconds, config.max_seconds)
    path, saved = resumption(settings, config, notices)
    config = settings.part(RunConfig)  # a resumed run may have brought its seed
    player, tables, learner = build(settings)
    if config.init_from and saved is None:
        weights = checkpoints.load_newest(config.init_from, notices.append, unfit)[1]
        notices += load_weights(tables, learner, weights, config.init_from, player.info)  # type: ignore[arg-type]
    training = TabularTraining(config, settings.values, player, tables, learner, stop)  # type: ignore[arg-type]
    training.files.newest = path
    return sacred_run.execute(
        settings.values, notices, lambda log: training.run(log, saved),
        info={"networks": "none", **MARK} | ({} if path is None else {"resumed_from": str(path)}), stop=stop,
        trackers=settings.part(TrackersConfig),
    ).exit_code  # fmt: skip
