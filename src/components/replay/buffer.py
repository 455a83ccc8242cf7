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
from .episodes import Episodes, Pieces
from .fields import final, over_steps
from .priorities import Priorities
from .ring import FEWEST, Ring

#: what :meth:`Replay.entries` has beside the fields of a batch
_ENTRY = ("length", "before", "whole")


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

    Args:
        capacity: episodes that are kept; the oldest go first.
        longest: most steps of an episode.
        generator: the random stream of draws.
        device: of what is drawn.
        transitions: entries, whose priorities are kept, are steps; otherwise episodes.
        alpha: exponent of the priorities (0: uniform in effect); None: uniform draws.
    """

    def __init__(
        self, capacity: int, longest: int, generator: torch.Generator, device: torch.device | str = "cpu", *,
        transitions: bool = False, alpha: float | None = None,
    ) -> None:  # fmt: skip
        self.capacity, self.longest, self.alpha, self.transitions = capacity, longest, alpha, transitions
        self.generator, self.device = generator, device
        self.ring, self.episodes = Ring(capacity * (longest + 1)), Episodes()
        self.longer: set[str] = set()  # fields of which an episode has one more than steps
        # a ring of no rows grows with the first episode
        self.priorities = None if alpha is None else Priorities(alpha, 1 if transitions else capacity)

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def oldest(self) -> int:
        """The number of the oldest episode."""
        return self.episodes.oldest

    @property
    def newest(self) -> int:
        """The number of the episode that comes next."""
        return self.episodes.newest

    @property
    def n_steps(self) -> int:
        """Steps that are kept."""
        return self.ring.end - self.ring.begin - len(self)

    # -- adding ------------------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """Take in a batch of whole episodes or segments; the oldest episodes make room."""
        pieces = Pieces.of(batch, self.capacity)
        if not len(pieces.length):
            return
        self._drop(max(0, len(self) + len(pieces.length) - self.capacity))
        rows = self.ring.end
        self._reserve(int((pieces.length + 1).sum()))
        first = self.episodes.append_pieces(rows, pieces, batch)
        inside = first.repeat(pieces.length) + np.arange(len(pieces.row)) - pieces.place.repeat(pieces.length)
        self._write(batch, pieces, inside, first + pieces.length)
        if self.priorities is not None:
            self.priorities.add(inside if self.transitions else np.arange(self.newest - len(first), self.newest))

    def _write(self, batch: Batch, pieces: Pieces, inside: np.ndarray, last: np.ndarray) -> None:
        """Write a batch's episodes into the rows ``inside`` [S] of their steps, and ``last`` [E] after them."""
        content, steps = over_steps(batch), batch.actions.shape[1]
        self.ring.allocate({name: (x.shape[2:], x.dtype) for name, x in content.items()})
        self.longer = {name for name, x in content.items() if x.shape[1] > steps}
        endings = pieces.endings(batch)
        ends = np.flatnonzero(endings >= 0)
        inside, last = self.ring.place(inside), self.ring.place(last)
        for name, x in content.items():
            ring = self.ring.fields[name]
            ring[inside] = x[pieces.row, pieces.step]
            if name in self.longer:
                ring[last] = x[pieces.at, pieces.begins + pieces.length]
                if len(ends) and (others := final(batch, name)) is not None:
                    ring[last[ends]] = others[endings[ends]]

    def _reserve(self, rows: int) -> None:
        kept = np.arange(self.ring.begin, self.ring.end)
        if self.ring.reserve(rows) and self.priorities is not None and self.transitions:
            self.priorities.resize(self.ring.size, kept)

    def _drop(self, n: int) -> None:
        """Drop the ``n`` oldest episodes."""
        if not n:
            return
        until = int(self.episodes.first[n]) if n < len(self) else self.ring.end
        if self.priorities is not None:
            low, high = (self.ring.begin, until) if self.transitions else (self.oldest, self.oldest + n)
            self.priorities.drop(np.arange(low, high))
        self.episodes.drop(n)
        self.ring.begin = until

    # -- drawing -----------------------------------------------------------------------------------------------

    @property
    def n_entries(self) -> int:
        """How many entries can be drawn."""
        return self.n_steps if self.transitions else len(self)

    def can_draw(self, n: int) -> bool:
        """Whether there are ``n`` entries."""
        return self.n_entries >= n

    def draw_episodes(self, n: int, beta: float = 1.0) -> Drawn:
        """Draw ``n`` whole episodes, padded with zeros to the longest of them.

        Uniform draws are without repetition, as EPyMARL's; those by priority are stratified (Schaul et al. 2016).

        Args:
            beta: exponent of the importance weights.

        Raises:
            UserError: pieces of episodes are among them (runner=rollout).
        """
        if not self.episodes.whole.all():
            raise UserError(
                "The replay holds pieces of episodes: whole episodes cannot be drawn from segments (runner=rollout), "
                "use runner=parallel or draw transitions."
            )
        if self.priorities is None or self.transitions:
            number = self.oldest + torch.randperm(len(self), generator=self.generator)[:n].numpy()
            weight = torch.ones(n)
        else:
            number, weight = self.priorities.draw(n, self.oldest, len(self), beta, self.generator)
        k = number - self.oldest
        length = self.episodes.length[k]
        at = np.minimum(np.arange(int(length.max()) + 1), length[:, None])
        return Drawn(self._batch(self.episodes.first[k], at, length, None), number, weight.to(self.device))

    def draw_transitions(self, n: int, n_step: int = 1, beta: float = 1.0) -> Drawn:
        """Draw ``n`` transitions, uniformly with repetition or by priority.

        A row has the ``n_step`` steps from the one that was drawn on, cut where its episode (or the segment) ends:
        what follows is not filled, and the observation after the last filled step is the true one, also where the
        episode ended.
        """
        episodes = self.episodes
        if self.priorities is None or not self.transitions:
            k = torch.randint(self.n_steps, (n,), generator=self.generator).numpy()
            row, episode = episodes.step_row(k, self.ring.begin)
            weight = torch.ones(n)
        else:
            row, weight = self.priorities.draw(n, self.ring.begin, self.n_steps, beta, self.generator)
            episode = episodes.of_row(row)
        first = episodes.first[episode]
        length = np.minimum(first + episodes.length[episode] - row, n_step)
        at = np.minimum(np.arange(n_step + 1), length[:, None])
        assert episodes.before is not None
        earlier = self.ring.fields["actions"][self.ring.place(row - 1)]
        begins = (row == first).reshape(-1, *[1] * (earlier.ndim - 1))
        before = np.where(begins, episodes.before[episode], earlier)
        ended, alive, now = self.ring.fields["agent_terminated"], self.ring.fields["alive"], self.ring.place(row)
        # an episode that a segment continues does not say who had ended before
        left = np.where((row == first)[:, None], ended[now] & ~alive[now], ended[self.ring.place(row - 1)])
        return Drawn(self._batch(row, at, length, before, left), row, weight.to(self.device))

    def set_priorities(self, index: np.ndarray, priority: Tensor | np.ndarray) -> None:
        """Set the priorities (above 0) of the entries ``index`` [B] of a draw; those dropped since are left out."""
        if self.priorities is None:
            return
        found = torch.as_tensor(priority).detach().cpu().double().numpy()
        kept = index >= (self.ring.begin if self.transitions else self.oldest)
        self.priorities.set(index[kept], found[kept])

    def _batch(
        self, row: np.ndarray, at: np.ndarray, length: np.ndarray, before: np.ndarray | None = None,
        left: np.ndarray | None = None,
    ) -> Batch:  # fmt: skip
        """The batch of the ``length`` [B] steps from rows ``row`` [B] on.

        Args:
            at: [B, T+1] the places, counted from ``row``, that are read; those beyond ``length`` become zeros.
        """
        place = self.ring.place(row[:, None] + at)
        beyond = np.arange(at.shape[1]) > length[:, None]
        padding = beyond[:, 1:]
        padded = bool(padding.any())
        content = {"filled": torch.from_numpy(~padding)}
        for name, ring in self.ring.fields.items():
            longer = name in self.longer
            x = ring[place if longer else place[:, :-1]]
            if padded:
                x[beyond if longer else padding] = 0
            content[name] = torch.from_numpy(x)
        content |= {f"final_{name}": content[name][:0, 0] for name in self.longer}
        content["final_index"] = torch.zeros(0, 2, dtype=torch.int64)
        if before is not None:
            content["before"] = torch.from_numpy(before)
        if left is not None:
            content["left"] = torch.from_numpy(left)
        return Batch.of(content).to(self.device)

    # -- state -------------------------------------------------------------------------------------------------

    def entries(self, since: int, until: int) -> dict[str, np.ndarray]:
        """Return copies of the episodes with numbers ``since`` to ``until`` - 1: lengths [E], first steps' earlier
        actions, whether they are whole, and the fields of their rows one after another."""
        k, episodes = slice(since - self.oldest, until - self.oldest), self.episodes
        first, length = episodes.first[k], episodes.length[k]
        place = self.ring.place(np.arange(first[0], first[-1] + length[-1] + 1))
        assert episodes.before is not None
        own = {"length": length.copy(), "before": episodes.before[k].copy(), "whole": episodes.whole[k].copy()}
        return own | {name: ring[place] for name, ring in self.ring.fields.items()}

    def sizes(self, since: int) -> np.ndarray:
        """Return the size of each episode from number ``since`` on, in bytes."""
        return (self.episodes.length[since - self.oldest :] + 1) * self.ring.row_bytes()

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the episodes: the cursors, the random stream, the priorities to the alpha."""
        ring, priorities = self.ring, self.priorities
        state: dict[str, Any] = {
            "begin": ring.begin, "end": ring.end, "oldest": self.oldest, "newest": self.newest, "size": ring.size,
            "largest": 1.0 if priorities is None else priorities.largest, "longer": sorted(self.longer),
            "generator": self.generator.get_state(),
        }  # fmt: skip
        if priorities is not None:
            low, high = (ring.begin, ring.end) if self.transitions else (self.oldest, self.newest)
            state["priorities"] = priorities[np.arange(low, high)]
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
        ring = self.ring
        if not 0 <= begin <= end <= begin + size <= begin + max(ring.most, FEWEST):
            raise ValueError(f"a ring of {size} rows, of which {begin} to {end} are in use")
        ring.size, ring.begin, ring.end, self.episodes.oldest = size, begin, begin, oldest
        self.longer = set(state["longer"])
        for number, part in parts:
            self._take(number, {name: np.asarray(x) for name, x in part.items()})
        if (ring.end, self.newest) != (end, newest):
            raise ValueError(f"episodes {self.newest} to {newest} are missing")
        self.generator.set_state(state["generator"])
        if self.alpha is not None:
            self.priorities = Priorities(self.alpha, max(size, 1) if self.transitions else self.capacity)
            self.priorities.largest = float(state["largest"])
            powers = np.asarray(state["priorities"])
            self.priorities[(begin if self.transitions else oldest) + np.arange(len(powers))] = powers

    def _take(self, number: int, part: Mapping[str, np.ndarray]) -> None:
        """Take the episodes of a part, the first of which is ``number``, except those that are too old."""
        missed = max(self.oldest - number, 0)
        if number + missed != self.newest:
            raise ValueError(f"episode {number} follows {self.newest}")
        length, ring = part["length"][missed:], self.ring
        rows = int((length + 1).sum())
        skipped = len(part["obs"]) - rows
        content = {name: x[skipped:] for name, x in part.items() if name not in _ENTRY}
        ring.allocate({name: (x.shape[1:], x.dtype) for name, x in content.items()})
        place = ring.place(np.arange(ring.end, ring.end + rows))
        for name, x in ring.fields.items():
            x[place] = content[name]
        self.episodes.append(ring.end, length, part["before"][missed:], part["whole"][missed:])
        ring.end += rows
