"""Updates of several runs computed at once, with the numbers that each run's own update would have.

    for each run k: begin its iteration                        (advantages, targets, schedules: its own)
    for each epoch, for each mini-batch:
        evaluate the networks of every run on its own entries  (the networks' kernels: one run after another)
        one loss of all runs' decisions, one differentiation
        clip and step each run's parameters
    for each run k: end its iteration

Everything but the networks is computed on the rows of all runs together. Operations on small mini-batches take their
fixed time however many rows they have, so that K runs cost little more than one there. Sums that parameters depend on
are taken within a run, in the order in which the run alone would take them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.updates.descent import MiniBatch, Part, descend_together, epoch
from ..components.updates.parallel import in_background
from ..controllers.basic_mac import BasicMAC
from .contract import Learner
from .happo import HAPPOLearner
from .losses import (
    ClipStats,
    Rows,
    SequentialFactor,
    clip_stats,
    clipped_scalars,
    clipped_sum,
    log_ratios,
    merged,
)
from .on_policy import Iteration
from .ppo import PPOLearner, Steps, ppo_loss
from .value.state_values import ValueLearner
from .value.targets import ValueRows

#: learner, batch, environment steps before it
Asked = Sequence[tuple[Any, Batch, int]]


def possible(learner: Learner) -> bool:
    """Whether updates of this learner can be computed together with those of other runs."""
    kind = _FAMILIES.get(type(learner))
    return kind is not None and type(learner.mac) is BasicMAC and _plain(learner.value)  # type: ignore[attr-defined]


def _plain(value: ValueLearner) -> bool:
    return type(value) is ValueLearner and not value.across


def train(asked: Asked) -> list[Any]:
    """Return what ``learner.train(batch, t_env)`` returns for each of ``asked``, whose learners are alike."""
    return _FAMILIES[type(asked[0][0])](asked)


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
        rows: int,
        optimisers: Sequence[int] | None = None,
    ) -> None:
        """Step the policies ``params`` of the runs that ``parts`` are of, by one optimiser of each (the first)."""
        one = self.learners[0]
        chosen = [0] * len(self.learners) if optimisers is None else optimisers
        _, norms = descend_together(
            [self.learners[part.run].optimisers[chosen[part.run]] for part in parts],
            [params[part.run] for part in parts],
            [Part(k, part.entries) for k, part in enumerate(parts)], partial(loss, [part.run for part in parts]), stats,
            rows=rows, recurrent=one.mac.recurrent, clip=one.config.grad_norm_clip,
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


def fit_critics(them: Together) -> list[dict[str, float]]:
    """:meth:`ValueLearner.update` of several runs; returns the scalars of each."""
    its, values = them.its, [learner.value for learner in them.learners]
    rows: list[ValueRows] = [
        v.begin_update(it.batch, it.targets, it.lr_scale) for v, it in zip(values, its, strict=True)
    ]
    losses: list[list[Tensor]] = [[] for _ in values]
    norms: list[list[Tensor]] = [[] for _ in values]
    sequences = [it.targets.sequences for it in its]
    sizes = [len(r.goal) if s is None else len(s) for r, s in zip(rows, sequences, strict=True)]
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

    epochs = [
        partial(epoch, n, config.num_minibatches, v.generator, v.network.params.device)
        for n, v in zip(sizes, values, strict=True)
    ]
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


_FAMILIES: dict[type, Callable[[Asked], list[Any]]] = {PPOLearner: train_ppo, HAPPOLearner: train_happo}
