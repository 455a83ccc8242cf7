"""SMACv2 (Ellis et al., 2023): StarCraft II with teams and positions drawn anew for each episode."""

from __future__ import annotations

import copy
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import UserError, nearest
from ...utils.schema import yamls
from ..base import Env
from ..own_random import OwnRandom
from .arguments import Smacv2Args
from .sc2 import known_maps, missing
from .sc2v2_drawn import check_drawn
from .setup import check_game, load, unknown_map
from .starcraft import StarCraft

#: one file a race, with what is drawn and how; the numbers of units are in the scenario's name
SCENARIOS = Path(__file__).resolve().parents[2] / "config" / "envs" / "smacv2_configs"
#: those of the paper, to be shown
SIZES = ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
_NAME = re.compile(r"(?P<race>[a-z]+)_(?P<units>\d+)_vs_(?P<enemies>\d+)|sc2_gen_(?P<gen>[a-z]+)")


def sc2v2(**given: Any) -> Env:
    """Make one SMACv2 environment; arguments are those of :class:`Smacv2Args`.

    Raises:
        UserError: a wrong argument, or the package, the game or the map is missing.
    """
    args = Smacv2Args(**given)
    args.check()
    own_map, drawn = _map_and_teams(args)
    make_game = load("sc2v2", "smacv2.env.starcraft2.wrapper", "StarCraftCapabilityEnvWrapper", args.map_name or "")
    known = known_maps("smacv2")
    if own_map is None or (known and own_map not in known):
        raise unknown_map("sc2v2", own_map, known)
    check_game("sc2v2", args.game_version, own_map)
    arguments = args.game_arguments() | {"map_name": own_map}

    def make(seed: int | None) -> Any:
        # SMACv2 writes into what it is given
        return make_game(**arguments | {"capability_config": copy.deepcopy(drawn), "seed": seed})

    def build() -> Env:
        return StarCraft(
            args.map_name or own_map, make, continuing=args.continuing_episode, step_mul=args.step_mul,
            time_limit=args.time_limit, recycle_episodes=args.recycle_episodes, save_replay=args.save_replay,
            reseed=reseed, explain=lambda error: missing("sc2v2", own_map, error),
        )  # fmt: skip

    try:
        return OwnRandom(build)
    except KeyError as error:
        raise UserError(f"env_args.capability_config lacks, or SMACv2 does not know, {error}.") from error


#: what env_args are checked against
sc2v2.__signature__ = inspect.signature(Smacv2Args)  # type: ignore[attr-defined]


def _map_and_teams(args: Smacv2Args) -> tuple[str | None, dict[str, Any]]:
    """Return SMACv2's map and the capability_config, which is the scenario's unless ``args`` has one.

    Raises:
        UserError: no such scenario, or a capability_config that SMACv2 cannot draw from.
    """
    if not args.capability_config:
        return scenario(args.map_name)
    check_drawn(args.capability_config, units_of(args.map_name))
    if "health" in args.capability_config and args.kill_unit_step_mul >= (args.step_mul or 8):
        raise UserError(
            f"env_args.kill_unit_step_mul={args.kill_unit_step_mul} is out of range: less than step_mul is allowed."
        )
    return args.map_name, args.capability_config


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
