"""The store of played episodes: where each slot is, how its episodes ended, and their steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...components.experience import TABLE, EnvInfo, Field, Layout, action_shape, fields_of
from ...components.seeding import Purpose
from ...modules.selector_contract import Context


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
    | t_env | environment steps of the run before this job, for the actor |
    | queue | in place of a plan, numbers of episodes for the next free slot each (see below) |
    | seconds | in place of a plan, measure throughput for so long: nothing of the episodes is recorded |
    | runs | the seeds of several runs, whose slots follow one another; None: one run, ``seed`` |
    | slots | the slots of each of ``runs``, which it counts from 0 |
    | playing | which of ``runs`` play, where there is no plan; None: all |

    Episodes of a ``queue`` have the starts and noise of slot 0, so that no number depends on the slots; a lost one is
    played again. It is played in the main process, whose slots share it.
    """

    seed: int
    purpose: Purpose
    greedy: bool
    rewards: Literal["own", "sum", "mean"]
    keep: bool
    plan: tuple[tuple[int, ...], ...] | None
    steps: int = 0
    t_env: int = 0
    queue: tuple[int, ...] | None = None
    seconds: float | None = None
    runs: tuple[int, ...] | None = None
    slots: int = 0
    playing: tuple[bool, ...] | None = None

    def origin(self, slot: int) -> tuple[int, int]:
        """Return the seed of the run that plays in ``slot``, and the slot's number in that run."""
        return (self.seed, slot) if self.runs is None else (self.runs[slot // self.slots], slot % self.slots)

    def plays(self, first: int, count: int) -> np.ndarray:
        """Return which of ``count`` slots from ``first`` on make steps where there is no plan, [count] bool."""
        if self.playing is None:
            return np.ones(count, bool)
        return np.array(self.playing).repeat(self.slots)[first : first + count]

    @property
    def context(self) -> Context:
        """What the actor knows of it."""
        return Context(self.t_env, self.purpose in ("test", "evaluate"), self.greedy)


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
    | last | [B, N] int64 | the last actions, -1 at an episode's first step; [B, N, D] float32, NaN there |
    | hidden | [B, N, H] float32 | the policies' hidden state |
    | played | [B, L, N] (or [B, L, N, D]) | the episode's actions so far (L = 0 where they are not needed) |
    | acting, playing | [B] float64 | seconds spent on choosing actions and on everything, at a player's first slot |

    ``endings`` [B, K, ...] are how a slot's first ``done`` episodes ended, in order: return, length, metrics,
    info_metrics (see :class:`~..info_metrics.InfoMetrics`), seed, number, terminated, row, column (of the last step)
    and, where segments are played, the final obs, state and avail.

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
    actions, dtype = action_shape(info)
    return {
        **dict.fromkeys(("number", "step", "row", "column", "done", "lost"), ((b,), "int64")),
        "fresh": ((b,), "bool"),
        "returns": ((b, n), "float64"),
        "last": ((b, *actions), dtype),
        "hidden": ((b, n, hidden), "float32"),
        "played": ((b, info.episode_limit if played else 0, *actions), dtype),
        "acting": ((b,), "float64"),
        "playing": ((b,), "float64"),
    }


def endings_layout(
    info: EnvInfo, n_slots: int, most: int, n_info_metrics: int, final: bool, extra: Iterable[Field] = ()
) -> Layout:
    """Return names, shapes and types of ``EpisodeStore.endings``.

    Args:
        most: episodes of a slot, K.
        n_info_metrics: numbers of an episode that an environment may report in its infos.
        final: with the final observation, state and legal actions.
        extra: fields that the actor gives.
    """
    lead = (n_slots, most)
    seen = {f.name: ((*lead, *f.shape(info)), f.dtype) for f in fields_of(info, extra) if f.final}
    return {
        **dict.fromkeys(("length", "seed", "number", "row", "column"), (lead, "int64")),
        "terminated": (lead, "bool"),
        "returns": ((*lead, info.n_agents), "float64"),
        "metrics": ((*lead, len(info.metrics)), "float64"),
        "info_metrics": ((*lead, n_info_metrics), "float64"),
        **(seen if final else {}),
    }


def learner_rewards(rewards: str, reward: np.ndarray) -> np.ndarray:
    """Return rewards [S, N] as learners see them (see ``Job.rewards``)."""
    if rewards == "own":
        return reward
    # at each step of the environments: the functions behind `sum` and `broadcast_to`, which cost several times as much
    team = np.add.reduce(reward, axis=-1, keepdims=True) if rewards == "sum" else reward.mean(-1, keepdims=True)
    return team.repeat(reward.shape[-1], axis=-1)


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
            for field in TABLE:
                if field.known in ("after", "player"):
                    steps[field.name][b, t] = 0
            cursor["column"][b] += 1
    return replace(job, plan=tuple(plan)) if job.plan is not None else job
