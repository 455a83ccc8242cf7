"""Draw docs/images/values-and-experience.svg: what agents can learn from one another, and when it pays.

    .venv/bin/python benchmarks/values_and_experience.py [FILE]

The two maps are calculated, not measured. Agent i estimates one number, the target of an update, with the squared error
1; a share k of the error comes from its bootstrap value, the rest from sampled rewards. Agent j has as much experience,
the same task but for a difference b (in units of own error), and another policy: importance weights of chi-square c
make its experience as good as 1 / (1 + c) of own. Two independent estimates with errors v and u + b^2 are best mixed to
one with the error v (u + b^2) / (v + u + b^2):

    values        v = u = k: the error falls by k^2 / (2 k + b^2)
    experience    v = 1, u = 1 + c: it falls by 1 / (2 + c + b^2)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.35"


def gain_of_values(share: Any, apart: Any) -> Any:
    """By how much mixing bootstrap values lowers the squared error of a target; ``share`` k, ``apart`` b."""
    return share**2 / (2.0 * share + apart**2)


def gain_of_experience(chi_square: Any, apart: Any) -> Any:
    """By how much mixing experience lowers it; ``chi_square`` c, ``apart`` b."""
    return 1.0 / (2.0 + chi_square + apart**2)


def scheme(axes: Any) -> None:
    """Draw what goes from agent j to agent i."""
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    axes.axis("off")
    style = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": GREY, "linewidth": 0.8}
    axes.text(1.3, 9.6, "agent j", ha="center", fontsize=9, color=GREY)
    axes.text(8.5, 9.6, "agent i", ha="center", fontsize=9, color=GREY)
    rows = (
        (8.2, "critic $V'_j$", "$V'_j(x_i)$", "target $y_i$", BLUE, "values: pr_beta"),
        (5.3, "steps\n$o_j, a_j, r_j$", "$r_{ij} = \\pi_i / \\mu_j$", "policy $\\pi_i$", ORANGE, "experience: oappo"),
        (2.2, "policy $\\mu_j$", "$\\mu_j(\\cdot\\,|\\,o_i)$", "policy $\\pi_i$", "#009e73", "policies: maptf, dvm"),
    )  # fmt: skip
    for y, source, over, goal, colour, name in rows:
        axes.text(1.3, y, source, ha="center", va="center", fontsize=8.5, bbox=style)
        axes.text(8.5, y, goal, ha="center", va="center", fontsize=8.5, bbox=style)
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6}
        axes.annotate("", xy=(6.9, y), xytext=(3.0, y), arrowprops=arrow)
        axes.text(4.9, y + 0.4, over, ha="center", fontsize=8.5, color=colour)
        axes.text(4.9, y - 0.9, name, ha="center", fontsize=8, color=colour)


def same_task(axes: Any) -> None:
    """Draw which pays more where both agents have one task."""
    c, k = np.meshgrid(np.linspace(0.0, 10.0, 201), np.linspace(0.01, 1.0, 199))
    values, experience = gain_of_values(k, 0.0), gain_of_experience(c, 0.0)
    axes.contourf(c, k, values - experience, [-1.0, 0.0, 1.0], colors=[ORANGE, BLUE], alpha=0.25)
    axes.contour(c, k, values - experience, [0.0], colors=["0.2"], linewidths=1.2)
    for gain, levels, colour in ((values, [0.1, 0.2, 0.3, 0.4], BLUE), (experience, [0.1, 0.2, 0.3, 0.4], ORANGE)):
        lines = axes.contour(c, k, gain, levels, colors=[colour], linewidths=0.7, linestyles="--")
        axes.clabel(lines, fmt="%.1f", fontsize=6.5)
    axes.text(6.3, 0.75, "values", fontsize=10, color=BLUE, ha="center")
    axes.text(3.2, 0.13, "experience", fontsize=10, color=ORANGE, ha="center")
    axes.set_xlabel("policies apart: chi-square c")
    axes.set_ylabel("error from the bootstrap value, k")
    axes.set_title("One task: what lowers the error more", fontsize=9)


def other_task(axes: Any) -> None:
    """Draw how both fall where the tasks differ."""
    b = np.linspace(0.0, 3.0, 121)
    for share, dash in ((0.9, "-"), (0.4, "--")):
        axes.plot(b, gain_of_values(share, b), color=BLUE, linestyle=dash, label=f"values, k = {share:g}")
    for c, dash in ((0.5, "-"), (3.0, "--")):
        axes.plot(b, gain_of_experience(c, b), color=ORANGE, linestyle=dash, label=f"experience, c = {c:g}")
    axes.set_ylim(0.0, 0.55)
    axes.set_xlabel("tasks apart: b, in units of own error")
    axes.set_ylabel("share of the squared error removed")
    axes.set_title("Other tasks: the gain of the best mixture", fontsize=9)
    axes.legend(fontsize=7, frameon=False)


def draw(path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(11.0, 3.5), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[1.15, 1.0, 1.0])
    for part, axes in zip((scheme, same_task, other_task), panels, strict=True):
        part(axes)
    figure.savefig(path)


if __name__ == "__main__":
    images = Path(__file__).resolve().parents[1] / "docs" / "images"
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else images / "values-and-experience.svg")
