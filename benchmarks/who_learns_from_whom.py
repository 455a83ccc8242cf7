"""The picture of docs/off-agent.md: whose experience agents learn from over training, and how far their roles disagree.

    oamarl --config=oappo --env-config=maze with seed=1 t_max=64000
    oamarl --config=oappo --env-config=gymma with env_args.key=lbforaging:Foraging-8x8-2p-2f-coop-v3 \\
        env_args.time_limit=50 seed=1 t_max=300000
    .venv/bin/python benchmarks/who_learns_from_whom.py RUN RUN --out docs/images/who-learns-from-whom.png

A row for each run: the mapping M at some moments (evenly spread over the updates, or --at steps for all runs in percent
of the training), beside the ratio F of role disagreement over training, of pairs of one type and of two types.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from oamarl.analysis.methods import COLOURS
from oamarl.analysis.names import task_name
from oamarl.tools.plot.agents import borders, grouped, names
from oamarl.tools.plot.axes import count, count_axes
from oamarl.tools.plot.reuse import heat_map, scale_of
from oamarl.tools.plot.style import look, new_figure, save
from oamarl.tools.showcase.story import Story, read_story

#: updates over which a line is the median
SMOOTH = 9
#: range of F in the picture: between nearly deterministic policies, single weights can make F any number
SHOWN = (0.4, 100.0)


def pairs(types: tuple[str, ...], n_agents: int) -> dict[str, np.ndarray]:
    """Return [N, N] bool of the pairs that a line is drawn of: of one type and of two types; all where no types are."""
    off = ~np.eye(n_agents, dtype=bool)
    if len(set(types)) < 2:
        return {"all pairs": off}
    kinds = np.array(types)
    alike = kinds[:, None] == kinds
    return {"agents of one type": off & alike, "agents of two types": off & ~alike}


def median(values: np.ndarray) -> np.ndarray:
    """Return the running median [K] of values [K, P] over all P and up to :data:`SMOOTH` updates."""
    reach = SMOOTH // 2
    return np.array([np.nanmedian(values[max(0, k - reach) : k + reach + 1]) for k in range(len(values))])


def draw_roles(axes: Any, story: Story, chosen: list[int], title: str) -> None:
    """Draw F over training: a line is the median, a band has the middle 80 % of pairs and neighbouring updates."""
    steps = np.array([t for t, _ in story.reuse])
    roles = np.array([a["role"] for _, a in story.reuse], float)
    for k, (label, which) in enumerate(pairs(story.types, roles.shape[1]).items()):
        values, reach = roles[:, which], SMOOTH // 2
        around = [values[max(0, t - reach) : t + reach + 1] for t in range(len(values))]
        low, high = np.array([np.nanquantile(x, [0.1, 0.9]) for x in around]).T
        style = {"color": COLOURS[k], "linestyle": ("-", (0, (5, 1.5)))[k]}
        axes.fill_between(steps, low, high, color=COLOURS[k], alpha=0.18, linewidth=0)
        axes.plot(steps, median(values), linewidth=1.7, label=label, **style)
    axes.axhline(1.0, color="black", linewidth=0.9)
    for t in steps[chosen]:
        axes.axvline(t, color="0.75", linewidth=0.7, zorder=0)
    axes.set_yscale("log")
    axes.set_ylim(*SHOWN)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("environment steps", fontsize=8.5)
    axes.set_ylabel("role disagreement F", fontsize=8.5)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    count_axes([axes])
    axes.spines[["top", "right"]].set_visible(False)


def draw(stories: list[Story], percent: list[float], path: Path) -> None:
    """Write the picture."""
    figure = new_figure(10.0, 2.35 * len(stories))
    for part, story in zip(np.atleast_1d(figure.subfigures(len(stories), 1)), stories, strict=True):
        steps = np.array([t for t, _ in story.reuse])
        chosen = sorted({int(np.abs(steps - share / 100 * story.t).argmin()) for share in percent})
        n = len(story.reuse[0][1]["M"])
        left, right = part.subfigures(1, 2, width_ratios=[2.0, 1.0])
        order, labels = grouped(story.types, n), names(story.types, n)
        image = None
        grid = left.subplots(1, len(chosen), squeeze=False)[0]
        for axes, k in zip(grid, chosen, strict=True):
            m = story.reuse[k][1]["M"][np.ix_(order, order)]
            image = heat_map(axes, m, scale_of("M", m), [labels[i] for i in order], borders(story.types))
            axes.set_title(f"step {count(float(steps[k]))}", fontsize=8.5)
            axes.set_xlabel("source", fontsize=8.5)
            if axes is not grid[0]:
                axes.set_yticklabels([])
        grid[0].set_ylabel("learner", fontsize=8.5)
        left.colorbar(image, ax=list(grid), shrink=0.8, pad=0.015, aspect=12).ax.tick_params(labelsize=7.5)
        left.suptitle(
            f"{task_name(story.task, story.config)}: whose experience each agent learns from, M", fontsize=9.5
        )
        title = "roles differ between the types" if len(set(story.types)) > 1 else "the agents have one role"
        draw_roles(right.subplots(), story, chosen, title)
    save(figure, path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    """Draw the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run with adaptive_roles")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--at", default="0,10,25,100", help="moments, in percent of the training")
    asked = parser.parse_args(argv)
    stories = [read_story(run) for run in asked.runs]
    for story in stories:
        if not story.reuse or any("role" not in arrays for _, arrays in story.reuse):
            parser.error(f"{story.folder} has not recorded role disagreement: a run with adaptive_roles is needed")
    with look():
        draw(stories, [float(x) for x in asked.at.split(",")], asked.out)


if __name__ == "__main__":
    main()
