"""Heat maps of the reuse mapping M and the distances D over training."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...analysis.runs import Run
from ...storage.records import ARRAYS_SUFFIX, read_arrays
from .style import count, new_figure


@dataclass(frozen=True)
class Reuse:
    """Reuse of some runs of one kind, averaged.

    | field | shape | meaning |
    |---|---|---|
    | steps | [K] | environment steps of the moments |
    | M, D | [K, N, N] | share of experience, distance; row = learner, column = source; nan where unknown |
    | runs | | how many |
    | sigma | | the largest distance at which experience is used, None where runs differ |
    """

    label: str
    task: str
    steps: np.ndarray
    M: np.ndarray
    D: np.ndarray
    runs: int
    sigma: float | None


def read_reuse(label: str, task: str, runs: Sequence[Run], shown: int = 5) -> Reuse | None:
    """Return the reuse of runs at ``shown`` moments of training; None where no run has any.

    Moments are at equal shares of each run's updates; runs with another number of agents than the first are left out.
    """
    found: list[tuple[np.ndarray, ...]] = []
    for run in runs:
        records = _records(run)
        if records and records[0][1]["M"].shape != (found[0][1].shape[1:] if found else records[0][1]["M"].shape):
            continue
        if records:
            chosen = [records[k] for k in moments(len(records), shown)]
            arrays = [np.stack([a.get(name, np.full(a["M"].shape, np.nan)) for _, a in chosen]) for name in "MD"]
            found.append((np.array([t for t, _ in chosen]), *arrays))
    if not found:
        return None
    size = min(len(steps) for steps, _, _ in found)  # a run of fewer updates has fewer moments
    steps, m, d = (np.mean([x[part][-size:] for x in found], axis=0) for part in range(3))
    sigmas = {run.config.get("reuse_sigma") for run in runs}
    sigma = sigmas.pop() if len(sigmas) == 1 else None
    return Reuse(label, task, steps, m, d, len(found), float(sigma) if isinstance(sigma, (int, float)) else None)


def _records(run: Run) -> list[tuple[int, dict[str, np.ndarray]]]:
    if not run.is_folder:
        return []
    try:
        records = read_arrays(run.path / f"reuse{ARRAYS_SUFFIX}")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        run.troubles.append(f"The reuse of {run.path} cannot be read: {error}.")
        return []
    first = next((a["M"].shape for _, a in records if "M" in a and a["M"].ndim == 2), None)
    return [(t, a) for t, a in records if "M" in a and a["M"].shape == first]


def reuse_figure(reuse: Reuse) -> Figure:
    """Draw M in a row above D, one column per moment."""
    k, n = reuse.M.shape[:2]
    size = min(2.1, max(1.15, 0.16 * n))
    figure = new_figure(size * k + 1.7, 2 * size + 0.95)
    figure.suptitle(f"{reuse.label} on {reuse.task}" + (f", mean of {reuse.runs} runs" if reuse.runs > 1 else ""),
                    fontsize=9.5)  # fmt: skip
    grid = figure.subplots(2, k, squeeze=False)
    known = reuse.D[np.isfinite(reuse.D)]
    top = float(known.max()) if len(known) and known.max() > 0 else 1.0
    for row, (values, high) in enumerate(((reuse.M, 1.0), (reuse.D, top))):
        image: Any = None
        for column in range(k):
            axes = grid[row, column]
            image = heat_map(axes, values[column], high, [str(i) for i in range(n)])
            if row == 0:
                axes.set_title(f"step {count(float(reuse.steps[column]))}", fontsize=8.5)
            if column == 0:
                axes.set_ylabel("learner")
            else:
                axes.set_yticklabels([])
            if row == 1:
                axes.set_xlabel("source")
            else:
                axes.set_xticklabels([])
        bar = figure.colorbar(image, ax=list(grid[row]), shrink=0.85, pad=0.02, aspect=14)
        bar.set_label("share of experience M" if row == 0 else "distance D (KL)", fontsize=8.5)
        bar.ax.tick_params(labelsize=7.5)
        bar.outline.set_visible(False)
        if row == 1 and reuse.sigma is not None and reuse.sigma < high:
            # beyond it nothing is reused
            bar.ax.axhline(reuse.sigma, color="#d55e00", linewidth=1.6)
            bar.ax.text(-0.25, reuse.sigma, "σ", color="#d55e00", ha="right", va="center", fontsize=9)
    return figure


def moments(count: int, shown: int = 5) -> list[int]:
    """Return up to ``shown`` numbers from 0 to ``count`` - 1, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(shown, count)).round().astype(int)).tolist()


def heat_map(axes: Any, values: np.ndarray, high: float, names: Sequence[str]) -> Any:
    """Draw values [N, N] from 0 to ``high``, darker for more, between agents of these ``names``; returns the image."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap="Greys", vmin=0.0, vmax=high)
    n = len(values)
    for (i, j), value in np.ndenumerate(values) if n <= 5 else ():  # a number in a smaller cell would not be readable
        if np.isfinite(value):
            colour = "white" if value > 0.55 * high else "black"
            axes.text(j, i, short(float(value)), ha="center", va="center", fontsize=6.5, color=colour)
    ticks = range(n) if n <= 6 else range(0, n, max(1, round(n / 5)))
    axes.set_xticks(list(ticks), [names[i] for i in ticks], fontsize=7.5)
    axes.set_yticks(list(ticks), [names[i] for i in ticks], fontsize=7.5)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    return image


def short(value: float) -> str:
    """Return a number of a small cell: 0, .07, .5, 1, 12, 3e-4."""
    if value == 0:
        return "0"
    if abs(value) < 0.005:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 1:
        return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{value:.2f}".lstrip("0").rstrip("0").rstrip(".")
