"""The picture of ``oamarl showcase``: learned routes, the reuse mapping over training, the curve.

Made for print and for colour-blind readers: lines differ in style, label or number as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...analysis.methods import method_name, method_style
from ...analysis.names import task_name
from ...storage.tested_actions import GREEDILY, SAMPLED
from ..plot.axes import count_axes, value_axis
from ..plot.reuse import draw_rows, moments, stacked
from ..plot.style import new_figure, plain, save, wrapped

if TYPE_CHECKING:
    from ...envs.maze.maze import Maze
    from .story import Story

#: the agents' own colours, dark enough on white; told apart without colour by style and label
_INK = {"red": "#c62020", "black": "#101010", "blue": "#1c5ac8"}
_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
#: what is drawn of the reuse (`oamarl plot --kind reuse` draws all of it)
_REUSE = ("M", "b", "role")
#: inches of the curve below the reuse
_CURVE = 3.1
#: points up to which each of the training curve has a mark
_FEW = 12
#: markers, and whether they are filled: how a test's actions were chosen
_TESTS = {SAMPLED: ("^", False), GREEDILY: ("o", True)}
_TEST_INK = "#4d4d4d"


def draw(story: Story, routes: np.ndarray | None, path: Path) -> Path:
    """Write the picture and return its path.

    Args:
        story: the run.
        routes: [T+1, N, 2] rows and columns of the agents in a maze, or None: no maze is drawn.
        path: the PNG to write.

    Raises:
        UserError: it cannot be written.
    """
    shown = [name for name in _REUSE if any(name in arrays for _, arrays in story.reuse)]
    reuse = 0.9 + 1.3 * len(shown) if story.reuse else 0.0  # inches
    figure = new_figure(12.0 if routes is not None else 7.5, max(5.6, reuse + _CURVE))
    right: Any = figure  # a figure or a part of one, which share no type that has both subfigures and subplots
    if routes is not None:
        parts: Any = figure.subfigures(1, 2, width_ratios=[1.0, 1.25])
        maze, right = parts
        draw_routes(maze.subplots(), story.env, routes)
    if story.reuse:
        strip, bottom = right.subfigures(2, 1, height_ratios=[reuse, _CURVE])
        draw_reuse(strip, story, shown)
    else:
        bottom = right
    draw_curve(bottom.subplots(), story)
    title = f"{method_name(str(story.config.get('name', '?')))}, {task_name(story.task, story.config)}"
    title = wrapped(f"{title}, seed {story.config.get('seed', '?')}", figure.get_figwidth() - 0.5, 12)
    figure.suptitle(plain(title))
    return save(figure, path, dpi=150)


def draw_routes(axes: Any, env: Maze, routes: np.ndarray) -> None:
    """Draw the maze and every agent's route, each on a lane of its own."""
    height, width = env.grid.shape
    axes.imshow(env.render_rgb(), extent=(0, width, height, 0), interpolation="nearest")
    n = routes.shape[1]
    lanes = np.linspace(-0.24, 0.24, n) if n > 1 else np.zeros(1)
    best = env.optimum().steps
    goal = np.array(divmod(env.goal, width))
    for i, (colour, lane) in enumerate(zip(env.colours, lanes, strict=True)):
        number = env.colours[: i + 1].count(colour)
        arrived = (routes[:, i] == goal).all(1)
        steps = int(arrived.argmax()) if arrived.any() else None
        y, x = (routes[: None if steps is None else steps + 1, i] + 0.5 + lane).T
        text = f"{colour} {number}: " + (f"{steps} steps" if steps is not None else "no arrival")
        text += f" (best {best[i]})" if best[i] is not None else ""
        style = _STYLES[(number - 1) % len(_STYLES)]
        axes.plot(x, y, color=_INK[colour], linestyle=style, linewidth=2.2, label=text, solid_capstyle="round")
        axes.plot(x[-1], y[-1], color=_INK[colour], marker="o" if steps is not None else "X", markersize=6)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("Learned routes (greedy), from ring to star")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, frameon=False, fontsize=9, handlelength=2.8)


def draw_reuse(figure: Any, story: Story, shown: Sequence[str]) -> None:
    """Draw the arrays ``shown`` at some moments: row = learner, column = source, darker = more."""
    chosen = [story.reuse[k] for k in moments(len(story.reuse))]
    arrays = stacked([a for _, a in chosen])
    rows = {name: arrays[name] for name in shown if name in arrays}
    draw_rows(figure, np.array([t for t, _ in chosen]), rows, story.types)
    figure.suptitle("Reuse: whose experience each agent learned from", fontsize=11)


def draw_curve(axes: Any, story: Story) -> None:
    """Draw training and test returns over environment steps, and the optimum."""
    method = method_style(str(story.config.get("name", "?")))
    marker = method.marker if len(story.steps) <= _FEW else ""
    axes.plot(
        story.steps, story.returns, color=method.colour, linewidth=1.6, marker=marker, markersize=6,
        markerfacecolor=method.face, label="training (sampled)",
    )  # fmt: skip
    for how, (steps, values) in story.tests.items():
        marker, filled = _TESTS[how]
        style = {"linestyle": "none", "marker": marker, "markersize": 5}
        face = _TEST_INK if filled else "white"
        name = f"test ({how.partition(' ')[0]})"
        axes.plot(steps, values, color=_TEST_INK, markerfacecolor=face, label=name, clip_on=False, zorder=3, **style)
    if story.optimum is not None:
        axes.axhline(story.optimum, color="black", linestyle="--", linewidth=1.2, label=f"optimum {story.optimum:g}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("team return")
    axes.set_xlim(left=0, right=1.02 * max(story.t, 1))
    count_axes([axes])
    value_axis(axes)
    axes.grid(color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    # above the axes, where it hides no point
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, fontsize=9)
