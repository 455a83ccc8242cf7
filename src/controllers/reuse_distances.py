"""How far a learner's policy is from the policies that acted: KL, total variation and chi-square, from ONE evaluation
of the learner's network on its sources' steps, without gradients (off-agent paper, Condition 1 and eq. 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..components.updates.parallel import in_background
from ..components.updates.samples import RowIndex, Samples
from ..modules.heads import Policy
from .basic_mac import BasicMAC


@dataclass(frozen=True)
class Measured:
    """The steps that distances are measured on, and the policies that acted there.

    | field | shape | meaning |
    |---|---|---|
    | samples | S steps | the entries that were drawn |
    | acting | [S, N, ...] | parameters of the distributions of the policies that acted, each on its own steps |
    """

    samples: Samples
    acting: Tensor

    def __len__(self) -> int:
        return self.samples.n_entries


@dataclass(frozen=True)
class Distances:
    """What separates each learner from each source: [N, N] float64, learner rows, source columns.

    All are infinite between agents of different spaces and for a source without a valid step, and 0 on the diagonal.

    | field | meaning |
    |---|---|
    | kl | D: KL( pi_j(.|o_j) || pi_i(.|o_j) ) over j's valid steps, by `reuse_kl_reduction` (eq. 9, Condition 1) |
    | bias | b: mean total variation, 1/2 sum_a of abs( pi_i(a|o_j) - pi_j(a|o_j) ), at most 1: what reuse may bias |
    | chi_square | c: mean of sum_a pi_i(a|o_j)^2 / pi_j(a|o_j) - 1: what importance weights cost in variance |
    """

    kl: np.ndarray
    bias: np.ndarray
    chi_square: np.ndarray


@dataclass(frozen=True)
class OnSources:
    """A learner's policy on the measured steps of J sources, beside the policies that acted there: R rows.

    | field | meaning |
    |---|---|
    | measured, sources | what was measured, and which sources [J] |
    | rows | where the R rows are among the samples: their step, and the source as their agent |
    | place | [R] the position of each row's source among ``sources`` |
    | acting, policy | the distributions of the source and of the learner on the rows |
    """

    measured: Measured
    sources: list[int]
    rows: RowIndex
    place: Tensor
    acting: Policy
    policy: Policy

    def by_source(self, x: Tensor) -> Tensor:
        """Lay figures of the rows [R] out as [J, S steps], 0 where there is no row."""
        found = x.new_zeros(len(self.sources), self.measured.samples.n_steps)
        found[self.place, self.rows.step] = x
        return found

    @property
    def valid(self) -> Tensor:
        """[J, S] bool: the steps at which the source took a decision."""
        return self.by_source(self.measured.samples.valid[self.rows.at])


def evaluate(mac: BasicMAC, samples: Samples, rows: RowIndex, params: Tensor) -> Policy:
    """The policy ``params`` [P] on ``rows`` [L], whichever agents acted; their sequences are read from zeros unless
    the agents acted themselves."""
    return mac.policy(params, samples.inputs[rows.at], samples.avail[rows.at], rows.packing, rows.hidden)


def measure(mac: BasicMAC, samples: Samples, entries: Tensor) -> Measured:
    """Take the policies as they are for those that acted, on ``entries`` [m] of ``samples``."""
    part = samples.part(entries)
    found: list[tuple[RowIndex, Tensor] | None] = [None] * mac.info.n_agents

    def own(j: int) -> None:
        rows = part.rows(part.entries, torch.full_like(part.entries, j))
        found[j] = rows, evaluate(mac, part, rows, mac.network.params[mac.index[j]]).params

    for_all_agents(mac.info.n_agents, own)
    acting: Tensor | None = None
    for rows, params in (x for x in found if x is not None):
        if acting is None:
            acting = params.new_zeros(part.n_steps, mac.info.n_agents, params.shape[-1])
        acting[rows.at] = params
    assert acting is not None
    return Measured(part, acting)


@torch.no_grad()
def on_sources(
    mac: BasicMAC, params: Tensor, measured: Measured, sources: list[int], max_rows: int
) -> Iterator[OnSources]:
    """Evaluate the policy ``params`` [P] on the measured steps of ``sources``, at most ``max_rows`` rows a call."""
    samples, entries = measured.samples, measured.samples.entries
    for chunk in chunks(sources, samples.n_steps, max_rows):
        at = torch.tensor(chunk, device=entries.device)
        rows = samples.rows(entries.repeat(len(chunk)), at.repeat_interleave(len(entries)))
        acting = mac.distribution_from(measured.acting[rows.at], samples.avail[rows.at])
        policy = evaluate(mac, samples, replace(rows, hidden=None), params)
        place = torch.arange(len(chunk), device=rows.chosen.device).repeat_interleave(len(entries))[rows.chosen]
        yield OnSources(measured, chunk, rows, place, acting, policy)


def chunks(sources: list[int], rows_each: int, max_rows: int) -> list[list[int]]:
    """Cut ``sources`` so that one network call has at most ``max_rows`` rows (at least one source)."""
    size = max(1, max_rows // max(rows_each, 1))
    return [sources[k : k + size] for k in range(0, len(sources), size)]


def reduced(x: Tensor, valid: Tensor, reduction: str) -> Tensor:
    """[J] float64: a figure [J, steps] of each source over its valid steps by ``max``, ``mean`` or ``p95`` (the 95th
    percentile); infinite for a source without any."""
    if reduction == "mean":
        found = torch.where(valid, x, 0.0).sum(1) / valid.sum(1)
    elif reduction == "p95":
        found = torch.where(valid, x, torch.nan).nanquantile(0.95, dim=1)
    else:
        found = torch.where(valid, x, -torch.inf).amax(1)
    return torch.where(valid.any(1), found, torch.inf).double()


def kl(pair: OnSources, reduction: str) -> Tensor:
    """[J] float64: KL( pi_j || pi_i ) of each source, reduced over its valid steps."""
    return reduced(pair.by_source(pair.acting.kl(pair.policy)), pair.valid, reduction)


def kl_bias_chi_square(pair: OnSources, reduction: str) -> Tensor:
    """[3, J] float64: D by ``reduction``, and b and c, which are means over the source's valid steps."""
    valid = pair.valid
    apart = pair.by_source(pair.acting.kl(pair.policy))
    bias = pair.by_source(pair.acting.total_variation(pair.policy))
    # in float64: one step may be as large as the type allows
    cost = pair.by_source(pair.policy.chi_square(pair.acting).double())
    return torch.stack(
        [reduced(apart, valid, reduction), reduced(bias, valid, "mean"), reduced(cost, valid, "mean")]
    )  # fmt: skip


def for_all_agents(n_agents: int, do: Callable[[int], None]) -> None:
    """Call ``do`` for each agent without gradients, in two threads where another one is free."""

    def some(agents: range) -> None:
        with torch.no_grad():  # a setting of each thread
            for i in agents:
                do(i)

    with in_background(partial(some, range(n_agents // 2))) as half:
        some(range(n_agents // 2, n_agents))
        half()
