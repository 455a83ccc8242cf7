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

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.descent import MiniBatch
from ..components.updates.samples import Samples
from ..components.updates.surrogate import clipped_surrogate
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..modules.heads import Policy
from .losses import ClipStats, clip_stats, clipped_scalars, merged
from .on_policy import ClipConfig, PolicyLearner


class Steps(NamedTuple):
    """Decisions that PPO's objective is of, [m, N] or [L] each: acting log-probabilities, advantages, the loss mask,
    whose they are, and the weight of each."""

    log_prob: Tensor
    advantage: Tensor
    valid: Tensor
    agent: Tensor
    weight: Tensor


def ppo_loss(
    log_prob: Tensor, entropy: Tensor, steps: Steps, eps_clip: float, entropy_coef: float | Tensor, stats: ClipStats
) -> Tensor:  # fmt: skip
    """- sum of the weights times ( min( r A, clip(r, 1-eps, 1+eps) A ) + c H ); ``stats`` take in its figures.

    Args:
        log_prob, entropy: [m, N] or [L] of the policies: of the actions that were taken; and H.
        steps: the decisions.
        eps_clip: epsilon.
        entropy_coef: c, one number or one for each decision.
    """
    valid = steps.valid
    log_ratio = torch.where(valid, log_prob - steps.log_prob, 0.0)
    stats.add(*(x.flatten() for x in (log_ratio, entropy, valid, steps.agent, steps.weight)))
    objective = clipped_surrogate(log_ratio.exp(), steps.advantage, eps_clip)
    return -torch.where(valid, (objective + entropy_coef * entropy) * steps.weight, 0.0).sum()


class PPOLearner(PolicyLearner):
    """IPPO and MAPPO, with shared, separate or grouped networks."""

    Config = ClipConfig
    config: ClipConfig
    repeats = True

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
        samples, share, stats = it.samples, self.shares(it.samples), clip_stats(c.eps_clip, n, self.device)

        def loss(params: Tensor, part: MiniBatch, stats: ClipStats) -> Tensor:
            policy, at, agent = self.mac.policies(samples, part.entries, params)
            valid = samples.valid[at]
            weight, agent = (share * part.of)[agent].expand_as(valid), agent.expand_as(valid)
            steps = Steps(samples.log_prob[at], samples.advantage[at], valid, agent, weight)
            log_prob, entropy = policy.log_prob(samples.actions[at]), policy.entropy()
            value = ppo_loss(log_prob, entropy, steps, c.eps_clip, it.entropy_coef, stats)
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

    def shares(self, samples: Samples) -> Tensor:
        """[N]: 1 / the valid steps of all agents that share agent i's network (an agent dead throughout adds none)."""
        counts = samples.valid.sum(0).float()
        index = torch.tensor(self.mac.index, device=counts.device)
        per_network = counts.new_zeros(self.mac.n_networks).index_add_(0, index, counts)
        return 1.0 / per_network.clamp(min=1)[index]
