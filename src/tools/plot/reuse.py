"""Heat maps of the reuse over training: the mapping M, and what it follows from."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ...analysis.runs import Run
from ...storage.records import ARRAYS_SUFFIX, read_arrays
from .agents import agent_types, borders, grouped, names
from .axes import Ticks, count
from .style import new_figure, plain, wrapped

#: the [N, N] arrays of an update that are drawn, in this order -> their title; a file has some of them
TITLES: Mapping[str, str] = {
    "M": "share of\nexperience M",
    "D": "distance D\n(KL)",
    "b": "bias b\n(total variation)",
    "c": "variance c\n(chi-square)",
    "role": "role disagreement F\n(1: none)",
}
#: those whose scale has a fixed end
_TOPS = {"M": 1.0}
#: those over many orders of magnitude: linear up to here, logarithmic beyond
_LOGARITHMIC = {"c": 0.1}
#: ratios: white up to here, which means nothing found, logarithmic beyond, and black from here on (once policies are
#: deterministic they may be anything, and would leave everything else white)
_RATIOS = {"role": (1.0, 1000.0)}


@dataclass(frozen=True)
class Reuse:
    """Reuse of some runs of one kind, averaged.

    | field | shape | meaning |
    |---|---|---|
    | steps | [K] | environment steps of the moments |
    | arrays | [K, N, N] each | M first, and what else of :data:`TITLES` the runs have; row = learner, column = source |
    | runs | | how many |
    | sigma | | the largest distance at which experience is used, None where runs differ or have none |
    | types | [N] | the agents' types; empty where nothing says them |

    An array is nan where a run did not record it.
    """

    label: str
    task: str
    steps: np.ndarray
    arrays: dict[str, np.ndarray]
    runs: int
    sigma: float | None
    types: tuple[str, ...] = ()


def read_reuse(label: str, task: str, runs: Sequence[Run], shown: int = 5) -> Reuse | None:
    """Return the reuse of runs at ``shown`` moments of training; None where no run has any.

    Moments are at equal shares of each run's updates; runs with another number of agents than the first are left out.
    """
    found: list[tuple[Run, np.ndarray, dict[str, np.ndarray]]] = []
    for run in runs:
        records = _records(run)
        shape = records[0][1]["M"].shape if records else None
        if shape is None or (found and shape != found[0][2]["M"].shape[1:]):
            continue
        chosen = [records[k] for k in moments(len(records), shown)]
        found.append((run, np.array([t for t, _ in chosen]), stacked([a for _, a in chosen])))
    if not found:
        return None
    size = min(len(steps) for _, steps, _ in found)  # a run of fewer updates has fewer moments
    there = [name for name in TITLES if any(name in arrays for *_, arrays in found)]
    lacking = np.full(found[0][2]["M"].shape, np.nan)
    arrays = {name: np.mean([a.get(name, lacking)[-size:] for *_, a in found], axis=0) for name in there}
    kinds = {agent_types(run.config, run.facts, arrays["M"].shape[1]) for run, *_ in found}
    steps = np.mean([x[-size:] for _, x, _ in found], axis=0)
    return Reuse(label, task, steps, arrays, len(found), _sigma(runs), kinds.pop() if len(kinds) == 1 else ())


def _sigma(runs: Sequence[Run]) -> float | None:
    """The largest distance at which all of ``runs`` reuse experience."""
    found = {run.config.get("reuse_sigma") for run in runs}
    schemes = {run.config.get("reuse_scheme", "adaptive_kl") for run in runs}
    sigma = found.pop() if len(found) == 1 and schemes == {"adaptive_kl"} else None
    return float(sigma) if isinstance(sigma, (int, float)) else None


def stacked(chosen: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return what of :data:`TITLES` some updates' arrays have, [K, N, N] each; nan where one of them lacks it."""
    lacking = np.full(chosen[0]["M"].shape, np.nan)

    def of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        found = arrays.get(name, lacking)
        return found if found.shape == lacking.shape else lacking

    there = [name for name in TITLES if any(name in arrays for arrays in chosen)]
    return {name: np.stack([of(arrays, name) for arrays in chosen]) for name in there}


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


def reuse_figure(reuse: Reuse, title: str = "") -> Figure:
    """Draw each array in a row, M first, one column per moment.

    Args:
        title: above everything; "": the label and the task.
    """
    k, n = reuse.arrays["M"].shape[:2]
    size = min(2.1, max(1.15, 0.16 * n))
    drawn = len(reuse.arrays)
    figure = new_figure(size * k + 1.7 + 0.4 * bool(reuse.types), drawn * size + 0.95 + 0.3 * bool(reuse.types))
    told = title or f"{reuse.label}, {reuse.task}" + (f", mean of {reuse.runs} runs" if reuse.runs > 1 else "")
    figure.suptitle(plain(wrapped(told, figure.get_figwidth() - 0.3, 9.5)), fontsize=9.5)
    draw_rows(figure, reuse.steps, reuse.arrays, reuse.types, reuse.sigma)
    return figure


