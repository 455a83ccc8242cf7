"""Parts of OAPPO and OATRPO: refusals, a learner's samples under the reuse mapping (off-agent paper, section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..components.updates.samples import Samples
from ..controllers.reuse_mac import ReuseMAC, ReuseMapping
from ..envs.base import EnvInfo
from ..utils.errors import UserError
from .losses import ClipStats, Rows, log_ratios
from .on_policy import PolicyLearner, refuse_for_sequential

#: from so many alike agents on, reuse_mode=weights is said to be slow
_MANY = 8


def refuse_off_agent(values: Mapping[str, Any], info: EnvInfo, method: str) -> None:
    """Refuse what off-agent updates cannot do.

    Raises:
        UserError: as the sequential methods, or a controller without a reuse mapping.
    """
    refuse_for_sequential(values, info, method)
    if values["mac"] != "reuse_mac":
        raise UserError(f"{method} needs the reuse mapping: mac={values['mac']} is refused, use mac=reuse_mac.")


class OffAgentLearner(PolicyLearner):
    """Base of OAPPO and OATRPO: what the mapping remembers of earlier iterations is part of the learner's state."""

    mac: ReuseMAC

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to continue with the same numbers."""
        return {**super().state_dict(), "reuse": self.mac.reuse_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)
        self.mac.load_reuse_state(state.get("reuse", {}))

    def notices(self) -> list[str]:
        """What a run says once: that nothing can be reused, or what learning from many others costs."""
        c, largest, alone = self.mac.config, int(self.info.agents_match().sum(1).max()), self.info.why_alone()
        if c.reuse_scheme != "none" and alone:
            return [f"reuse_scheme={c.reuse_scheme} has no effect in '{self.info.name}': {alone}."]
        if c.reuse_mode != "weights" or c.reuse_scheme == "none" or largest < _MANY:
            return []
        return [
            f"reuse_mode=weights evaluates each agent's policy on the experience of all agents that it learns from, up "
            f"to {largest} here: {largest} times HAPPO's work for an update. reuse_mode=frequency draws from the same "
            "mapping as many samples as the agent has of its own."
        ]


def draw_sources(
    mac: ReuseMAC, mapping: ReuseMapping, i: int, samples: Samples, epochs: int, generator: torch.Generator
) -> Sequence[Tensor] | list[None]:
    """For each epoch, [E] one source for each entry (`frequency`: drawn from M[i, .]; `sample`: e(i)), or None in
    `weights`."""
    sources, n_entries = mapping.sources(i), samples.n_entries
    if len(sources) == 1:
        # nothing to draw, in any mode
        return [torch.full((n_entries,), sources[0], device=samples.choice)] * epochs
    if mac.config.reuse_mode == "weights":
        return [None] * epochs
    edges = torch.from_numpy(mapping.matrix[i][sources].cumsum()[:-1])
    chance = torch.rand(epochs, n_entries, dtype=edges.dtype, generator=generator)
    drawn = torch.tensor(sources)[torch.searchsorted(edges, chance, right=True)]
    return drawn.to(samples.choice).unbind()


class MappingRow(NamedTuple):
    """A learner's row of the mapping: the sources in use, as a list and [K] where entries are chosen; where learning
    takes place the weights M[i] [N], and each source's valid steps over those that the learner can learn from [N]."""

    learner: int
    listed: list[int]
    sources: Tensor
    share: Tensor
    more: Tensor | None

    @classmethod
    def of(cls, mapping: ReuseMapping, i: int, samples: Samples) -> MappingRow:
        """Return row ``i`` for an update on ``samples``."""
        listed, share = mapping.sources(i), torch.from_numpy(mapping.matrix[i])
        more = None if samples.carried is None else samples.counts() / samples.shared_counts()
        if more is not None:
            more[i] = 1.0
        return cls(i, listed, torch.tensor(listed, device=samples.choice), share.to(samples.valid.device), more)


def reuse_rows(
    mac: ReuseMAC,
    row: MappingRow,
    samples: Samples,
    target: Tensor,
    counts: Tensor,
    part: Tensor,
    drawn: Tensor | None,
    log_rho: Tensor | None = None,
) -> Iterator[Rows]:
    """A learner's rows on the entries ``part``, in pieces of bounded size.

    A row of source j weighs M[i, j] / count_j when all sources are evaluated, and 1 / count_j when j was drawn:
    the same objective in expectation. Of others no entries are learned from that were under way when the batch began
    (:attr:`Samples.carried`), nor counted; an entry whose drawn source is such a one is left out.

    Args:
        row: whom it learns from.
        counts: [N] valid steps of each source, divided by the number of minibatches.
        part: [m] entries.
        drawn: [E] one source per entry, or None for all of them.
        log_rho: [S, N] of a clip around the learner's old policy, see :class:`~.losses.Rows`.
    """
    each = 1.0 / counts if row.more is None else row.more / counts

    def gathered(entry: Tensor, source: Tensor, share: Tensor) -> Rows:
        if samples.carried is not None:
            can = (source == row.learner) | ~samples.carried[entry]
            entry, source = entry[can], source[can]
        return Rows.gather(samples, target, entry, source, share, log_rho)

    if drawn is not None:
        yield gathered(part, drawn[part], each)
        return
    share = row.share.to(counts.dtype) / counts if row.more is None else row.share.to(counts.dtype) * each
    pieces = mac.chunks(row.listed, len(part) * samples.steps_each())
    for chunk in row.sources.split([len(piece) for piece in pieces]):
        yield gathered(part.repeat_interleave(len(chunk)), chunk.repeat(len(part)), share)


