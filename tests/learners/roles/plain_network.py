"""The network that a network of roles is where its role is constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oamarl.utils.schema.keys import key


@dataclass(frozen=True)
class Config:
    """What :class:`Plain` reads."""

    hidden_dim: int = key("Width.", low=1)


class Plain(nn.Module):
    """A GRU with a last layer of its own."""

    Config = Config
    sequences = True

    def __init__(self, inputs: int, outputs: int, config: Any) -> None:
        super().__init__()
        h = config.hidden_dim
        self.fc1, self.rnn, self.head = nn.Linear(int(inputs), h), nn.GRU(h, h), nn.Linear(h, outputs)

    def initial_hidden(self, rows: int) -> Tensor:
        """Zeros [rows, H]."""
        return self.fc1.weight.new_zeros(rows, self.rnn.hidden_size)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, R, I] -> [T, R, A]."""
        states, _ = self.rnn(torch.relu(self.fc1(x)), hidden.unsqueeze(0))
        return self.head(states), states[-1]
