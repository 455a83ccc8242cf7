"""Adjacent states: which states of another agent an agent takes for its own (policy reciprocity, definitions 1 and 2).

Agents i and j see some of a state's coordinates each. A state s of i and a state s' of j are adjacent at level eps if
the coordinates that both see differ by eps or less in all, ||C s - C' s'||_1 <= eps; coordinates that one of them does
not see may be anything. Agents that share no coordinate are not adjacent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..envs.tabular.base import Views
from ..utils.errors import UserError

#: numbers of adjacent states that are held at most
_MOST = 20_000_000


@dataclass(frozen=True)
class Adjacency:
    """The adjacent states of all agents' states, padded to one size.

    Agents that see the same coordinates are of one kind; U kinds, S states of an agent at most, K adjacent states.

    | field | shape | meaning |
    |---|---|---|
    | kind | [N] int64 | the agent's kind |
    | states | [U, U, S, K] int64 | for a state of the first kind its adjacent states of the second one |
    | adjacent | [U, U, S, K] bool | which of these there are |
    | same | [U, U, S, K] bool | those of them that agree in all shared coordinates |
    """

    kind: np.ndarray
    states: np.ndarray
    adjacent: np.ndarray
    same: np.ndarray

    def weights(self, kappa: float) -> np.ndarray:
        """Return [U, U, S, K]: what each adjacent state counts in the other agent's value (eq. 6).

        (1 - kappa) times the mean over the states that agree in all that both see, plus kappa times the mean over all
        adjacent ones; zeros where nothing is adjacent.
        """
        return (1.0 - kappa) * _shares(self.same) + kappa * _shares(self.adjacent)


def _shares(mask: np.ndarray) -> np.ndarray:
    shares: np.ndarray = mask / np.maximum(mask.sum(-1, keepdims=True), 1)
    return shares


def find(views: Views, level: int) -> Adjacency:
    """Return the adjacent states at a level.

    Raises:
        UserError: there are too many.
    """
    seen, kind = np.unique(views.seen, axis=0, return_inverse=True)
    kinds, every = Views(views.sizes, seen, views.level), list(itertools.product(range(len(seen)), repeat=2))
    level = min(level, sum(views.sizes))  # nothing is further apart
    most = int(kinds.counts().max()), max(_width(kinds, a, b, level) for a, b in every)
    if len(every) * most[0] * most[1] > _MOST:
        raise UserError(
            f"There are too many adjacent states ({len(every)} pairs of kinds of agents, {most[0]:,} states, up to "
            f"{most[1]:,} adjacent ones of each): use fewer agents or states, or a lower pr_eps."
        )
    pairs = {(a, b): _pair(kinds, a, b, level) for a, b in every}
    shape = (len(seen), len(seen), *most)
    states, adjacent, same = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
    for (a, b), found in pairs.items():
        count, width = found[0].shape
        for whole, part in zip((states, adjacent, same), found, strict=True):
            whole[a, b, :count, :width] = part
    return Adjacency(kind.reshape(-1), states, adjacent, same)


def _width(kinds: Views, a: int, b: int, level: int) -> int:
    """Return K of a pair of kinds: the offsets within the level times the values of what only kind b sees."""
    shared = int((kinds.seen[a] & kinds.seen[b]).sum())
    if not shared:
        return 1
    moves = sum(math.comb(shared, k) * 2**k * math.comb(level, k) for k in range(min(shared, level) + 1))
    free = np.flatnonzero(~kinds.seen[a] & kinds.seen[b])
    return moves * math.prod(kinds.sizes[d] for d in free)


def _pair(kinds: Views, a: int, b: int, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers [S_a, K], which there are, and which are the same, of kind b's states adjacent to kind a's."""
    sizes, own = np.asarray(kinds.sizes), kinds.seen[a]
    shared, free = np.flatnonzero(own & kinds.seen[b]), np.flatnonzero(~own & kinds.seen[b])
    count = int(kinds.counts()[a])
    if not len(shared):
        return np.zeros((count, 1), np.int64), np.zeros((count, 1), bool), np.zeros((count, 1), bool)
    strides = kinds.strides()
    at = np.arange(count)[:, None] // np.maximum(strides[a][shared], 1) % sizes[shared]  # [S_a, shared]
    moves = np.array(list(offsets(len(shared), level)), np.int64).reshape(-1, len(shared))
    to = at[:, None] + moves  # [S_a, moves, shared]
    inside = ((to < 0) | (to >= sizes[shared])).sum(-1) == 0
    rest = np.array(list(itertools.product(*(range(size) for size in sizes[free]))), np.int64)  # [rest, free]
    more = rest.reshape(-1 if len(free) else 1, len(free)) @ strides[b][free]
    numbers = (to @ strides[b][shared])[..., None] + more  # [S_a, moves, rest]
    there = np.broadcast_to(inside[..., None], numbers.shape)
    still = np.abs(moves).sum(1) == 0
    same = np.broadcast_to(there & still[:, None], numbers.shape)
    numbers = np.where(there, numbers, 0)
    return numbers.reshape(count, -1), there.reshape(count, -1), same.reshape(count, -1)


def offsets(n: int, level: int) -> Iterator[tuple[int, ...]]:
    """Yield every tuple of ``n`` whole numbers whose absolute values add up to ``level`` or less."""
    if not n:
        yield ()
        return
    for first in range(-level, level + 1):
        for rest in offsets(n - 1, level - abs(first)):
            yield (first, *rest)


def partners(adjacency: Adjacency, most: int | None) -> np.ndarray:
    """Return [N, N]: the share of agent j in what agent i learns from others, 1 / |N_i| for its partners, otherwise 0.

    Args:
        adjacency: agents without any adjacent state are no partners.
        most: the partners are among this many next agents in cyclic order; None: all others.
    """
    kind = adjacency.kind
    n = len(kind)
    ahead = (np.arange(n) - np.arange(n)[:, None]) % n
    chosen = (ahead > 0) & (ahead <= (n if most is None else most))
    related = np.asarray(adjacency.adjacent.any((2, 3)))
    chosen &= related[kind[:, None], kind]
    return _shares(chosen)
