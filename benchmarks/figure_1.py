"""Figure 1 of the HATRPO paper, redrawn: trust-region updates of two Gaussian policies in the game r = a1 a2.

    .venv/bin/python benchmarks/figure_1.py --out docs/images/figure-1.png

Agent i draws its action from a Gaussian of mean mu_i and variance 1, so that the joint return is J = mu_1 mu_2. An
update moves a mean as far up its own gradient as KL = delta allows: by sqrt(2 delta).

- Updated at once (MAPPO without shared networks, independent TRPO), each agent follows the gradient at the other's OLD
  mean, and J falls although each step alone would raise it.
- Updated one after another (HATRPO, HAPPO), the second agent follows the gradient at the first one's NEW mean.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from oamarl.analysis.methods import COLOURS
from oamarl.tools.plot.style import look, new_figure, save

#: the paper's initial means, and the size of its trust region
START = (-0.25, 0.25)
DELTA = 0.5

Means = tuple[float, float]


def joint_return(means: Means) -> float:
    """E[a1 a2] = mu_1 mu_2."""
    return means[0] * means[1]


def step(gradient: float, delta: float) -> float:
    """The best change of a mean within KL(old || new) = change^2 / 2 <= delta: along the gradient's sign."""
    return math.copysign(math.sqrt(2.0 * delta), gradient) if gradient else 0.0


def simultaneous(means: Means, delta: float) -> Means:
    """Both means follow the gradients dJ/dmu_1 = mu_2 and dJ/dmu_2 = mu_1 at the old means."""
    first, second = means
    return first + step(second, delta), second + step(first, delta)


def sequential(means: Means, delta: float) -> Means:
    """The second mean follows its gradient at the first one's new mean."""
    first = means[0] + step(means[1], delta)
    return first, means[1] + step(first, delta)


def draw(path: Path, delta: float, updates: int) -> None:
    """Write the picture: ``updates`` updates of each kind from the same means, and what they do to the joint return."""
    figure = new_figure(9.0, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.05])
    edge = 2.6
    grid = np.linspace(-edge, edge, 201)
    values = grid[None, :] * grid[:, None]
    left.contourf(grid, grid, values, levels=np.linspace(-4, 4, 17), cmap="RdBu", extend="both", alpha=0.75)
    ball = math.sqrt(2.0 * delta)
    for k, (label, update) in enumerate((("one after another", sequential), ("at once", simultaneous))):
        means = [START]
        for _ in range(updates):
            means.append(update(means[-1], delta))
        colour = COLOURS[k]
        corner = (means[1][0], START[1])  # after the first agent's update
        for a, b in [(START, corner), (corner, means[1])] if update is sequential else [(START, means[1])]:
            left.annotate("", b, a, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.2})
        left.plot(*means[1], "o", color=colour, markersize=6, label=f"{label}: J = {joint_return(means[1]):+.2f}")
        right.plot([joint_return(m) for m in means], "o-", color=colour, markersize=4.5, linewidth=1.8, label=label)
    _box(left, ball)
    left.plot(*START, "o", color="black", markersize=6, label=f"before: J = {joint_return(START):+.2f}")
    left.set(xlabel="mean of agent 1", ylabel="mean of agent 2", xlim=(-edge, edge), ylim=(-edge, edge))
    left.set_title(f"One update of two agents, r = a1 a2, KL of each = {delta:g}", fontsize=9.5)
    left.legend(loc="lower left", fontsize=8, framealpha=0.9)
    left.set_aspect("equal")
    right.axhline(joint_return(START), color="0.6", linewidth=0.8)
    right.set(xlabel="updates", ylabel="joint return J")
    right.set_xticks(range(updates + 1))
    right.set_title("Further updates", fontsize=9.5)
    right.legend(loc="upper left", frameon=False, fontsize=8.5)
    right.spines[["top", "right"]].set_visible(False)
    save(figure, path, dpi=150)


def _box(axes: Any, ball: float) -> None:
    """Draw both agents' trust regions around the initial means."""
    x, y = START
    axes.plot([x - ball, x + ball], [y, y], color="#7b3294", linewidth=1.4)
    axes.plot([x, x], [y - ball, y + ball], color="#7b3294", linewidth=1.4, label="trust region of each agent")


def main(argv: list[str] | None = None) -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--delta", type=float, default=DELTA, help="size of the trust regions (KL, in nats)")
    parser.add_argument("--updates", type=int, default=3, help="updates of the second panel")
    asked = parser.parse_args(argv)
    with look():
        draw(asked.out, asked.delta, asked.updates)


if __name__ == "__main__":
    main()
