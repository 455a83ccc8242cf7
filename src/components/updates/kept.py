"""What a loss reads of a whole batch, which is the same in every epoch: gathered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Generic, TypeVar

from .descent import MiniBatch

T = TypeVar("T")


class Kept(Generic[T]):
    """Pieces of the same mini-batches, epoch for epoch, held where each is one piece; of more, at most two exist.

    It belongs to one loss, and to the batch of that loss.
    """

    def __init__(self) -> None:
        self._held: dict[int, T] = {}

    def pieces(self, tally: Any, part: MiniBatch, gather: Callable[[], Iterator[T]]) -> Iterable[T]:
        """Return the pieces of a mini-batch, or of a shard of one, from ``gather`` unless they are held.

        Args:
            tally: the shard's own.
            part: its entries: nothing is held of one among several of an epoch, which are others in each, nor on a
                GPU, whose graphs gather for themselves.
            gather: the pieces, anew.
        """
        if part.of > 1 or part.entries.device.type != "cpu":
            return gather()
        if id(tally) in self._held:
            return [self._held[id(tally)]]
        found = gather()
        first = next(found, None)
        second = next(found, None)
        if first is None:
            return []
        if second is not None:
            return chain((first, second), found)
        self._held[id(tally)] = first
        return [first]
