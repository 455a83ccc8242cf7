"""What runners share: what happened in the episodes that they played, and the policies at work in their slots."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..components.distributions import MaskedCategorical
from ..controllers.acting import Actor, Noise
from ..envs.base import Arrays, EnvInfo


@dataclass
class Episodes:
    """What happened in a collection, episode by episode: returns [E, N] (of each agent), lengths, extras."""

    returns: list[np.ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)

    def scalars(self, info: EnvInfo, common_reward: bool, prefix: str = "") -> dict[str, float]:
        """EPyMARL's names: return_mean/std, ep_length_mean; under individual rewards each agent's and the total's."""
        if not self.lengths:
            return {}
        returns = np.stack(self.returns)
        found = {"ep_length_mean": float(np.mean(self.lengths))}
        if common_reward:
            found |= {"return_mean": float(returns[:, 0].mean()), "return_std": float(returns[:, 0].std())}
        else:
            for i in range(info.n_agents):
                found[f"agent_{i}_return_mean"] = float(returns[:, i].mean())
                found[f"agent_{i}_return_std"] = float(returns[:, i].std())
            total = returns.sum(1)
            found |= {"total_return_mean": float(total.mean()), "total_return_std": float(total.std())}
        for m, name in enumerate(info.metrics):
            found[f"{name}_mean"] = float(np.mean([x[m] for x in self.metrics]))
        return {prefix + k: v for k, v in found.items()}


class Acting:
    """Policies, the slots that they act in, and their noise (None: the most probable actions)."""

    def __init__(self, actor: Actor, arrays: Arrays, noise: Noise | None, device: torch.device) -> None:
        self.actor, self.noise, self.device = actor, noise, device
        # the slots show things in the same memory for ever
        self.obs, self.avail = torch.from_numpy(arrays.obs), torch.from_numpy(arrays.avail)

    def __call__(self, last: np.ndarray, hidden: Tensor) -> tuple[MaskedCategorical, Tensor, Tensor]:
        """Return the policies, the chosen actions [B, N], and the next hidden state [B, N, H]."""
        policy, hidden = self.actor(
            self.obs.to(self.device), self.avail.to(self.device), torch.from_numpy(last).to(self.device), hidden
        )
        return policy, policy.mode() if self.noise is None else policy.sample(self.noise()), hidden

    def settle(self) -> None:
        """Leave the noise's generator where the steps made have brought it."""
        if self.noise is not None:
            self.noise.settle()
