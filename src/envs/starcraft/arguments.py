"""Arguments of the StarCraft II environments, declared once: names, types, defaults, meanings and bounds."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...utils.errors import UserError, one_of
from ...utils.schema.keys import check_value

DIFFICULTIES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "A")
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class SmacArgs:
    """Arguments of SMAC, and three of this package (the last rows).

    | argument | meaning |
    |---|---|
    | map_name | one of the package's maps |
    | difficulty | of the game's own player: 1 (very easy) to 9, A (it cheats) |
    | game_version | such as 4.10.0; None: the newest that is installed |
    | step_mul, move_amount | game steps of a step (None: the map's own), and how far a move goes |
    | obs_*, state_* | what observations and the state contain |
    | reward_* | how damage, deaths, wins and defeats are rewarded, and by what the sum is scaled |
    | replay_dir, replay_prefix | where replays are written ("": StarCraft II's own folder) and how their names begin |
    | window_size_x, window_size_y | of the game's window |
    | heuristic_ai, heuristic_rest | SMAC's scripted team plays in place of the agents |
    | debug | SMAC logs what it does |
    | continuing_episode | True: the step limit cuts an episode (truncated); False: it ends it (terminated) |
    | save_replay | write a replay of each episode, each a game of its own |
    | recycle_episodes | start StarCraft II anew after so many episodes; None: before it would fail |
    """

    #: arguments of this package, which SMAC does not get
    own: ClassVar[tuple[str, ...]] = ("recycle_episodes", "save_replay", "continuing_episode")

    map_name: str | None = "3m"
    difficulty: str | int = "7"
    game_version: str | float | None = None
    step_mul: int | None = 8
    move_amount: float = 2
    continuing_episode: bool = True
    obs_all_health: bool = True
    obs_own_health: bool = True
    obs_last_action: bool = False
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_instead_of_state: bool = False
    obs_timestep_number: bool = False
    state_last_action: bool = False
    state_timestep_number: bool = False
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: float = 10
    reward_win: float = 200
    reward_defeat: float = 0
    reward_negative_scale: float = 0.5
    reward_scale: bool = True
    reward_scale_rate: float = 20
    replay_dir: str = ""
    replay_prefix: str = ""
    save_replay: bool = False
    window_size_x: int = 1920
    window_size_y: int = 1200
    heuristic_ai: bool = False
    heuristic_rest: bool = False
    debug: bool = False
    recycle_episodes: int | None = None

    def check(self) -> None:
        """Check values that SMAC would stumble over only when the game runs.

        Raises:
            UserError: out of range.
        """
        level = str(self.difficulty)
        if level not in DIFFICULTIES:
            raise UserError(f"env_args.difficulty={level!r} is not allowed: use {one_of(DIFFICULTIES)}.")
        if self.game_version is not None and not isinstance(self.game_version, str):
            raise UserError(
                f"env_args.game_version={self.game_version} was read as a number, in which 4.1 and 4.10 are one: write "
                "all three parts, as in env_args.game_version=4.10.0."
            )
        at_least_1 = ("step_mul", "recycle_episodes", "time_limit", "window_size_x", "window_size_y")
        for name in (*at_least_1, "kill_unit_step_mul"):
            self._bounds(name, low=1)
        self._bounds("move_amount", above=0)
        if self.reward_scale:  # SMAC divides by the largest reward, which has the wrong sign otherwise
            self._bounds("reward_scale_rate", above=0)
            self._bounds("reward_win", low=0)
            self._bounds("reward_death_value", low=0)
        if getattr(self, "conic_fov", False):
            self._bounds("num_fov_actions", low=1)
        self._bounds("min_attack_range", low=0)
        self._bounds("prob_obs_enemy", low=0, high=1)
        for name in ("reward_defeat", "reward_negative_scale"):
            self._bounds(name)

    def _bounds(self, name: str, **limits: float) -> None:
        """Check an argument, if there is one and it is a number; it must be finite too."""
        value = getattr(self, name, None)
        if value is None:
            return
        check_value(f"env_args.{name}", value, type(value), limits)
        if not math.isfinite(value):
            raise UserError(f"env_args.{name}={value} is out of range: a finite number is expected.")

    def game_arguments(self) -> dict[str, Any]:
        """Return the arguments of SMAC's constructor; its ``continuing_episode`` is always on, so that it reports
        time-outs.

        Raises:
            UserError: the prefix of replays holds a folder.
        """
        given = {k: v for k, v in vars(self).items() if k not in self.own}
        return given | {"difficulty": str(self.difficulty), "continuing_episode": True, **self._replay_arguments()}

    def _replay_arguments(self) -> dict[str, str]:
        """Return SMAC's ``replay_dir`` (absolute, else it counts from the game's folder) and ``replay_prefix``.

        Names of replays end with the second they were written in: slots must differ in the prefix.
        """
        folder, prefix = self.replay_dir, self.replay_prefix
        if "/" in prefix:
            raise UserError(f"env_args.replay_prefix={prefix!r} holds a '/': the folder is env_args.replay_dir.")
        if self.save_replay:
            prefix = f"{prefix or self.map_name}_{os.getpid()}-{next(_numbers)}"
        return {
            "replay_dir": str(Path(folder).expanduser().absolute()) if folder else "",
            "replay_prefix": prefix,
        }


@dataclass(frozen=True, kw_only=True)
class Smacv2Args(SmacArgs):
    """Arguments of SMACv2: those of SMAC, and its own.

    | argument | meaning |
    |---|---|
    | map_name | a scenario, ``<race>_<units>_vs_<enemies>``, or with capability_config one of SMACv2's own maps |
    | time_limit | steps, where the map's own limit (200) is not less (this package's) |
    | capability_config | what is drawn for an episode, in SMACv2's words; None: the scenario's |
    | obs_own_pos, obs_starcraft, fully_observable, prob_obs_enemy | what of the map and of enemies is observed |
    | conic_fov, num_fov_actions | agents see a cone, and turn it by so many actions |
    | use_unit_ranges, min_attack_range | sight and attack range by the type of a unit |
    | action_mask | illegal actions are masked |
    | kill_unit_step_mul | game steps of the killing of units, in SMACv2's sense |
    """

    own: ClassVar[tuple[str, ...]] = (*SmacArgs.own, "time_limit")

    map_name: str | None = None
    state_last_action: bool = True
    time_limit: int | None = None
    capability_config: dict | None = None
    obs_own_pos: bool = True
    obs_starcraft: bool = True
    conic_fov: bool = False
    num_fov_actions: int = 12
    use_unit_ranges: bool = True
    min_attack_range: float = 2
    prob_obs_enemy: float = 1.0
    fully_observable: bool = False
    action_mask: bool = True
    kill_unit_step_mul: int = 2
