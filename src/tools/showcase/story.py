"""The data of ``oamarl showcase``, read from a run's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.base import EnvInfo
from ...envs.build import constructor_args, factory, is_native
from ...storage.records import ARRAYS_SUFFIX, curve, read_arrays
from ...storage.run_files import read_json
from ...storage.tested_actions import GREEDILY, GREEDY, SAMPLED, TEST, run_records
from ...utils.errors import UserError
from ..plot.agents import agent_types


@dataclass(frozen=True)
class Story:
    """A run as recorded in its files.

    | field | meaning |
    |---|---|
    | steps, returns | [K] the training curve: environment steps, mean team return |
    | tests | how actions were chosen -> steps [L] and mean team return [L] of such test episodes |
    | reuse | [(t, arrays)] the reuse over training: the mapping M [N, N] and what else was recorded; empty without |
    | types | the agents' types; empty where nothing says them |
    | optimum | the best team return, None where it is not known |
    """

    folder: Path
    config: dict[str, Any]
    facts: dict[str, Any]  # info.json
    status: str
    last: dict[str, float]  # newest value of every metric
    t: int
    steps: np.ndarray
    returns: np.ndarray
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    reuse: list[tuple[int, dict[str, np.ndarray]]]
    types: tuple[str, ...]
    env: Any
    optimum: float | None

    @property
    def task(self) -> str:
        """What was played: a map, a key, or the environment."""
        args = self.config.get("env_args") or {}
        return str(args.get("map_name") or args.get("key") or self.config.get("env") or "?")


def team_optimum(env: Any, info: EnvInfo, config: Mapping[str, Any]) -> float | None:
    """Return the best team return as the run's curves count it, or None where the environment does not know.

    A common reward that is the agents' mean makes the optimum a mean as well.
    """
    best = env.optimum() if hasattr(env, "optimum") else None
    if best is None:
        return None
    best = float(getattr(best, "team_return", best))
    mean = config.get("common_reward", True) and config.get("reward_scalarisation") == "mean" and not info.team_reward
    return best / info.n_agents if mean else best


def read_story(folder: Path) -> Story:
    """Read a run's files.

    Raises:
        UserError: it has logged nothing yet.
    """
    config = read_json(folder / "config.json")
    records = run_records(folder)
    # individual rewards: the team's return is the agents' total
    name = "return_mean" if config.get("common_reward", True) else "total_return_mean"
    steps, returns = curve(records, name)
    if not len(steps):
        raise UserError(f"The run {folder} has logged no returns yet.")
    tests = {how: curve(records, f"{prefix}{name}") for how, prefix in ((SAMPLED, TEST), (GREEDILY, GREEDY))}
    last: dict[str, float] = {}
    for record in records:
        last |= record["metrics"]
    env = None
    if is_native(config.get("env", "")):  # the others do not know their optimum, and may not be installed here
        env = factory(config["env"])(n_slots=1, **constructor_args(config["env"], config.get("env_args") or {}))
    facts = read_json(folder / "info.json")
    reuse = [(t, a) for t, a in read_arrays(folder / f"reuse{ARRAYS_SUFFIX}") if "M" in a]
    return Story(
        folder=folder,
        config=config,
        facts=facts,
        status=str(read_json(folder / "run.json").get("status", "?")),
        last=last,
        t=int(records[-1]["t"]),
        steps=steps,
        returns=returns,
        tests={how: points for how, points in tests.items() if len(points[0])},
        reuse=reuse,
        types=agent_types(config, facts, len(reuse[0][1]["M"])) if reuse else (),
        env=env,
        optimum=team_optimum(env, env.info, config) if env is not None else None,
    )


def tenths(steps: np.ndarray, returns: np.ndarray) -> list[float]:
    """Return the mean return of each tenth of training (parts without a point are left out), in order.

    Point k belongs to the tenth that its step closes: the last one holds the points after nine tenths.
    """
    part = np.clip(np.ceil(10 * steps / max(int(steps[-1]), 1)) - 1, 0, 9)
    return [float(returns[part == i].mean()) for i in range(10) if (part == i).any()]
