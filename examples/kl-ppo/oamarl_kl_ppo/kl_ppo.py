"""PPO with a fixed KL penalty (Schulman et al. 2017, eq. 8)."""

from dataclasses import dataclass

import torch

from oamarl.components.batch import minibatches
from oamarl.components.distributions import MaskedCategorical
from oamarl.learners.on_policy import LearnerConfig, PolicyLearner
from oamarl.learners.value import clip_rows
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
        samples = it.samples
        with torch.no_grad():
            old = self.mac.policies(samples, torch.arange(samples.n_entries)).log_probs
        for _ in range(self.config.epochs):
            for part in minibatches(samples.n_entries, self.config.num_minibatches, self.generators["minibatches"]):
                policy, valid = self.mac.policies(samples, part), samples.valid[part]
                log_ratio = torch.where(valid, policy.log_prob(samples.actions[part]) - samples.log_prob[part], 0.0)
                kl = MaskedCategorical(old[part], samples.avail[part]).kl(policy)
                objective = log_ratio.exp() * samples.advantage[part] - self.config.kl_coef * kl
                loss = -objective[valid].mean()
                self.optimisers[0].zero_grad()
                loss.backward()
                clip_rows(self.mac.network.params.grad, self.config.grad_norm_clip)
                self.optimisers[0].step()
        self.processed += int(samples.valid.sum()) * self.config.epochs
        critic = self.value.update(batch, it.targets, it.lr_scale)
        return self.end_iteration(it, critic) | {"kl": kl[valid].mean().item()}, {}
