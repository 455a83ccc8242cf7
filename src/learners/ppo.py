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

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples, minibatches
from ..components.surrogate import clipped_surrogate
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import ClipStats, clipped_scalars, merged, shard_stats
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
        mac.network.first_order = True
        self.optimisers = [self.adam(list(mac.network.parameters()))]

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``.

        Returns:
            scalars to log, and arrays (none).
        """
        c, n = self.config, self.info.n_agents
        it = self.begin_iteration(batch, t_env)
        samples, share = it.samples, self._shares(it.samples)
        stats, norms = shard_stats(c.eps_clip, n, self.device), []
        with self.critic_update(it) as critic:
            for _ in range(c.epochs):
                parts = minibatches(samples.n_entries, c.num_minibatches, self.generators["minibatches"], self.device)
                for part in parts:
                    weight = share * len(parts)
                    objectives = [
                        partial(self._losses, samples, part[shard], weight, it.entropy_coef, own)
                        for shard, own in zip(self.shards(len(part), n), stats, strict=False)
                    ]
                    norms.append(self.gradient_step(0, self.mac.network.params, objectives)[1])
            scalars = self.end_iteration(it, critic())
        total = merged(stats)
        self.processed += total.count
        return scalars | clipped_scalars(total, norms), {}

    def _losses(
        self, samples: Samples, part: Tensor, weight: Tensor, entropy_coef: float, stats: ClipStats, params: Tensor
    ) -> Iterator[Tensor]:
        """The loss of the networks ``params`` on the entries ``part``, agents weighted by ``weight`` [N]."""
        eps, n = self.config.eps_clip, self.info.n_agents
        policy = self.mac.policies(samples, part, params)
        valid = samples.valid[part]
        log_ratio = torch.where(valid, policy.log_prob(samples.actions[part]) - samples.log_prob[part], 0.0)
        entropy = policy.entropy()
        agents, steps = torch.arange(n, device=self.device).repeat(len(part)), [1] * (log_ratio.dim() - 2)
        stats.add(log_ratio.flatten(0, 1), entropy.flatten(0, 1), valid.flatten(0, 1), agents, weight.repeat(len(part)))
        objective = clipped_surrogate(log_ratio.exp(), samples.advantage[part], eps) + entropy_coef * entropy
        yield -torch.where(valid, objective * weight.view(1, -1, *steps), 0.0).sum()

    def _shares(self, samples: Samples) -> Tensor:
        """[N]: 1 / the valid steps of all agents that share agent i's network (an agent dead throughout adds none)."""
        counts = samples.valid.transpose(0, 1).flatten(1).sum(1).float()
        index = torch.tensor(self.mac.index, device=counts.device)
        per_network = counts.new_zeros(self.mac.n_networks).index_add_(0, index, counts)
        return 1.0 / per_network.clamp(min=1)[index]
