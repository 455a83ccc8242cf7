"""The networks of options by successor representations: features of observations, and what follows from each option."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Features(nn.Module):
    """Features of an observation, the observation that they stand for, and weights by which they give rewards.

    Args:
        obs_size: O.
        n_agents: N.
        size: D, the features; hidden layers have 2 D units.
    """

    def __init__(self, obs_size: int, n_agents: int, size: int) -> None:
        super().__init__()
        self.encode, self.code = nn.Linear(obs_size, 2 * size), nn.Linear(2 * size, size)
        self.decode, self.back = nn.Linear(size, 2 * size), nn.Linear(2 * size, obs_size)
        self.weights = nn.Parameter(torch.empty(n_agents, size).uniform_(-1.0, 1.0) / size**0.5)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """obs [..., O] -> phi [..., D], the reconstruction [..., O] and the agents' reward weights w [N, D]."""
        phi = self.code(F.relu(self.encode(obs)))
        return phi, self.back(F.relu(self.decode(phi))), self.weights


class Successors(nn.Module):
    """Each agent's successor features and terminations of all options, on two layers that agents share.

    Args:
        n_agents: N.
        n_options: K.
        size: D.
        hidden: width of the layers.
    """

    def __init__(self, n_agents: int, n_options: int, size: int, hidden: int) -> None:
        super().__init__()
        self.n_options, self.size = n_options, size
        self.first, self.second = nn.Linear(size, hidden), nn.Linear(hidden, hidden)
        outputs = n_options * (size + 1)
        self.heads = nn.Parameter(torch.empty(n_agents, hidden, outputs).uniform_(-1.0, 1.0) / hidden**0.5)
        self.biases = nn.Parameter(torch.zeros(n_agents, outputs))

    def forward(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """phi [..., N, D] of the agents' observations -> m [..., N, K, D] and terminations beta [..., N, K]."""
        x = F.relu(self.second(F.relu(self.first(phi))))
        out = torch.einsum("...nh,nhk->...nk", x, self.heads) + self.biases
        m, beta = out[..., : self.n_options * self.size], out[..., self.n_options * self.size :]
        return m.unflatten(-1, (self.n_options, self.size)), torch.sigmoid(beta)
