"""VDN: the team's value is the sum of the agents' (Sunehag et al. 2018, eq. 1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class VDNMixer(nn.Module):
    """Q_tot = sum_i Q_i; no parameters.

    Args:
        n_agents: N.
        state_size: S, not used.
        config: not used.
    """

    def __init__(self, n_agents: int, state_size: int, config: Any) -> None:
        super().__init__()

    def forward(self, qs: Tensor, state: Tensor) -> Tensor:
        """qs [..., N], state [..., S] -> [..., 1]."""
        return qs.sum(-1, keepdim=True)
