"""Faulty user-supplied parts: networks, learners and action selectors that fail in the middle of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oamarl.components.experience import Field
from oamarl.learners.ppo import PPOLearner
from oamarl.modules.action_selectors import Multinomial
from oamarl.modules.selector_contract import SelectorBase


class FailsInLearning(nn.Module):
    """Raises on more rows than it is tried with."""

    def __init__(self, inputs: int, outputs: int, config: Any) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() and len(x) > 3:
            raise RuntimeError("of the network\nand more")
        return self.head(x), hidden


class Notices(PPOLearner):
    """Its notices are no list."""

    def notices(self) -> Any:
        return "one sentence"


class OutOfRange(SelectorBase):
    """Chooses an action that there is not."""

    def select(self, outputs: np.ndarray, avail: np.ndarray, noise: Any, context: Any) -> tuple[np.ndarray, np.ndarray]:
        shape = outputs.shape[:2]
        return np.full(shape, 99), np.zeros(shape, np.float32)


class OtherShape(SelectorBase):
    """Chooses one action for all agents, which numpy would broadcast."""

    def select(self, outputs: np.ndarray, avail: np.ndarray, noise: Any, context: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(outputs), 1), np.int64), np.zeros((len(outputs), 1), np.float32)


class Raises(SelectorBase):
    """Raises."""

    def select(self, outputs: np.ndarray, avail: np.ndarray, noise: Any, context: Any) -> Any:
        raise RuntimeError("of the selector\nand more")


class RecordsNothing(Multinomial):
    """Declares a field and records none."""

    fields = (Field("message", ("N", 2), "float32", "actor"),)


class OtherConstructor(Multinomial):
    """Takes an argument that it is not given."""

    def __init__(self, config: Any) -> None:
        self.config = config
