"""OAPPO: sequential PPO in which each agent also learns from other agents' experience.

The off-agent paper (Chen et al.), Algorithm 1, Propositions 1, eq. 8-9. Agent i is the LEARNER, agent j the SOURCE.

    fix the joint advantage A and the value targets
    M: the reuse mapping, by `reuse_scheme`: rows of least error (adaptive_roles, adaptive_bound: reuse_adaptive.py), or
       eq. 9 of D[i, j] = mean over j's steps of KL( pi_j(.|o_j) || pi_i(.|o_j) ) (adaptive_kl)
    for learner i in a random order:
        for each epoch, for each minibatch:
            maximise  sum_j M[i, j] * mean over j's valid steps of
                      min( r_ij X_j, clip(r_ij, 1-eps, 1+eps) X_j ) + c H(pi_i(.|o_j))
            r_ij = pi_i(a_j|o_j) / mu_j(a_j|o_j),   X_j = F^(j) A,
            F^(j) = product over agents k already updated, k != j, of pi_k_new(a_k|o_k) / mu_k(a_k|o_k)
    fit the critic

The paper's D is the maximum over steps (`reuse_kl_reduction: max`). Eq. 8 as printed multiplies F A outside the
minimum, which is wrong for A < 0; PPO's form is meant. Modes (section 5.3): `weights` evaluates every source in use;
`frequency` draws one source for each entry, each epoch; `sample` (Algorithm 1, lines 5-6) draws one permutation e for
the iteration, with the factor of Proposition 1.

`reuse_clip: source`, above, is eq. 8: the clip is around the source's policy, and beyond it only gradients towards the
source are left, a pull that keeps similar agents similar. `reuse_clip: learner` clips the learner's own change instead,

    min( q rho X_j, clip(q, 1-eps, 1+eps) rho X_j ),    q = pi_i / pi_i_old,   rho = pi_i_old(a_j|o_j) / mu_j(a_j|o_j)

with rho fixed at the beginning of i's update, at most `reuse_rho_clip`; on own experience both are HAPPO's objective.

Condition 1 (eq. 5) is about the updated policy, eq. 9 about the acting one: with `reuse_check: candidate` it is checked
again between epochs, and a source that breaks it is dropped until the learner's update ends, the row rebuilt by eq. 9.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.descent import Loss, MiniBatch
from ..components.updates.kept import Kept
from ..controllers.basic_mac import BasicMAC
from ..controllers.reuse_mac import ReuseMAC, ReuseMapping
from ..envs.base import EnvInfo
from ..modules.agents.rnn import NetworkConfig
from ..utils.errors import UserError
from ..utils.schema.keys import key
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
from .off_agent import (
    MappingRow,
    OffAgentLearner,
    draw_sources,
    mapping_arrays,
    mapping_scalars,
    old_ratios,
    per_pair,
    refuse_off_agent,
    reuse_rows,
)
from .on_policy import ClipConfig, Iteration


@dataclass(frozen=True)
class OAPPOConfig(ClipConfig, SequentialConfig):
    """Configuration of OAPPO."""

    reuse_clip: str = key(
        "What the clip holds near: source (eq. 8: the policy that acted) or learner (the learner's own old policy).",
        choices=("source", "learner"),
    )
    reuse_rho_clip: float | None = key(
        "Truncate the importance weight old / acting probability of others' experience at c (reuse_clip=learner; null: "
        "off).",
        low=1,
    )
    reuse_pull: float = key(
        "Weight of a pull towards the sources in use: KL(mu_j || pi_i) on their steps, beside the clip.", low=0
    )
    reuse_check: str = key(
        "When Condition 1 is checked: before an update, or for each candidate policy, between epochs, as well.",
        choices=("before", "candidate"),
    )

    def as_eq_8(self) -> bool:
        """Whether updates are those of eq. 8 and 9 throughout: the clip around the source, no pull, nothing dropped."""
        return self.reuse_clip == "source" and not self.reuse_pull and self.reuse_check == "before"


@dataclass(frozen=True)
class Updated:
    """What became of a learner's update: row i of M at its end [N], the sources dropped, and of the others' valid steps
    those whose rho was truncated, and all [2] (None: the clip is around the source)."""

    row: np.ndarray
    dropped: list[int]
    truncated: Tensor | None


class OAPPOLearner(OffAgentLearner):
    """Off-agent PPO: HAPPO whose learners follow the reuse mapping."""

    Config = OAPPOConfig
    config: OAPPOConfig
    repeats = True
    mac: ReuseMAC

    def __init__(
        self, config: OAPPOConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
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
        """Refuse what off-agent updates cannot do, and keys without an effect."""
        refuse_off_agent(values, info, "OAPPO")
        if values["reuse_rho_clip"] is not None and values["reuse_clip"] != "learner":
            raise UserError(
                f"reuse_rho_clip={values['reuse_rho_clip']:g} truncates the weights of reuse_clip=learner; with "
                f"reuse_clip={values['reuse_clip']} leave it null."
            )
        if values["reuse_check"] == "candidate" and values["reuse_scheme"] != "adaptive_kl":
            raise UserError(
                f"reuse_check=candidate drops sources by Condition 1, which reuse_scheme={values['reuse_scheme']} does "
                "not have: use reuse_scheme=adaptive_kl or reuse_check=before."
            )

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """One iteration on ``batch``; returns scalars to log, and the arrays of the reuse (``reuse``: M, D, ...)."""
        c, n = self.config, self.info.n_agents
        it = self.begin_iteration(batch, t_env)
        mapping = self.mapping(it)
        factor = SequentialFactor(self.mac, it.samples, c.factor_clip)
        tallies = [clip_stats(c.eps_clip, n, self.device) for _ in range(n)]
        done: dict[int, Updated] = {}
        with self.critic_update(it) as critic:
            for i in self.order():
                done[i] = self._update_agent(i, it, factor, mapping, tallies[i])
                factor.include(i, self.slot(mapping, i))
            scalars = self.end_iteration(it, critic())
        more, arrays = self.report(it, mapping, factor, [merged(tally) for tally in tallies], done)
        return scalars | more, arrays

    def mapping(self, it: Iteration) -> ReuseMapping:
        """The reuse mapping of an iteration."""
        draws = self.generators["kl"], self.generators["mapping"]
        return self.mac.mapping(it.samples, self.info.episode_limit, *draws)

    def slot(self, mapping: ReuseMapping, i: int) -> int:
        """The slot whose actions learner i's new policy now takes: `own`, its own; `bound`, the source's."""
        return i if self.mac.factor == "own" else mapping.sources(i)[0]

    def report(
        self, it: Iteration, mapping: ReuseMapping, factor: SequentialFactor, stats: Sequence[ClipStats],
        done: Mapping[int, Updated],
    ) -> tuple[dict[str, float], dict[str, Any]]:  # fmt: skip
        """Count what was processed; returns scalars and arrays of an iteration.

        Args:
            stats: of each learner.
            done: what became of each learner's update; read under `reuse_check: candidate` and `reuse_rho_clip`.
        """
        c, n = self.config, self.info.n_agents
        self.processed += sum(s.count for s in stats)
        scalars = clipped_scalars(merged(stats), it.norms) | mapping_scalars(mapping) | factor.scalars()
        pairs = per_pair(stats, "ess", "ratio_mean", "ratio_max", "clip_frac")
        if c.reuse_check == "candidate":
            used = sum(len([j for j in mapping.sources(i) if j != i]) for i in range(n))
            scalars["reuse_dropped"] = sum(len(x.dropped) for x in done.values()) / max(used, 1)
            pairs["M_used"] = np.stack([done[i].row for i in range(n)])
        if c.reuse_rho_clip is not None:
            cut, steps = torch.stack([x.truncated for x in done.values() if x.truncated is not None]).sum(0).tolist()
            scalars["reuse_rho_clip_frac"] = cut / max(steps, 1)
        return scalars, {"reuse": mapping_arrays(mapping, pairs)}

    def _update_agent(
        self, i: int, it: Iteration, factor: SequentialFactor, mapping: ReuseMapping, stats: list[ClipStats]
    ) -> Updated:
        """All epochs of learner i on its sources' steps."""
        c, mac, sources, dropped = self.config, self.mac, mapping.sources(i), list[int]()
        checked = c.reuse_check == "candidate"
        # own experience may be a source only once others are dropped (lambda = 0)
        target = factor.times_advantage(sorted({*sources, i}) if checked else sources, mac.factor == "own")
        log_rho = truncated = None
        if c.reuse_clip == "learner":
            log_rho, rho, truncated = old_ratios(mac, it.samples, i, sources, c.reuse_rho_clip)
            target = target * rho
        ahead = deque(draw_sources(mac, mapping, i, it.samples, c.epochs, self.generators["draws"]))
        loss: Loss | None = None
        drawn: Tensor | None = None
        while ahead:
            before, drawn = drawn, ahead.popleft()
            if loss is None or drawn is not before:
                loss = self._loss(i, it, target, log_rho, mapping, drawn)
            rows = 1 if mac.config.reuse_mode != "weights" else len(mapping.sources(i))
            times = self.n_minibatches * (1 + sum(x is drawn for x in ahead))
            for part in self.epoch(it):
                self.descend(it, i, self.agent_params[i], part, loss, stats, rows=rows, times=times)
            if not (checked and ahead and (broken := mac.violators(mapping, i, self.agent_params[i].detach()))):
                continue
            dropped += broken
            if mapping.permutation is not None:  # its only source: nothing is left to learn from
                break
            mapping, loss = mac.without(mapping, i, dropped), None
            ahead = deque(draw_sources(mac, mapping, i, it.samples, len(ahead), self.generators["draws"]))
        return Updated(mapping.matrix[i], dropped, truncated)

    def _loss(
        self, i: int, it: Iteration, target: Tensor, log_rho: Tensor | None, mapping: ReuseMapping,
        drawn: Tensor | None,
    ) -> Loss:  # fmt: skip
        """Learner i's loss.

        Args:
            target: [S, N] factor times advantage, times rho where the clip is around the learner.
            log_rho: [S, N] of a clip around the learner, None: around the source.
            drawn: [E] one source for each entry, None: all of them.
        """

        row, kept = MappingRow.of(mapping, i, it.samples), Kept[Rows]()

        def loss(params: Tensor, part: MiniBatch, stats: ClipStats) -> Iterator[Tensor]:
            gather = partial(
                reuse_rows, self.mac, row, it.samples, target, it.counts / part.of, part.entries, drawn, log_rho
            )
            for rows in kept.pieces(stats, part, gather):
                pull = self.config.reuse_pull * (rows.source != i) if self.config.reuse_pull else None
                yield clipped_loss(self.mac, params, rows, self.config.eps_clip, it.entropy_coef, stats, pull)

        return loss
