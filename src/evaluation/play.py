"""Evaluation of a trained team: exactly the requested episodes, the same numbers for the same seed.

Episode k's start and its action noise depend on (seed, k) alone, and a slot's policies are evaluated by themselves:
slots, backends, workers and a video change no number. Nothing is learned and no checkpoint is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..components.experience import Layout
from ..envs.base import EnvInfo
from ..envs.rendering import Watched
from ..envs.vector.base import VecConfig, VecEnv
from ..envs.vector.episode_store import EpisodeStore, Job, cursor_layout, endings_layout
from ..envs.vector.make import make_vec
from ..envs.vector.playing import Player
from ..modules.acting import one_by_one
from ..runners.episodes import Episodes, info_values
from ..storage.provenance import command_line, versions
from ..storage.run_files import write_json
from ..storage.tested_actions import GREEDY, TEST
from ..utils.errors import UserError
from ..utils.video import Video, check_target
from .statistics import describe
from .team import Team

#: Episodes that a video shows by default.
VIDEO_EPISODES = 3


@dataclass(frozen=True)
class Plan:
    """The plan of an evaluation.

    | field | meaning |
    |---|---|
    | env, env_args | the environment |
    | episodes | exact number of episodes |
    | seed | of the episodes and of sampled actions |
    | greedy | greedy (argmax) actions; otherwise sampled ones |
    | slots, stepping | environments side by side, and the backend that steps them (no number depends on it) |
    | common_reward, reward_scalarisation | how the team's return is computed from the agents' rewards |
    | video, video_episodes | file to record the first episodes in; None for no video |
    """

    env: str
    env_args: Mapping[str, Any]
    episodes: int
    seed: int
    greedy: bool = True
    slots: int = 1
    stepping: VecConfig | None = None
    common_reward: bool = True
    reward_scalarisation: str = "sum"
    video: Path | None = None
    video_episodes: int = VIDEO_EPISODES

    def team_return(self, returns: np.ndarray, info: EnvInfo) -> float:
        """Return the team's return, defined as in the run's curves, from the agents' own ``returns`` [N]."""
        if info.team_reward:
            return float(returns[0])
        mean = self.common_reward and self.reward_scalarisation == "mean"
        return float(returns.mean() if mean else returns.sum())


@dataclass(frozen=True)
class Episode:
    """One played episode: its number, its seed, the agents' own returns [N], length, how it ended, its extras [M], and
    the numbers in its last info."""

    number: int
    seed: int
    returns: np.ndarray
    length: int
    terminated: bool
    metrics: np.ndarray
    notes: dict[str, float] = field(default_factory=dict)


def play(
    team: Team,
    vec: VecEnv,
    numbers: Sequence[int],
    plan: Plan,
    seen: Callable[[dict[str, np.ndarray], bool], None] | None = None,
    done: Callable[[], None] | None = None,
) -> list[Episode]:
    """Play the episodes ``numbers``, each slot taking the next unstarted one; returns them in order.

    Args:
        seen: called at every moment of every episode with its slot's row of ``EpisodeStore.cursor`` and whether it is
            over, for pictures.
        done: called at the end of every episode.
    """
    b, info = vec.n_slots, team.info
    hidden = team.mac.initial_hidden(1).shape[-1]
    infos = vec.info_metrics
    store = EpisodeStore(
        _arrays(cursor_layout(info, b, hidden, played=False)),
        _arrays(endings_layout(info, b, len(numbers), infos.width, final=False)),
    )
    cursor, endings = store.cursor, store.endings
    cursor["fresh"][:] = True
    moment = None if seen is None else lambda b, over: seen({name: x[b] for name, x in cursor.items()}, over)
    job = Job(plan.seed, "evaluate", plan.greedy, "own", False, None, queue=tuple(numbers))
    Player(vec, store, 0).play(job, one_by_one(team.actor), moment, done)
    played = [
        Episode(
            int(endings["number"][at]), int(endings["seed"][at]), endings["returns"][at].copy(),
            int(endings["length"][at]), bool(endings["terminated"][at]), endings["metrics"][at].copy(),
            infos.read(at[0], endings["info_metrics"][at]),
        )
        for at in ((b, k) for b in range(vec.n_slots) for k in range(int(cursor["done"][b])))
    ]  # fmt: skip
    return sorted(played, key=lambda e: e.number)


def _arrays(layout: Layout) -> dict[str, np.ndarray]:
    """Return arrays of zeros; untouched pages take no memory."""
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}


