"""HAPPO: agents updated one after another, each on the advantage as the earlier updates left it.

HATRPO paper (Kuba et al. 2022), eq. 10-11 and its Algorithm 4.

    fix the joint advantage A and the value targets
    F = 1
    for agent i in a random order:
        for each epoch, for each minibatch:
            maximise  mean over i's valid steps of  min( r_i F A, clip(r_i, 1-eps, 1+eps) F A ) + c H(pi_i)
        F = F * pi_i_new(a_i|o_i) / mu_i(a_i|o_i)          over the whole batch, 1 where i is dead
    fit the critic
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples, minibatches
from ..components.parallel import SIDES, differentiate
from ..components.schedules import scheduled
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import ClipStats, Rows, clipped_loss, merged, merged_ranges, targets_with_factor
from .on_policy import ClipConfig, PolicyLearner, refuse_for_sequential
from .value import clip_rows


class HAPPOLearner(PolicyLearner):
    """Sequential PPO with separate networks and one joint value function."""

    Config = ClipConfig
    config: ClipConfig

    def __init__(
        self, config: ClipConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, joint=True, device=device, seed=seed)
        mac.network.first_order = True
        self.thetas = [mac.network.row(i) for i in mac.index]
        self.optimisers = [self.adam([theta]) for theta in self.thetas]

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what sequential updates cannot do."""
        refuse_for_sequential(values, info, "HAPPO")
        super().check(values, info)

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and arrays (none)."""
        c = self.config
        scale = self.lr_scale(t_env)
        entropy_coef = scheduled(c.entropy_schedule, c.entropy_coef, c.entropy_coef_final, t_env, c.t_max)
        samples, targets = self.samples(batch)
        counts = samples.counts()
        updated = torch.zeros_like(samples.log_prob)
        stats = [ClipStats(c.eps_clip, self.info.n_agents, self.device) for _ in range(SIDES)]
        norms, ranges = [], []
        with self.critic_update(batch, targets, scale) as critic:
            for i in self.order():
                target, factor_range = targets_with_factor(samples, updated, [i], own_slot=True)
                norms += self._update_agent(i, samples, target, counts, entropy_coef, stats)
                updated[:, i] = self.mac.own_log_ratio(samples, i, i)
                ranges.append(factor_range)
            scalars = critic()
        self.updates += 1
        total = merged(stats)
        self.processed += total.count
        scalars |= total.scalars() | {
            "agent_grad_norm": float(torch.stack(norms).mean()), "lr": c.lr * scale, "entropy_coef": entropy_coef,
        } | merged_ranges(ranges)  # fmt: skip
        return scalars, {}

    def _update_agent(
        self, i: int, samples: Samples, target: Tensor, counts: Tensor, entropy_coef: float, stats: list[ClipStats]
    ) -> list[Tensor]:
        """All epochs of agent i; returns its gradient norms."""
        c, theta, norms = self.config, self.thetas[i], []
        for _ in range(c.epochs):
            parts = minibatches(samples.n_entries, c.num_minibatches, self.generators["minibatches"], self.device)
            for part in parts:
                each = counts / len(parts)
                sides = [
                    partial(self._losses, i, samples, target, part[half], each, entropy_coef, own)
                    for half, own in zip(self.halves(len(part)), stats, strict=False)
                ]
                differentiate(theta, sides)
                norms.append(clip_rows(theta.grad, c.grad_norm_clip))
                self.optimisers[i].step()
        return norms

    def _losses(
        self, i: int, samples: Samples, target: Tensor, part: Tensor, counts: Tensor, entropy_coef: float,
        stats: ClipStats, theta: Tensor,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Agent i's loss on its own steps of the entries ``part``, of which there are ``counts`` [N] in all."""
        source = torch.full_like(part, i)
        rows = Rows.gather(samples, target, part, source, 1.0 / counts[source])
        yield clipped_loss(self.mac, theta, rows, self.config.eps_clip, entropy_coef, stats)
