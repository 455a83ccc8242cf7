"""Tests of the policies during training: sampled episodes, and greedy ones of the same seeds."""

from __future__ import annotations

from typing import Any, Protocol

from ..storage.tested_actions import GREEDY, TEST


class TestingConfig(Protocol):
    """Configuration of tests (``training.RunConfig``)."""

    @property
    def test_nepisode(self) -> int:
        """Episodes of a test."""

    @property
    def test_greedy(self) -> bool:
        """Whether a test has greedy episodes, too."""

    @property
    def common_reward(self) -> bool:
        """Whether agents have one reward in common."""


def play(runner: Any, config: TestingConfig) -> dict[str, float]:
    """Play ``test_nepisode`` sampled episodes and, with ``test_greedy``, as many greedy ones of the same seeds.

    Returns:
        ``test_*``, EPyMARL's names, of the sampled ones and ``test_greedy_*`` of the greedy ones.
    """
    played = runner.test(config.test_nepisode, False)
    found: dict[str, float] = played.scalars(runner.info, config.common_reward, TEST)
    if config.test_greedy:
        # without random actions the greedy episodes are those that were just played
        if not getattr(getattr(getattr(runner, "mac", None), "selector", None), "greedy_in_tests", False):
            played = runner.test(config.test_nepisode, True)
        found |= played.scalars(runner.info, config.common_reward, GREEDY)
    return found
