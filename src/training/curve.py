"""The points of a run's curve: gathered between two points, and kept until the files have it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..controllers.contract import Prepared
from ..learners.contract import Learner
from ..runners.contract import Runner
from ..runners.episodes import Episodes
from ..storage.log import RunLog


def over_updates(name: str, values: list[float]) -> float:
    """Scalars of the updates since the last point, as one: the extreme of ``*_min`` and ``*_max``, else the mean."""
    if name.endswith("_max"):
        return max(values)
    return min(values) if name.endswith("_min") else float(np.mean(values))


#: What a point is made of: training episodes, the scalars of updates, and counters with the time split.
PARTS = ("runner", "learner", "log")


class Curve:
    """Episodes and scalars since the last point, the run's clocks, and records on their way to the files."""

    def __init__(self, runner: Runner, learner: Learner, common_reward: bool) -> None:
        self.runner, self.learner, self.common_reward = runner, learner, common_reward
        self.seconds = {"environment": 0.0, "inference": 0.0, "learning": 0.0, "logging": 0.0, "testing": 0.0}
        self.elapsed = 0.0
        self.window = Episodes()
        self.sums: dict[str, list[float]] = {}
        self.latest_return = float("nan")
        self.counted = True  # nothing has happened since the last point with counters
        #: (name of the array file, or "" for scalars; step; values)
        self.pending: list[tuple[str, int, Mapping[str, Any]]] = []

    def before(self, prepared: Prepared) -> None:
        """Take in what came before the first iteration: the time it took, that of learning in it, what it found out."""
        self.elapsed += prepared.seconds
        self.seconds["learning"] += prepared.learning
        self.add(prepared.scalars())
        self.pending.append((prepared.name, self.runner.t_env, prepared.arrays()))

    def remember(self, played: Episodes, scalars: Mapping[str, float], arrays: Mapping[str, Any]) -> None:
        """Take in what an iteration played and what its update returned."""
        self.counted = False
        for name in ("returns", "lengths", "metrics", "info_metrics"):
            getattr(self.window, name).extend(getattr(played, name))
        for name, value in scalars.items():
            self.sums.setdefault(name, []).append(value)
        self.pending += [(name, self.runner.t_env, values) for name, values in arrays.items()]
        if played.returns:  # a segment may end no episode
            team = [r[0] if self.common_reward else r.sum() for r in played.returns]
            self.latest_return = float(np.mean(team))

    def point(self, parts: Collection[str] = PARTS) -> None:
        """Make the next point: means over the episodes and over the updates since each was last in a point, counters.

        Args:
            parts: those of :data:`PARTS` that it has.
        """
        metrics: dict[str, float] = {}
        if "runner" in parts:
            metrics |= self.window.scalars(self.runner.info, self.common_reward)
            self.window = Episodes()
        if "learner" in parts:
            metrics |= {name: over_updates(name, values) for name, values in self.sums.items()}
            self.sums = {}
        if "log" in parts:
            metrics |= self._counters()
            self.counted = True
        if metrics:
            self.add(metrics)

    def left(self) -> list[str]:
        """Return those of :data:`PARTS` that have something which is in no point yet."""
        there = {"runner": bool(self.window.lengths), "learner": bool(self.sums), "log": not self.counted}
        return [part for part in PARTS if there[part]]

    def _counters(self) -> dict[str, float]:
        runner = self.runner
        return {
            "episode": float(runner.episodes), "agent_steps": float(runner.agent_steps),
            **({"worker_restarts": float(runner.worker_restarts)} if runner.worker_restarts else {}),
            "updates": float(self.learner.updates), "processed_samples": float(self.learner.processed),
            "wall_clock": self.elapsed,
            **{f"time_{name}": seconds for name, seconds in self.split().items()},
        }  # fmt: skip

    def split(self) -> dict[str, float]:
        """Return what the time up to now (``elapsed``) went into, in seconds; ``other`` is what nothing else has."""
        self.seconds["environment"], self.seconds["inference"] = self.runner.time_env, self.runner.time_act
        return {**self.seconds, "other": max(0.0, self.elapsed - sum(self.seconds.values()))}

    def add(self, metrics: Mapping[str, float]) -> None:
        """Put scalars of this step in the queue."""
        self.pending.append(("", self.runner.t_env, metrics))

    def flush(self, log: RunLog) -> None:
        """Write what is in the queue.

        Raises:
            UserError: it cannot be written; what is not in the files stays in the queue.
        """
        while self.pending:
            name, t, values = self.pending[0]
            if name:
                log.arrays(name, t, **values)
            else:
                log.scalars(values, t)
            del self.pending[0]
            if not name and "updates" in values:
                log.point(t)

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to make the same points."""
        return {
            "elapsed": self.elapsed, "seconds": dict(self.seconds), "sums": self.sums, "pending": list(self.pending),
            "window": {
                "returns": [r.tolist() for r in self.window.returns], "lengths": list(self.window.lengths),
                "metrics": [m.tolist() for m in self.window.metrics], "notes": list(self.window.info_metrics),
            },
            "latest_return": self.latest_return, "counted": self.counted,
            "time_runner": [self.runner.time_env, self.runner.time_act],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        self.elapsed, self.seconds = state["elapsed"], dict(state["seconds"])
        self.sums = {k: list(v) for k, v in state["sums"].items()}
        window = state["window"]
        self.window = Episodes(
            [np.array(r) for r in window["returns"]], list(window["lengths"]), [np.array(m) for m in window["metrics"]],
            # an older version kept none
            [dict(n) for n in window.get("notes", [{}] * len(window["lengths"]))],
        )  # fmt: skip
        self.latest_return = state["latest_return"]
        self.counted = state.get("counted", not self.sums)  # an older version had everything in every point
        self.runner.time_env, self.runner.time_act = state["time_runner"]
        self.pending = [(name, t, {k: np.asarray(v) for k, v in x.items()}) for name, t, x in state["pending"]]
