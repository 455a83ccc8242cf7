"""The step of advantage actor-critics: log-probabilities of actions, weighted by advantages, are climbed."""

from __future__ import annotations

import torch
from torch import Tensor

from ...components.updates.descent import MiniBatch
from ..on_policy import Iteration, PolicyLearner


def policy_gradient_loss(
    log_prob: Tensor, entropy: Tensor, advantage: Tensor, *, valid: Tensor, agent: Tensor, counts: Tensor,
    share: Tensor, entropy_coef: float,
) -> Tensor:  # fmt: skip
    """- sum_v sum_i share_vi mean_i( log pi_v A_v ) - c sum_i mean_i( H_i ): A2C's loss of V learners on N sources.

    Means are over the valid steps of agent i, whose experience it is.

    Args:
        log_prob, advantage: [V, ..., L] of each learner on L rows (advantages held fixed; [..., L]: alike for all).
        entropy, valid: [..., L] of the rows' own policies; whether they took a decision.
        agent: [L] whose rows they are.
        counts: [N] valid steps of each agent in the whole batch.
        share: [V, N] what each agent's experience counts for each learner.
        entropy_coef: c.
    """
    gain = torch.where(valid, (share / counts)[:, agent] * log_prob * advantage, 0.0).sum()
    return -(gain + entropy_coef * torch.where(valid, (1.0 / counts)[agent] * entropy, 0.0).sum())


def climb(learner: PolicyLearner, it: Iteration) -> dict[str, float]:
    """Take one step of all policies on their own experience; returns its scalars.

    A network that several agents share gets the sum of their losses.
    """
    samples, n = it.samples, learner.info.n_agents
    share, entropies = torch.ones(1, n, device=learner.device), torch.zeros_like(samples.log_prob)

    def loss(params: Tensor, part: MiniBatch, _: None) -> Tensor:
        policy, at, agent = learner.mac.policies(samples, part.entries, params)
        valid, log_prob, entropy = samples.valid[at], policy.log_prob(samples.actions[at]), policy.entropy()
        entropies[at] = torch.where(valid, entropy.detach(), 0.0)
        return policy_gradient_loss(
            log_prob.unsqueeze(0), entropy, samples.advantage[at], valid=valid, agent=agent, counts=it.counts,
            share=share, entropy_coef=it.entropy_coef,
        )  # fmt: skip

    value = learner.descend(it, 0, learner.mac.network.params, MiniBatch(samples.entries), loss, rows=n)
    learner.processed += int(it.counts.sum())
    real = samples.advantage[samples.valid]
    return {
        "pg_loss": float(value) / n, "agent_grad_norm": float(it.norms[0]),
        "entropy": float((entropies.sum(0) / it.counts).mean()),
        "advantage_mean": float(real.mean()) if len(real) else 0.0,
    }  # fmt: skip
