"""QTRAN's joint networks: a value of all agents' actions, and a value of the state (Son et al. 2019, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class JointValues(nn.Module):
    """Q_jt(s, u) and V_jt(s).

    ``qtran_arch: qtran_paper`` reads what the heads of the agents' networks read, h_i, with their actions, encoded and
    added up: e = sum_i enc(h_i, u_i), Q_jt(s, e). ``coma_critic`` reads the state and all actions, as a COMA critic.
    ``network_size``: small has two hidden layers of E numbers, big three.

    Args:
        n_agents: N.
        state_size: S.
        config: with ``mixing_embed_dim`` (E), ``qtran_arch`` and ``network_size``.
        n_actions: A.
        n_features: F, the width of h_i.
    """

    #: it reads actions and features, not action values
    joint = True

    def __init__(self, n_agents: int, state_size: int, config: Any, n_actions: int, n_features: int) -> None:
        super().__init__()
        self.encoded, self.n_actions = config.qtran_arch == "qtran_paper", n_actions
        width, hidden = config.mixing_embed_dim, {"small": 2, "big": 3}[config.network_size]
        each = n_features + n_actions
        if self.encoded:
            self.encoding = nn.Sequential(nn.Linear(each, each), nn.ReLU(), nn.Linear(each, each))
        self.q = _network(state_size + (each if self.encoded else n_agents * n_actions), width, hidden)
        self.v = _network(state_size, width, hidden)

    def forward(self, features: Tensor, actions: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """features [..., N, F], actions [..., N] int64, state [..., S] -> Q_jt [..., 1], V_jt [..., 1]."""
        one_hot = nn.functional.one_hot(actions, self.n_actions).to(state.dtype)
        if self.encoded:
            joint = self.encoding(torch.cat([features, one_hot], dim=-1)).sum(-2)
        else:
            joint = one_hot.flatten(-2)
        return self.q(torch.cat([state, joint], dim=-1)), self.v(state)


def _network(inputs: int, width: int, hidden: int) -> nn.Module:
    """Return a network of ``hidden`` hidden layers and one output."""
    layers: list[nn.Module] = []
    for n in (inputs, *[width] * (hidden - 1)):
        layers += [nn.Linear(n, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))
