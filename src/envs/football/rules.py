"""Rewards and ends of a football game, computed from its raw observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

REWARDS = ("scoring", "scoring,checkpoints")
#: what an agent's reward is: the first agent's, the sum of all agents', or its own
TEAM_REWARDS = ("first", "sum", "own")
#: of the checkpoints: how many there are, the reward of each, and the distances from the goal of the first and last one
_CHECKPOINTS, _EACH, _FIRST, _SPAN = 10, 0.1, 0.99, 0.8

Raw = Mapping[str, Any]


class Rewards:
    """Rewards of N agents at each step.

    ``scoring``: 1 for a goal of the own team, -1 for one of the opponents. ``checkpoints`` (Kurach et al. 2020) adds
    0.1 the first time that an agent's player with the ball comes within each of ten distances of the opponents' goal,
    and at a goal all those that the agent has not collected.

    Args:
        n_agents: N.
        checkpoints: add their rewards.
    """

    def __init__(self, n_agents: int, checkpoints: bool) -> None:
        self._checkpoints = checkpoints
        self._collected = np.zeros(n_agents, np.int64)

    def reset(self) -> None:
        """Forget what was collected."""
        self._collected[:] = 0

    def __call__(self, scored: float, raws: Sequence[Raw]) -> np.ndarray:
        """Return the rewards [N] float32 of a step.

        Args:
            scored: change of the goal difference.
            raws: the agents' raw observations after the step.
        """
        reward = np.full(len(raws), scored, np.float32)
        if not self._checkpoints:
            return reward
        for i, raw in enumerate(raws):
            if scored == 1:
                reward[i] += _EACH * (_CHECKPOINTS - int(self._collected[i]))
                self._collected[i] = _CHECKPOINTS
            elif raw["ball_owned_team"] == 0 and raw["ball_owned_player"] == raw["active"]:
                distance = ((raw["ball"][0] - 1) ** 2 + raw["ball"][1] ** 2) ** 0.5
                while self._collected[i] < _CHECKPOINTS:
                    if distance > _FIRST - _SPAN / (_CHECKPOINTS - 1) * int(self._collected[i]):
                        break
                    reward[i] += _EACH
                    self._collected[i] += 1
        return reward


def team_rewards(reward: np.ndarray, kind: str) -> np.ndarray:
    """Return the agents' rewards [N]: the first one's or the sum in every entry, or each its own."""
    if kind == "own":
        return reward
    return np.full_like(reward, reward[0] if kind == "first" else reward.sum())


class Ends:
    """Whether a game that is over was ended by a rule of its scenario; otherwise its time was up.

    Args:
        scenario: the game's configuration of the scenario, with the ``end_episode_on_...`` flags.
    """

    def __init__(self, scenario: Any) -> None:
        self._score = bool(scenario.end_episode_on_score)
        self._out_of_play = bool(scenario.end_episode_on_out_of_play)
        self._possession = bool(scenario.end_episode_on_possession_change)
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._mode = self._owner = -1

    def by_rule(self, raw: Raw) -> bool:
        """Return whether a rule ends the episode after this step; to be called at every step."""
        mode, owner = int(raw["game_mode"]), int(raw["ball_owned_team"])
        over = self._score and max(raw["score"]) > 0
        over = over or (self._out_of_play and mode != 0 and self._mode == 0)
        over = over or (self._possession and owner != -1 and self._owner not in (-1, owner))
        self._mode = mode
        self._owner = owner if owner != -1 else self._owner
        return bool(over)
