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
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples, minibatches
from ..components.parallel import SIDES, differentiate
from ..components.schedules import scheduled
from ..controllers.basic_mac import BasicMAC
from ..controllers.reuse_mac import ReuseMAC, ReuseMapping
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import ClipStats, clipped_loss, merged, merged_ranges, targets_with_factor
from .off_agent import (
    OffAgentConfig,
    draw_sources,
    mapping_arrays,
    mapping_scalars,
    per_pair,
    refuse_off_agent,
    reuse_rows,
    sources_of,
)
from .on_policy import ClipConfig, PolicyLearner
from .value import clip_rows


@dataclass(frozen=True)
class OAPPOConfig(ClipConfig, OffAgentConfig):
    """What OAPPO reads."""


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
        mac.network.first_order = True
        self.thetas = [mac.network.row(i) for i in mac.index]
        self.optimisers = [self.adam([theta]) for theta in self.thetas]

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what off-agent updates cannot do."""
        refuse_off_agent(values, info, "OAPPO")

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and the arrays of the reuse (``reuse``: M, D, ...)."""
        c = self.config
        scale = self.lr_scale(t_env)
        entropy_coef = scheduled(c.entropy_schedule, c.entropy_coef, c.entropy_coef_final, t_env, c.t_max)
        samples, targets = self.samples(batch)
        counts = samples.counts()
        updated = torch.zeros_like(samples.log_prob)
        n = self.info.n_agents
        sides = [[ClipStats(c.eps_clip, n, self.device) for _ in range(SIDES)] for _ in range(n)]
        norms, ranges = [], []
        draws = self.generators["kl"], self.generators["mapping"]
        mapping = self.mac.mapping(samples, self.info.episode_limit, *draws)
        with self.critic_update(batch, targets, scale) as critic:
            for i in self.order():
                sources = sources_of(mapping, i)
                own = self.mac.factor == "own"
                target, factor_range = targets_with_factor(samples, updated, sources, own, c.factor_clip)
                norms += self._update_agent(i, samples, target, counts, mapping, entropy_coef, sides[i])
                # `own`: slot i changes its player; `bound`: the slot whose action learner i re-draws
                slot = i if own else sources[0]
                updated[:, slot] = self.mac.own_log_ratio(samples, i, slot)
                ranges.append(factor_range)
            scalars = critic()
        stats = [merged(pair) for pair in sides]
        self.updates += 1
        self.processed += sum(s.count for s in stats)
        scalars |= merged(stats).scalars() | mapping_scalars(mapping) | {
            "agent_grad_norm": float(torch.stack(norms).mean()), "lr": c.lr * scale, "entropy_coef": entropy_coef,
        } | merged_ranges(ranges, c.factor_clip)  # fmt: skip
        return scalars, {
            "reuse": mapping_arrays(mapping, per_pair(stats, "ess", "ratio_mean", "ratio_max", "clip_frac"))
        }

    def _update_agent(
        self, i: int, samples: Samples, target: Tensor, counts: Tensor, mapping: ReuseMapping, entropy_coef: float,
        stats: list[ClipStats],
    ) -> list[Tensor]:  # fmt: skip
        """All epochs of learner i; returns its gradient norms."""
        c, theta, norms = self.config, self.thetas[i], []
        rows = 1 if self.mac.config.reuse_mode != "weights" else len(sources_of(mapping, i))
        for drawn in draw_sources(self.mac, mapping, i, samples.n_entries, c.epochs, self.generators["draws"]):
            parts = minibatches(samples.n_entries, c.num_minibatches, self.generators["minibatches"], self.device)
            for part in parts:
                each = counts / len(parts)

                def losses(
                    entries: Tensor, own: ClipStats, theta: Tensor, each: Tensor = each, drawn: Tensor | None = drawn
                ) -> Iterator[Tensor]:
                    for rows in reuse_rows(self.mac, mapping, i, samples, target, each, entries, drawn):
                        yield clipped_loss(self.mac, theta, rows, c.eps_clip, entropy_coef, own)

                pairs = zip(self.halves(len(part), rows), stats, strict=False)
                differentiate(theta, [partial(losses, part[half], own) for half, own in pairs])
                norms.append(clip_rows(theta.grad, c.grad_norm_clip))
                self.optimisers[i].step()
        return norms
