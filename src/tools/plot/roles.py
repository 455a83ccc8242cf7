"""ROMA's roles over training: where each agent's roles lie, at some moments."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ...analysis.methods import COLOURS, MARKERS, MUTED
from ...analysis.runs import Run
from ...storage.records import ARRAYS_SUFFIX, read_arrays
from .agents import agent_types, names
from .axes import count
from .reuse import moments
from .style import new_figure, plain, wrapped


@dataclass(frozen=True)
class Roles:
    """Roles of one run.

    | field | shape | meaning |
    |---|---|---|
    | steps | [K] | environment steps of the moments |
    | places | K x [S, N, 2] | the roles' means on the two directions in which they vary most over all moments; nan \
where an agent takes no decision |
    | share | [2] | the share of their variance in each direction |
    | agents | N | the agents' names |
    | run | | the run's folder |
    """

    label: str
    task: str
    steps: np.ndarray
    places: list[np.ndarray]
    share: np.ndarray
    agents: list[str]
    run: str


def read_roles(label: str, task: str, runs: Sequence[Run], shown: int = 5) -> Roles | None:
    """Return the roles of the first of ``runs`` that has any, at ``shown`` moments of training; None: no run has."""
    for run in runs:
        records = _records(run)
        if not records:
            continue
        chosen = [records[k] for k in moments(len(records), shown)]
        n = chosen[0][1].shape[1]
        found = [mean for _, mean in chosen if mean.shape[1:] == chosen[0][1].shape[1:]]
        places, share = directions(found)
        types = agent_types(run.config, run.facts, n)
        steps = np.array([t for t, _ in chosen])
        return Roles(label, task, steps, places, share, names(types, n), run.path.name)
    return None


def _records(run: Run) -> list[tuple[int, np.ndarray]]:
    if not run.is_folder:
        return []
    try:
        records = read_arrays(run.path / f"roles{ARRAYS_SUFFIX}")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        run.troubles.append(f"The roles of {run.path} cannot be read: {error}.")
        return []
    return [(t, a["mean"]) for t, a in records if "mean" in a and a["mean"].ndim == 3]


def directions(means: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Put roles on the two directions in which they vary most (principal components of all of them together).

    Args:
        means: K x [S, N, D], nan where there is no role.

    Returns:
        K x [S, N, 2], and the shares [2] of the variance; a direction that roles lack is 0.
    """
    rows = np.concatenate([m.reshape(-1, m.shape[-1]) for m in means]).astype(np.float64)
    rows = rows[np.isfinite(rows).all(1)]
    size = means[0].shape[-1]
    centre = rows.mean(0) if len(rows) else np.zeros(size)
    _, length, axes = np.linalg.svd(rows - centre, full_matrices=False) if len(rows) else (0, np.zeros(1), np.eye(size))
    kept = np.zeros((size, 2))
    kept[:, : min(2, len(axes))] = axes[:2].T
    variance = np.zeros(2)
    variance[: min(2, len(length))] = length[:2] ** 2
    return [(m - centre) @ kept for m in means], variance / max(float((length**2).sum()), 1e-300)


def roles_figure(roles: Roles, title: str = "") -> Figure:
    """Draw the roles at each moment side by side, a colour and marker for each agent.

    Args:
        title: above everything; "": the label and the task.
    """
    k = len(roles.places)
    figure = new_figure(2.0 * k + 1.5, 2.9)
    told = title or f"{roles.label}, {roles.task}: means of roles"
    figure.suptitle(plain(wrapped(told, figure.get_figwidth() - 0.3, 9.5)), fontsize=9.5)
    panels = figure.subplots(1, k, squeeze=False, sharex=True, sharey=True)[0]
    colours = (*COLOURS, *MUTED)
    for axes, t, places in zip(panels, roles.steps, roles.places, strict=True):
        axes.axhline(0, color="0.9", linewidth=0.6, zorder=0)
        axes.axvline(0, color="0.9", linewidth=0.6, zorder=0)
        for i, name in enumerate(roles.agents):
            axes.scatter(
                places[:, i, 0], places[:, i, 1], s=12, alpha=0.6, linewidths=0, color=colours[i % len(colours)],
                marker=MARKERS[i % len(MARKERS)], label=name,
            )  # fmt: skip
        axes.set_title(f"step {count(float(t))}", fontsize=8.5)
        axes.tick_params(labelsize=7)
    panels[0].set_ylabel(f"second direction ({roles.share[1]:.0%})", fontsize=8)
    figure.supxlabel(f"first direction ({roles.share[0]:.0%} of the variance)", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, title="agent", title_fontsize=8)
    return figure
