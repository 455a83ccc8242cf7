"""SMAClite (Michalski et al., 2023): SMAC's maps in Python, without StarCraft II."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from ...utils.errors import UserError
from ..base import Arrays, Env, EnvInfo
from .setup import load, unknown_map
from .starcraft import show


def smaclite(
    map_name: str | None = None,
    time_limit: int = 150,
    use_cpp_rvo2: bool = False,
    map_file: str | None = None,
) -> Env:
    """Make one SMAClite environment.

    Args:
        map_name: one of SMAClite's maps.
        time_limit: steps after which an episode is cut.
        use_cpp_rvo2: compute collisions by the C++ library, which must be installed.
        map_file: a map of your own, SMAClite's JSON; then map_name only names it.

    Raises:
        UserError: the package or the map is missing, or an argument is wrong.
    """
    if time_limit < 1:
        raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
    make_game = load("smaclite", "smaclite.env", "SMACliteEnv", map_name or "")
    if map_file is not None:
        arguments: dict[str, Any] = {"map_file": map_file}
    else:
        presets = load("smaclite", "smaclite.env.maps.map", "MapPreset", map_name or "")
        maps = {preset.value.name: preset.value for preset in presets}
        near = {name.lower(): name for name in maps}
        if map_name is None or map_name.lower() not in near:
            raise unknown_map("smaclite", map_name, maps)
        arguments = {"map_info": maps[near[map_name.lower()]]}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says each time which library it uses
            game = make_game(use_cpp_rvo2=use_cpp_rvo2, render_mode="rgb_array", seed=0, **arguments)
    except (OSError, ImportError, KeyError, ValueError) as error:
        what = f"env_args.map_file='{map_file}'" if map_file is not None else f"env_args.map_name='{map_name}'"
        raise UserError(f"{what} cannot be played: {type(error).__name__}: {error}.") from error
    return SMAClite(game, map_name or "custom", time_limit)


class SMAClite:
    """A SMAClite game; dead agents and ends of episodes are as in :class:`StarCraft`."""

    def __init__(self, game: Any, name: str, time_limit: int) -> None:
        n, actions, obs = game.n_agents, game.n_actions, game.obs_size
        self.info = EnvInfo(
            name=name, n_agents=n, obs_size=obs, state_size=game.state_size, n_actions=actions,
            episode_limit=time_limit, obs_sizes=(obs,) * n, action_sizes=(actions,) * n,
            metrics=("battle_won", "episode_limit"), team_reward=True,
        )  # fmt: skip
        self._game = game
        self._time = 0

    def reset(self, seed: int, out: Arrays) -> None:
        """Start the episode of ``seed``."""
        game = self._game
        # it keeps the last episode's actions, which are part of the state
        game.last_actions = np.zeros(self.info.n_agents * self.info.n_actions)
        obs, _ = game.reset(seed=seed)
        self._time = 0
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[...] = 0
        show(obs, game.get_state(), game.get_avail_actions(), out)

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N]."""
        game = self._game
        obs, reward, over, _, info = game.step(actions.tolist())
        self._time += 1
        late = not over and self._time >= self.info.episode_limit
        show(obs, game.get_state(), game.get_avail_actions(), out)
        out.reward[...] = reward
        out.terminated[...] = over
        out.truncated[...] = late
        out.agent_terminated[...] = over
        out.metrics[...] = float(info["battle_won"]), float(late)

    def render(self) -> np.ndarray:
        """Return a picture of this moment, uint8 [H, W, 3]."""
        picture: np.ndarray = np.asarray(self._game.render())
        return picture

    def close(self) -> None:
        """Close the game."""
        self._game.close()
