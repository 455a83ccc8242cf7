"""OAPPO: sequential PPO in which each agent also learns from other agents' experience.

OAPO paper (Chen et al.), Algorithm 1, Propositions 1, eq. 8-9. Agent i is the LEARNER, agent j the SOURCE.

    fix the joint advantage A and the value targets
    D[i, j] = max over j's steps of KL( pi_j(.|o_j) || pi_i(.|o_j) ),  M by eq. 9          (the reuse mapping)
    for learner i in a random order:
        for each epoch, for each minibatch:
            maximise  sum_j M[i, j] * mean over j's valid steps of
                      min( r_ij X_j, clip(r_ij, 1-eps, 1+eps) X_j ) + c H(pi_i(.|o_j))
            r_ij = pi_i(a_j|o_j) / mu_j(a_j|o_j),   X_j = F^(j) A,
            F^(j) = product over agents k already updated, k != j, of pi_k_new(a_k|o_k) / mu_k(a_k|o_k)
    fit the critic

Eq. 8 as printed multiplies F A outside the minimum, which is wrong for A < 0; PPO's form is meant. Modes
(section 5.3): `weights` evaluates every source in use; `frequency` draws one source for each entry, each epoch;
`sample` (Algorithm 1, lines 5-6) draws one permutation e for the iteration, with the factor of Proposition 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.descent import Loss, MiniBatch
from ..controllers.basic_mac import BasicMAC
from ..controllers.reuse_mac import ReuseMAC, ReuseMapping
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import ClipStats, SequentialFactor, clip_stats, clipped_loss, clipped_scalars, merged
from .off_agent import (
    OffAgentConfig,
    draw_sources,
    mapping_arrays,
    mapping_scalars,
    per_pair,
    refuse_off_agent,
    reuse_rows,
)
from .on_policy import ClipConfig, Iteration, PolicyLearner


@dataclass(frozen=True)
class OAPPOConfig(ClipConfig, OffAgentConfig):
    """Configuration of OAPPO."""


class OAPPOLearner(PolicyLearner):
    """Off-agent PPO: HAPPO whose learners follow the reuse mapping."""

    Config = OAPPOConfig
    config: OAPPOConfig
    mac: ReuseMAC

    def __init__(
        self, config: OAPPOConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, joint=True, device=device, seed=seed)
        self.agent_params = [mac.network.row(i) for i in mac.index]
        self.optimisers = [self.adam([params]) for params in self.agent_params]

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what off-agent updates cannot do."""
        refuse_off_agent(values, info, "OAPPO")

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and the arrays of the reuse (``reuse``: M, D, ...)."""
        c, n, own_slot = self.config, self.info.n_agents, self.mac.factor == "own"
        it = self.begin_iteration(batch, t_env)
        draws = self.generators["kl"], self.generators["mapping"]
        mapping = self.mac.mapping(it.samples, self.info.episode_limit, *draws)
        factor = SequentialFactor(self.mac, it.samples, c.factor_clip)
        tallies = [clip_stats(c.eps_clip, n, self.device) for _ in range(n)]
        with self.critic_update(it) as critic:
            for i in self.order():
                sources = mapping.sources(i)
                self._update_agent(i, it, factor.times_advantage(sources, own_slot), mapping, tallies[i])
                # `own`: slot i changes its player; `bound`: the slot whose action learner i re-draws
                factor.include(i, i if own_slot else sources[0])
            scalars = self.end_iteration(it, critic())
        stats = [merged(tally) for tally in tallies]
        self.processed += sum(s.count for s in stats)
        scalars |= clipped_scalars(merged(stats), it.norms) | mapping_scalars(mapping) | factor.scalars()
        pairs = per_pair(stats, "ess", "ratio_mean", "ratio_max", "clip_frac")
        return scalars, {"reuse": mapping_arrays(mapping, pairs)}

    def _update_agent(
        self, i: int, it: Iteration, target: Tensor, mapping: ReuseMapping, stats: list[ClipStats]
    ) -> None:
        """All epochs of learner i on its sources' steps; ``target`` [S, N] is factor times advantage."""
        draws = self.generators["draws"]
        rows = 1 if self.mac.config.reuse_mode != "weights" else len(mapping.sources(i))
        for drawn in draw_sources(self.mac, mapping, i, it.samples.n_entries, self.config.epochs, draws):
            loss = self._loss(i, it, target, mapping, drawn)
            for part in self.epoch(it):
                self.descend(it, i, self.agent_params[i], part, loss, stats, rows=rows)

    def _loss(self, i: int, it: Iteration, target: Tensor, mapping: ReuseMapping, drawn: Tensor | None) -> Loss:
        """Learner i's loss; ``drawn`` [E]: one source for each entry, None: all of them."""

        def loss(params: Tensor, part: MiniBatch, stats: ClipStats) -> Iterator[Tensor]:
            counts = it.counts / part.of
            for rows in reuse_rows(self.mac, mapping, i, it.samples, target, counts, part.entries, drawn):
                yield clipped_loss(self.mac, params, rows, self.config.eps_clip, it.entropy_coef, stats)

        return loss
