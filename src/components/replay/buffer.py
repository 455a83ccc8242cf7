"""Replay of past experience: whole episodes or single transitions, uniform or prioritised, in a compact ring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...utils.errors import UserError
from ..batch import Batch
from .fields import beginnings, final, over_steps
from .sum_tree import SumTree

#: what :meth:`Replay.entries` has beside the fields of a batch
_ENTRY = ("length", "before", "whole")
#: fewest rows of the ring
_FEWEST = 256


@dataclass(frozen=True)
class Drawn:
    """What was drawn from the replay.

    | field | shape | meaning |
    |---|---|---|
    | batch | B rows | the experience |
    | index | [B] int64 | the numbers of the entries (episodes, or steps), for :meth:`Replay.set_priorities` |
    | weight | [B] | importance weights (N P(i))^-beta over their largest; ones where drawing is uniform |
    """

    batch: Batch
    index: np.ndarray
    weight: Tensor


class Replay:
    """The newest episodes, each at its own length, in flat arrays that are used as a ring.

    An episode of L steps takes L + 1 rows: its observations, states and legal actions are in all of them, the rest is
    in the first L. Every field of :class:`Batch` that is a tensor over steps is kept, of whatever shape and type.
    Segments are cut where episodes begin; each piece counts as an episode then, and can be drawn from as transitions.
    Rows and episodes are numbered in the order in which they came, and row i lies at i modulo the ring's size.

    Args:
        capacity: episodes that are kept; the oldest go first.
        longest: most steps of an episode.
        generator: the random stream of draws.
        device: of what is drawn.
        transitions: entries, whose priorities are kept, are steps; otherwise episodes.
        alpha: exponent of the priorities (0: uniform in effect); None: uniform draws.
    """

    def __init__(
        self,
        capacity: int,
        longest: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        *,
        transitions: bool = False,
        alpha: float | None = None,
    ) -> None:
        self.capacity, self.longest, self.alpha, self.transitions = capacity, longest, alpha, transitions
        self.generator, self.device = generator, device
        self.rows: dict[str, np.ndarray] = {}
        self.longer: set[str] = set()  # fields of which an episode has one more than steps
        self.size = 0  # rows of the ring
        self.begin = self.end = 0  # the rows in it: begin <= i < end
        self.oldest = 0  # number of the oldest episode
        self.first = np.zeros(0, np.int64)  # [E] first row of each episode
        self.length = np.zeros(0, np.int64)  # [E]
        self.whole = np.zeros(0, bool)  # [E] an episode from its first step, otherwise a piece of one
        self.before: np.ndarray | None = None  # [E, N, ...] actions before the first step
        self.tree = SumTree(capacity) if alpha is not None and not transitions else None
        self.largest = 1.0  # priority of new entries: the largest so far

    def __len__(self) -> int:
        return len(self.length)

    @property
    def newest(self) -> int:
        """The number of the episode that comes next."""
        return self.oldest + len(self)

    @property
    def n_steps(self) -> int:
        """Steps that are kept."""
        return self.end - self.begin - len(self)

    # -- adding ------------------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """Take in a batch of whole episodes or segments; the oldest episodes make room."""
        row, step = (x.numpy() for x in batch.filled.cpu().nonzero(as_tuple=True))
        if not len(row):
            return
        starts = batch.begins.cpu().numpy()[row, step] | np.diff(row, prepend=-1).astype(bool)
        places = np.flatnonzero(starts)
        if len(places) > self.capacity:
            places = places[-self.capacity :]
            row, step, places = row[places[0] :], step[places[0] :], places - places[0]
        length = np.diff(places, append=len(row))
        at, begins = row[places], step[places]
        first = self._make_room(length)
        inside = first.repeat(length) + np.arange(len(row)) - places.repeat(length)
        content = over_steps(batch)
        if not self.rows:
            self._allocate({name: (x.shape[2:], x.dtype) for name, x in content.items()})
        last = first + length
        steps = batch.actions.shape[1]
        self.longer = {name for name, x in content.items() if x.shape[1] > steps}
        endings = {int(i * steps + t): k for k, (i, t) in enumerate(batch.final_index.tolist())}
        ending = [endings.get(int(i * steps + t), -1) for i, t in zip(at, begins + length - 1, strict=True)]
        ends = np.flatnonzero(np.array(ending) >= 0)
        for name, x in content.items():
            ring = self.rows[name]
            ring[inside % self.size] = x[row, step]
            if name in self.longer:
                ring[last % self.size] = x[at, begins + length]
                if len(ends) and (others := final(batch, name)) is not None:
                    ring[last[ends] % self.size] = others[np.array(ending)[ends]]
        before, whole = beginnings(batch, at, begins, begins + length - 1)
        self._append(first, length, before, whole)
        if self.tree is not None:
            entries = inside if self.transitions else np.arange(self.newest - len(at), self.newest)
            self.tree[self._leaf(entries)] = self.largest**self._alpha

    def _append(self, first: np.ndarray, length: np.ndarray, before: np.ndarray, whole: np.ndarray) -> None:
        self.first, self.length = np.concatenate([self.first, first]), np.concatenate([self.length, length])
        self.whole = np.concatenate([self.whole, whole])
        self.before = before if self.before is None else np.concatenate([self.before, before])

    def _make_room(self, length: np.ndarray) -> np.ndarray:
        """Drop old episodes for new ones of ``length`` [k], and return the first rows of those."""
        gone = max(0, len(self) + len(length) - self.capacity)
        if gone:
            self._drop(gone)
        needed = self.end - self.begin + int((length + 1).sum())
        if needed > self.size:
            self._grow(needed)
        first = self.end + np.cumsum(length + 1) - (length + 1)
        self.end += int((length + 1).sum())
        return first

    def _drop(self, n: int) -> None:
        """Drop the ``n`` oldest episodes."""
        until = int(self.first[n]) if n < len(self) else self.end
        if self.tree is not None:
            entries = np.arange(self.begin, until) if self.transitions else np.arange(self.oldest, self.oldest + n)
            self.tree[self._leaf(entries)] = 0.0
        self.begin, self.oldest = until, self.oldest + n
        self.first, self.length, self.whole = self.first[n:], self.length[n:], self.whole[n:]
        assert self.before is not None
        self.before = self.before[n:]

    def _grow(self, needed: int) -> None:
        """Enlarge the ring to ``needed`` rows or more, one field after another, so that one at a time exists twice."""
        most = self.capacity * (self.longest + 1)
        size = max(needed, min(max(self.size * 3 // 2, _FEWEST), most))
        kept = np.arange(self.begin, self.end)
        for name, ring in self.rows.items():
            larger = np.zeros((size, *ring.shape[1:]), ring.dtype)
            larger[kept % size] = ring[kept % self.size]
            self.rows[name] = larger
        tree = self.tree
        if self.transitions and self.alpha is not None:
            self.tree = SumTree(size)
            if tree is not None:
                self.tree[kept % size] = tree[kept % self.size]
        self.size = size

    def _allocate(self, layout: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self.rows = {name: np.zeros((self.size, *shape), dtype) for name, (shape, dtype) in layout.items()}

    def _leaf(self, entries: np.ndarray) -> np.ndarray:
        return entries % (self.size if self.transitions else self.capacity)

    @property
    def _alpha(self) -> float:
        assert self.alpha is not None
        return self.alpha

    # -- drawing -----------------------------------------------------------------------------------------------

    def can_draw(self, n: int) -> bool:
        """Whether there are ``n`` entries."""
        return (self.n_steps if self.transitions else len(self)) >= n

    def draw_episodes(self, n: int, beta: float = 1.0) -> Drawn:
        """Draw ``n`` whole episodes, padded with zeros to the longest of them.

        Uniform draws are without repetition, as EPyMARL's; those by priority are stratified (Schaul et al. 2016).

        Args:
            beta: exponent of the importance weights.

        Raises:
            UserError: pieces of episodes are among them (runner=rollout).
        """
        if not self.whole.all():
            raise UserError(
                "The replay holds pieces of episodes: whole episodes cannot be drawn from segments (runner=rollout), "
                "use runner=parallel or draw transitions."
            )
        if self.tree is None or self.transitions:
            number = self.oldest + torch.randperm(len(self), generator=self.generator)[:n].numpy()
            weight = torch.ones(n)
        else:
            number, weight = self._by_priority(n, beta)
        k = number - self.oldest
        length = self.length[k]
        at = np.minimum(np.arange(int(length.max()) + 1), length[:, None])
        return Drawn(self._batch(self.first[k], at, length, None), number, weight.to(self.device))

    def draw_transitions(self, n: int, n_step: int = 1, beta: float = 1.0) -> Drawn:
        """Draw ``n`` transitions, uniformly with repetition or by priority.

        A row has the ``n_step`` steps from the one that was drawn on, cut where its episode (or the segment) ends:
        what follows is not filled, and the observation after the last filled step is the true one, also where the
        episode ended.
        """
        if self.tree is None or not self.transitions:
            k = torch.randint(self.n_steps, (n,), generator=self.generator).numpy()
            ends = np.cumsum(self.length)
            episode = np.searchsorted(ends, k, side="right")
            row, weight = self.begin + k + episode, torch.ones(n)  # each earlier episode has one row more than steps
        else:
            row, weight = self._by_priority(n, beta)
            episode = np.searchsorted(self.first, row, side="right") - 1
        length = np.minimum(self.first[episode] + self.length[episode] - row, n_step)
        at = np.minimum(np.arange(n_step + 1), length[:, None])
        assert self.before is not None
        earlier = self.rows["actions"][(row - 1) % self.size]
        begins = (row == self.first[episode]).reshape(-1, *[1] * (earlier.ndim - 1))
        before = np.where(begins, self.before[episode], earlier)
        return Drawn(self._batch(row, at, length, before), row, weight.to(self.device))

    def set_priorities(self, index: np.ndarray, priority: Tensor | np.ndarray) -> None:
        """Set the priorities (above 0) of the entries ``index`` [B] of a draw; those dropped since are left out."""
        if self.tree is None:
            return
        found = torch.as_tensor(priority).detach().cpu().double().numpy()
        kept = index >= (self.begin if self.transitions else self.oldest)
        if kept.any():
            self.largest = max(self.largest, float(found[kept].max()))
            self.tree[self._leaf(index[kept])] = found[kept] ** self._alpha

    def _by_priority(self, n: int, beta: float) -> tuple[np.ndarray, Tensor]:
        """Draw ``n`` entries by priority, one in each n-th of the total; returns their numbers and weights."""
        assert self.tree is not None
        share = torch.rand(n, generator=self.generator, dtype=torch.float64).numpy()
        leaf = self.tree.find((np.arange(n) + share) / n * self.tree.total)
        n_entries = self.n_steps if self.transitions else len(self)
        weight = (n_entries * self.tree[leaf] / self.tree.total) ** -beta
        start, size = (self.begin, self.size) if self.transitions else (self.oldest, self.capacity)
        return start + (leaf - start) % size, torch.from_numpy(weight / weight.max()).float()

    def _batch(self, row: np.ndarray, at: np.ndarray, length: np.ndarray, before: np.ndarray | None) -> Batch:
        """The batch of the ``length`` [B] steps from rows ``row`` [B] on.

        Args:
            at: [B, T+1] the places, counted from ``row``, that are read; those beyond ``length`` become zeros.
        """
        place = (row[:, None] + at) % self.size
        beyond = np.arange(at.shape[1]) > length[:, None]
        padding = np.arange(at.shape[1] - 1) >= length[:, None]
        padded = padding.any()
        content = {"filled": torch.from_numpy(~padding)}
        for name, ring in self.rows.items():
            longer = name in self.longer
            x = ring[place if longer else place[:, :-1]]
            if padded:
                x[beyond if longer else padding] = 0
            content[name] = torch.from_numpy(x)
        content |= {f"final_{name}": content[name][:0, 0] for name in self.longer}
        content["final_index"] = torch.zeros(0, 2, dtype=torch.int64)
        if before is not None:
            content["before"] = torch.from_numpy(before)
        return Batch.of(content).to(self.device)

    # -- state -------------------------------------------------------------------------------------------------

    def entries(self, since: int, until: int) -> dict[str, np.ndarray]:
        """Return copies of the episodes with numbers ``since`` to ``until`` - 1: lengths [E], first steps' earlier
        actions, whether they are whole, and the fields of their rows one after another."""
        k = slice(since - self.oldest, until - self.oldest)
        first, length = self.first[k], self.length[k]
        place = np.arange(first[0], first[-1] + length[-1] + 1) % self.size
        assert self.before is not None
        own = {"length": length.copy(), "before": self.before[k].copy(), "whole": self.whole[k].copy()}
        return own | {name: ring[place] for name, ring in self.rows.items()}

    def nbytes(self, since: int) -> int:
        """Return the size of the episodes from number ``since`` on, in bytes."""
        rows = self.end - int(self.first[since - self.oldest]) if since < self.newest else 0
        return rows * sum(ring[:1].nbytes for ring in self.rows.values())

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the episodes: the cursors, the random stream, the priorities to the alpha."""
        state: dict[str, Any] = {
            "begin": self.begin, "end": self.end, "oldest": self.oldest, "newest": self.newest, "size": self.size,
            "largest": self.largest, "longer": sorted(self.longer), "generator": self.generator.get_state(),
        }  # fmt: skip
        if self.tree is not None:
            start, end = (self.begin, self.end) if self.transitions else (self.oldest, self.newest)
            state["priorities"] = self.tree[self._leaf(np.arange(start, end))]
        return state

    def restore(self, state: Mapping[str, Any], parts: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Take back a state and its episodes; draws then give the same numbers as those of the replay it is of.

        Args:
            state: from :meth:`state_dict`.
            parts: the number of the first episode, and what :meth:`entries` gave; together all episodes of the state,
                in order, where earlier ones may come before them.

        Raises:
            ValueError: the parts are not those of the state.
        """
        begin, end, oldest, newest, size = (int(state[k]) for k in ("begin", "end", "oldest", "newest", "size"))
        if not 0 <= begin <= end <= begin + size <= begin + max(self.capacity * (self.longest + 1), _FEWEST):
            raise ValueError(f"a ring of {size} rows, of which {begin} to {end} are in use")
        self.size, self.begin, self.end, self.oldest = size, begin, begin, oldest
        self.longer = set(state["longer"])
        for number, part in parts:
            self._take(number, {name: np.asarray(x) for name, x in part.items()})
        if (self.end, self.newest) != (end, newest):
            raise ValueError(f"episodes {self.newest} to {newest} are missing")
        self.largest = float(state["largest"])
        self.generator.set_state(state["generator"])
        if self.alpha is not None:
            self.tree = SumTree(size if self.transitions else self.capacity)
            start = begin if self.transitions else oldest
            priorities = np.asarray(state["priorities"])
            self.tree[self._leaf(start + np.arange(len(priorities)))] = priorities

    def _take(self, number: int, part: Mapping[str, np.ndarray]) -> None:
        """Take the episodes of a part, the first of which is ``number``, except those that are too old."""
        missed = max(self.oldest - number, 0)
        if number + missed != self.newest:
            raise ValueError(f"episode {number} follows {self.newest}")
        length = part["length"][missed:]
        rows = int((length + 1).sum())
        skipped = len(part["obs"]) - rows
        content = {name: x[skipped:] for name, x in part.items() if name not in _ENTRY}
        if not self.rows:
            self._allocate({name: (x.shape[1:], x.dtype) for name, x in content.items()})
        place = np.arange(self.end, self.end + rows) % self.size
        for name, ring in self.rows.items():
            ring[place] = content[name]
        first = self.end + np.cumsum(length + 1) - (length + 1)
        self.end += rows
        self._append(first, length, part["before"][missed:], part["whole"][missed:])
