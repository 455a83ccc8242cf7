"""``oamarl showcase``: what a run reached, as a table and a picture in its folder."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...envs.base import Arrays, EnvInfo
from ...envs.build import constructor_args, factory, is_native
from ...envs.maze.maze import Maze
from ...storage.records import ARRAYS_SUFFIX, curve, read_arrays
from ...storage.tested_actions import GREEDILY, GREEDY, SAMPLED, TEST, run_records
from ...utils.console import duration, number
from ...utils.errors import UserError, nearest

USAGE = """\
usage: oamarl showcase [RUN]

RUN is a run's folder, its path below results/sacred (oappo/black_red/1), or `latest` (the default).
Prints a table of results and writes showcase.png into the run's folder."""

PICTURE = "showcase.png"


class Team(Protocol):
    """Trained policies (``team.Team``)."""

    info: EnvInfo

    def reset(self) -> None:
        """Start new episodes."""

    def act(self, obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
        """Return greedy actions [B, N]."""


@dataclass(frozen=True)
class Story:
    """A run as its files tell it.

    | field | meaning |
    |---|---|
    | steps, returns | [K] the training curve: environment steps, mean team return |
    | tests | how actions were chosen -> steps [L] and mean team return [L] of such test episodes |
    | reuse | [(t, M [N, N])] the reuse mapping over training; empty without reuse |
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
    reuse: list[tuple[int, np.ndarray]]
    env: Any
    optimum: float | None


def find_run(word: str, results: Path) -> Path:
    """Return the run folder that ``word`` means.

    Args:
        word: a folder, a path below ``results/sacred``, or ``latest``, which is the newest that trained.
        results: the results folder.

    Raises:
        UserError: there is no such run.
    """
    runs = results / "sacred"
    known = {p.parent: p.stat().st_mtime for p in runs.glob("*/*/*/config.json")}  # written once, when a run starts
    if word == "latest":
        if not known:
            raise UserError(f"There is no run in {runs} yet.")
        newest = sorted(known, key=lambda p: known[p], reverse=True)
        trained = (p for p in newest if not _json(p / "config.json").get("evaluate"))
        return next(trained, newest[0])
    for folder in (Path(word), runs / word):
        if (folder / "config.json").is_file():
            return folder
    names = [str(p.relative_to(runs)) for p in known]
    raise UserError(f"There is no run at '{word}': a run's folder or `latest` is expected{nearest(word, names)}.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
    config = _json(folder / "config.json")
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
    return Story(
        folder=folder,
        config=config,
        facts=_json(folder / "info.json"),
        status=str(_json(folder / "run.json").get("status", "?")),
        last=last,
        t=int(records[-1]["t"]),
        steps=steps,
        returns=returns,
        tests={how: points for how, points in tests.items() if len(points[0])},
        reuse=[(t, a["M"]) for t, a in read_arrays(folder / f"reuse{ARRAYS_SUFFIX}") if "M" in a],
        env=env,
        optimum=team_optimum(env, env.info, config) if env is not None else None,
    )


def tenths(steps: np.ndarray, returns: np.ndarray) -> list[float]:
    """Return the mean return of each tenth of training (parts without a point are left out), in order.

    Point k belongs to the tenth that its step closes: the last one holds the points after nine tenths.
    """
    part = np.clip(np.ceil(10 * steps / max(int(steps[-1]), 1)) - 1, 0, 9)
    return [float(returns[part == i].mean()) for i in range(10) if (part == i).any()]


def rows(story: Story) -> list[tuple[str, str]]:
    """Return the table of results: names and texts."""
    wall = story.last.get("wall_clock", math.nan)
    parts = tenths(story.steps, story.returns)
    tests = {how: float(values[-1]) for how, (_, values) in story.tests.items()}

    def value(x: float | None) -> str:
        return "-" if x is None else f"{x:.3f}"

    def share(x: float | None) -> str:
        if x is None or x < 0 or story.optimum is None or story.optimum <= 0:  # a share would mislead
            return ""
        return f"  ({x / story.optimum:.1%} of the optimum)"

    env_args = story.config.get("env_args") or {}
    task = env_args.get("map_name") or env_args.get("key")
    return [
        ("algorithm", str(story.config.get("name", "?"))),
        ("environment", f"{story.config.get('env', '?')}{f' ({task})' if task else ''}"),
        ("seed", str(story.config.get("seed", "?"))),
        ("status", story.status),
        ("environment steps", f"{story.t:,}"),
        ("updates", number(story.last["updates"]) if "updates" in story.last else "-"),
        ("wall-clock", duration(wall)),
        ("steps a second", number(round(story.t / wall)) if wall > 0 else "-"),
        (f"training return, {SAMPLED}, last tenth", value(parts[-1]) + share(parts[-1])),
        (f"training return, {SAMPLED}, best tenth", value(max(parts)) + share(max(parts))),
        *((f"final test return, {how}", value(test) + share(test)) for how, test in tests.items()),
        ("optimum", value(story.optimum)),
    ]


def rollout(team: Team, env: Maze) -> np.ndarray:
    """Play one greedy episode and return where every agent stood.

    Args:
        team: trained policies.
        env: a maze of one slot.

    Returns:
        [T+1, N, 2] int64: row and column of each agent before each step and at the end.
    """
    out = Arrays.allocate(env.info, 1)
    env.reset(np.zeros(1, np.int64), np.zeros(1, np.int64), out)
    team.reset()
    cells = [env.positions()[0]]
    while not (out.terminated[0] or out.truncated[0]):
        env.step(np.asarray(team.act(out.obs, out.avail), np.int64), np.ones(1, bool), out)
        cells.append(env.positions()[0])
    return np.stack(np.divmod(np.array(cells), env.grid.shape[1]), axis=-1)


def learned_routes(story: Story) -> np.ndarray | None:
    """Return :func:`rollout` of the run's newest checkpoint; None, with a sentence, where there is none."""
    from ...evaluation.team import load

    if not isinstance(story.env, Maze):
        return None
    try:
        return rollout(load(story.folder), story.env)
    except UserError as error:
        print(f"No routes are drawn: {error}", file=sys.stderr)
        return None


def main(argv: list[str]) -> int:
    """Show a run; return the exit status.

    Raises:
        UserError: there is no such run, it is empty, or its folder cannot be written.
    """
    from ...settings import results_folder
    from .picture import draw

    if "-h" in argv or "--help" in argv:
        print(USAGE)
        return 0
    if len(argv) > 1 or any(word.startswith("-") for word in argv):
        raise UserError(f"`oamarl showcase` takes one run's folder or `latest`, not '{' '.join(argv)}'.")
    folder = find_run(argv[0] if argv else "latest", Path(results_folder(None)))
    story = read_story(folder)
    picture = draw(story, learned_routes(story), folder / PICTURE)
    table = rows(story)
    width = max(len(name) for name, _ in table)
    print("\n".join([f"Run {folder}", *(f"  {name:<{width}}  {text}" for name, text in table)]))
    print(f"Picture: {picture}")
    print(f"Command: {story.facts.get('command_line', '?')}")
    return 0
