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

`entropy_coef` adds an entropy bonus to what is maximised, which the paper does not have (0, the default here).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..components.batch import Batch
from ..components.schedules import scheduled
from ..components.trust_region import step_scalars, trust_region_step
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import Rows, merged_ranges, outside_share, targets_with_factor, trust_region_objectives
from .on_policy import PolicyLearner, TrustRegionConfig, refuse_for_sequential


class HATRPOLearner(PolicyLearner):
    """Sequential trust-region updates with separate networks and one joint value function."""

    Config = TrustRegionConfig
    config: TrustRegionConfig

    def __init__(
        self, config: TrustRegionConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, joint=True, device=device, seed=seed)

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what sequential updates cannot do."""
        refuse_for_sequential(values, info, "HATRPO")
        super().check(values, info)

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and arrays (none)."""
        c, network = self.config, self.mac.network
        scale = self.lr_scale(t_env)
        entropy_coef = scheduled(c.entropy_schedule, c.entropy_coef, c.entropy_coef_final, t_env, c.t_max)
        samples, targets = self.samples(batch)
        counts = samples.counts()
        updated = torch.zeros_like(samples.log_prob)
        entries = torch.arange(samples.n_entries, device=self.device)
        steps, ranges = [], []
        with self.critic_update(batch, targets, scale) as critic:
            for i in self.order():
                target, factor_range = targets_with_factor(samples, updated, [i], own_slot=True)
                source = torch.full_like(entries, i)
                rows = Rows.gather(samples, target, entries, source, (1.0 / counts)[source])
                theta = network.theta.data[self.mac.index[i]]
                surrogate, kl = trust_region_objectives(self.mac, theta, [rows], entropy_coef)
                step = trust_region_step(
                    surrogate, kl, theta, delta=c.kl_threshold, cg_iters=c.cg_iters, cg_damping=c.cg_damping,
                    line_search_steps=c.line_search_steps,
                )  # fmt: skip
                if step.accepted:
                    theta.copy_(step.theta)
                updated[:, i] = self.mac.own_log_ratio(samples, i, i)
                steps.append(step)
                ranges.append(factor_range)
                self.processed += int(rows.valid.sum())
            scalars = critic()
        self.updates += 1
        scalars |= step_scalars(steps) | {
            "clip_frac": outside_share(updated, samples.valid),
            "entropy": self.mac.mean_entropy(samples), "lr": c.lr * scale, "entropy_coef": entropy_coef,
        } | merged_ranges(ranges)  # fmt: skip
        return scalars, {}
