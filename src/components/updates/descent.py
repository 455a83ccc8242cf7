"""One step of gradient descent: shards of a mini-batch in parallel, clipping, and the optimiser, behind one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import graphs
from .optimisers import Adam, step_together
from .parallel import SHARDS, differentiate, shards
from .samples import minibatches


@dataclass(frozen=True)
class MiniBatch:
    """Some entries of a batch: ``entries`` [m] int64; it is one of ``of`` that an epoch consists of."""

    entries: Tensor
    of: int = 1

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: slice) -> MiniBatch:
        return replace(self, entries=self.entries[index])


#: Parameters (a leaf, or a list of leaves), entries of the mini-batch, and a tally to add figures to -> their loss: one
#: tensor, or several that are added up, each differentiated before the next one is asked for (memory holds one graph at
#: a time).
Loss = Callable[[Any, MiniBatch, Any], Tensor | Iterable[Tensor]]

NO_TALLIES = (None,) * SHARDS

#: fewest repetitions of a step that are worth a graph, whose capture costs about as much as two steps
_WORTH = 4


class Tally:
    """Sums of named figures, which losses add to and :func:`means` averages."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int | Tensor] = {}

    def add(self, name: str, values: Tensor, among: Tensor | None = None) -> None:
        """Take in the figures ``values`` (any shape) under ``name``; ``among`` (bool, as wide): those that count."""
        count: int | Tensor = values.numel()
        if among is not None and values.device.type == "cpu":
            values = values[among]
            count = values.numel()
        elif among is not None:  # how many there are stays on the device
            values, count = torch.where(among, values, 0.0), among.sum()
        self.sums[name] = self.sums.get(name, 0.0) + values.detach().sum()
        self.counts[name] = self.counts.get(name, 0) + count


def new_tallies() -> list[Tally]:
    """Return the tallies of an update, for :func:`descend`."""
    return [Tally() for _ in range(SHARDS)]


def means(tallies: Sequence[Tally]) -> dict[str, float]:
    """Return the mean of each figure that was added to ``tallies`` (0 of none)."""
    names = dict.fromkeys(name for tally in tallies for name in tally.sums)
    return {
        name: float(sum(t.sums.get(name, 0.0) for t in tallies))
        / max(int(sum(t.counts.get(name, 0) for t in tallies)), 1)
        for name in names
    }