def old_ratios(
    mac: ReuseMAC, samples: Samples, i: int, sources: Sequence[int], rho_clip: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """rho = pi_i(a_j|o_j) / mu_j(a_j|o_j) of learner i as it is now, fixed for its update (`reuse_clip: learner`).

    Args:
        sources: whose experience is used; on the learner's own rho is 1.
        rho_clip: truncate rho from above at c (None: off), as truncated importance sampling does.

    Returns:
        log rho [S, N] (0 of sources not in use and where not valid), rho [S, N] as truncated, and how many of the
        others' valid steps were truncated and how many there are [2].
    """
    log_rho, others = torch.zeros_like(samples.log_prob), [j for j in sources if j != i]
    for j in others:
        log_rho[:, j] = mac.own_log_ratio(samples, i, j)
    rho, valid = log_rho.exp(), samples.valid[:, others]
    if rho_clip is None:
        return log_rho, rho, torch.stack([valid.new_zeros(()).long(), valid.sum()])
    over = (rho[:, others] > rho_clip) & valid
    return log_rho, rho.clamp(max=rho_clip), torch.stack([over.sum(), valid.sum()])


def no_ratios(n_sources: int, device: torch.device) -> ClipStats:
    """Nothing yet of a learner that clips nothing."""
    return ClipStats(math.inf, n_sources, device)


def ratios_before(mac: ReuseMAC, params: Tensor, chunks: Sequence[Rows]) -> ClipStats:
    """The ratios of a learner's sources before its step: ``params`` [P] on its rows; nothing is clipped."""
    stats = no_ratios(mac.info.n_agents, mac.device)
    with torch.no_grad():
        for rows in chunks:
            stats.add(*log_ratios(mac, params, rows, twice=True), rows.valid, rows.source, rows.weight)
    return stats


def mapping_scalars(mapping: ReuseMapping) -> dict[str, float]:
    """Scalars of a reuse mapping; means, medians and largest ones are over pairs of agents whose figure is finite."""
    m = mapping.matrix
    n = len(m)
    off = ~np.eye(n, dtype=bool)

    def among(figure: np.ndarray, reduce: Callable[[np.ndarray], Any]) -> float:
        finite = figure[off & np.isfinite(figure)]
        return float(reduce(finite)) if len(finite) else 0.0

    d, b, c = mapping.distances, mapping.bias, mapping.chi_square
    scalars = {
        "reuse_off_diagonal": float(m[off].mean()) if n > 1 else 0.0,
        "reuse_pairs": float((m[off] > 0).mean()) if n > 1 else 0.0,
        "reuse_distance_mean": among(d, np.mean),
        "reuse_distance_max": among(d, np.max),
        "reuse_bias_mean": among(b, np.mean),
        "reuse_bias_max": among(b, np.max),
        "reuse_chi_square_mean": among(c, np.mean),
        # a single pair of policies with other supports is 1e3 to 1e5 and makes the mean its own
        "reuse_chi_square_median": among(c, np.median),
        "reuse_kl_entries": float(len(mapping.measured)),
    }
    if mapping.bound is not None:
        scalars["reuse_own_share"] = float(np.diag(m).mean())
        limits = mapping.bound.limits(m)
        scalars["reuse_bias_limit"] = float(limits[np.isfinite(limits)].mean()) if np.isfinite(limits).any() else 0.0
        if mapping.bound.roles is not None:
            compared = mapping.bound.roles[off & np.isfinite(d)]
            scalars["reuse_role_mean"] = float(compared.mean()) if len(compared) else 1.0
            scalars["reuse_role_max"] = float(compared.max()) if len(compared) else 1.0
    if mapping.permutation is not None:
        scalars["reuse_balance_deviation"] = mapping.deviation
    return scalars


def per_pair(stats: Sequence[ClipStats], *names: str) -> dict[str, np.ndarray]:
    """Figures of ``ClipStats.per_source`` as [N, N], learner by source, from one ``ClipStats`` a learner."""
    rows = [s.per_source() for s in stats]
    return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in names}


def mapping_arrays(mapping: ReuseMapping, pairs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of an update's reuse, [N, N] each: M, D, b, c, figures per pair, the ratios of roles where they are
    measured; and in mode `sample` the permutation e [N]."""
    drawn = {} if mapping.permutation is None else {"e": mapping.permutation.astype(np.int16)}
    arrays = {
        "M": mapping.matrix, "D": mapping.distances, "b": mapping.bias, "c": mapping.chi_square, **pairs
    }  # fmt: skip
    if mapping.bound is not None and mapping.bound.roles is not None:
        arrays["role"] = mapping.bound.roles
    with np.errstate(over="ignore"):  # a chi-square beyond float32 is infinite
        return {k: v.astype(np.float32) for k, v in arrays.items()} | drawn
