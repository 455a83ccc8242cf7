"""PPO for all agents at once: IPPO (critic on own observations) and MAPPO (critic on the state).

Schulman et al. 2017; de Witt et al. 2020; Yu et al. 2022; HATRPO paper, eq. 4-5.

    collect a batch with the acting policies mu_i
    fix advantages A_i and value targets
    for each epoch, for each minibatch:
        maximise  sum over networks of  mean over their agents' valid steps of
                  min( r_i A_i, clip(r_i, 1-eps, 1+eps) A_i ) + c H(pi_i),     r_i = pi_i(a_i|o_i) / mu_i(a_i|o_i)
    fit the critic
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples
from ..components.updates.descent import MiniBatch
from ..components.updates.surrogate import clipped_surrogate
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..modules.heads import Policy
from .losses import ClipStats, clip_stats, clipped_scalars, merged
from .on_policy import ClipConfig, PolicyLearner


class PPOLearner(PolicyLearner):
    """IPPO and MAPPO, with shared, separate or grouped networks."""

    Config = ClipConfig
    config: ClipConfig

    def __init__(
        self, config: ClipConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, joint=False, device=device, seed=seed)
        self.optimisers = [self.adam(list(mac.network.parameters()))]

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``.

        Returns:
            scalars to log, and arrays (none).
        """
        c, n = self.config, self.info.n_agents
        it = self.begin_iteration(batch, t_env)
        samples, share, stats = it.samples, self._shares(it.samples), clip_stats(c.eps_clip, n, self.device)

        def loss(params: Tensor, part: MiniBatch, stats: ClipStats) -> Tensor:
            policy, at, agent = self.mac.policies(samples, part.entries, params)
            valid, weight = samples.valid[at], (share * part.of)[agent].expand_as(samples.valid[at])
            log_ratio = torch.where(valid, policy.log_prob(samples.actions[at]) - samples.log_prob[at], 0.0)
            entropy = policy.entropy()
            flat = (x.flatten() for x in (log_ratio, entropy, valid, agent.expand_as(valid), weight))
            stats.add(*flat)
            objective = clipped_surrogate(log_ratio.exp(), samples.advantage[at], c.eps_clip)
            value = -torch.where(valid, (objective + it.entropy_coef * entropy) * weight, 0.0).sum()
            further = self.further_loss(policy, at, weight)
            return value if further is None else value + further

        with self.critic_update(it) as critic:
            for part in self.epochs(it):
                self.descend(it, 0, self.mac.network.params, part, loss, stats, rows=n)
            scalars = self.end_iteration(it, critic())
        total = merged(stats)
        self.processed += total.count
        return scalars | clipped_scalars(total, it.norms), {}

    def further_loss(self, policy: Policy, at: Any, weight: Tensor) -> Tensor | None:
        """What is minimised beside the method's own loss; None: nothing.

        Args:
            policy: the agents' policies at some steps, as :meth:`BasicMAC.policies` gives them.
            at: the index of these steps into samples' tensors.
            weight: what each step counts, also those that no decision was taken at.
        """
        return None

    def _shares(self, samples: Samples) -> Tensor:
        """[N]: 1 / the valid steps of all agents that share agent i's network (an agent dead throughout adds none)."""
        counts = samples.valid.sum(0).float()
        index = torch.tensor(self.mac.index, device=counts.device)
        per_network = counts.new_zeros(self.mac.n_networks).index_add_(0, index, counts)
        return 1.0 / per_network.clamp(min=1)[index]
