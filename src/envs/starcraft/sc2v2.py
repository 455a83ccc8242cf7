"""SMACv2 (Ellis et al., 2023): StarCraft II with teams and positions drawn anew for each episode."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import UserError, nearest
from ...utils.schema import yamls
from ..base import Env
from ..own_random import OwnRandom
from .sc2 import check_common, known_maps, missing
from .sc2v2_drawn import check_drawn
from .setup import check_game, load, unknown_map
from .starcraft import StarCraft, replay_arguments

#: one file a race, with what is drawn and how; the numbers of units are in the scenario's name
SCENARIOS = Path(__file__).resolve().parents[2] / "config" / "envs" / "smacv2_configs"
#: those of the paper, to be shown
SIZES = ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
_NAME = re.compile(r"(?P<race>[a-z]+)_(?P<units>\d+)_vs_(?P<enemies>\d+)|sc2_gen_(?P<gen>[a-z]+)")
#: arguments that are ours, not SMACv2's
_OWN = ("time_limit", "recycle_episodes", "save_replay", "continuing_episode")


def sc2v2(
    map_name: str | None = None,
    time_limit: int | None = None,
    capability_config: dict | None = None,
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
    obs_own_pos: bool = True,
    obs_starcraft: bool = True,
    conic_fov: bool = False,
    num_fov_actions: int = 12,
    use_unit_ranges: bool = True,
    min_attack_range: float = 2,
    prob_obs_enemy: float = 1.0,
    fully_observable: bool = False,
    action_mask: bool = True,
    kill_unit_step_mul: int = 2,
    state_last_action: bool = True,
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
    """Make one SMACv2 environment; arguments are SMACv2's own but for these.

    | argument | meaning |
    |---|---|
    | map_name | a scenario, ``<race>_<units>_vs_<enemies>``, or with capability_config one of SMACv2's own maps |
    | capability_config | what is drawn, in SMACv2's words; None: the scenario's |
    | time_limit | steps, where the map's own limit (200) is not less |
    | continuing_episode, save_replay, recycle_episodes | as in :func:`sc2` |

    Raises:
        UserError: a wrong argument, or the package, the game or the map is missing.
    """
    given = dict(locals())
    check_common(given)
    own_map: str | None
    if not capability_config:
        own_map, drawn = scenario(map_name)
    else:
        own_map, drawn = map_name, capability_config
        check_drawn(drawn, units_of(map_name))
        if "health" in drawn and kill_unit_step_mul >= (step_mul or 8):
            raise UserError(
                f"env_args.kill_unit_step_mul={kill_unit_step_mul} is out of range: less than step_mul is allowed."
            )
    make_game = load("sc2v2", "smacv2.env.starcraft2.wrapper", "StarCraftCapabilityEnvWrapper", map_name or "")
    known = known_maps("smacv2")
    if own_map is None or (known and own_map not in known):
        raise unknown_map("sc2v2", own_map, known)
    check_game("sc2v2", game_version, own_map)
    arguments = {k: v for k, v in given.items() if k not in _OWN}
    arguments |= {"map_name": own_map, "difficulty": str(difficulty), "continuing_episode": True}
    arguments |= replay_arguments(save_replay, given)

    def make(seed: int | None) -> Any:
        # SMACv2 writes into what it is given
        return make_game(**arguments | {"capability_config": copy.deepcopy(drawn), "seed": seed})

    def build() -> Env:
        return StarCraft(
            map_name or own_map, make, continuing=continuing_episode, step_mul=step_mul, time_limit=time_limit,
            recycle_episodes=recycle_episodes, save_replay=save_replay, reseed=reseed,
            explain=lambda error: missing("sc2v2", own_map, error),
        )  # fmt: skip

    try:
        return OwnRandom(build)
    except KeyError as error:
        raise UserError(f"env_args.capability_config lacks, or SMACv2 does not know, {error}.") from error


def scenario(name: str | None) -> tuple[str, dict[str, Any]]:
    """Return SMACv2's map and capability_config of a scenario.

    Raises:
        UserError: no such scenario.
    """
    races = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
    shown = [f"{race}_{size}" for race in races for size in SIZES]
    if name is None:
        raise unknown_map("sc2v2", None, shown)
    found = _NAME.fullmatch(name)
    race = (found["race"] or found["gen"]) if found else None
    if found is None or race not in races:
        hint = nearest(name, shown) or f": use one of {', '.join(shown)}."
        raise UserError(
            f"env_args.map_name='{name}' is not a scenario of 'sc2v2', <race>_<units>_vs_<enemies> with any numbers"
            f"{hint}"
        )
    units, enemies = (int(found["units"]), int(found["enemies"])) if found["race"] else (5, 5)
    if min(units, enemies) < 1:
        raise UserError(f"env_args.map_name='{name}' has a team of no units: at least 1 is allowed.")
    values = copy.deepcopy(_race(race))
    return values["map_name"], {"n_units": units, "n_enemies": enemies, **values["capability_config"]}


def units_of(own_map: str | None) -> list[str] | None:
    """Return the unit types of SMACv2's map ``own_map``; None where it is none of those for drawn teams."""
    race = (own_map or "").removeprefix("10gen_")
    if race == own_map or not (SCENARIOS / f"{race}.yaml").is_file():
        return None
    found: list[str] = _race(race)["capability_config"]["team_gen"]["unit_types"]
    return found


@cache
def _race(name: str) -> dict[str, Any]:
    path = SCENARIOS / f"{name}.yaml"
    return yamls.load(path, f"envs/smacv2_configs/{path.name}")


def reseed(game: Any, seed: int) -> None:
    """Let teams and positions of the next episode depend on ``seed`` alone.

    SMACv2's distributions hold generators that nothing seeds; each, also of those inside others, gets a stream.
    """
    streams = np.random.SeedSequence(seed)

    def visit(part: Any) -> None:
        for name, value in sorted(vars(part).items()):
            if isinstance(value, np.random.Generator):
                setattr(part, name, np.random.default_rng(streams.spawn(1)[0]))
            elif hasattr(value, "generate"):
                visit(value)

    for _, distribution in sorted(getattr(game, "env_key_to_distribution_map", {}).items()):
        visit(distribution)
