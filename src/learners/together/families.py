"""The learners whose updates several runs can compute at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...controllers.basic_mac import BasicMAC
from ...controllers.reuse_mac import ReuseMAC
from ..contract import Learner
from ..happo import HAPPOLearner
from ..oappo import OAPPOLearner
from ..ppo import PPOLearner
from ..value.state_values import ValueLearner
from .common import Asked
from .ppo import train_ppo
from .sequential import train_happo, train_oappo

_FAMILIES: dict[type, tuple[type, Callable[[Asked], list[Any]]]] = {
    PPOLearner: (BasicMAC, train_ppo),
    HAPPOLearner: (BasicMAC, train_happo),
    OAPPOLearner: (ReuseMAC, train_oappo),
}


def possible(learner: Learner) -> bool:
    """Whether updates of this learner can be computed together with those of other runs."""
    mac, _ = _FAMILIES.get(type(learner), (None, None))
    if mac is None or type(learner.mac) is not mac or not _plain(learner.value):  # type: ignore[attr-defined]
        return False
    return not isinstance(learner, OAPPOLearner) or learner.config.as_eq_8()


def _plain(value: ValueLearner) -> bool:
    return type(value) is ValueLearner and not value.across


def train(asked: Asked) -> list[Any]:
    """Return what ``learner.train(batch, t_env)`` returns for each of ``asked``, whose learners are alike."""
    return _FAMILIES[type(asked[0][0])][1](asked)
