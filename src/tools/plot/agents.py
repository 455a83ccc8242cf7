"""Agents by type, for the rows and columns of heat maps: red 1, red 2, black 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...envs.maze.maze import Maze
from ...envs.smax.maps import find_map
from ...utils.errors import UserError


def agent_types(config: Mapping[str, Any], facts: Mapping[str, Any], n_agents: int) -> tuple[str, ...]:
    """Return the type of each agent of a run, ``()`` where nothing says it.

    Args:
        config: the run's configuration; it tells the types of a maze or a battle in runs that did not note them.
        facts: info.json, whose ``agent_types`` are the environment's own.
        n_agents: of the run.
    """
    told = facts.get("agent_types")
    types = tuple(told) if isinstance(told, (list, tuple)) else _from_configuration(config)
    fits = len(types) == n_agents and all(isinstance(name, str) and name for name in types)
    return types if fits else ()


def _from_configuration(config: Mapping[str, Any]) -> tuple[str, ...]:
    args = config.get("env_args")
    args = args if isinstance(args, Mapping) else {}
    try:
        if config.get("env") == "maze":
            return tuple(Maze(1, **args).colours)
        if config.get("env") == "smax":
            return find_map(args["map_name"], args.get("allies"), args.get("enemies")).ally_types
    except (UserError, LookupError, TypeError, ValueError):  # a configuration of another version
        return ()
    return ()


def names(types: Sequence[str], n_agents: int) -> list[str]:
    """Return a name for each agent: its type and its number within the type; without types its number alone."""
    if not types:
        return [str(i) for i in range(n_agents)]
    return [f"{kind} {types[: i + 1].count(kind)}" for i, kind in enumerate(types)]


def grouped(types: Sequence[str], n_agents: int) -> np.ndarray:
    """Return the agents [N] in an order that has those of a type side by side, types as they first occur."""
    first = [types.index(kind) for kind in types] if types else [0] * n_agents
    return np.argsort(first, kind="stable")


def borders(types: Sequence[str]) -> list[int]:
    """Return where a new type begins among agents in the order of :func:`grouped`."""
    ordered = [types[i] for i in grouped(types, len(types))]
    return [k for k in range(1, len(ordered)) if ordered[k] != ordered[k - 1]]
