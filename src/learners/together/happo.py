"""HAPPO's updates of several runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...components.updates.descent import Part
from ...components.updates.parallel import in_background
from ..losses import (
    ClipStats,
    Rows,
    SequentialFactor,
    clipped_scalars,
    clipped_sum,
    log_ratios,
)
from .common import Asked, Together, fit_critics, mini_batches


def train_happo(asked: Asked) -> list[Any]:
    """:meth:`~.happo.HAPPOLearner.train` of several runs: at each place of their orders every run has an agent."""
    them = Together(asked)
    learners, its, stats = them.learners, them.its, them.stats()
    factors = [
        SequentialFactor(learner.mac, it.samples, learner.config.factor_clip)
        for learner, it in zip(learners, its, strict=True)
    ]
    with in_background(partial(fit_critics, them)) as critics:
        for agents in zip(*(learner.order() for learner in learners), strict=True):
            targets = [factor.times_advantage([i]) for factor, i in zip(factors, agents, strict=True)]
            _update_agents(them, agents, targets, stats)
            for factor, i in zip(factors, agents, strict=True):
                factor.include(i, i)
        scalars = [learner.end_iteration(it, c) for learner, it, c in zip(learners, its, critics(), strict=True)]
    found: list[Any] = []
    for k, (learner, it, factor) in enumerate(zip(learners, its, factors, strict=True)):
        total = them.own_stats(stats, k)
        learner.processed += total.count
        found.append((scalars[k] | clipped_scalars(total, it.norms) | factor.scalars(), {}))
    return found


def _update_agents(them: Together, agents: Sequence[int], targets: Sequence[Tensor], stats: list[ClipStats]) -> None:
    """All epochs of one agent of each run, ``agents`` [K], on its own steps; ``targets``: factor times advantage."""
    learners, its, n = them.learners, them.its, them.learners[0].info.n_agents
    kept: dict[int, tuple[list[Rows], Rows, float | Tensor]] = {}  # of whole batches, the same in each epoch

    def rows_of(runs: Sequence[int], parts: list[Part]) -> tuple[list[Rows], Rows, float | Tensor]:
        each = []
        for part in parts:
            k, entries = runs[part.run], part.entries.entries
            source = torch.full_like(entries, agents[k])
            weight = 1.0 / (its[k].counts / part.entries.of)[source]
            each.append(Rows.gather(its[k].samples, targets[k], entries, source, weight))
        return each, together_rows(each, [runs[part.run] * n for part in parts]), them.coefficients(
            [runs[part.run] for part in parts], [rows.weight for rows in each]
        )  # fmt: skip

    def loss(runs: Sequence[int], params: list[Tensor], parts: list[Part], stats: ClipStats) -> Tensor:
        whole = all(part.entries.of == 1 for part in parts)
        found = kept.get(id(stats)) if whole else None
        if found is None:
            found = rows_of(runs, parts)
            if whole:
                kept[id(stats)] = found
        each, rows, coefficient = found
        own = [
            log_ratios(learners[runs[part.run]].mac, params[part.run], r) for part, r in zip(parts, each, strict=True)
        ]
        log_ratio, entropy = (torch.cat(x) for x in zip(*own, strict=True))
        return clipped_sum(log_ratio, entropy, rows, learners[0].config.eps_clip, coefficient, stats)

    params = [learner.agent_params[i] for learner, i in zip(learners, agents, strict=True)]
    epochs = [partial(learner.epoch, it) for learner, it in zip(learners, its, strict=True)]
    for parts in mini_batches(epochs, learners[0].n_epochs):
        them.descend(params, parts, loss, stats, rows=1, optimisers=agents)


def together_rows(each: Sequence[Rows], first: Sequence[int]) -> Rows:
    """The rows of several runs one after another, as far as losses read them; sources are counted from ``first`` on."""
    log_prob, valid, target, weight = (
        torch.cat([getattr(rows, name) for rows in each]) for name in ("log_prob", "valid", "target", "weight")
    )
    source = torch.cat([rows.source + k for rows, k in zip(each, first, strict=True)])
    one = each[0]
    return Rows(one.inputs[:0], one.avail[:0], one.actions[:0], log_prob, valid, target, weight, source)
