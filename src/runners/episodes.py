"""What runners share: what happened in the episodes that they played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..envs.base import EnvInfo
from ..envs.notes import Notes
from ..envs.vector.episode_store import Course


@dataclass
class Episodes:
    """What happened in a collection, episode by episode: returns [E, N] (of each agent), lengths, extras, and the
    numbers that infos told at their ends."""

    returns: list[np.ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)
    notes: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, course: Course, order: list[tuple[int, int]], notes: Notes) -> Episodes:
        """Return a course's ends ``order``: (slot, which of its ends) each; ``notes`` are the slots'."""
        ends, where = course.ends, tuple(np.array(order, np.int64).reshape(-1, 2).T)
        told = [notes.read(b, ends["notes"][b, k]) for b, k in order]
        return cls(list(ends["returns"][where]), ends["length"][where].tolist(), list(ends["metrics"][where]), told)

    def scalars(self, info: EnvInfo, common_reward: bool, prefix: str = "") -> dict[str, float]:
        """EPyMARL's names: return_mean/std, ep_length_mean; under individual rewards each agent's and the total's."""
        if not self.lengths:
            return {}
        returns = np.stack(self.returns)
        found = {"ep_length_mean": float(np.mean(self.lengths))}
        if common_reward:
            found |= {"return_mean": float(returns[:, 0].mean()), "return_std": float(returns[:, 0].std())}
        else:
            for i in range(info.n_agents):
                found[f"agent_{i}_return_mean"] = float(returns[:, i].mean())
                found[f"agent_{i}_return_std"] = float(returns[:, i].std())
            total = returns.sum(1)
            found |= {"total_return_mean": float(total.mean()), "total_return_std": float(total.std())}
        for m, name in enumerate(info.metrics):
            found[f"{name}_mean"] = float(np.mean([x[m] for x in self.metrics]))
        found |= {f"{name}_mean": float(np.mean(values)) for name, values in told(self.notes).items()}
        return {prefix + k: v for k, v in found.items()}


def told(notes: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the numbers that infos told in some of the episodes ``notes``: name -> one an episode.

    As in EPyMARL, an episode whose info lacks a number counts as 0: one that is told only where it is won has the share
    of wins as its mean.
    """
    names = sorted({name for one in notes for name in one})
    return {name: [one.get(name, 0.0) for one in notes] for name in names}
