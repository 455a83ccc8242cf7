"""Independent Q-learning (Tan 1993) with double Q (van Hasselt et al. 2016) and slow copies of the networks.

| symbol | shape | meaning |
|---|---|---|
| Q(o, .) | [B, T+1, N, A] | values of all actions, the networks' outputs |
| Q'(o, .) | [B, T+1, N, A] | the same of the slow copy |
| y | [B, T, N] | targets r + gamma (1 - terminated) Q'(o', argmax_a Q(o', a)) |
| delta | [B, T, N] | TD errors Q(o, a) - y, 0 where there is no step |
"""

from dataclasses import dataclass

import torch

from oamarl.learners.off_policy import OffPolicyConfig, OffPolicyLearner
from oamarl.utils.schema.keys import key


@dataclass(frozen=True)
class IQLConfig(OffPolicyConfig):
    """What the learner reads: everything OffPolicyConfig declares, and one key more."""

    double_q: bool = key(
        "The network chooses the next action and its slow copy values it; otherwise the copy does both."
    )


class IQLLearner(OffPolicyLearner):
    Config = IQLConfig

    def __init__(self, config, net, mac, info, *, common_reward, device, seed):
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        self.common_reward = common_reward
        self.optimise(mac.network.params)
        self.target = self.slow_copy(mac.network.params)

    def update(self, batch, weight):
        q = self.mac.all_outputs(batch)
        chosen = q[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        goal = self.goal(batch, q.detach())
        # every agent learns from every real step: what the team earns after an agent has left is its reward too
        filled = batch.filled.unsqueeze(-1).expand_as(chosen)
        delta = torch.where(filled, chosen - goal, 0.0)
        loss = (weight.view(-1, 1, 1) * delta**2).sum() / filled.sum()
        norm = self.gradient_step(loss)
        scalars = {
            "loss": loss.item(), "grad_norm": norm, "td_error_abs": delta.abs().sum().item() / filled.sum().item(),
            "q_taken_mean": chosen[filled].mean().item(), "target_mean": goal[filled].mean().item(),
        }  # fmt: skip
        return scalars, delta.abs().sum((1, 2)).detach() / filled.sum((1, 2))

    @torch.no_grad()
    def goal(self, batch, q):
        """The targets y [B, T, N]."""
        slow = self.mac.all_outputs(batch, self.target)
        best = (q if self.config.double_q else slow).masked_fill(~batch.avail, -torch.inf).argmax(-1, keepdim=True)
        following = slow.gather(-1, best).squeeze(-1)[:, 1:]
        over = batch.terminated.unsqueeze(-1)
        if not self.common_reward:
            over = over | batch.agent_terminated
        return batch.reward + self.config.gamma * torch.where(over, 0.0, following)
