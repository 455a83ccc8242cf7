"""SEAC: advantage actor-critic whose agents also learn from one another's experience, weighted by importance.

SEAC paper (Christianos, Schaefer, Albrecht 2020), Algorithm 1, eq. 4-5, with n-step returns and an entropy bonus as in
its section 5.3 (A2C, Mnih et al. 2016).

    for each pair of a learner i and a source k:
        y_ik = n-step return of k's rewards, bootstrapped by agent i's critic on k's observations (`seac_targets: own`,
               eq. 5), or by agent k's (`source`: the authors' program, github.com/semitable/seac)
        A_ik = y_ik - V_i(o_k)
        r_ik = pi_i(a_k|o_k) / pi_k(a_k|o_k)       held fixed, not clipped; 1 for k = i
        w_ik = 1 for k = i, lambda for others
    each agent i takes one step down each of
        - sum_k w_ik mean( r_ik log pi_i(a_k|o_k) A_ik )  -  c mean( H(pi_i(.|o_i)) )         eq. 4
          sum_k w_ik mean( r_ik (V_i(o_k) - y_ik)^2 )                                         eq. 5

lambda is `seac_coef`. With 0 agents learn from their own experience alone, which is A2C: with separate networks on own
observations independent A2C (IA2C; IAC in the paper), with one network for all the paper's SNAC, with a critic on the
state MAA2C. Means are over k's real steps, those of policies over the steps at which k took a decision; a network that
several agents share gets the sum of their losses. Agents whose original spaces differ do not share experience.

The paper's programs clip an agent's gradient over actor and critic together; here each network has the limit to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.descent import MiniBatch
from ..components.updates.samples import Samples
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..modules.build import memory_of
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .actor_critic.policy_gradient import policy_gradient_loss
from .on_policy import (
    EntropyConfig,
    Iteration,
    OnePassConfig,
    PolicyLearner,
    shares_networks,
)
from .value.state_values import MAX_ROWS


@dataclass(frozen=True)
class SEACConfig(OnePassConfig, EntropyConfig):
    """Configuration of SEAC."""

    seac_coef: float = key(
        "lambda of SEAC: weight of each other agent's experience; 0: agents learn from their own alone (A2C).", low=0
    )
    seac_targets: str = key(
        "Targets of another agent's experience: own, bootstrapped by the learner's critic (SEAC paper, eq. 5), or "
        "source, by the critic of the agent whose experience it is (the authors' program).",
        choices=("own", "source"),
    )
    value_loss_coef: float = key("Weight of the critic's loss in A2C and SEAC.", above=0)


class SEACLearner(PolicyLearner):
    """Shared experience actor-critic; independent A2C where `seac_coef` is 0."""

    Config = SEACConfig
    config: SEACConfig

    def __init__(
        self, config: SEACConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        self.sharing = config.seac_coef > 0 and info.n_agents > 1
        super().__init__(
            config, net, mac, info, common_reward=common_reward, joint=False, across=self.sharing, device=device,
            seed=seed, source_targets=self.sharing and config.seac_targets == "source",
        )  # fmt: skip
        self.optimisers = [self.adam(list(mac.network.parameters()))]
        n = info.n_agents
        #: [V, N] what each source's experience counts for each learner; V = N, or 1 without sharing: oneself alone
        self.share = torch.ones(1, n, device=device)
        #: [V, N] whose experience is weighted by importance
        self.weighted = torch.zeros(1, n, dtype=torch.bool, device=device)
        if self.sharing:
            self.weighted = torch.from_numpy(info.agents_match()).to(device).fill_diagonal_(False)
            self.share = config.seac_coef * self.weighted + torch.eye(n, device=device)

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what agents cannot share experience with.

        Raises:
            UserError: a reuse mapping; or, with `seac_coef` above 0, shared networks, agent ids, critics on the state,
                or recurrent policies on segments.
        """
        super().check(values, info)
        if values["seac_coef"] == 0 or info.n_agents == 1:
            return
        if shares_networks(values, info) or values["critic_sharing"] != "separate":
            raise UserError(
                f"SEAC shares experience between agents with networks of their own: sharing={values['sharing']} with "
                f"critic_sharing={values['critic_sharing']} is refused, use sharing=separate critic_sharing=separate, "
                "or seac_coef=0."
            )
        if values["obs_agent_id"]:
            raise UserError("SEAC has separate networks without agent ids: use obs_agent_id=False, or seac_coef=0.")
        if values["critic_type"] != "ac_critic":
            raise UserError(
                f"SEAC's critics see an agent's own observation: critic_type={values['critic_type']} is refused, use "
                "critic_type=ac_critic, or seac_coef=0."
            )
        _refuse_recurrent_segments(values)

    def notices(self) -> list[str]:
        """What a run says once: that no experience can be shared."""
        alone = self.info.why_alone()
        if self.config.seac_coef == 0 or not alone:
            return []
        return [f"seac_coef={self.config.seac_coef:g} has no effect in '{self.info.name}': {alone}."]

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One step of all policies and critics on ``batch``; returns scalars to log, and arrays (none)."""
        it = self.begin_iteration(batch, t_env)
        samples = it.samples
        #: importance weights [V, S, N] and entropies [S, N], which the losses fill in
        ratio = samples.log_prob.new_ones(len(self.share), *samples.log_prob.shape)
        entropies = torch.zeros_like(samples.log_prob)

        def loss(params: Tensor, part: MiniBatch, _: None) -> Iterator[Tensor]:
            for entries in part.entries.split(self._at_once(samples, len(part))):
                yield self._loss(it, entries, params, ratio, entropies)

        everything = MiniBatch(samples.entries)
        value = self.descend(it, 0, self.mac.network.params, everything, loss, rows=self.share.numel())
        coef = self.config.value_loss_coef / samples.n_steps
        weight = ratio.permute(1, 2, 0) * self.share.t() * coef  # of each critic's error on each source's steps (eq. 5)
        if not self.sharing:
            weight = ratio.new_full((samples.n_steps, self.value.n_values), coef)
        critic = self.value.update(batch, it.targets, it.lr_scale, weight)
        # as all learners log it: the mean over the critics, not weighted
        critic["critic_loss"] /= self.config.value_loss_coef * self.value.n_values
        self.processed += int(((self.share > 0) * it.counts).sum())
        scalars = self.end_iteration(it, critic) | {
            "pg_loss": float(value) / self.info.n_agents, "agent_grad_norm": float(it.norms[0]),
            "entropy": float((entropies.sum(0) / it.counts).mean()),
        }  # fmt: skip
        taken = ratio[samples.valid & self.weighted.unsqueeze(1)]
        if self.sharing:  # the importance weights of others' experience
            scalars["ratio_mean"] = float(taken.mean()) if len(taken) else 1.0
            scalars["ratio_max"] = float(taken.max()) if len(taken) else 1.0
        return scalars, {}

    def _at_once(self, samples: Samples, n_entries: int) -> int:
        """Entries whose rows are evaluated together: a bounded number where all policies read all experience."""
        if not self.sharing:
            return max(1, n_entries)
        return max(1, MAX_ROWS // (self.share.numel() * samples.steps_each()))

    def _loss(self, it: Iteration, entries: Tensor, params: Tensor, ratio: Tensor, entropies: Tensor) -> Tensor:
        """The policies' loss (eq. 4) on some entries; importance weights and entropies are written to their places."""
        samples = it.samples
        log_prob, entropy, advantage, at, agent = self._evaluate(samples, entries, params)
        valid = samples.valid[at]
        if self.sharing:
            # exactly 1 on own experience, where it is rounding alone, and on what cannot be learned from
            taken = valid & self.weighted[:, agent]
            weight = torch.where(taken, log_prob.detach() - samples.log_prob[at], 0.0).exp()
            ratio[(slice(None), *at)] = weight
            log_prob = log_prob * weight
        entropies[at] = torch.where(valid, entropy.detach(), 0.0)
        return policy_gradient_loss(
            log_prob, entropy, advantage, valid=valid, agent=agent, counts=it.counts, share=self.share,
            entropy_coef=it.entropy_coef,
        )  # fmt: skip

    def _evaluate(
        self, samples: Samples, entries: Tensor, params: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Any, Tensor]:
        """log pi_i(a_k|o_k) [V, L], own entropies [L], the learners' advantages [V, L], and where these rows are."""
        if not self.sharing:
            policy, at, agent = self.mac.policies(samples, entries, params)
            return policy.log_prob(samples.actions[at]).unsqueeze(0), policy.entropy(), samples.advantage[at], at, agent
        policy, rows = self.mac.policies_on_all(samples, entries, params)
        actions = samples.actions[rows.at]
        own = policy[rows.agent, torch.arange(len(rows), device=self.device)]
        log_prob = policy.log_prob(actions.expand(self.info.n_agents, *actions.shape))
        return log_prob, own.entropy(), samples.advantage[rows.at].movedim(-1, 0), rows.at, rows.agent


def _refuse_recurrent_segments(values: Mapping[str, Any]) -> None:
    """Refuse recurrent networks on segments: on others' experience their hidden states start where episodes do.

    Raises:
        UserError: a policy or critic that carries something from step to step, and segments.
    """
    remembering = [found for kind in ("agent", "critic") if (found := memory_of(kind, values))]
    if remembering and values["runner"] == "rollout":
        raise UserError(
            f"SEAC with {remembering[0]} needs whole episodes to reuse: runner=rollout is refused, use runner=parallel."
        )