def evaluate(team: Team, plan: Plan, done: Callable[[], None] | None = None) -> list[Episode]:
    """Play all episodes of ``plan``, and record the first ones if it has a video.

    Args:
        done: called at the end of every episode.

    Raises:
        UserError: the environment cannot be built or drawn, or the video cannot be written.
        EnvError: an environment failed.
    """
    filmed = min(plan.video_episodes, plan.episodes) if plan.video is not None else 0
    played = _film(team, plan, filmed, done) if filmed else []
    if plan.episodes > filmed:
        slots = min(plan.slots, plan.episodes - filmed)
        options = plan.stepping.options() if plan.stepping is not None else {}
        vec = make_vec(plan.env, plan.env_args, slots, **options)
        try:
            played += play(team, vec, range(filmed, plan.episodes), plan, done=done)
        finally:
            vec.close()
    return played


def _film(team: Team, plan: Plan, count: int, done: Callable[[], None] | None) -> list[Episode]:
    assert plan.video is not None
    path = check_target(plan.video)
    with contextlib.closing(Watched(plan.env, plan.env_args)) as vec, contextlib.ExitStack() as undo:
        video = Video(path)
        undo.callback(video.discard)

        def seen(slot: dict[str, np.ndarray], over: bool) -> None:
            value = plan.team_return(slot["returns"], team.info)
            caption = f"episode {slot['number'] + 1}   step {slot['step']}   return {value:.4g}"
            video.add(vec.frame(), caption, last=over)

        played = play(team, vec, range(count), plan, seen, done)
        video.close()
        undo.pop_all()
    return played


# -- what came out -----------------------------------------------------------------------------------------------


def statistics(episodes: Sequence[Episode], plan: Plan, info: EnvInfo) -> dict[str, Any]:
    """Return descriptions (:func:`oamarl.evaluation.statistics.describe`) of the team's return, each agent's, lengths,
    the environment's extras and the numbers in its infos.

    ``agents`` is empty where each agent's reward already is the team's.
    """
    returns = np.stack([e.returns for e in episodes])
    agents = [] if info.team_reward else [describe(returns[:, i]) for i in range(info.n_agents)]
    return {
        "return": describe([plan.team_return(r, info) for r in returns]),
        "agents": agents,
        "length": describe([e.length for e in episodes]),
        "metrics": {name: describe([e.metrics[m] for e in episodes]) for m, name in enumerate(info.metrics)}
        | {name: describe(values) for name, values in info_values([e.notes for e in episodes]).items()},
    }


def report(team: Team, plan: Plan, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return the report of an evaluation in the layout of its JSON file (docs/evaluation.md)."""
    info = team.info
    return _finite(
        {
            "command": command_line(),
            "checkpoint": str(team.path.absolute()),
            "step": team.step,
            "algorithm": team.config.get("name"),
            "env": plan.env,
            "env_args": dict(plan.env_args),
            "seed": plan.seed,
            "greedy": plan.greedy,
            "common_reward": plan.common_reward,
            "reward_scalarisation": plan.reward_scalarisation,
            "n_episodes": len(episodes),
            "statistics": statistics(episodes, plan, info),
            "episodes": [
                {
                    "episode": e.number, "seed": e.seed, "return": plan.team_return(e.returns, info),
                    "agent_returns": e.returns.tolist(), "length": e.length, "terminated": e.terminated,
                    **({"metrics": dict(zip(info.metrics, e.metrics.tolist(), strict=True)) | e.notes}
                       if info.metrics or e.notes else {}),
                }
                for e in episodes
            ],
            "video": str(plan.video.absolute()) if plan.video is not None else None,
            "versions": versions(str(plan.env_args.get("key") or "")),
        }
    )  # fmt: skip


def _finite(value: Any) -> Any:
    """Return ``value`` with null for numbers that are not finite, which JSON lacks."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write a report as JSON.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content, indent=1)
    except OSError as error:
        raise UserError(f"The file {path} cannot be written: {error.strerror or error}.") from None


def logged_metrics(episodes: Sequence[Episode], plan: Plan, info: EnvInfo) -> dict[str, float]:
    """Return the metrics that a run's tests log for such episodes: ``test_return_mean``, ``test_ep_length_mean`` ...
    of sampled ones, ``test_greedy_return_mean`` ... of greedy ones.
    """
    returns = [e.returns for e in episodes]
    if plan.common_reward:
        returns = [np.full(info.n_agents, plan.team_return(r, info)) for r in returns]
    played = Episodes(returns, [e.length for e in episodes], [e.metrics for e in episodes], [e.notes for e in episodes])
    return played.scalars(info, plan.common_reward, GREEDY if plan.greedy else TEST)
