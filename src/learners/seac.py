"""SEAC: advantage actor-critic whose agents also learn from one another's experience, weighted by importance.

SEAC paper (Christianos, Schaefer, Albrecht 2020), Algorithm 1, eq. 4-5, with n-step returns and an entropy bonus as in
its section 5.3 (A2C, Mnih et al. 2016).

    for each pair of a learner i and a source k:
        y_ik = n-step return of k's rewards, bootstrapped by agent i's critic on k's observations
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
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..utils.errors import UserError
from ..utils.schema.keys import key
from .on_policy import EntropyConfig, OnePassConfig, PolicyLearner, refuse_recurrent_segments, shares_networks
from .value import MAX_ROWS


@dataclass(frozen=True)
class SEACConfig(OnePassConfig, EntropyConfig):
    """Configuration of SEAC."""

    seac_coef: float = key(
        "lambda of SEAC: weight of each other agent's experience; 0: agents learn from their own alone (A2C).", low=0
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
            seed=seed,
        )  # fmt: skip
        mac.network.first_order = True
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
        refuse_recurrent_segments(values, "SEAC")

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One step of all policies and critics on ``batch``; returns scalars to log, and arrays (none)."""
        it = self.begin_iteration(batch, t_env)
        samples, counts = it.samples, it.counts
        ratio = samples.log_prob.new_ones(len(self.share), *samples.log_prob.shape)
        entropies = torch.zeros_like(samples.log_prob)
        everything = torch.arange(samples.n_entries, device=self.device)
        objectives = [
            partial(self._losses, samples, everything[shard], counts, it.entropy_coef, ratio, entropies)
            for shard in self.shards(len(everything), self.share.numel())
        ]
        loss, norm = self.gradient_step(0, self.mac.network.params, objectives)
        critic = self.value.update(batch, it.targets, it.lr_scale, self._value_weights(batch, ratio))
        # as all learners log it: the mean over the critics, not weighted
        critic["critic_loss"] /= self.config.value_loss_coef * self.value.n_values
        self.processed += int(((self.share > 0) * counts).sum())
        scalars = self.end_iteration(it, critic) | {
            "pg_loss": float(loss) / self.info.n_agents, "agent_grad_norm": float(norm),
            "entropy": float((entropies.transpose(0, 1).flatten(1).sum(1) / counts).mean()),
        }  # fmt: skip
        return scalars | self._ratio_scalars(samples, ratio), {}

    def _losses(
        self, samples: Samples, part: Tensor, counts: Tensor, entropy_coef: float, ratio: Tensor, entropies: Tensor,
        params: Tensor,
    ) -> Iterator[Tensor]:  # fmt: skip
        """The policies' loss (eq. 4) on the entries ``part``, in pieces of bounded size.

        Args:
            counts: [N] each source's valid steps in the whole batch.
            ratio: [V, E, N, *T] where the importance weights are written to.
            entropies: [E, N, *T] where the entropies are written to.
        """
        steps = samples.valid[0, 0].numel()
        size = max(1, MAX_ROWS // (self.share.numel() * steps)) if self.sharing else max(1, len(part))
        each = self._pairs(self.share / counts, samples.valid)
        own = self._pairs(1.0 / counts.unsqueeze(0), samples.valid)[0]
        for entries in part.split(size):
            valid = samples.valid[entries]
            log_prob, entropy, advantage = self._evaluate(samples, entries, params)
            if self.sharing:
                ratio[:, entries] = self._importance(log_prob.detach(), samples.log_prob[entries], valid)
            entropies[entries] = torch.where(valid, entropy.detach(), 0.0)
            gain = torch.where(valid, each * ratio[:, entries] * log_prob * advantage, 0.0).sum()
            yield -(gain + entropy_coef * torch.where(valid, own * entropy, 0.0).sum())

    @staticmethod
    def _pairs(x: Tensor, like: Tensor) -> Tensor:
        """``x`` [V, N], a number for each learner and source, as [V, 1, N, *1] beside ``like`` [E, N, *T]."""
        return x.view(len(x), 1, -1, *[1] * (like.dim() - 2))

    def _evaluate(self, samples: Samples, entries: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log pi_i(a_k|o_k) [V, E', N, *T], own entropies [E', N, *T] and the learners' advantages [V, E', N, *T]."""
        actions, advantage = samples.actions[entries], samples.advantage[entries]
        if not self.sharing:
            policy = self.mac.policies(samples, entries, params)
            return policy.log_prob(actions).unsqueeze(0), policy.entropy(), advantage.unsqueeze(0)
        policy = self.mac.policies_on_all(samples, entries, params)
        i = torch.arange(self.info.n_agents, device=self.device)
        entropy = policy[i, :, i].entropy().transpose(0, 1)
        return policy.log_prob(actions.expand(len(i), *actions.shape)), entropy, advantage.movedim(-1, 0)

    def _importance(self, log_prob: Tensor, acting: Tensor, valid: Tensor) -> Tensor:
        """r_ik [N, E', N, *T]: exactly 1 on own experience, where it is rounding alone, and where k took no decision
        or cannot be learned from."""
        return torch.where(valid & self._pairs(self.weighted, valid), log_prob - acting, 0.0).exp()

    def _value_weights(self, batch: Batch, ratio: Tensor) -> Tensor:
        """Weights of each critic's error on each source's real steps (eq. 5): [S, N, V], or [S, V] without sharing."""
        total, coef = int(batch.filled.sum()), self.config.value_loss_coef
        if not self.sharing:
            return ratio.new_full((total, self.value.n_values), coef / total)
        # entries are the real steps, or whole episodes
        by_step = ratio.permute(1, 3, 2, 0)[batch.filled] if ratio.dim() == 4 else ratio.permute(1, 2, 0)
        return by_step * self.share.t() * (coef / total)

    def _ratio_scalars(self, samples: Samples, ratio: Tensor) -> dict[str, float]:
        """Mean and largest importance weight of others' experience."""
        if not self.sharing:
            return {}
        taken = ratio[samples.valid & self._pairs(self.weighted, samples.valid)]
        if not len(taken):
            return {"ratio_mean": 1.0, "ratio_max": 1.0}
        return {"ratio_mean": float(taken.mean()), "ratio_max": float(taken.max())}
