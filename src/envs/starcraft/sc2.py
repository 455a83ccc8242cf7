"""StarCraft II's micromanagement maps by the `smac` package (Samvelyan et al., 2019)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

from ...utils.errors import UserError, one_of
from ...utils.schema.keys import check_value
from ..base import Env
from .setup import check_game, explain, load, unknown_map
from .starcraft import StarCraft, replay_arguments

DIFFICULTIES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "A")
#: arguments that are ours, not SMAC's
_OWN = ("recycle_episodes", "save_replay", "continuing_episode")


def sc2(
    map_name: str | None = "3m",
    difficulty: str | int = "7",
    game_version: str | float | None = None,
    step_mul: int | None = 8,
    move_amount: float = 2,
    continuing_episode: bool = True,
    obs_all_health: bool = True,
    obs_own_health: bool = True,
    obs_last_action: bool = False,
    obs_pathing_grid: bool = False,
    obs_terrain_height: bool = False,
    obs_instead_of_state: bool = False,
    obs_timestep_number: bool = False,
    state_last_action: bool = False,
    state_timestep_number: bool = False,
    reward_sparse: bool = False,
    reward_only_positive: bool = True,
    reward_death_value: float = 10,
    reward_win: float = 200,
    reward_defeat: float = 0,
    reward_negative_scale: float = 0.5,
    reward_scale: bool = True,
    reward_scale_rate: float = 20,
    replay_dir: str = "",
    replay_prefix: str = "",
    save_replay: bool = False,
    window_size_x: int = 1920,
    window_size_y: int = 1200,
    heuristic_ai: bool = False,
    heuristic_rest: bool = False,
    debug: bool = False,
    recycle_episodes: int | None = None,
) -> Env:
    """Make one SMAC environment; arguments are SMAC's own but for the last ones of this table.

    | argument | meaning |
    |---|---|
    | continuing_episode | True: the step limit cuts an episode; False: it ends it |
    | save_replay | write a replay of each episode to replay_dir |
    | recycle_episodes | start StarCraft II anew after so many episodes |

    Raises:
        UserError: a wrong argument, or the package, the game or the map is missing.
    """
    given = dict(locals())
    check_common(given)
    make_game = load("sc2", "smac.env", "StarCraft2Env", map_name or "3m")
    known = known_maps("smac")
    if map_name is None or (known and map_name not in known):
        raise unknown_map("sc2", map_name, known)
    check_game("sc2", game_version, map_name)
    arguments = {k: v for k, v in given.items() if k not in _OWN}
    arguments |= {"difficulty": str(difficulty), "continuing_episode": True, **replay_arguments(save_replay, given)}
    try:
        return StarCraft(
            map_name, lambda seed: make_game(**arguments, seed=seed), continuing=continuing_episode, step_mul=step_mul,
            recycle_episodes=recycle_episodes, save_replay=save_replay,
            explain=lambda error: missing("sc2", map_name, error),
        )  # fmt: skip
    except KeyError as error:
        raise unknown_map("sc2", map_name, known) from error


def check_common(given: dict[str, Any]) -> None:
    """Check values that SMAC would stumble over only when the game runs.

    Raises:
        UserError: out of range.
    """
    level = str(given["difficulty"])
    if level not in DIFFICULTIES:
        raise UserError(f"env_args.difficulty={level!r} is not allowed: use {one_of(DIFFICULTIES)}.")
    version = given["game_version"]
    if version is not None and not isinstance(version, str):
        raise UserError(
            f"env_args.game_version={version} was read as a number, in which 4.1 and 4.10 are one: write all three "
            "parts, as in env_args.game_version=4.10.0."
        )
    for name in ("step_mul", "recycle_episodes", "time_limit", "window_size_x", "window_size_y", "kill_unit_step_mul"):
        _bounds(given, name, low=1)
    _bounds(given, "move_amount", above=0)
    if given["reward_scale"]:  # SMAC divides by the largest reward, which has the wrong sign otherwise
        _bounds(given, "reward_scale_rate", above=0)
        _bounds(given, "reward_win", low=0)
        _bounds(given, "reward_death_value", low=0)
    if given.get("conic_fov"):
        _bounds(given, "num_fov_actions", low=1)
    _bounds(given, "min_attack_range", low=0)
    _bounds(given, "prob_obs_enemy", low=0, high=1)
    for name in ("reward_defeat", "reward_negative_scale"):
        _bounds(given, name)


def _bounds(given: Mapping[str, Any], name: str, **limits: float) -> None:
    """Check a number, if there is one; it must be finite too."""
    value = given.get(name)
    if value is None:
        return
    check_value(f"env_args.{name}", value, type(value), limits)
    if not math.isfinite(value):
        raise UserError(f"env_args.{name}={value} is out of range: a finite number is expected.")


def known_maps(package: str) -> list[str]:
    """Return the maps that an imported StarCraft package lists; none where it has no list."""
    try:
        registry = importlib.import_module(f"{package}.env.starcraft2.maps.smac_maps")
    except ImportError:
        return []
    return sorted(registry.get_smac_map_registry())


def missing(env: str, map_name: str, error: Exception) -> UserError | None:
    """Return the sentence for what the start of StarCraft II raised, None for anything that is no missing game."""
    # PySC2's: the program cannot be run; it has no program; it ended at once, or nobody answers
    known = type(error).__name__ in ("SC2LaunchError", "ConnectError") or str(error).startswith("Trying to run ")
    return explain(env, map_name, error) if known or isinstance(error, FileNotFoundError) else None
