"""StarCraft II's micromanagement maps by the `smac` package (Samvelyan et al., 2019)."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from ...utils.errors import UserError
from ..base import Env
from .arguments import SmacArgs
from .setup import check_game, explain, load, unknown_map
from .starcraft import StarCraft


def sc2(**given: Any) -> Env:
    """Make one SMAC environment; arguments are those of :class:`SmacArgs`.

    Raises:
        UserError: a wrong argument, or the package, the game or the map is missing.
    """
    args = SmacArgs(**given)
    args.check()
    make_game = load("sc2", "smac.env", "StarCraft2Env", args.map_name or "3m")
    known = known_maps("smac")
    name = args.map_name
    if name is None or (known and name not in known):
        raise unknown_map("sc2", name, known)
    check_game("sc2", args.game_version, name)
    arguments = args.game_arguments()
    try:
        return StarCraft(
            name, lambda seed: make_game(**arguments, seed=seed), continuing=args.continuing_episode,
            step_mul=args.step_mul, recycle_episodes=args.recycle_episodes, save_replay=args.save_replay,
            explain=lambda error: missing("sc2", name, error),
        )  # fmt: skip
    except KeyError as error:
        raise unknown_map("sc2", name, known) from error


#: what env_args are checked against
sc2.__signature__ = inspect.signature(SmacArgs)  # type: ignore[attr-defined]


def known_maps(package: str) -> list[str]:
    """Return the maps that an imported StarCraft package lists; none where it has no list."""
    try:
        registry = importlib.import_module(f"{package}.env.starcraft2.maps.smac_maps")
    except ImportError:
        return []
    return sorted(registry.get_smac_map_registry())


def missing(env: str, map_name: str, error: Exception) -> UserError | None:
    """Return the sentence for what the start of StarCraft II raised, None for anything that is no missing game."""
    # PySC2's: the program cannot be run; it has no program; it ended at once, or does not answer
    known = type(error).__name__ in ("SC2LaunchError", "ConnectError") or str(error).startswith("Trying to run ")
    return explain(env, map_name, error) if known or isinstance(error, FileNotFoundError) else None
