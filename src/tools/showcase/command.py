"""``oamarl showcase``: the results of a run, as a table and a picture in its folder."""

from __future__ import annotations

import math
import sys
import textwrap
from pathlib import Path
from typing import Protocol

import numpy as np

from ...analysis.find_run import find_run
from ...envs.base import Arrays, EnvInfo
from ...envs.maze.maze import Maze
from ...storage.tested_actions import SAMPLED
from ...utils.console import duration, number
from ...utils.errors import UserError
from ...utils.layout import line_width
from ..tables import table
from .story import Story, read_story, tenths

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
        (f"training return, {SAMPLED}, last 10 %", value(parts[-1]) + share(parts[-1])),
        (f"training return, {SAMPLED}, best 10 %", value(max(parts)) + share(max(parts))),
        *((f"final test return, {how}", value(test) + share(test)) for how, test in tests.items()),
        ("optimum", value(story.optimum)),
    ]


def rollout(team: Team, env: Maze) -> np.ndarray:
    """Play one greedy episode and return every agent's positions.

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

    if len(argv) > 1 or any(word.startswith("-") for word in argv):
        raise UserError(f"`oamarl showcase` takes one run's folder or `latest`, not '{' '.join(argv)}'.")
    folder = find_run(argv[0] if argv else "latest", Path(results_folder(None)))
    story = read_story(folder)
    picture = draw(story, learned_routes(story), folder / PICTURE)
    width = line_width()
    told = table(rows(story), heads=False, width=None if width is None else width - 2)
    print(f"Run {folder}\n{textwrap.indent(told, '  ')}")
    print(f"Picture: {picture}")
    print(f"Command: {story.facts.get('command_line', '?')}")
    return 0
