"""Updates of several runs' HAPPO or OAPPO at once: at each place of their orders every run has an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from ...components.updates.descent import MiniBatch, Part
from ...components.updates.kept import Kept
from ...components.updates.parallel import in_background
from ..happo import own_rows
from ..losses import (
    ClipStats,
    Rows,
    SequentialFactor,
    clipped_scalars,
    clipped_sum,
    log_ratios,
)
from ..off_agent import MappingRow, draw_sources, reuse_rows
from .common import Asked, Together, fit_critics, mini_batches

#: a run, a mini-batch, and what was drawn for the epoch -> the rows that the run's agent learns from, in pieces
Pieces = Callable[[int, MiniBatch, Any], Iterable[Rows]]


def train_happo(asked: Asked) -> list[Any]:
    """:meth:`~.happo.HAPPOLearner.train` of several runs."""
    them = Together(asked)
    learners, its, factors = them.learners, them.its, _factors(them)
    stats = them.stats()
    with in_background(partial(fit_critics, them)) as critics:
        for agents in zip(*(learner.order() for learner in learners), strict=True):
            _update_alone(them, agents, factors, stats)
            for factor, i in zip(factors, agents, strict=True):
                factor.include(i, i)
        scalars = [learner.end_iteration(it, c) for learner, it, c in zip(learners, its, critics(), strict=True)]
    found: list[Any] = []
    for k, (learner, it, factor) in enumerate(zip(learners, its, factors, strict=True)):
        total = them.own_stats(stats, k)
        learner.processed += total.count
        found.append((scalars[k] | clipped_scalars(total, it.norms) | factor.scalars(), {}))
    return found


def train_oappo(asked: Asked) -> list[Any]:
    """:meth:`~.oappo.OAPPOLearner.train` of several runs, whose clip is around the source."""
    them = Together(asked)
    learners, its, n = them.learners, them.its, them.learners[0].info.n_agents
    mappings, factors = [learner.mapping(it) for learner, it in zip(learners, its, strict=True)], _factors(them)
    tallies: list[list[ClipStats]] = [them.stats() for _ in range(n)]  # of each place of the orders
    with in_background(partial(fit_critics, them)) as critics:
        orders = [learner.order() for learner in learners]
        for agents, stats in zip(zip(*orders, strict=True), tallies, strict=True):
            _update_learners(them, agents, mappings, factors, stats)
            for learner, factor, mapping, i in zip(learners, factors, mappings, agents, strict=True):
                factor.include(i, learner.slot(mapping, i))
        scalars = [learner.end_iteration(it, c) for learner, it, c in zip(learners, its, critics(), strict=True)]
    found: list[Any] = []
    for k, (learner, it, mapping, factor) in enumerate(zip(learners, its, mappings, factors, strict=True)):
        own = [them.own_stats(tallies[orders[k].index(i)], k) for i in range(n)]
        more, arrays = learner.report(it, mapping, factor, own, {})
        found.append((scalars[k] | more, arrays))
    return found


def _factors(them: Together) -> list[SequentialFactor]:
    return [
        SequentialFactor(learner.mac, it.samples, learner.config.factor_clip)
        for learner, it in zip(them.learners, them.its, strict=True)
    ]


def _update_alone(
    them: Together, agents: Sequence[int], factors: Sequence[SequentialFactor], stats: list[ClipStats]
) -> None:
    """All epochs of one agent of each run, ``agents`` [K], on its own steps."""
    targets = [factor.times_advantage([i]) for factor, i in zip(factors, agents, strict=True)]

    def pieces(k: int, part: MiniBatch, _: None) -> Iterator[Rows]:
        return own_rows(them.its[k], agents[k], targets[k], part)

    epochs = [[None] * learner.n_epochs for learner in them.learners]
    _update_agents(them, agents, pieces, epochs, [1] * len(agents), stats)


def _update_learners(
    them: Together, agents: Sequence[int], mappings: Sequence[Any], factors: Sequence[SequentialFactor],
    stats: list[ClipStats],
) -> None:  # fmt: skip
    """All epochs of one learner of each run, ``agents`` [K], on its sources' steps."""
    learners, its = them.learners, them.its
    sources = [mapping.sources(i) for mapping, i in zip(mappings, agents, strict=True)]
    targets = [
        factor.times_advantage(listed, learner.mac.factor == "own")
        for learner, factor, listed in zip(learners, factors, sources, strict=True)
    ]
    drawn = [
        draw_sources(learner.mac, mapping, i, it.samples, learner.config.epochs, learner.generators["draws"])
        for learner, mapping, it, i in zip(learners, mappings, its, agents, strict=True)
    ]
    rows = [MappingRow.of(mapping, i, it.samples) for it, mapping, i in zip(its, mappings, agents, strict=True)]

    def pieces(k: int, part: MiniBatch, chosen: Tensor | None) -> Iterator[Rows]:
        counts = its[k].counts / part.of
        return reuse_rows(learners[k].mac, rows[k], its[k].samples, targets[k], counts, part.entries, chosen)

    weighted = learners[0].mac.config.reuse_mode == "weights"
    _update_agents(them, agents, pieces, drawn, [len(x) if weighted else 1 for x in sources], stats)


