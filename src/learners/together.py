"""Updates of several runs computed at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..components.batch import Batch
from .contract import Learner


def possible(learner: Learner) -> bool:
    """Whether updates of this learner can be computed together with those of other runs."""
    return False


def train(asked: Sequence[tuple[Learner, Batch, int]]) -> list[Any]:
    """Return what ``learner.train(batch, t_env)`` returns for each of ``asked``."""
    return [learner.train(batch, t_env) for learner, batch, t_env in asked]
