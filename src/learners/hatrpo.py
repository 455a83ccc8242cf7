"""HATRPO: agents updated one after another, each by a natural-gradient step inside its own trust region.

HATRPO paper (Kuba et al. 2022), eq. 7-10 and its Algorithm 2.

    fix the joint advantage A and the value targets
    F = 1
    for agent i in a random order:
        g = gradient of mean over i's valid steps of r_i F A
        step along H^-1 g, H the exact Fisher matrix of pi_i, scaled to KL = delta; halve until the
        surrogate improved and KL(mu_i || pi_i) <= delta, otherwise leave the policy as it was
        F = F * pi_i_new(a_i|o_i) / mu_i(a_i|o_i)
    fit the critic

`entropy_coef` adds an entropy bonus to what is maximised, which the paper does not have: `entropy_coef=0` is its
method. Without one, steps of full length on rewards that are still too rare to tell actions apart drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.trust_region import Step, trust_region_step
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import Rows, SequentialConfig, SequentialFactor, trust_region_objectives, trust_region_scalars
from .on_policy import Iteration, PolicyLearner, TrustRegionConfig, refuse_for_sequential


@dataclass(frozen=True)
class HATRPOConfig(TrustRegionConfig, SequentialConfig):
    """Configuration of HATRPO."""


class HATRPOLearner(PolicyLearner):
    """Sequential trust-region updates with separate networks and one value function, or one for each."""

    Config = HATRPOConfig
    twice = True
    config: HATRPOConfig

    def __init__(
        self, config: HATRPOConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(
            config, net, mac, info, common_reward=common_reward, joint=config.critic_sharing == "shared", device=device,
            seed=seed,
        )  # fmt: skip

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what sequential updates cannot do."""
        refuse_for_sequential(values, info, "HATRPO")
        super().check(values, info)

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and arrays (none)."""
        it = self.begin_iteration(batch, t_env)
        factor, steps = SequentialFactor(self.mac, it.samples, self.config.factor_clip), []
        with self.critic_update(it) as critic:
            for i in self.order():
                steps.append(self._step(i, it, factor.times_advantage([i])))
                factor.include(i, i)
            scalars = self.end_iteration(it, critic())
        return scalars | trust_region_scalars(steps, factor), {}

    def _step(self, i: int, it: Iteration, target: Tensor) -> Step:
        """Agent i's natural-gradient step on its own experience; its policy is changed if the step is accepted."""
        c, params = self.config, self.mac.network.params.data[self.mac.index[i]]
        entries = it.samples.entries
        source = torch.full_like(entries, i)
        rows = Rows.gather(it.samples, target, entries, source, 1.0 / it.counts)
        self.processed += int(rows.valid.sum())
        surrogate, kl = trust_region_objectives(self.mac, params, [rows], it.entropy_coef)
        step = trust_region_step(
            surrogate, kl, params, delta=c.kl_threshold, cg_iters=c.cg_iters, cg_damping=c.cg_damping,
            line_search_steps=c.line_search_steps,
        )  # fmt: skip
        if step.accepted:
            params.copy_(step.params)
        return step