def draw_rows(
    figure: Any, steps: np.ndarray, arrays: Mapping[str, np.ndarray], types: Sequence[str], sigma: float | None = None
) -> None:
    """Draw arrays [K, N, N] into a figure or a part of one: a row each, a column for each of the ``steps`` [K].

    Args:
        arrays: names of :data:`TITLES`.
        types: of the agents [N]; those of one type are side by side. Empty: agents are numbers, in their order.
        sigma: marked on the scale of D, beyond which nothing is reused.
    """
    k, n = next(iter(arrays.values())).shape[:2]
    grid, order, labels = figure.subplots(len(arrays), k, squeeze=False), grouped(types, n), names(types, n)
    for row, (name, values) in enumerate(arrays.items()):
        scale, image = scale_of(name, values), None
        for column in range(k):
            axes = grid[row, column]
            shown = values[column][np.ix_(order, order)]
            image = heat_map(axes, shown, scale, [labels[i] for i in order], borders(types))
            if row == 0:
                axes.set_title(f"step {count(float(steps[column]))}", fontsize=8.5)
            if column == 0:
                axes.set_ylabel("learner", fontsize=8.5)
            else:
                axes.set_yticklabels([])
            if row == len(arrays) - 1:
                axes.set_xlabel("source", fontsize=8.5)
            else:
                axes.set_xticklabels([])
        bar = figure.colorbar(image, ax=list(grid[row]), shrink=0.85, pad=0.02, aspect=14)
        bar.set_label(TITLES[name], fontsize=8.5)
        bar.ax.tick_params(labelsize=7.5)
        bar.formatter = Ticks() if type(scale) is Normalize else FuncFormatter(count)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.outline.set_visible(False)
        if name == "D" and sigma is not None and sigma < scale.vmax:
            # beyond it nothing is reused
            bar.ax.axhline(sigma, color="#d55e00", linewidth=1.6)
            bar.ax.text(-0.25, sigma, "σ", color="#d55e00", ha="right", va="center", fontsize=9)


def scale_of(name: str, values: np.ndarray) -> Any:
    """Return the scale of an array's colours over all moments, from 0 (or the smallest value; a ratio: 1) to the
    largest."""
    known = values[np.isfinite(values)]
    top = _TOPS.get(name) or (float(known.max()) if len(known) and known.max() > 0 else 1.0)
    if name in _RATIOS:
        low, black = _RATIOS[name]
        return LogNorm(low, min(max(top, 10.0 * low), black), clip=True)
    low = min(0.0, float(known.min())) if len(known) else 0.0
    if name in _LOGARITHMIC and top > _LOGARITHMIC[name]:
        return SymLogNorm(_LOGARITHMIC[name], vmin=low, vmax=top)
    return Normalize(low, top)


def moments(count: int, shown: int = 5) -> list[int]:
    """Return up to ``shown`` numbers from 0 to ``count`` - 1, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(shown, count)).round().astype(int)).tolist()


def heat_map(axes: Any, values: np.ndarray, scale: Any, agents: Sequence[str], lines: Sequence[int] = ()) -> Any:
    """Draw values [N, N] between ``agents``, darker for more, with lines before some of them; returns the image."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap="Greys", norm=scale)
    n = len(values)
    for (i, j), value in np.ndenumerate(values) if n <= 5 else ():  # a number in a smaller cell would not be readable
        if np.isfinite(value):
            colour = "white" if scale(value) > 0.55 else "black"
            text = short(float(value))
            size = 6.5 if len(text) < 4 else 5.8
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    for at in lines:
        axes.axhline(at - 0.5, color="#d55e00", linewidth=0.9)
        axes.axvline(at - 0.5, color="#d55e00", linewidth=0.9)
    long = max(map(len, agents)) > 3
    # numbers can be counted on from, names cannot
    ticks = range(n) if n <= (24 if long else 6) else range(0, n, max(1, round(n / 5)))
    small = 7.5 if n <= 8 else 5.5
    axes.set_xticks(list(ticks), [agents[i] for i in ticks], fontsize=small, rotation=90 if long else 0)
    axes.set_yticks(list(ticks), [agents[i] for i in ticks], fontsize=small)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    return image


def short(value: float) -> str:
    """Return a number of a small cell: 0, .07, .5, 1, 12, 3e-4, 2e5."""
    if value == 0:
        return "0"
    if abs(value) < 0.005:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 995:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    if abs(value) >= 1:
        return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{value:.2f}".lstrip("0").rstrip("0").rstrip(".")
