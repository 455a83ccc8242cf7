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

import numpy as np
import torch
from torch import Tensor

from ..components.batch import Batch, Samples, minibatches
from ..components.config import key
from ..components.errors import UserError
from ..components.schedules import scheduled
from ..controllers.basic_mac import BasicMAC
from ..controllers.reuse_mac import ReuseMAC, ReuseMapping
from ..envs.base import EnvInfo
from ..modules.network import NetworkConfig
from .policy import (
    ClipConfig,
    ClipStats,
    PolicyLearner,
    Rows,
    clipped_loss,
    merged_ranges,
    refuse_for_sequential,
    targets_with_factor,
)
from .value import clip_rows


@dataclass(frozen=True)
class OffAgentConfig:
    """What both off-agent learners read beside their trust-region keys."""

    factor_clip: float | None = key("Clip the sequential factor to [1/c, c] (null: off).", low=1)


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
        mapping = self.mac.mapping(samples, self.info.episode_limit, self.generators["kl"], self.generators["mapping"])
        updated = torch.zeros_like(samples.log_prob)
        stats = [ClipStats(c.eps_clip, self.info.n_agents, self.device) for _ in range(self.info.n_agents)]
        norms, ranges = [], []
        for i in self.order():
            sources = sources_of(mapping, i)
            own = self.mac.factor == "own"
            target, factor_range = targets_with_factor(samples, updated, sources, own, c.factor_clip)
            norms += self._update_agent(i, samples, target, counts, mapping, entropy_coef, stats[i])
            # `own`: slot i changes its player; `bound`: the slot whose action learner i re-draws
            slot = i if own else sources[0]
            updated[:, slot] = self.mac.own_log_ratio(samples, i, slot)
            ranges.append(factor_range)
        scalars = self.value.update(batch, targets, scale)
        self.updates += 1
        self.processed += sum(s.count for s in stats)
        scalars |= merged(stats).scalars() | mapping_scalars(mapping) | {
            "agent_grad_norm": float(torch.stack(norms).mean()), "lr": c.lr * scale, "entropy_coef": entropy_coef,
        } | merged_ranges(ranges)  # fmt: skip
        pairs = {
            k: torch.stack([s.per_source()[k] for s in stats]).cpu().numpy() for k in ("ess", "clip_frac", "ratio_mean")
        }
        return scalars, {"reuse": {"M": mapping.matrix, "D": mapping.distances, **pairs}}

    def _update_agent(
        self, i: int, samples: Samples, target: Tensor, counts: Tensor, mapping: ReuseMapping, entropy_coef: float,
        stats: ClipStats,
    ) -> list[Tensor]:  # fmt: skip
        """All epochs of learner i; returns its gradient norms."""
        c, theta, norms = self.config, self.thetas[i], []
        for _ in range(c.epochs):
            drawn = draw_sources(self.mac, mapping, i, samples.n_entries, self.generators["draws"])
            parts = minibatches(samples.n_entries, c.num_minibatches, self.generators["minibatches"])
            for part in parts:
                self.optimisers[i].zero_grad()
                for rows in reuse_rows(self.mac, mapping, i, samples, target, counts / len(parts), part, drawn):
                    clipped_loss(self.mac, theta, rows, c.eps_clip, entropy_coef, stats).backward()
                norms.append(clip_rows(theta.grad, c.grad_norm_clip))
                self.optimisers[i].step()
        return norms


# -- what OAPPO and OATRPO share ------------------------------------------------------------------------------


def refuse_off_agent(values: Mapping[str, Any], info: EnvInfo, method: str) -> None:
    """Refuse what off-agent updates cannot do.

    Raises:
        UserError: as the sequential methods, a controller without a reuse mapping, or recurrent reuse on segments.
    """
    refuse_for_sequential(values, info, method)
    if values["mac"] != "reuse_mac":
        raise UserError(f"{method} needs the reuse mapping: mac={values['mac']} is refused, use mac=reuse_mac.")
    if values["use_rnn"] and values["runner"] == "rollout" and values["reuse_scheme"] != "none":
        raise UserError(
            f"{method} with use_rnn=True needs whole episodes to reuse: runner=rollout is refused, use runner=parallel."
        )


def sources_of(mapping: ReuseMapping, i: int) -> list[int]:
    """The sources that learner i uses in this iteration."""
    if mapping.permutation is not None:
        return [int(mapping.permutation[i])]
    return [int(j) for j in np.flatnonzero(mapping.matrix[i] > 0)]


def draw_sources(
    mac: ReuseMAC, mapping: ReuseMapping, i: int, n_entries: int, generator: torch.Generator
) -> Tensor | None:
    """[E] one source for each entry (`frequency`: drawn from M[i, .]; `sample`: e(i)), or None in `weights`."""
    sources = sources_of(mapping, i)
    if len(sources) == 1:
        # nothing to draw, in any mode
        return torch.full((n_entries,), sources[0])
    if mac.config.reuse_mode == "weights":
        return None
    row = torch.from_numpy(mapping.matrix[i]).float()
    return torch.multinomial(row, n_entries, replacement=True, generator=generator)


def reuse_rows(
    mac: ReuseMAC,
    mapping: ReuseMapping,
    i: int,
    samples: Samples,
    target: Tensor,
    counts: Tensor,
    part: Tensor,
    drawn: Tensor | None,
) -> Iterator[Rows]:
    """Learner i's rows on the entries ``part``, in pieces of bounded size.

    A row of source j weighs M[i, j] / count_j when all sources are evaluated, and 1 / count_j when j was drawn:
    the same objective in expectation.

    Args:
        counts: [N] valid steps of each source, divided by the number of minibatches.
        part: [m] entries.
        drawn: [E] one source per entry, or None for all of them.
    """
    device = counts.device
    if drawn is not None:
        source = drawn[part].to(device)
        yield Rows.gather(samples, target, part.to(device), source, 1.0 / counts[source])
        return
    part = part.to(device)
    share = torch.from_numpy(mapping.matrix[i]).to(device, counts.dtype) / counts
    steps = samples.valid[0, 0].numel()
    for chunk in mac.chunks(sources_of(mapping, i), len(part) * steps):
        source = torch.tensor(chunk, device=device).repeat(len(part))
        yield Rows.gather(samples, target, part.repeat_interleave(len(chunk)), source, share[source])


def merged(stats: list[ClipStats]) -> ClipStats:
    """All learners' sums in one."""
    total = ClipStats(stats[0].eps_clip, stats[0].sums.shape[1], stats[0].sums.device)
    total.sums = torch.stack([s.sums for s in stats]).sum(0)
    total.largest = torch.stack([s.largest for s in stats]).amax(0)
    return total


def mapping_scalars(mapping: ReuseMapping) -> dict[str, float]:
    """What is logged of a mapping beside its arrays."""
    m, d = mapping.matrix, mapping.distances
    n = len(m)
    off = ~np.eye(n, dtype=bool)
    finite = d[off & np.isfinite(d)]
    scalars = {
        "reuse_off_diagonal": float(m[off].mean()) if n > 1 else 0.0,
        "reuse_pairs": float((m[off] > 0).mean()) if n > 1 else 0.0,
        "reuse_distance_mean": float(finite.mean()) if len(finite) else 0.0,
        "reuse_distance_max": float(finite.max()) if len(finite) else 0.0,
        "reuse_kl_entries": float(len(mapping.entries)),
    }
    if mapping.permutation is not None:
        scalars["reuse_balance_deviation"] = mapping.deviation
    return scalars
