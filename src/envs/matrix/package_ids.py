"""The common-payoff games of the package `matrixgames` by their Gymnasium ids, played by :class:`Matrix`.

EPyMARL plays them under the name `gymma`. The payoffs are those of :mod:`oamarl.envs.matrix.matrix` but for the names
of agents (climbing: the two change places) and of actions (penalty: the second agent's are in reverse).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..one_slot import OneSlot
from .matrix import Matrix

_ID = re.compile(r"matrixgames:(?P<game>climbing|penalty-(?P<k>\d+))-(?P<seen>nostate|laststate)-v0")
#: rounds after which the package itself ends an episode
_LONGEST = 1000


class PackageGame(OneSlot):
    """One of the package's games: each agent gets the payoff, and observations say nothing."""

    def __init__(self, key: str, time_limit: int | None, further: Mapping[str, Any]) -> None:
        """Make the game.

        Args:
            key: its id, with the module's name.
            time_limit: rounds of an episode, whose end is a termination; None: the package's.
            further: other arguments, which it does not have.

        Raises:
            UserError: further arguments, or the variant whose agents see the last joint action.
        """
        found = _ID.fullmatch(key)
        assert found is not None
        if found["seen"] != "nostate":
            raise UserError(
                f"env_args.key='{key}' is not offered: the package declares two numbers of its observations, the last "
                f"actions, and gives six; use matrixgames:{found['game']}-nostate-v0."
            )
        if further:
            raise UserError(f"env_args.{one_of(further)} is not an argument of '{key}': it takes key and time_limit.")
        rounds = min(time_limit or _LONGEST, _LONGEST)
        game = found["game"].partition("-")[0]
        super().__init__(Matrix(1, game, k=-float(found["k"] or 0), steps=rounds))
        # a reward for each agent: `reward_scalarisation` combines them, as it does the package's
        self.info = dataclasses.replace(self.info, name=key, team_reward=False)

    def render(self) -> np.ndarray:
        """Return a picture of the last joint action, uint8 [H, W, 3]."""
        game: Any = self.env
        picture: np.ndarray = game.render(0)
        return picture


def nearest_game(key: str) -> str:
    """Return the end of a sentence with the nearest game that is played without the package; "" of other keys."""
    if not key.startswith("matrixgames:"):
        return ""
    found = re.search(r"penalty-(\d+)", key)
    k = found[1] if found else "100"
    return nearest(key, [f"matrixgames:{game}-nostate-v0" for game in ("climbing", f"penalty-{k}")])


def is_package_game(key: str) -> bool:
    """Whether an id is of a game that is played without the package."""
    return _ID.fullmatch(key) is not None
