"""PPO's updates of several runs at once."""

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
    clipped_scalars,
)
from ..ppo import Steps, ppo_loss
from .common import Asked, Together, fit_critics, mini_batches


def steps_of(
    them: Together, places: Sequence[tuple[int, int, Any, Tensor]], shares: Sequence[Tensor],
    shapes: Sequence[torch.Size],
) -> tuple[Steps, float | Tensor]:  # fmt: skip
    """The decisions of several runs one after another, and the entropy weight of each.

    Args:
        places: run, mini-batches of an epoch, index into the run's samples, and the agents there.
        shares: [N] of each run, what a decision counts.
        shapes: of each run's decisions here.
    """
    n, pieces = them.learners[0].info.n_agents, []
    for (k, of, at, agent), shape in zip(places, shapes, strict=True):
        samples = them.its[k].samples
        pieces.append(Steps(
            samples.log_prob[at], samples.advantage[at], samples.valid[at], (agent + k * n).expand(shape),
            (shares[k] * of)[agent].expand(shape),
        ))  # fmt: skip
    steps = Steps(*(torch.cat(x) for x in zip(*pieces, strict=True)))
    return steps, them.coefficients([k for k, *_ in places], [x.weight for x in pieces])


def train_ppo(asked: Asked) -> list[Any]:
    """:meth:`~.ppo.PPOLearner.train` of several runs."""
    them = Together(asked)
    learners, n = them.learners, them.learners[0].info.n_agents
    shares = [learner.shares(it.samples) for learner, it in zip(learners, them.its, strict=True)]
    stats = them.stats()

    kept: dict[int, tuple[Steps, float | Tensor]] = {}  # of whole batches, which are the same in each epoch

    def loss(runs: Sequence[int], params: list[Tensor], parts: list[Part], stats: ClipStats) -> Tensor:
        log_probs, entropies, places = [], [], []
        for part in parts:
            k, samples = runs[part.run], them.its[runs[part.run]].samples
            policy, at, agent = learners[k].mac.policies(samples, part.entries.entries, params[part.run])
            # sums and softmaxes over few actions depend on where their rows stand among all: each run has its own
            log_probs.append(policy.log_prob(samples.actions[at]))
            entropies.append(policy.entropy())
            places.append((k, part.entries.of, at, agent))
        whole = all(part.entries.of == 1 for part in parts)
        found = kept.get(id(stats)) if whole else None
        if found is None:
            found = steps_of(them, places, shares, [x.shape for x in log_probs])
            if whole:
                kept[id(stats)] = found
        steps, coefficient = found
        return ppo_loss(
            torch.cat(log_probs), torch.cat(entropies), steps, learners[0].config.eps_clip, coefficient, stats
        )

    params = [learner.mac.network.params for learner in learners]
    with in_background(partial(fit_critics, them)) as critics:
        epochs = [partial(learner.epoch, it) for learner, it in zip(learners, them.its, strict=True)]
        for parts in mini_batches(epochs, learners[0].n_epochs):
            them.descend(params, parts, loss, stats, rows=n)
        scalars = [learner.end_iteration(it, c) for learner, it, c in zip(learners, them.its, critics(), strict=True)]
    found: list[Any] = []
    for k, learner in enumerate(learners):
        total = them.own_stats(stats, k)
        learner.processed += total.count
        found.append((scalars[k] | clipped_scalars(total, them.its[k].norms), {}))
    return found
