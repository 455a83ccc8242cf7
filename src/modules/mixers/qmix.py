"""QMIX: the team's value is a monotonic function of the agents', drawn by networks of the state (Rashid et al. 2018).

| symbol | shape | meaning |
|---|---|---|
| w_1(s), b_1(s) | [N, E], [E] | first layer of the mixing network |
| w_2(s), V(s) | [E, 1], [1] | second layer |
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import mixing


class QMixer(nn.Module):
    """Q_tot = |w_2(s)|^T ELU(|w_1(s)|^T Q + b_1(s)) + V(s) (section 4.1); dQ_tot/dQ_i >= 0 by the absolute values.

    Args:
        n_agents: N.
        state_size: S.
        config: with ``mixing_embed_dim`` (E), ``hypernet_layers`` (1 or 2, of the networks that draw w_1 and w_2) and
            ``hypernet_embed`` (width of their hidden layer) and ``state_scale`` (what states are divided by).
    """

    def __init__(self, n_agents: int, state_size: int, config: Any) -> None:
        super().__init__()
        self.n_agents, self.embed = n_agents, config.mixing_embed_dim
        layers, hidden = config.hypernet_layers, config.hypernet_embed
        self.state_scale = config.state_scale
        self.hyper = hidden if layers == 2 else None
        self.w1 = _network(state_size, n_agents * self.embed, layers, hidden)
        self.w2 = _network(state_size, self.embed, layers, hidden)
        self.b1 = nn.Linear(state_size, self.embed)
        self.value = _network(state_size, 1, 2, self.embed)

    def forward(self, qs: Tensor, state: Tensor) -> Tensor:
        """qs [..., N], state [..., S] -> [..., 1]."""
        lead = qs.shape[:-1]
        if self.state_scale != 1.0:
            state = state / self.state_scale
        if self.hyper is not None and mixing.available(state, self.embed, self.hyper):
            return self._compiled(qs.reshape(-1, self.n_agents), state.reshape(-1, state.shape[-1])).view(*lead, 1)
        w1 = self.w1(state).abs().view(*lead, self.n_agents, self.embed)
        w2 = self.w2(state).abs()
        hidden = F.elu((qs.unsqueeze(-1) * w1).sum(-2) + self.b1(state))
        total: Tensor = (hidden * w2).sum(-1, keepdim=True) + self.value(state)
        return total

    def _compiled(self, qs: Tensor, state: Tensor) -> Tensor:
        """The same of rows [R, N] and [R, S], in C: [R, 1]."""
        first: list[Any] = []
        second: list[Any] = []
        for net in (self.value, self.w1, self.w2):
            assert isinstance(net, nn.Sequential)
            first.append(net[0])
            second += [net[2].weight, net[2].bias]
        first.append(self.b1)
        joined = torch.cat([layer.weight for layer in first]), torch.cat([layer.bias for layer in first])
        return mixing.monotonic(qs, state, joined, *second)


def _network(inputs: int, outputs: int, layers: int, hidden: int) -> nn.Module:
    """Return a linear layer, or a network of one hidden layer."""
    if layers == 1:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
