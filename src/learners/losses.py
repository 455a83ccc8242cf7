"""Importance-weighted samples from any source agent, the sequential factor on them, and the two policy objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..components.packing import Packing
from ..components.updates.parallel import SHARDS
from ..components.updates.samples import Samples
from ..components.updates.surrogate import approx_kl, clipped_surrogate, factor_of, factors_without_own
from ..components.updates.trust_region import Step, step_scalars
from ..controllers.basic_mac import BasicMAC
from ..modules.heads import Policy
from ..utils.schema.keys import key
from ..utils.warn_once import warn_once


@dataclass(frozen=True)
class Rows:
    """Importance-weighted samples from any source agents, for one learner: L steps, of sequences where it is recurrent.

    ``weight`` [L] is the row's share of the objective: a sum over rows of weight times objective is the mean over the
    sources' valid steps that the method asks for. ``target`` [L] is factor times advantage. ``packing`` and ``hidden``
    [R, H]: of sequences, the hidden state before each that of the agent that acted (None: zeros). ``log_rho`` [L]: log
    of the old over the acting policy's probability, where the clip is around the learner (None: the source).
    """

    inputs: Tensor
    avail: Tensor
    actions: Tensor
    log_prob: Tensor
    valid: Tensor
    target: Tensor
    weight: Tensor
    source: Tensor
    packing: Packing | None = None
    hidden: Tensor | None = None
    log_rho: Tensor | None = None

    @classmethod
    def gather(
        cls, samples: Samples, target: Tensor, entry: Tensor, source: Tensor, share: Tensor,
        log_rho: Tensor | None = None,
    ) -> Rows:  # fmt: skip
        """Take the entries ``entry`` of the agents ``source``.

        On the CPU feed-forward rows that are not valid are left out; a GPU would have to wait to be told how many there
        are, and computes them in vain.

        Args:
            target: [S, N] factor times advantage.
            entry, source: [m], where ``samples.choice`` is.
            share: [N] the weight of a source's row.
            log_rho: [S, N], see the class.
        """
        if samples.sequences is None and entry.device.type == "cpu":
            keep = samples.valid[entry, source].nonzero().squeeze(1)
            entry, source = entry[keep], source[keep]
        rows = samples.rows(entry, source)
        at = rows.at
        return cls(
            samples.inputs[at], samples.avail[at], samples.actions[at], samples.log_prob[at], samples.valid[at],
            target[at], share[rows.agent], rows.agent, rows.packing, rows.hidden,
            None if log_rho is None else log_rho[at],
        )  # fmt: skip

    def weighted(self, x: Tensor) -> Tensor:
        """[L]: x times the row's weight where it is valid, 0 elsewhere."""
        return torch.where(self.valid, x * self.weight, 0.0)

    def policy(self, mac: BasicMAC, params: Tensor, twice: bool = False) -> Policy:
        """The policy with parameters ``params`` [P] on the rows; ``twice``: to be differentiated twice."""
        return mac.policy(params, self.inputs, self.avail, self.packing, self.hidden, twice=twice)


def log_ratios(mac: BasicMAC, params: Tensor, rows: Rows, twice: bool = False) -> tuple[Tensor, Tensor]:
    """log r = log pi_theta(a_j|o_j) - log mu_j(a_j|o_j) [L], 0 where not valid, and the policy's entropy there."""
    policy = rows.policy(mac, params, twice)
    # masked before it is exponentiated: an illegal padded action must not become an infinite ratio
    return torch.where(rows.valid, policy.log_prob(rows.actions) - rows.log_prob, 0.0), policy.entropy()


