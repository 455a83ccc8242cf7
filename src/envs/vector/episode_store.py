"""What is written down while episodes are played: where each slot is, what its episodes ended with, their steps."""

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
    """What is to be played.

    | field | meaning |
    |---|---|
    | seed, purpose | of the run, and of the episodes: with slot and number they give an episode's seeds |
    | greedy | the most probable actions; otherwise sampled ones |
    | rewards | own: each agent's; sum, mean: the common one in every column |
    | keep | fill the store |
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
class Course:
    """Arrays that whoever plays writes and the runner reads; slot by slot, but for ``store``.

    ``at`` is where slots are:

    | array | shape | meaning |
    |---|---|---|
    | number, step | [B] int64 | number of its present episode (-1: none yet), steps made in it |
    | fresh | [B] bool | its present episode is over or lost: the next one begins when playing goes on |
    | row, column | [B] int64 | where in the store its next step goes |
    | done, lost | [B] int64 | episodes that ended and that were lost, in this job |
    | returns | [B, N] float64 | of the episode so far, as learners see rewards |
    | last | [B, N] int64 | the last actions, -1 at an episode's first step |
    | hidden | [B, N, H] float32 | the policies' hidden state |
    | played | [B, L, N] int64 | the episode's actions so far (L = 0 where nobody asks for them) |
    | acting, playing | [B] float64 | seconds spent on choosing actions and on everything, by who plays from here on |

    ``ends`` [B, K, ...] are a slot's episodes in the order of their ends, as far as ``done`` goes: return, length,
    metrics, notes (see :class:`~.notes.Notes`), seed, row, column (of the last step) and, where segments are played,
    the final obs, state and avail.

    ``store`` [rows, T, ...] are the steps, with the names and shapes of :class:`components.batch.Batch`.
    """

    at: dict[str, np.ndarray]
    ends: dict[str, np.ndarray]
    store: dict[str, np.ndarray] = field(default_factory=dict)

    def part(self, first: int, last: int) -> Course:
        """Return the views of slots ``first`` to ``last - 1``."""
        cut = slice(first, last)
        at, ends = ({name: x[cut] for name, x in group.items()} for group in (self.at, self.ends))
        return Course(at, ends, self.store)

    def forget(self, row: int) -> None:
        """Empty a row of the store."""
        for array in self.store.values():
            array[row] = 0


def at_layout(info: EnvInfo, n_slots: int, hidden: int, played: bool) -> Layout:
    """Return names, shapes and types of ``Course.at``."""
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


def ends_layout(info: EnvInfo, n_slots: int, most: int, notes: int, final: bool) -> Layout:
    """Return the same of ``Course.ends``.

    Args:
        most: episodes of a slot.
        notes: numbers that an environment may tell at an episode's end.
        final: with what was seen last.
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
        "notes": ((*lead, notes), "float64"),
        **(seen if final else {}),
    }


def store_layout(info: EnvInfo, rows: int, steps: int) -> Layout:
    """Return the same of ``Course.store``."""
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


def common(rewards: str, reward: np.ndarray) -> np.ndarray:
    """Return rewards [S, N] as learners see them (see ``Job.rewards``)."""
    if rewards == "own":
        return reward
    team = reward.sum(-1, keepdims=True) if rewards == "sum" else reward.mean(-1, keepdims=True)
    return np.broadcast_to(team, reward.shape)


#: what a slot shows before a step and what the step leads to
BEFORE, AFTER = ("obs", "state", "avail", "alive"), ("terminated", "truncated", "agent_terminated")
FINAL = ("obs", "state", "avail")


def what_is_left(job: Job, course: Course, slots: Iterable[int]) -> Job:
    """Return the job that is left for ``slots``, whose present episodes were lost; in the place of each comes one more.

    The course is set to where the slots go on; their other arrays are left as they are.
    """
    at, store = course.at, course.store
    plan = list(job.plan) if job.plan is not None else []
    for b in slots:
        at["fresh"][b] = True
        if job.plan is not None:
            whole = int(at["done"][b])
            left = plan[b][whole:]
            if not left:
                continue
            at["lost"][b] += 1
            at["column"][b] = 0
            plan[b] = (*plan[b][:whole], *left[1:], plan[b][-1] + 1)
            if job.keep:
                course.forget(int(at["row"][b]))
        elif at["column"][b] < job.steps:
            t = int(at["column"][b])
            # an end that was noted just before the process died is not one: its step was not finished
            k = int(at["done"][b])
            if k and course.ends["column"][b, k - 1] == t:
                at["done"][b] -= 1
            for name in ("filled", "reward", *AFTER):
                store[name][b, t] = 0
            at["column"][b] += 1
    return replace(job, plan=tuple(plan)) if job.plan is not None else job
