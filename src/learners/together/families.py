"""The learners whose updates several runs can compute at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...controllers.basic_mac import BasicMAC
from ..contract import Learner
from ..happo import HAPPOLearner
from ..ppo import PPOLearner
from ..value.state_values import ValueLearner
from .common import Asked
from .happo import train_happo
from .ppo import train_ppo

_FAMILIES: dict[type, Callable[[Asked], list[Any]]] = {PPOLearner: train_ppo, HAPPOLearner: train_happo}


def possible(learner: Learner) -> bool:
    """Whether updates of this learner can be computed together with those of other runs."""
    kind = _FAMILIES.get(type(learner))
    return kind is not None and type(learner.mac) is BasicMAC and _plain(learner.value)  # type: ignore[attr-defined]


def _plain(value: ValueLearner) -> bool:
    return type(value) is ValueLearner and not value.across


def train(asked: Asked) -> list[Any]:
    """Return what ``learner.train(batch, t_env)`` returns for each of ``asked``, whose learners are alike."""
    return _FAMILIES[type(asked[0][0])](asked)