@dataclass(frozen=True)
class Piece:
    """One piece of what several runs learn from.

    Attributes:
        having: places of those that have such a piece, among the step's parts.
        own: the rows of each.
        rows: of all of them, see :func:`together_rows`.
        entropy_coef: the entropy weight, of each row where runs differ.
    """

    having: Sequence[int]
    own: list[Rows]
    rows: Rows
    entropy_coef: float | Tensor


def _update_agents(
    them: Together, agents: Sequence[int], pieces: Pieces, drawn: Sequence[Sequence[Any]], rows: Sequence[int],
    stats: list[ClipStats],
) -> None:  # fmt: skip
    """All epochs of one agent of each run, ``agents`` [K].

    Args:
        pieces: what they learn from.
        drawn: of each run, what was drawn for each epoch.
        rows: of each run, the network rows that an entry takes.
        stats: what figures are added to.
    """
    learners, n = them.learners, them.learners[0].info.n_agents

    def joined(runs: Sequence[int], parts: list[Part], draws: Sequence[Any]) -> Iterator[Piece]:
        each = (pieces(k, part.entries, one) for k, part, one in zip(runs, parts, draws, strict=True))
        for several in zip_longest(*each):
            having, own = [j for j, x in enumerate(several) if x is not None], [x for x in several if x is not None]
            whose = [runs[j] for j in having]
            weights = them.coefficients(whose, [x.weight for x in own])
            yield Piece(having, own, together_rows(own, [k * n for k in whose]), weights)

    def loss(
        kept: Kept[Piece], drawn: Sequence[Any], runs: Sequence[int], params: list[Tensor], parts: list[Part],
        stats: ClipStats,
    ) -> Iterator[Tensor]:  # fmt: skip
        whose = [runs[part.run] for part in parts]
        several = max((part.entries for part in parts), key=lambda x: x.of)
        for piece in kept.pieces(stats, several, partial(joined, whose, parts, [drawn[k] for k in whose])):
            ratios = [
                log_ratios(learners[whose[j]].mac, params[parts[j].run], x)
                for j, x in zip(piece.having, piece.own, strict=True)
            ]
            log_ratio, entropy = (torch.cat(x) for x in zip(*ratios, strict=True))
            eps_clip = learners[0].config.eps_clip
            yield clipped_sum(log_ratio, entropy, piece.rows, eps_clip, piece.entropy_coef, stats)

    params = [learner.agent_params[i] for learner, i in zip(learners, agents, strict=True)]
    epochs = [partial(learner.epoch, it) for learner, it in zip(learners, them.its, strict=True)]
    kept, before = Kept[Piece](), None
    for now in zip(*drawn, strict=True):
        if before is None or any(a is not b for a, b in zip(now, before, strict=True)):
            kept = Kept()
        before = now
        for parts in mini_batches(epochs, 1):
            them.descend(params, parts, partial(loss, kept, now), stats, rows=rows, optimisers=agents)


def together_rows(each: Sequence[Rows], first: Sequence[int]) -> Rows:
    """The rows of several runs one after another, as far as losses read them; sources are counted from ``first`` on."""
    log_prob, valid, target, weight = (
        torch.cat([getattr(rows, name) for rows in each]) for name in ("log_prob", "valid", "target", "weight")
    )
    source = torch.cat([rows.source + k for rows, k in zip(each, first, strict=True)])
    one = each[0]
    return Rows(one.inputs[:0], one.avail[:0], one.actions[:0], log_prob, valid, target, weight, source)