def epoch(
    n_entries: int, n_minibatches: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Iterator[MiniBatch]:
    """Yield the mini-batches of one epoch over ``n_entries``; see :func:`.samples.minibatches`."""
    parts = minibatches(n_entries, n_minibatches, generator, device)
    for part in parts:
        yield MiniBatch(part, len(parts))


def descend(
    optimiser: torch.optim.Optimizer,
    params: Tensor | Sequence[Tensor],
    part: MiniBatch,
    loss: Loss,
    tallies: Sequence[Any] = NO_TALLIES,
    *,
    rows: int,
    recurrent: bool,
    clip: float,
) -> tuple[Tensor, Tensor]:
    """Step ``optimiser`` once down the loss of a mini-batch, each network's gradient clipped.

    The mini-batch may be cut into shards that are differentiated in parallel: a loss must be a sum over entries.

    Args:
        params: the leaf that the optimiser changes, [K, P] or [P] (networks are rows), or several of any shape: the
            loss gets one, or as many.
        part: the mini-batch.
        loss: its loss.
        tallies: what losses add figures to, as many as there may be shards (SHARDS).
        rows: network rows that an entry takes.
        recurrent: whether entries are sequences.
        clip: largest L2 norm of each network's gradient.

    Returns:
        the loss, and the largest norm of a network's gradient before it was clipped.
    """

    single = isinstance(params, Tensor)
    leaves = [params] if isinstance(params, Tensor) else list(params)

    def shard(cut: slice, tally: Any, found: list[Tensor]) -> Iterable[Tensor]:
        value = loss(found[0] if single else found, part[cut], tally)
        return [value] if isinstance(value, Tensor) else value

    cuts = shards(len(part), rows, recurrent, leaves[0].device)
    value = differentiate(leaves, [partial(shard, *x) for x in zip(cuts, tallies, strict=False)])
    norms = [clip_rows(x.grad, clip) for x in leaves]
    optimiser.step()
    return value, norms[0] if single else torch.stack(norms).max()


class Descents:
    """Steps of gradient descent that an update repeats on other entries of one batch; on a GPU as CUDA graphs.

    Losses must be fixed for a batch: what they read besides their parameters and entries stays as it is.

    Args:
        device, known: see :class:`~.graphs.Graphs`.
    """

    def __init__(self, device: torch.device, known: bool) -> None:
        self._graphs = graphs.Graphs(device, known)
        self._losses: list[Any] = []
        self._entries: dict[Hashable, Tensor] = {}
        self._steps: dict[Hashable, graphs.Repeated[tuple[Tensor, Tensor]]] = {}

    def renew(self) -> None:
        """Let the batch's steps go, and what they hold of it."""
        for kept in (self._steps, self._entries, self._losses):
            kept.clear()
        self._graphs.renew()

    def __call__(
        self, name: Hashable, loss: Any, part: MiniBatch, step: Callable[[MiniBatch], tuple[Tensor, Tensor]], times: int
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Take ``step`` on a mini-batch; returns what it returns.

        Args:
            name: of the network that is learned.
            loss: whose step it is: of one loss they differ in nothing but the mini-batch.
            part: the mini-batch.
            step: the step, a call of :func:`descend`.
            times: how often such a step is taken on this batch.
        """
        if not self._graphs.active or times < _WORTH:
            return step(part)
        key = name, id(loss), len(part), part.of
        if key not in self._steps:
            self._entries[key] = entries = part.entries.clone()
            fixed = replace(part, entries=entries)
            self._losses.append(loss)  # or another one could get its id
            self._steps[key] = self._graphs.repeated(name, lambda: step(fixed))
        self._entries[key].copy_(part.entries)
        value, norm = self._steps[key]()
        return value.clone(), norm.clone()


@dataclass(frozen=True)
class Part:
    """What one of several runs contributes to a common step: its number among them, and entries of its batch."""

    run: int
    entries: MiniBatch


#: Parameters of each run (leaves), what each contributes, and a tally -> the loss of each of the parts, or their sum,
#: or several such sums (see Loss).
CommonLoss = Callable[[list[Tensor], list[Part], Any], Tensor | Iterable[Tensor]]


def descend_together(
    optimisers: Sequence[Adam],
    params: Sequence[Tensor],
    parts: Sequence[Part],
    loss: CommonLoss,
    tallies: Sequence[Any] = NO_TALLIES,
    *,
    rows: int | Sequence[int],
    recurrent: bool,
    clip: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """Take the step of :func:`descend` in several runs, whose losses are computed as one.

    Args:
        optimisers, params: of each run that takes a step, in the order of ``parts``; a parameter is one leaf.
        parts: the mini-batches; they are cut into shards as each run's own would be.
        loss: of all runs: a sum over runs and entries.
        tallies: what losses add figures to, one for each shard.
        rows, recurrent, clip: as of :func:`descend`; ``rows`` of each of ``parts`` where they differ.

    Returns:
        for each of ``parts`` its loss (none where losses are one sum), and the largest norm of a network's gradient
        before it was clipped.
    """
    cut: list[list[Part]] = [[] for _ in range(SHARDS)]
    each = [rows] * len(parts) if isinstance(rows, int) else rows
    for part, width in zip(parts, each, strict=True):
        for j, piece in enumerate(shards(len(part.entries), width, recurrent, params[0].device)):
            cut[j].append(Part(part.run, part.entries[piece]))

    def shard(own: list[Part], tally: Any, found: list[Tensor]) -> Iterable[Tensor]:
        value = loss(found, own, tally)
        if not isinstance(value, Tensor):
            return value
        if value.dim():
            values[id(own)] = value.detach()
        return [value.sum() if value.dim() else value]

    values: dict[int, Tensor] = {}
    work = [partial(shard, *x) for x in zip(cut, tallies, strict=True) if x[0]]
    differentiate(params, work)
    norms = [clip_rows(x.grad, clip) for x in params]
    step_together(optimisers)
    found: dict[int, Tensor] = {}
    for own in cut:  # in the order of the shards, as the sum of one run is taken
        for part, value in zip(own, values.get(id(own), ()), strict=False):
            found[part.run] = found[part.run] + value if part.run in found else value
    return [found[part.run] for part in parts] if found else [], norms


@torch.no_grad()
def follow(copy: Tensor, params: Tensor, interval_or_tau: float, updates: int) -> None:
    """Move the target network ``copy`` after ``params``, in place (`target_update_interval_or_tau`).

    Args:
        interval_or_tau: below 1 the share of a soft update; otherwise the number of updates between copies.
        updates: updates so far.
    """
    if interval_or_tau < 1:
        copy.lerp_(params, interval_or_tau)
    elif updates % math.ceil(interval_or_tau) == 0:
        copy.copy_(params)


def clip_rows(gradient: Tensor | None, limit: float) -> Tensor:
    """Scale each row of ``gradient`` [K, P] (or [P]) down to norm ``limit`` in place; returns the largest norm before.

    Rows are networks: clipping them together would let one agent's gradient shrink another's.
    """
    assert gradient is not None
    norm = gradient.norm(dim=-1, keepdim=True)
    gradient.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norm.max()
