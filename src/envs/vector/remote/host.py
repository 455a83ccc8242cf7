"""The side of the `ray` backend on a node: the local `process` backend, with messages in place of shared memory.

A host steps consecutive slots of a run by a worker process of its own, so that a crash, a hang or a time limit on the
node is what it is on one machine. What an environment prints and what is warned of goes back with the next answer.
Nothing here imports torch or Ray.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .... import __version__
from ....modules.acting import Actor
from ....utils import waiting
from ....utils.errors import UserError
from ...base import EnvInfo
from ...build import EnvError
from ..episode_store import EpisodeStore, Job, remaining_job
from ..memory import Layout
from ..playing import bring_back
from ..process import ProcessVec, Share

#: what of a slot shows that its episode is the one that was played before
_SEEN = ("obs", "state", "avail", "alive")


@dataclass(frozen=True)
class Task:
    """What a host steps: the environment, its slots' place in the run, and the limits of :class:`ProcessVec`."""

    env: str
    env_args: dict[str, Any]
    info: EnvInfo
    n_slots: int
    share: Share
    step_timeout: float | None
    reset_timeout: float | None
    restart: bool


@dataclass(frozen=True)
class Order:
    """A job for one host, with the cursors of its slots; see :class:`~..episode_store.EpisodeStore`.

    | field | meaning |
    |---|---|
    | job | its plan is that of the host's slots |
    | recipe | makes the actor of the policies' arrays |
    | cursor | name -> [S, ...]; its rows count from the host's first one |
    | endings, steps | layouts of the host's part of the store; no steps where none are kept |
    | seeds, seen | of slots whose last host was lost in the middle of an episode: the episodes' seeds [S], and what they showed (name -> [S, ...]); None: there was none |
    """  # noqa: E501

    job: Job
    recipe: Callable[[Mapping[str, np.ndarray]], Actor]
    cursor: dict[str, np.ndarray]
    endings: Layout
    steps: Layout
    seeds: np.ndarray | None = None
    seen: dict[str, np.ndarray] | None = None


def versions() -> dict[str, str]:
    """Return what must be the same on all nodes: the experience would be another one, or could not be read."""
    return {
        "oamarl": __version__, "Python": ".".join(platform.python_version_tuple()[:2]), "numpy": np.__version__,
    }  # fmt: skip


class Host:
    """The slots of one host; see the module's docstring."""

    def __init__(self) -> None:
        self._vec: ProcessVec | None = None
        self._said: list[str] = []
        self._warned: dict[str, str] = {}
        self._sent: set[str] = set()
        self._restarts = 0
        self._stores: dict[str, EpisodeStore] = {}
        waiting.say_to(self._said.append)

    def do(self, command: str, given: Any, policies: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Carry out a command: ``build``, ``reset``, ``step``, ``play`` or ``measure``.

        Returns:
            what the slots show (``shown``), a command's own results, sentences (``said``), warnings by kind
            (``warned``) and how many workers were started again since the last answer (``restarts``). Where an
            environment failed for good: the error's kind and sentence (``failed``), and no numbers.
        """
        answer: dict[str, Any] = {}
        try:
            answer = getattr(self, f"_{command}")(given, policies)
            answer["shown"] = self._shown()
        except (UserError, EnvError) as error:
            answer = {"failed": ("user" if isinstance(error, UserError) else "environment", str(error))}
        except OSError as error:  # no more processes, memory or file descriptors
            why = error.strerror or str(error)
            answer = {"failed": ("user", f"an environment worker cannot be started there: {why}.")}
        said, self._said[:] = list(self._said), []
        answer |= {"said": said, "warned": {k: v for k, v in self._warned.items() if k not in self._sent}}
        self._sent |= set(self._warned)
        if self._vec is not None:
            answer["restarts"] = self._vec.worker_restarts - self._restarts
            self._restarts = self._vec.worker_restarts
        return answer

    def close(self) -> None:
        """Release the environments."""
        if self._vec is not None:
            self._vec.close()

    @property
    def vec(self) -> ProcessVec:
        """The slots, once they are built."""
        assert self._vec is not None, "no task was given"
        return self._vec

    def _build(self, task: Task, _: Any) -> dict[str, Any]:
        share = replace(task.share, warn=self._warn)
        self._vec = ProcessVec(
            task.env, task.env_args, task.info, task.n_slots, 1, step_timeout=task.step_timeout,
            reset_timeout=task.reset_timeout, restart=task.restart, pin=False, share=share,
        )  # fmt: skip
        return {}

    def _warn(self, kind: str, text: str) -> None:
        self._warned.setdefault(kind, text)

    def _reset(self, given: tuple[np.ndarray, np.ndarray], _: Any) -> dict[str, Any]:
        self.vec.reset(*given)
        return {}

    def _step(self, given: tuple[np.ndarray, np.ndarray], _: Any) -> dict[str, Any]:
        self.vec.step(*given)
        return {}

    def _measure(self, given: tuple[float, int], _: Any) -> dict[str, Any]:
        return {"measured": self.vec.random_throughput(*given)}

    def _play(self, order: Order, policies: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
        """Play a job; returns the part of the store that it filled, without the columns and endings that are empty."""
        store, cursor, job = self._store(order), order.cursor, order.job
        for name, x in cursor.items():
            store.cursor[name][...] = x
        for x in store.steps.values():
            x.fill(0)
        if order.seeds is not None:
            self._bring_back(order, store)
        self.vec.play(store, job, order.recipe(policies or {}))
        ended, steps = int(store.cursor["done"].max()), store.steps
        if steps and job.plan is not None:
            columns = np.flatnonzero(steps["filled"].any(0))
            # what an episode ended with stands one column after its last step
            filled = int(columns[-1]) + 2 if len(columns) else 0
            steps = {name: x[:, :filled] for name, x in steps.items()}
        return {"cursor": store.cursor, "endings": {n: x[:, :ended] for n, x in store.endings.items()}, "steps": steps}

    def _store(self, order: Order) -> EpisodeStore:
        """Return the host's part of a store, always the same memory for the same layouts."""
        cursor = {name: (x.shape, str(x.dtype)) for name, x in order.cursor.items()}
        key = repr((cursor, order.endings, order.steps))
        if key not in self._stores:
            rooms = (self.vec.room(layout) if layout else {} for layout in (cursor, order.endings, order.steps))
            self._stores[key] = EpisodeStore(*rooms)
        return self._stores[key]

    def _bring_back(self, order: Order, store: EpisodeStore) -> None:
        """Bring slots to where their last host left them; where that does not lead back, their episodes are lost."""
        assert order.seeds is not None
        assert order.seen is not None
        cursor, shown = store.cursor, self.vec.arrays.named()
        going = np.flatnonzero(~cursor["fresh"])
        bring_back(self.vec, going, order.seeds[going], cursor["played"], cursor["step"])
        seen = order.seen
        astray = [b for b in going.tolist() if not all(shown[n][b].tobytes() == seen[n][b].tobytes() for n in _SEEN)]
        remaining_job(order.job, store, astray)

    def _shown(self) -> dict[str, Any]:
        vec = self.vec
        shown = {"arrays": vec.arrays.named(), "seeds": vec.seeds, "steps": vec.steps, "lost": vec.lost}
        return shown | {"info_metrics": vec.info_metrics.recorded()}
