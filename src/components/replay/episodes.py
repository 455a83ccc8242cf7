"""Where the episodes of a replay lie among its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..batch import Batch
from .fields import beginnings


@dataclass(frozen=True)
class Pieces:
    """The E episodes of a batch, or the pieces of episodes that its segments hold; S steps in all.

    | field | shape | meaning |
    |---|---|---|
    | row, step | [S] | where each real step is in the batch, one episode after another |
    | place | [E] | which of these is an episode's first |
    | length | [E] | steps of each episode |
    """

    row: np.ndarray
    step: np.ndarray
    place: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, batch: Batch, most: int) -> Pieces:
        """Cut the real steps of ``batch`` where episodes begin; of more than ``most`` the last ones are left."""
        row, step = (x.numpy() for x in batch.filled.cpu().nonzero(as_tuple=True))
        starts = batch.begins.cpu().numpy()[row, step] | np.diff(row, prepend=-1).astype(bool)
        place = np.flatnonzero(starts)
        if len(place) > most:
            place = place[-most:]
            row, step, place = row[place[0] :], step[place[0] :], place - place[0]
        return cls(row, step, place, np.diff(place, append=len(row)))

    @property
    def at(self) -> np.ndarray:
        """[E] the batch's row of each episode."""
        return self.row[self.place]

    @property
    def begins(self) -> np.ndarray:
        """[E] its first step there."""
        return self.step[self.place]

    def endings(self, batch: Batch) -> np.ndarray:
        """Return the number of each episode's last observation among the batch's final ones, [E], -1: in its row."""
        steps = batch.actions.shape[1]
        number = {i * steps + t: k for k, (i, t) in enumerate(batch.final_index.tolist())}
        last = self.at * steps + self.begins + self.length - 1
        return np.array([number.get(x, -1) for x in last.tolist()], np.int64)


class Episodes:
    """The E episodes of a replay, numbered in the order in which they came.

    | attribute | shape | meaning |
    |---|---|---|
    | oldest | | number of the oldest one |
    | first | [E] int64 | first row of each; it has one more than steps |
    | length | [E] int64 | its steps |
    | whole | [E] bool | an episode from its first step on, otherwise a piece of one |
    | before | [E, N, ...] | actions before its first step; None: there was no episode yet |
    """

    def __init__(self) -> None:
        self.oldest = 0
        self.first = np.zeros(0, np.int64)
        self.length = np.zeros(0, np.int64)
        self.whole = np.zeros(0, bool)
        self.before: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.length)

    @property
    def newest(self) -> int:
        """The number of the episode that comes next."""
        return self.oldest + len(self)

    def append(self, first: int, length: np.ndarray, before: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Take in episodes that lie one after another from row ``first`` on; returns the first row of each."""
        rows = first + np.cumsum(length + 1) - (length + 1)
        self.first, self.length = np.concatenate([self.first, rows]), np.concatenate([self.length, length])
        self.whole = np.concatenate([self.whole, whole])
        self.before = before if self.before is None else np.concatenate([self.before, before])
        return rows

    def append_pieces(self, first: int, pieces: Pieces, batch: Batch) -> np.ndarray:
        """Take in the episodes of a batch likewise."""
        last = pieces.begins + pieces.length - 1
        return self.append(first, pieces.length, *beginnings(batch, pieces.at, pieces.begins, last))

    def drop(self, n: int) -> None:
        """Forget the ``n`` oldest."""
        self.oldest += n
        self.first, self.length, self.whole = self.first[n:], self.length[n:], self.whole[n:]
        assert self.before is not None
        self.before = self.before[n:]

    def step_row(self, k: np.ndarray, begin: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of each of the steps numbered ``k`` among all steps, and the place of its episode.

        Args:
            begin: first row of the oldest episode.
        """
        episode = np.searchsorted(np.cumsum(self.length), k, side="right")
        return begin + k + episode, episode  # each earlier episode has one row more than steps

    def of_row(self, row: np.ndarray) -> np.ndarray:
        """Return the place of the episode that each row is of."""
        return np.searchsorted(self.first, row, side="right") - 1
