"""What agents see of a football game: vectors made of the game's raw observations.

Positions are the game's: x from -1 (own goal) to 1 (the opponents'), y from -0.42 to 0.42; directions are distances a
step. A raw observation is a mapping with the names that the game gives them (``left_team`` [L, 2], ``ball`` [3], ...),
one for each agent; ``active`` is the player that the agent controls, -1 for none, and ``sticky_actions`` are its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OBSERVATIONS = ("simple115v2", "simple115", "compact")
#: numbers of one agent's observation
SIZES = {"simple115v2": 115, "simple115": 115, "compact": 66}
_TEAMS = ("left_team", "left_team_direction", "right_team", "right_team_direction")
#: most players of a team; game modes; actions that stay switched on (eight directions, sprint, dribble)
_PLAYERS, _MODES, _STICKY = 11, 7, 10
#: players of each team that the compact observation shows, the nearest first
_NEAREST = 4
_GOAL = np.array([1.0, 0.0])
#: in place of players that a team does not have
_NOBODY = -1.0

Raw = Mapping[str, Any]


def state_size(n_agents: int) -> int:
    """Return the numbers of the state."""
    return 4 * 2 * _PLAYERS + 6 + 3 + _PLAYERS * n_agents + _MODES


def _one_hot(place: int, size: int) -> np.ndarray:
    row = np.zeros(size, np.float32)
    if place >= 0:
        row[place] = 1
    return row


def _teams(raw: Raw, fixed: bool) -> np.ndarray:
    """Return positions and directions of both teams, [88]; ``fixed``: each team's in places of its own."""
    row = np.full(4 * 2 * _PLAYERS, _NOBODY, np.float32)
    at = 0
    for k, name in enumerate(_TEAMS):
        numbers = np.asarray(raw[name]).ravel()
        at = 2 * _PLAYERS * k if fixed else at
        row[at : at + len(numbers)] = numbers
        at += len(numbers)
    return row


def _common(raw: Raw, fixed: bool) -> np.ndarray:
    """Return what all agents see alike, before the controlled player: teams, ball and who has it, [97]."""
    owner = _one_hot(int(raw["ball_owned_team"]) + 1, 3)
    return np.concatenate([_teams(raw, fixed), raw["ball"], raw["ball_direction"], owner]).astype(np.float32)


def write(raws: Sequence[Raw], kind: str, obs: np.ndarray, state: np.ndarray) -> None:
    """Write the agents' observations and the state.

    The state is HARL's: as ``simple115v2``, with the controlled player of every agent.

    Args:
        raws: the agents' raw observations.
        kind: of the agents' observations, one of :data:`OBSERVATIONS`.
        obs: [N, O] float32.
        state: [115 + 11 (N - 1)] float32.
    """
    common, mode = _common(raws[0], True), _one_hot(int(raws[0]["game_mode"]), _MODES)
    active = np.stack([_one_hot(int(raw["active"]), _PLAYERS) for raw in raws])
    first, last = len(common), -_MODES
    state[:first], state[first:last], state[last:] = common, active.ravel(), mode
    if kind == "compact":
        for row, raw in zip(obs, raws, strict=True):
            row[:] = compact(raw)
        return
    obs[:, :first] = common if kind == "simple115v2" else _common(raws[0], False)
    obs[:, first:last], obs[:, last:] = active, mode


def compact(raw: Raw) -> np.ndarray:
    """Return an agent's compact observation [66] float32: the game as its player sees it.

    | numbers | meaning |
    |---|---|
    | 2, 2 | the player's position and direction |
    | 10 | its actions that are switched on: eight directions, sprint, dribble |
    | 2 | the opponents' goal, from the player |
    | 3, 3 | the ball, from the player (its height as it is), and the ball's direction |
    | 4 | who has the ball, one-hot: nobody, a team-mate, an opponent, the player |
    | 4 x 4, 4 x 4 | of the nearest four team-mates and opponents: position from the player, direction |
    | 1 | the scenario's opponents' keeper: its y, from the ball |
    | 7 | game mode, one-hot |

    Players that there are not, and those who were sent off, are zeros.
    """
    me = int(raw["active"])
    if me < 0:
        return np.zeros(SIZES["compact"], np.float32)
    left, right = np.asarray(raw["left_team"]), np.asarray(raw["right_team"])
    here, ball = left[me], np.asarray(raw["ball"])
    team = int(raw["ball_owned_team"])
    owner = 3 if team == 0 and int(raw["ball_owned_player"]) == me else team + 1
    others = np.flatnonzero(np.asarray(raw["left_team_active"], bool) & (np.arange(len(left)) != me))
    active = np.asarray(raw["right_team_active"], bool)
    opponents, keeper = np.flatnonzero(active), np.flatnonzero(active & (np.asarray(raw["right_team_roles"]) == 0))
    return np.concatenate(
        [
            here, raw["left_team_direction"][me], np.asarray(raw["sticky_actions"], np.float32), _GOAL - here,
            ball[:2] - here, ball[2:], raw["ball_direction"], _one_hot(owner, 4),
            _near(here, left, raw["left_team_direction"], others),
            _near(here, right, raw["right_team_direction"], opponents),
            right[keeper[:1], 1] - ball[1] if len(keeper) else np.zeros(1), _one_hot(int(raw["game_mode"]), _MODES),
        ]
    ).astype(np.float32)  # fmt: skip


def _near(here: np.ndarray, positions: np.ndarray, directions: np.ndarray, players: np.ndarray) -> np.ndarray:
    """Return the nearest of ``players`` [k]: position from ``here`` and direction of each, zeros for those lacking."""
    row = np.zeros((_NEAREST, 4))
    apart = positions[players] - here
    nearest = np.argsort((apart * apart).sum(1), kind="stable")[:_NEAREST]
    row[: len(nearest), :2] = apart[nearest]
    row[: len(nearest), 2:] = np.asarray(directions)[players[nearest]]
    return row.ravel()
