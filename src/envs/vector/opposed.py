"""Agents whose rewards are opposed: predators and prey, attackers and defenders.

A common reward adds their rewards up, and what one side wins the other loses: a run says so once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...utils.errors import listed
from ..base import EnvInfo

#: after so many steps, counted over the slots of a process, rewards are compared: at or below this correlation of the
#: two sides' sums they are opposed
LOOKS = {250: -0.5, 1000: -0.25, 10_000: -0.25}
#: steps, at least, at which one side's sum is positive and the other's negative
_BOTH = 5


@dataclass(frozen=True)
class Opposed:
    """Two sides of agents, by their numbers, and the correlation of their rewards' sums over ``steps``."""

    sides: tuple[list[int], list[int]]
    correlation: float
    steps: int

    def sentence(self, names: Sequence[str]) -> str:
        """Return what a run, or a check, says; ``names`` are the agents'."""
        one, other = (listed([names[i] for i in side]) for side in self.sides)
        return (
            f"The rewards of {one} and of {other} are opposed (correlation {self.correlation:.2f} over "
            f"{self.steps:,} steps): what one side wins, the other loses. With common_reward=True all agents are "
            "trained for the sum of these rewards (reward_scalarisation), with common_reward=False each for its own; "
            "opponents with fixed policies, as by EPyMARL's pretrained_wrapper, are not offered."
        )


def opposed(rewards: np.ndarray, most: float) -> Opposed | None:
    """Return the two sides of agents whose rewards are opposed, None where they are not.

    The sides are those of the two agents with the lowest correlation, each with the agents that are closer to it.

    Args:
        rewards: [T, N], each agent's at each step.
        most: the correlation of the sides' sums is at most this.
    """
    steps, n = rewards.shape
    centred = rewards.astype(np.float64) - rewards.mean(0, dtype=np.float64)
    spread = np.sqrt((centred**2).sum(0))
    if n < 2 or not np.isfinite(spread).all() or (spread > 0).sum() < 2:
        return None
    unit = centred / np.where(spread > 0, spread, 1.0)
    pairs = unit.T @ unit
    a, b = np.unravel_index(int(pairs.argmin()), pairs.shape)
    if pairs[a, b] >= 0:
        return None
    moving = np.flatnonzero(spread > 0)
    with_a = pairs[a] >= pairs[b]
    sides = [int(i) for i in moving if with_a[i]], [int(i) for i in moving if not with_a[i]]
    x, y = (rewards[:, side].sum(1, dtype=np.float64) for side in sides)
    if x.std() == 0 or y.std() == 0 or (x * y < 0).sum() < _BOTH:
        return None
    found = float(np.corrcoef(x, y)[0, 1])
    if min(sides[1]) < min(sides[0]):
        sides = sides[::-1]
    return Opposed(sides, found, steps) if found <= most else None


def names_of(env: Any, info: EnvInfo) -> list[str]:
    """Return the agents' names: those that the environment gives them, else ``agent 0``, ``agent 1``."""
    inner = getattr(env, "env", env)
    given = getattr(inner, "agents", None)
    if isinstance(given, list) and len(given) == info.n_agents and all(isinstance(one, str) for one in given):
        return list(given)
    return [f"agent {i}" for i in range(info.n_agents)]


class RewardRecord:
    """The rewards of the first steps, compared when there are enough of them.

    Attributes:
        open: whether more are wanted.
    """

    def __init__(self, info: EnvInfo) -> None:
        self.open = info.n_agents > 1 and not info.team_reward
        self._rows: list[np.ndarray] = []
        self._count = 0

    def add(self, rewards: np.ndarray) -> Opposed | None:
        """Add a copy of the rows ``rewards`` [k, N]; returns the opposed sides, once."""
        before, self._count = self._count, self._count + len(rewards)
        self._rows.append(np.array(rewards))
        for look, most in LOOKS.items():
            if before < look <= self._count and (found := opposed(np.concatenate(self._rows), most)):
                break
        else:
            found = None
        if found is not None or self._count >= max(LOOKS):
            self.open, self._rows = False, []
        return found

    def so_far(self) -> Opposed | None:
        """Return the opposed sides of what there is, where that is enough and more will not come."""
        return opposed(np.concatenate(self._rows), max(LOOKS.values())) if self._count >= min(LOOKS) else None
