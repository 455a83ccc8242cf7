"""PPO with a fixed KL penalty (Schulman et al. 2017, eq. 8)."""

from dataclasses import dataclass

import torch

from oamarl.components.updates.descent import means, new_tallies
from oamarl.learners.on_policy import LearnerConfig, PolicyLearner
from oamarl.utils.schema.keys import key


@dataclass(frozen=True)
class KLPPOConfig(LearnerConfig):
    """What the learner reads: everything LearnerConfig declares, and one key more."""

    kl_coef: float = key("Weight of KL(old || new) in the loss.", low=0)


class KLPPOLearner(PolicyLearner):
    Config = KLPPOConfig

    def __init__(self, config, net, mac, info, *, common_reward, device, seed):
        super().__init__(config, net, mac, info, common_reward=common_reward, joint=False, device=device, seed=seed)
        self.optimisers = [self.adam(list(mac.network.parameters()))]

    def train(self, batch, t_env):
        it = self.begin_iteration(batch, t_env)  # learning rates are set and advantages fixed here, once
        samples, mac, coef = it.samples, self.mac, self.config.kl_coef
        with torch.no_grad():
            policy, at, _ = mac.policies(samples, samples.entries)
        old = policy.params.new_zeros(*samples.valid.shape, policy.params.shape[-1])
        old[at] = policy.params
        tallies = new_tallies()

        def loss(params, part, tally):
            policy, at, _ = mac.policies(samples, part.entries, params)
            valid, counts = samples.valid[at], samples.valid.sum() / part.of
            log_ratio = torch.where(valid, policy.log_prob(samples.actions[at]) - samples.log_prob[at], 0.0)
            kl = mac.distribution_from(old[at], samples.avail[at]).kl(policy)
            tally.add("kl", kl[valid])
            objective = log_ratio.exp() * samples.advantage[at] - coef * kl
            return -objective[valid].sum() / counts

        with self.critic_update(it) as critic:
            for part in self.epochs(it):
                self.descend(it, 0, mac.network.params, part, loss, tallies, rows=self.info.n_agents)
            scalars = self.end_iteration(it, critic())
        self.processed += int(samples.valid.sum()) * self.config.epochs
        return scalars | means(tallies), {}
