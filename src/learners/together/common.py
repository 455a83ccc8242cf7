"""What updates of several runs have in common: their iterations, steps, figures, and critics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.updates.descent import MiniBatch, Part, descend_together
from ..losses import (
    ClipStats,
    clip_stats,
    merged,
)
from ..on_policy import Iteration
from ..value.targets import ValueRows

#: learner, batch, environment steps before it
Asked = Sequence[tuple[Any, Batch, int]]


def mini_batches(epochs: Sequence[Callable[[], Iterator[MiniBatch]]], n_epochs: int) -> Iterator[list[Part]]:
    """Yield what all runs contribute to each common step, from each run's mini-batches of an epoch."""
    for _ in range(n_epochs):
        for several in zip_longest(*(each() for each in epochs)):
            yield [Part(k, part) for k, part in enumerate(several) if part is not None]


class Together:
    """The iterations of several learners of one kind.

    Args:
        asked: what the runs asked for.

    Attributes:
        learners, its: of each run.
        entropy_coef: the weight of the entropy bonus, of each run where they differ.
    """

    def __init__(self, asked: Asked) -> None:
        self.learners = [learner for learner, _, _ in asked]
        self.its: list[Iteration] = [learner.begin_iteration(batch, t_env) for learner, batch, t_env in asked]
        coefs = [it.entropy_coef for it in self.its]
        self.entropy_coef: list[float] | float = coefs[0] if len(set(coefs)) == 1 else coefs

    def descend(
        self,
        params: Sequence[Tensor],
        parts: list[Part],
        loss: Any,
        stats: list[ClipStats],
        rows: int | Sequence[int],
        optimisers: Sequence[int] | None = None,
    ) -> None:
        """Step the policies ``params`` of the runs that ``parts`` are of, by one optimiser of each (the first).

        ``rows``: network rows that an entry takes, of each run where they differ.
        """
        one = self.learners[0]
        chosen = [0] * len(self.learners) if optimisers is None else optimisers
        _, norms = descend_together(
            [self.learners[part.run].optimisers[chosen[part.run]] for part in parts],
            [params[part.run] for part in parts],
            [Part(k, part.entries) for k, part in enumerate(parts)], partial(loss, [part.run for part in parts]), stats,
            rows=rows if isinstance(rows, int) else [rows[part.run] for part in parts],
            recurrent=one.mac.recurrent, clip=one.config.grad_norm_clip,
        )  # fmt: skip
        for part, norm in zip(parts, norms, strict=True):
            self.its[part.run].norms.append(norm)

    def stats(self) -> list[ClipStats]:
        """Tallies with a column for each agent of each run."""
        one = self.learners[0]
        return clip_stats(one.config.eps_clip, len(self.learners) * one.info.n_agents, one.device)

    def own_stats(self, stats: Sequence[ClipStats], run: int) -> ClipStats:
        """The figures of one run."""
        one, n = self.learners[0], self.learners[0].info.n_agents
        cut, found = slice(run * n, (run + 1) * n), clip_stats(one.config.eps_clip, n, one.device)
        for mine, whole in zip(found, stats, strict=True):
            mine.sums, mine.largest = whole.sums[:, cut], whole.largest[cut]
        return merged(found)

    def coefficients(self, runs: Sequence[int], like: Sequence[Tensor]) -> float | Tensor:
        """The entropy weights of rows ``like`` of the ``runs``: one number where all have the same."""
        coefs = self.entropy_coef
        if isinstance(coefs, float):
            return coefs
        return torch.cat([torch.full_like(x, coefs[k]) for k, x in zip(runs, like, strict=True)])


def fit_critics(them: Together) -> list[dict[str, float]]:
    """:meth:`ValueLearner.update` of several runs; returns the scalars of each."""
    its, values = them.its, [learner.value for learner in them.learners]
    rows: list[ValueRows] = [
        v.begin_update(it.batch, it.targets, it.lr_scale) for v, it in zip(values, its, strict=True)
    ]
    losses: list[list[Tensor]] = [[] for _ in values]
    norms: list[list[Tensor]] = [[] for _ in values]
    sequences = [it.targets.sequences for it in its]
    config, clip = values[0].epochs, values[0].config.grad_norm_clip

    def loss(runs: Sequence[int], params: list[Tensor], parts: list[Part], _: None) -> Tensor:
        pieces = [
            values[runs[p.run]].predicted(rows[runs[p.run]], sequences[runs[p.run]], params[p.run], p.entries)
            for p in parts
        ]
        if all(predicted.is_contiguous() for predicted, *_ in pieces):
            predicted, old, goal = (torch.cat(x) for x in zip(*pieces, strict=True))
            each = values[0].loss(predicted, old, goal).split([len(x[0]) for x in pieces])
        else:  # sums over them are taken in the order of memory: joined, they would be laid out in another one
            each = tuple(values[0].loss(*piece) for piece in pieces)
        scales = [p.entries.of / rows[runs[p.run]].goal.numel() for p in parts]
        return torch.stack([one.sum() * scale for one, scale in zip(each, scales, strict=True)])

    epochs = [partial(v.epoch, r, s) for v, r, s in zip(values, rows, sequences, strict=True)]
    for parts in mini_batches(epochs, config.epochs):
        runs = [part.run for part in parts]
        found = descend_together(
            [values[k].optimiser for k in runs], [values[k].network.params for k in runs],
            [Part(j, part.entries) for j, part in enumerate(parts)], partial(loss, runs),
            rows=rows[0].goal[0].numel(), recurrent=values[0].recurrent, clip=clip,
        )  # fmt: skip
        for k, value, norm in zip(runs, *found, strict=True):
            losses[k].append(value)
            norms[k].append(norm)
    ended = zip(values, its, losses, norms, strict=True)
    return [v.end_update(it.batch, it.targets, mine, lengths) for v, it, mine, lengths in ended]
