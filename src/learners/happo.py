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
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.descent import MiniBatch
from ..components.updates.kept import Kept
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import (
    ClipStats,
    Rows,
    SequentialConfig,
    SequentialFactor,
    clip_stats,
    clipped_loss,
    clipped_scalars,
    merged,
)
from .on_policy import ClipConfig, Iteration, PolicyLearner, refuse_for_sequential


@dataclass(frozen=True)
class HAPPOConfig(ClipConfig, SequentialConfig):
    """Configuration of HAPPO."""


class HAPPOLearner(PolicyLearner):
    """Sequential PPO with separate networks and one value function, or one for each agent."""

    Config = HAPPOConfig
    config: HAPPOConfig
    repeats = True

    def __init__(
        self, config: HAPPOConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(
            config, net, mac, info, common_reward=common_reward, joint=config.critic_sharing == "shared", device=device,
            seed=seed,
        )  # fmt: skip
        self.agent_params = [mac.network.row(i) for i in mac.index]
        self.optimisers = [self.adam([params]) for params in self.agent_params]

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what sequential updates cannot do."""
        refuse_for_sequential(values, info, "HAPPO")
        super().check(values, info)

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and arrays (none)."""
        it = self.begin_iteration(batch, t_env)
        factor = SequentialFactor(self.mac, it.samples, self.config.factor_clip)
        stats = clip_stats(self.config.eps_clip, self.info.n_agents, self.device)
        with self.critic_update(it) as critic:
            for i in self.order():
                self._update_agent(i, it, factor.times_advantage([i]), stats)
                factor.include(i, i)
            scalars = self.end_iteration(it, critic())
        total = merged(stats)
        self.processed += total.count
        return scalars | clipped_scalars(total, it.norms) | factor.scalars(), {}

    def _update_agent(self, i: int, it: Iteration, target: Tensor, stats: list[ClipStats]) -> None:
        """All epochs of agent i on its own steps; ``target`` [S, N] is factor times advantage."""

        kept = Kept[Rows]()

        def loss(params: Tensor, part: MiniBatch, stats: ClipStats) -> Iterator[Tensor]:
            for rows in kept.pieces(stats, part, partial(own_rows, it, i, target, part)):
                yield clipped_loss(self.mac, params, rows, self.config.eps_clip, it.entropy_coef, stats)

        for part in self.epochs(it):
            self.descend(it, i, self.agent_params[i], part, loss, stats)


def own_rows(it: Iteration, i: int, target: Tensor, part: MiniBatch) -> Iterator[Rows]:
    """Agent i's own steps of a mini-batch; ``target`` [S, N] is factor times advantage."""
    source = torch.full_like(part.entries, i)
    yield Rows.gather(it.samples, target, part.entries, source, 1.0 / (it.counts / part.of))
