"""The store of played episodes: where each slot is, how its episodes ended, and their steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...components.seeding import Purpose
from ..base import EnvInfo
from .memory import Layout


@dataclass(frozen=True)
class Job:
    """A request to play episodes: which ones, how actions are chosen, and what of them is recorded.

    | field | meaning |
    |---|---|
    | seed, purpose | of the run, and of the episodes: with slot and number they give an episode's seeds |
    | greedy | greedy (argmax) actions; otherwise sampled ones |
    | rewards | own: each agent's; sum, mean: the common one in every column |
    | keep | record the steps in ``EpisodeStore.steps`` |
    | plan | the numbers of each slot's episodes; None: as many as it takes to make ``steps`` steps, in their order |
    | steps | of each slot, where there is no plan |
    """

    seed: int
    purpose: Purpose
    greedy: bool
    rewards: Literal["own", "sum", "mean"]
    keep: bool
    plan: tuple[tuple[int, ...], ...] | None
    steps: int = 0


@dataclass
class EpisodeStore:
    """The arrays in which played episodes are recorded: written by the player, read by the runner.

    ``cursor`` [B, ...] is where each slot is:

    | array | shape | meaning |
    |---|---|---|
    | number, step | [B] int64 | number of its present episode (-1: none yet), steps made in it |
    | fresh | [B] bool | its present episode is over or lost: playing begins with the next one |
    | row, column | [B] int64 | row and column of its next step in ``steps`` |
    | done, lost | [B] int64 | episodes that ended and that were lost, in this job |
    | returns | [B, N] float64 | of the episode so far, as learners see rewards |
    | last | [B, N] int64 | the last actions, -1 at an episode's first step |
    | hidden | [B, N, H] float32 | the policies' hidden state |
    | played | [B, L, N] int64 | the episode's actions so far (L = 0 where they are not needed) |
    | acting, playing | [B] float64 | seconds spent on choosing actions and on everything, at a player's first slot |

    ``endings`` [B, K, ...] are how a slot's first ``done`` episodes ended, in order: return, length, metrics,
    info_metrics (see :class:`~..info_metrics.InfoMetrics`), seed, row, column (of the last step) and, where segments
    are played, the final obs, state and avail.

    ``steps`` [rows, T, ...] are the steps of all slots, with the names and shapes of
    :class:`components.batch.Batch`.
    """

    cursor: dict[str, np.ndarray]
    endings: dict[str, np.ndarray]
    steps: dict[str, np.ndarray] = field(default_factory=dict)

    def part(self, first: int, last: int) -> EpisodeStore:
        """Return the views of slots ``first`` to ``last - 1``; ``steps`` stays whole."""
        cut = slice(first, last)
        cursor, endings = ({name: x[cut] for name, x in group.items()} for group in (self.cursor, self.endings))
        return EpisodeStore(cursor, endings, self.steps)

    def clear_row(self, row: int) -> None:
        """Zero a row of ``steps``."""
        for array in self.steps.values():
            array[row] = 0


def cursor_layout(info: EnvInfo, n_slots: int, hidden: int, played: bool) -> Layout:
    """Return names, shapes and types of ``EpisodeStore.cursor``."""
    b, n = n_slots, info.n_agents
    return {
        **dict.fromkeys(("number", "step", "row", "column", "done", "lost"), ((b,), "int64")),
        "fresh": ((b,), "bool"),
        "returns": ((b, n), "float64"),
        "last": ((b, n), "int64"),
        "hidden": ((b, n, hidden), "float32"),
        "played": ((b, info.episode_limit if played else 0, n), "int64"),
        "acting": ((b,), "float64"),
        "playing": ((b,), "float64"),
    }


def endings_layout(info: EnvInfo, n_slots: int, most: int, n_info_metrics: int, final: bool) -> Layout:
    """Return names, shapes and types of ``EpisodeStore.endings``.

    Args:
        most: episodes of a slot, K.
        n_info_metrics: numbers of an episode that an environment may report in its infos.
        final: with the final observation, state and legal actions.
    """
    lead, n = (n_slots, most), info.n_agents
    seen = {
        "obs": ((*lead, n, info.obs_size), "float32"),
        "state": ((*lead, info.state_size), "float32"),
        "avail": ((*lead, n, info.n_actions), "bool"),
    }
    return {
        **dict.fromkeys(("length", "seed", "row", "column"), (lead, "int64")),
        "returns": ((*lead, n), "float64"),
        "metrics": ((*lead, len(info.metrics)), "float64"),
        "info_metrics": ((*lead, n_info_metrics), "float64"),
        **(seen if final else {}),
    }


def steps_layout(info: EnvInfo, rows: int, steps: int) -> Layout:
    """Return names, shapes and types of ``EpisodeStore.steps``."""
    n = info.n_agents
    return {
        "obs": ((rows, steps + 1, n, info.obs_size), "float32"),
        "state": ((rows, steps + 1, info.state_size), "float32"),
        "avail": ((rows, steps + 1, n, info.n_actions), "bool"),
        "actions": ((rows, steps, n), "int64"),
        "log_prob": ((rows, steps, n), "float32"),
        "reward": ((rows, steps, n), "float32"),
        "terminated": ((rows, steps), "bool"),
        "truncated": ((rows, steps), "bool"),
        "agent_terminated": ((rows, steps, n), "bool"),
        "filled": ((rows, steps), "bool"),
        "alive": ((rows, steps, n), "bool"),
    }


def learner_rewards(rewards: str, reward: np.ndarray) -> np.ndarray:
    """Return rewards [S, N] as learners see them (see ``Job.rewards``)."""
    if rewards == "own":
        return reward
    team = reward.sum(-1, keepdims=True) if rewards == "sum" else reward.mean(-1, keepdims=True)
    return np.broadcast_to(team, reward.shape)


#: fields of ``steps`` that are read before a step, and those that the step sets
BEFORE, AFTER = ("obs", "state", "avail", "alive"), ("terminated", "truncated", "agent_terminated")
FINAL = ("obs", "state", "avail")


def remaining_job(job: Job, store: EpisodeStore, slots: Iterable[int]) -> Job:
    """Return what remains of ``job`` after the present episodes of ``slots`` were lost: each is replaced by one more.

    The cursors of ``slots`` are set to where playing continues; their other arrays are left as they are.
    """
    cursor, steps = store.cursor, store.steps
    plan = list(job.plan) if job.plan is not None else []
    for b in slots:
        cursor["fresh"][b] = True
        if job.plan is not None:
            whole = int(cursor["done"][b])
            left = plan[b][whole:]
            if not left:
                continue
            cursor["lost"][b] += 1
            cursor["column"][b] = 0
            plan[b] = (*plan[b][:whole], *left[1:], plan[b][-1] + 1)
            if job.keep:
                store.clear_row(int(cursor["row"][b]))
        elif cursor["column"][b] < job.steps:
            t = int(cursor["column"][b])
            # an end that was noted just before the process died is not one: its step was not finished
            k = int(cursor["done"][b])
            if k and store.endings["column"][b, k - 1] == t:
                cursor["done"][b] -= 1
            for name in ("filled", "reward", *AFTER):
                steps[name][b, t] = 0
            cursor["column"][b] += 1
    return replace(job, plan=tuple(plan)) if job.plan is not None else job
