"""Results of played episodes, and the metrics that are logged of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..envs.base import EnvInfo
from ..envs.info_metrics import InfoMetrics
from ..envs.vector.episode_store import EpisodeStore


@dataclass
class Episodes:
    """Results of E episodes: returns [E, N] (of each agent), lengths, the environment's metrics, and the numbers that
    infos reported at their ends."""

    returns: list[np.ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)
    info_metrics: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, store: EpisodeStore, order: list[tuple[int, int]], info_metrics: InfoMetrics) -> Episodes:
        """Return the endings of a store in the order ``order`` of (slot, index); ``info_metrics`` are the slots'."""
        endings, where = store.endings, tuple(np.array(order, np.int64).reshape(-1, 2).T)
        infos = [info_metrics.read(b, endings["info_metrics"][b, k]) for b, k in order]
        return cls(
            list(endings["returns"][where]), endings["length"][where].tolist(), list(endings["metrics"][where]), infos
        )

    def scalars(self, info: EnvInfo, common_reward: bool, prefix: str = "") -> dict[str, float]:
        """Return metrics by EPyMARL's names: return_mean/std, ep_length_mean; of individual rewards each agent's
        and the total's."""
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
        found |= {f"{name}_mean": float(np.mean(values)) for name, values in info_values(self.info_metrics).items()}
        return {prefix + k: v for k, v in found.items()}


def info_values(episodes: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the info metrics of ``episodes``: name -> one number an episode.

    As in EPyMARL, an episode whose info lacks a number counts as 0: one that is reported only where it is won has
    the share of wins as its mean.
    """
    names = sorted({name for one in episodes for name in one})
    return {name: [one.get(name, 0.0) for one in episodes] for name in names}