def targets_with_factor(
    samples: Samples, updated: Tensor, sources: Sequence[int], own_slot: bool, factor_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """X = F^(j) A for each source j in use (HATRPO paper, eq. 9; off-agent, eq. 6-8).

    Args:
        updated: [S, N] log-ratios of the slots already updated, 0 elsewhere.
        sources: which columns are needed.
        own_slot: leave slot j out of F^(j) (`reuse_factor: own`).
        factor_clip: clip the factor to [1/c, c].

    Returns:
        X [S, N] (0 for other sources), and the factor's range [3]: smallest, largest, share clipped.
    """
    columns = list(sources)
    valid = samples.valid[:, columns]
    if not own_slot:
        factor = factor_of(updated).unsqueeze(1).expand(valid.shape)
    elif len(columns) == 1:
        factor = factor_of(updated, columns[0]).unsqueeze(1)
    else:
        factor = factors_without_own(updated)[:, columns]
    clipped = factor.new_zeros(())
    if factor_clip is not None:
        raw, factor = factor, factor.clamp(1.0 / factor_clip, factor_clip)
        clipped = ((raw != factor) & valid).sum() / valid.sum().clamp(min=1)
    x = torch.zeros_like(samples.advantage)
    x[:, columns] = factor * samples.advantage[:, columns]
    seen = torch.where(valid, factor, 1.0)
    return x, torch.stack([seen.amin(), seen.amax(), clipped])


@dataclass(frozen=True)
class SequentialConfig:
    """Configuration of learners that update agents one after another."""

    factor_clip: float | None = key("Clip the sequential factor to [1/c, c] (null: off).", low=1)


#: outside [1/1000, 1000] a few steps make up the whole objective
_FAR = 1000.0


class SequentialFactor:
    """F, the product of the ratios of the agents that this iteration has updated (HATRPO eq. 9, off-agent eq. 6-8).

    Args:
        mac: the policies.
        samples: the batch that all agents learn from.
        clip: clip the factor to [1/c, c] (None: off).
    """

    def __init__(self, mac: BasicMAC, samples: Samples, clip: float | None = None) -> None:
        self.mac, self.samples, self.clip = mac, samples, clip
        #: [S, N] log-ratios of the slots already updated, 0 elsewhere
        self.log_ratios = torch.zeros_like(samples.log_prob)
        self.ranges: list[Tensor] = []

    def times_advantage(self, sources: Sequence[int], own_slot: bool = True, logged: bool = True) -> Tensor:
        """X = F^(j) A [S, N] of each source j in ``sources``; ``logged``: its range counts in :meth:`scalars`."""
        target, found = targets_with_factor(self.samples, self.log_ratios, sources, own_slot, self.clip)
        if logged:
            self.ranges.append(found)
        return target

    def include(self, agent: int, slot: int) -> None:
        """Multiply in the ratio of ``agent``'s new policy on the actions of ``slot``, 1 where that took none."""
        self.log_ratios[:, slot] = self.mac.own_log_ratio(self.samples, agent, slot)

    def scalars(self) -> dict[str, float]:
        """The factor's range over all learners, and the mean share clipped where it is."""
        low, high, clipped = torch.stack(self.ranges).unbind(1)
        found = {"factor_min": float(low.min()), "factor_max": float(high.max())}
        if found["factor_max"] > _FAR or found["factor_min"] < 1.0 / _FAR:
            warn_once(
                "factor",
                "the sequential factor, the product of the ratios of the agents updated before, lies between "
                f"{found['factor_min']:.2g} and {found['factor_max']:.2g} in this update: a few steps then outweigh "
                "all others. factor_clip=2 keeps it within [1/2, 2]; smaller steps (lr, eps_clip, kl_threshold) or "
                "fewer epochs keep it near 1.",
            )
        return found if self.clip is None else found | {"factor_clip_frac": float(clipped.mean())}


def outside_share(updated: Tensor, valid: Tensor, eps: float = 0.2) -> float:
    """Share of valid steps whose ratio left [1 - eps, 1 + eps]: what trust-region learners log as `clip_frac`.

    They clip nothing; at PPO's usual eps the figure compares with that of the clipped methods.
    """
    outside = ((updated.exp() - 1.0).abs() > eps) & valid
    return float(outside.sum()) / max(float(valid.sum()), 1.0)


def trust_region_scalars(steps: Sequence[Step], factor: SequentialFactor) -> dict[str, float]:
    """Scalars of an iteration of trust-region steps."""
    samples = factor.samples
    return step_scalars(steps) | factor.scalars() | {
        "clip_frac": outside_share(factor.log_ratios, samples.valid), "entropy": factor.mac.mean_entropy(samples),
    }  # fmt: skip


class ClipStats:
    """Running sums of what PPO-like updates log, per source (all tensors stay on the device).

    KL, clip fraction and entropy are means by the rows' weights, as the objective is: under reuse they do not drift
    towards the source of most rows. Ratios and the effective sample size count every step alike. All are of the
    importance ratio r = pi_i / mu_j but the clip fraction, which is of the ratio that is clipped.
    """

    def __init__(self, eps_clip: float, n_sources: int, device: torch.device) -> None:
        self.eps_clip = eps_clip
        self.sums = torch.zeros(7, n_sources, device=device, dtype=torch.float64)
        self.largest = torch.zeros(n_sources, device=device)

    def add(
        self, log_ratio: Tensor, entropy: Tensor, valid: Tensor, source: Tensor, weight: Tensor,
        clipped_ratio: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Take in rows [L] of sources [L] with weights [L]; ``clipped_ratio``: what is clipped (None: the ratio)."""
        log_ratio, entropy = log_ratio.detach(), entropy.detach()
        ratio = log_ratio.exp()
        clipped = (((ratio if clipped_ratio is None else clipped_ratio) - 1.0).abs() > self.eps_clip).float()
        parts = (torch.ones_like(ratio), ratio, ratio**2, weight, weight * approx_kl(log_ratio), weight * clipped,
                 weight * entropy)  # fmt: skip
        rows, ratio = torch.stack([torch.where(valid, p, 0.0) for p in parts]), torch.where(valid, ratio, 0.0)
        if source.device.type == "cpu":
            self.sums.index_add_(1, source, rows.double())
            self.largest.scatter_reduce_(0, source, ratio, "amax")
            return
        # a GPU's threads would wait for each other to add to so few sums
        whose = source.unsqueeze(1) == torch.arange(len(self.largest), device=source.device)
        self.sums += rows.double() @ whose.double()
        torch.maximum(self.largest, torch.where(whose, ratio.unsqueeze(1), 0.0).amax(0), out=self.largest)

    def scalars(self) -> dict[str, float]:
        """Means over everything taken in."""
        n, ratio, _, w, kl, clipped, entropy = self.sums.sum(1).tolist()
        n, w = max(n, 1.0), w or 1.0
        return {
            "approx_kl": kl / w, "clip_frac": clipped / w, "entropy": entropy / w, "ratio_mean": ratio / n,
            "ratio_max": float(self.largest.max()),
        }  # fmt: skip

    def per_source(self) -> dict[str, Tensor]:
        """[N] each, NaN for unused sources: clip fraction, mean and largest ratio, and the effective sample size as a
        share of the samples, (sum r)^2 / (n sum r^2)."""
        n, ratio, square, w, _, clipped, _ = self.sums
        largest = torch.where(n > 0, self.largest.double(), torch.nan)
        return {"clip_frac": clipped / w, "ratio_mean": ratio / n, "ratio_max": largest, "ess": ratio**2 / (n * square)}

    @property
    def count(self) -> int:
        """Valid steps taken in."""
        return int(self.sums[0].sum())


def merged(stats: Sequence[ClipStats]) -> ClipStats:
    """Several sums in one."""
    total = ClipStats(stats[0].eps_clip, stats[0].sums.shape[1], stats[0].sums.device)
    total.sums = torch.stack([s.sums for s in stats]).sum(0)
    total.largest = torch.stack([s.largest for s in stats]).amax(0)
    return total


def clip_stats(eps_clip: float, n_sources: int, device: torch.device) -> list[ClipStats]:
    """The tallies that the losses of an update add to (:func:`oamarl.components.updates.descent.descend`)."""
    return [ClipStats(eps_clip, n_sources, device) for _ in range(SHARDS)]


def clipped_scalars(stats: ClipStats, norms: Sequence[Tensor]) -> dict[str, float]:
    """Scalars of an iteration of clipped updates; ``norms``: the gradients' norms."""
    return stats.scalars() | {"agent_grad_norm": float(torch.stack(list(norms)).mean())}


def clipped_loss(
    mac: BasicMAC, params: Tensor, rows: Rows, eps_clip: float, entropy_coef: float, stats: ClipStats,
    pull: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """- sum_l w_l ( min(r X, clip(r) X) + c H ): PPO's objective on weighted rows (HATRPO eq. 11, off-agent eq. 8).

    With ``rows.log_rho`` the ratio that is clipped is q = r / rho = pi_i / pi_i_old, and the rows' target is rho X.

    Args:
        pull: [L] weight of KL(mu_j || pi_i) at each row, estimated by r - 1 - log r, whose mean under mu_j it is.
    """
    return clipped_sum(*log_ratios(mac, params, rows), rows, eps_clip, entropy_coef, stats, pull)


def clipped_sum(
    log_ratio: Tensor, entropy: Tensor, rows: Rows, eps_clip: float, entropy_coef: float | Tensor, stats: ClipStats,
    pull: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """:func:`clipped_loss` of a policy's log-ratios and entropies [L] on the rows; ``entropy_coef``: one, or [L]."""
    ratio = (log_ratio if rows.log_rho is None else log_ratio - rows.log_rho).exp()
    stats.add(log_ratio, entropy, rows.valid, rows.source, rows.weight, ratio.detach())
    objective = clipped_surrogate(ratio, rows.target, eps_clip) + entropy_coef * entropy
    if pull is not None:
        objective = objective - pull * approx_kl(log_ratio)
    return -rows.weighted(objective).sum()


def trust_region_objectives(
    mac: BasicMAC, params: Tensor, chunks: Sequence[Rows], entropy_coef: float = 0.0
) -> tuple[list[Callable[[Tensor], Tensor]], list[Callable[[Tensor], Tensor]]]:
    """The two functions of flat parameters that a trust-region step needs, on weighted rows.

    surrogate(theta') = sum_l w_l ( r_l X_l + c H_l ) (HATRPO eq. 9, off-agent eq. 7 without its constant; papers have
    no entropy bonus, c = 0);
    kl(theta') = sum_l w_l KL(pi_theta || pi_theta') / sum_l w_l, exact, on the same rows.

    Args:
        params: [P] the learner's old parameters.
        chunks: the rows, in pieces of bounded size.
        entropy_coef: c.

    Returns:
        each function as the parts that it is the sum of, one for each piece.
    """
    # all by the kernels that can be differentiated twice: the line search compares numbers of one kind
    with torch.no_grad():
        old = [rows.policy(mac, params, twice=True) for rows in chunks]
        total = max(sum(float(rows.weighted(torch.ones_like(rows.target)).sum()) for rows in chunks), 1e-12)

    def surrogate(rows: Rows, candidate: Tensor) -> Tensor:
        log_ratio, entropy = log_ratios(mac, candidate, rows, twice=True)
        gain = log_ratio.exp() * rows.target
        return rows.weighted(gain + entropy_coef * entropy if entropy_coef else gain).sum()

    def kl(rows: Rows, before: Policy, candidate: Tensor) -> Tensor:
        return rows.weighted(before.kl(rows.policy(mac, candidate, twice=True))).sum() / total

    return (
        [partial(surrogate, rows) for rows in chunks],
        [partial(kl, rows, before) for rows, before in zip(chunks, old, strict=True)],
    )
