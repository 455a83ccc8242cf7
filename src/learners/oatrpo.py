"""OATRPO: sequential trust-region updates in which each agent also learns from other agents' experience.

The off-agent paper (Chen et al.), Algorithm 1, Proposition 1, eq. 7 and 9, Condition 1 (eq. 5).

    fix the joint advantage A and the value targets; D and M as in OAPPO
    for learner i in a random order:
        g = gradient of  sum_j M[i, j] * mean over j's valid steps of r_ij F^(j) A
        H = exact Fisher matrix of pi_i on the M[i, .]-weighted mixture of the sources' observations
        step along H^-1 g scaled to KL = delta; halve until the surrogate improved, the mixture's
        KL(pi_i_old || pi_i) <= delta, and KL(mu_j || pi_i) <= sigma for every other source j in use
        if none was accepted and Condition 1 alone stood in the way of a backtrack: drop the sources that violate
        it there, rebuild the row by eq. 9, and compute the step once more; with none left that is the HATRPO step
    fit the critic

Departure from eq. 7: its delta-ball is centred on the source, which the learner may be outside of from the start
(0 < D <= sigma, and delta < sigma); here it is centred on the learner's own old policy, and Condition 1 keeps the
learner near its sources. In `sample` a learner has one source and no row to rebuild: such a step is rejected.
`entropy_coef` adds an entropy bonus to what is maximised, which the paper does not have: `entropy_coef=0` is its
method. Without one, steps of full length on rewards that are still too rare to tell actions apart drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.trust_region import Step, trust_region_step
from ..controllers.basic_mac import BasicMAC
from ..controllers.reuse_mac import ReuseMAC, ReuseMapping
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from .losses import (
    ClipStats,
    SequentialConfig,
    SequentialFactor,
    merged,
    trust_region_objectives,
    trust_region_scalars,
)
from .off_agent import (
    MappingRow,
    OffAgentLearner,
    draw_sources,
    mapping_arrays,
    mapping_scalars,
    no_ratios,
    per_pair,
    ratios_before,
    refuse_off_agent,
    reuse_rows,
)
from .on_policy import Iteration, TrustRegionConfig


@dataclass(frozen=True)
class OATRPOConfig(TrustRegionConfig, SequentialConfig):
    """Configuration of OATRPO."""


class OATRPOLearner(OffAgentLearner):
    """Off-agent TRPO: HATRPO whose learners follow the reuse mapping."""

    Config = OATRPOConfig
    twice = True
    config: OATRPOConfig
    mac: ReuseMAC

    def __init__(
        self, config: OATRPOConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(
            config, net, mac, info, common_reward=common_reward, joint=config.critic_sharing == "shared", device=device,
            seed=seed,
        )  # fmt: skip

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what off-agent updates cannot do."""
        refuse_off_agent(values, info, "OATRPO")

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and the arrays of the reuse (``reuse``: M, D, ...)."""
        n, own_slot = self.info.n_agents, self.mac.factor == "own"
        it = self.begin_iteration(batch, t_env)
        draws = self.generators["kl"], self.generators["mapping"]
        mapping = self.mac.mapping(it.samples, self.info.episode_limit, *draws)
        matrix = mapping.matrix
        factor = SequentialFactor(self.mac, it.samples, self.config.factor_clip)
        stats, steps, retries = [no_ratios(n, self.device)] * n, [], 0
        with self.critic_update(it) as critic:
            for i in self.order():
                target = factor.times_advantage(mapping.sources(i), own_slot)
                step, stats[i] = self._step(i, it, target, mapping)
                if step.blocked is not None and not step.accepted and mapping.permutation is None:
                    mapping = self.mac.without(mapping, i, self.mac.violators(mapping, i, step.blocked))
                    # own experience may be a source only now (lambda = 0)
                    target = factor.times_advantage(mapping.sources(i), own_slot, logged=False)
                    step, stats[i] = self._step(i, it, target, mapping)
                    retries += 1
                if step.accepted:
                    self.mac.network.params.data[self.mac.index[i]].copy_(step.params)
                factor.include(i, i if own_slot else mapping.sources(i)[0])
                steps.append(step)
            scalars = self.end_iteration(it, critic())
        ratios = {k: v for k, v in merged(stats).scalars().items() if k.startswith("ratio")}
        scalars |= trust_region_scalars(steps, factor) | mapping_scalars(mapping) | ratios
        scalars["condition_retries"] = retries / n
        pairs = per_pair(stats, "ess", "ratio_mean", "ratio_max")
        # M as eq. 9 gives it, and as it was used once Condition 1 had dropped sources
        arrays = mapping_arrays(replace(mapping, matrix=matrix), {**pairs, "M_used": mapping.matrix})
        return scalars, {"reuse": arrays}

    def _step(self, i: int, it: Iteration, target: Tensor, mapping: ReuseMapping) -> tuple[Step, ClipStats]:
        """Learner i's step under its present row; gradient, Fisher product and line search share the same rows.

        Returns:
            the step, and the ratios of its sources before it.
        """
        c, mac, params = self.config, self.mac, self.mac.network.params.data[self.mac.index[i]]
        entries = it.samples.entries
        (drawn,) = draw_sources(mac, mapping, i, it.samples, 1, self.generators["draws"])
        row = MappingRow.of(mapping, i, it.samples)
        chunks = list(reuse_rows(mac, row, it.samples, target, it.counts, entries, drawn))
        self.processed += sum(int(rows.valid.sum()) for rows in chunks)
        stats = ratios_before(mac, params, chunks)
        surrogate, kl = trust_region_objectives(mac, params, chunks, it.entropy_coef)
        guarded = mac.config.reuse_scheme == "adaptive_kl" and mapping.sources(i) != [i]
        step = trust_region_step(
            surrogate, kl, params, delta=c.kl_threshold, cg_iters=c.cg_iters, cg_damping=c.cg_damping,
            line_search_steps=c.line_search_steps,
            # Condition 1, against the policies that ACTED, also after their owners have been updated
            condition=(lambda candidate: not mac.violators(mapping, i, candidate)) if guarded else None,
        )  # fmt: skip
        return step, stats
