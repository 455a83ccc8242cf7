"""What experience consists of: an environment's sizes. No torch is imported here: environment workers read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EnvInfo:
    """Sizes and names of an environment, after ragged agents were padded to one size.

    ``obs_sizes`` and ``action_sizes`` are the agents' ORIGINAL sizes: agents that differ in either
    can never reuse one another's experience.

    Discrete actions are numbered from 0 to ``n_actions`` - 1. Continuous ones (Box) are vectors of D = ``n_actions``
    numbers, where ``action_sizes`` are the agents' own D and legal "actions" are the dimensions that an agent has.
    """

    name: str
    n_agents: int
    obs_size: int
    state_size: int
    n_actions: int
    episode_limit: int
    obs_sizes: tuple[int, ...]
    action_sizes: tuple[int, ...]
    metrics: tuple[str, ...] = ()  # names of the per-episode extras, read at an episode's end
    team_reward: bool = False  # each agent's reward entry already IS the one team reward: never add them up
    obs_shape: tuple[int, ...] | None = None  # of one observation, where all agents' are arrays such as images
    action_low: tuple[tuple[float, ...], ...] = ()  # [N][D] bounds of continuous actions; empty: discrete actions
    action_high: tuple[tuple[float, ...], ...] = ()

    @property
    def continuous(self) -> bool:
        """Whether actions are vectors of numbers (Box)."""
        return bool(self.action_low)

    def agents_match(self) -> np.ndarray:
        """Return [N, N] bool: agents i and j have the same original observation and action space."""
        spaces = np.stack([np.asarray(self.obs_sizes), np.asarray(self.action_sizes)], axis=1)
        return (spaces[:, None] == spaces[None, :]).all(-1)
