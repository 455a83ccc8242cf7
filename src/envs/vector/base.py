"""Vectorised environments: B numbered slots behind one interface; the numbers are the same for every backend.

| backend | stepped by |
|---|---|
| serial | this process, one environment instance a slot |
| process | spawned workers, each stepping several consecutive slots, over shared memory |
| native | the environment itself, all slots in one call |
| ray | workers as of `process`, on the nodes of a Ray cluster; numbers travel in messages |
| device | the environment itself, on the networks' device (:mod:`oamarl.envs.on_device`); whole episodes as native |

Only `process` and `ray` can survive an environment that crashes or hangs: elsewhere it lives in this process.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...components.experience import action_shape
from ...modules.acting import Actor
from ...utils.schema.keys import key
from ..base import Arrays, BatchedEnv, EnvInfo
from ..build import EnvError
from ..closing import close_all, only_here
from ..info_metrics import InfoMetrics
from .episode_store import EpisodeStore, Job
from .memory import Layout
from .playing import Player
from .slots import SlotChecks, Slots
from .throughput import random_throughput

BACKENDS = ("auto", "serial", "process", "native", "device", "ray")
ON_DEATH = ("fail", "restart")
AFFINITIES = ("auto", "none")


@dataclass(frozen=True)
class VecConfig:
    """The keys of :func:`make_vec`, for runners to inherit."""

    backend: str = key(
        "Backend used to step environments: serial, process (workers), native (batched by itself), device (native, and "
        "all of a rollout stays on the networks' device; runner=rollout), ray (workers on the machines of a Ray "
        "cluster), or auto.",
        choices=BACKENDS,
    )
    workers: int | None = key(
        "Worker processes of backend=process and ray; null: one for each processor core (of the cluster).", low=1
    )
    step_timeout: float | None = key(
        "Seconds that one step of one environment may take in a worker; null: no limit.", above=0
    )
    reset_timeout: float | None = key(
        "Seconds that building or resetting one environment may take in a worker; null: no limit.", above=0
    )
    on_worker_death: str = key(
        "When a worker dies, hangs or raises: fail (the run), or restart it and play its slots' episodes anew.",
        choices=ON_DEATH,
    )
    worker_affinity: str = key(
        "auto: as many workers as usable cores stay on one core each; none: the system moves them about.",
        choices=AFFINITIES,
    )
    ray_address: str | None = key(
        "Ray cluster of backend=ray, host:port or auto (the one that this machine belongs to); null: the one that "
        "RAY_ADDRESS names, else one of the run's own on this machine.",
        only={"backend": ("ray",)},
    )

    def options(self) -> dict[str, Any]:
        """Return the keys as keyword arguments of :func:`make_vec`."""
        return {
            "backend": self.backend, "workers": self.workers, "step_timeout": self.step_timeout,
            "reset_timeout": self.reset_timeout, "on_worker_death": self.on_worker_death,
            "worker_affinity": self.worker_affinity, "ray_address": self.ray_address,
        }  # fmt: skip


class VecEnv(ABC):
    """A vectorised environment: B numbered slots, each with one episode at a time.

    Attributes:
        info: sizes and names.
        n_slots: B.
        arrays: what the slots show; the same memory for ever, filled by :meth:`reset` and :meth:`step`.
        info_metrics: numbers that environments of other packages report in their infos at an episode's end.
        seeds: [B] int64, of each slot's episode; -1 before the first one.
        steps: [B] int64, taken in each slot's episode.
        lost: [B] bool, slots whose episode was lost with its worker (only under ``on_worker_death="restart"``). They
            show zeros with every action legal and are not stepped. Look here after every :meth:`step`, drop such an
            episode, and start a new one by :meth:`reset`; a loss in :meth:`reset` may wait for the next look.
        worker_restarts: workers started again so far.
        workers: processes that step the slots; 0: this one does.
        native: the environment steps all slots itself, in one call.
    """

    workers = 0
    native = False
    #: seconds that the last :meth:`play` took where it waited for other runs too; 0: it did not wait
    played = 0.0

    def __init__(
        self,
        info: EnvInfo,
        arrays: Arrays,
        seeds: np.ndarray,
        steps: np.ndarray,
        info_metrics: InfoMetrics | None = None,
    ) -> None:
        self.info, self.arrays, self.seeds, self.steps = info, arrays, seeds, steps
        self.info_metrics = InfoMetrics.none(len(seeds)) if info_metrics is None else info_metrics
        self.n_slots = len(seeds)
        self._action_shape = action_shape(info)[0]
        self.seeds[:] = -1
        self.lost = np.zeros(self.n_slots, bool)
        self.worker_restarts = 0
        self._player: Player | None = None
        #: why no command can be given any more
        self._broken: str | None = None

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """The context of a command to workers, all of whose answers are awaited in it."""
        if self._broken is not None:
            raise EnvError(self._broken)
        # an interruption before the last answer leaves workers at work, and answers that later commands would take for
        # theirs
        self._broken = "A step of the environment workers was interrupted: build the environments again."
        yield
        self._broken = None

    def _lose(self, slots: np.ndarray) -> None:
        """Mark the episodes of ``slots`` [B] (bool) as lost with their worker."""
        self.lost |= slots
        for array in self.arrays.named().values():
            array[slots] = 0
        self.arrays.avail[slots] = self.arrays.alive[slots] = True

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start an episode in each of ``slots`` [k] int64 from ``seeds`` [k] int64; other rows stay as they are.

        Raises:
            UserError: an agent has no legal action.
            EnvError: an environment or its worker failed.
        """
        slots, seeds = np.asarray(slots, np.int64), np.asarray(seeds, np.int64)
        if slots.shape != seeds.shape or slots.ndim != 1:
            raise ValueError(f"slots {slots.shape} and seeds {seeds.shape} must both be [k]")
        if slots.size == 0:
            return
        self.lost[slots] = False
        self._reset(slots, seeds)

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` in the slots where ``active``; other rows stay as they are.

        Args:
            actions: [B, N] int64, or [B, N, D] float32 within the bounds.
            active: [B] bool.

        Raises:
            ValueError: an active slot's episode has ended and was not started again.
            UserError: an agent has no legal action.
            EnvError: an environment or its worker failed, or an episode outlives the environment's limit.
        """
        if actions.shape != (self.n_slots, *self._action_shape) or active.shape != (self.n_slots,):
            wanted = "[B, N, D]" if self.info.continuous else "[B, N]"
            raise ValueError(f"actions {actions.shape} and active {active.shape} must be {wanted} and [B]")
        over = active & (self.arrays.terminated | self.arrays.truncated)
        if over.any():
            raise ValueError(f"slots {np.flatnonzero(over).tolist()} have ended: reset them first")
        self._step(actions, active & ~self.lost if self.worker_restarts else active)

    @abstractmethod
    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None: ...

    @abstractmethod
    def _step(self, actions: np.ndarray, active: np.ndarray) -> None: ...

    def room(self, layout: Layout) -> dict[str, np.ndarray]:
        """Return arrays of zeros in memory that the stepping processes share."""
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}

    def play(self, store: EpisodeStore, job: Job, actor: Actor) -> None:
        """Play ``job`` in all slots with the policies of ``actor``, and record it in ``store``.

        The store's arrays come from :meth:`room`. An actor in numpy (one with ``arrays``) acts where the slots are;
        any other acts in this process.

        Raises:
            UserError, EnvError: as :meth:`step`.
        """
        if self._player is None or self._player.store is not store:
            self._player = Player(self, store, 0)
        self._player.play(job, actor)

    def random_throughput(self, seconds: float, seed: int) -> tuple[int, float]:
        """Measure random play for ``seconds``; returns the steps of all slots, and the seconds they took."""
        return random_throughput(self, seconds, seed)

    @abstractmethod
    def close(self) -> None:
        """Release environments and workers; calling it again does nothing."""


class SerialVec(VecEnv):
    """The `serial` backend: every slot in this process, one after another."""

    def __init__(self, env: str, env_args: Mapping[str, Any], info: EnvInfo, n_slots: int) -> None:
        seeds, steps = np.zeros((2, n_slots), np.int64)
        super().__init__(info, Arrays.allocate(info, n_slots), seeds, steps, InfoMetrics.allocate(n_slots))
        self._slots: Slots | None = Slots(env, env_args, self.arrays, self.seeds, self.steps, self.info_metrics)

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        assert self._slots is not None, "closed"
        self._slots.reset(slots, seeds)

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        assert self._slots is not None, "closed"
        self._slots.step(actions, active)

    def close(self) -> None:
        """Close the environments; calling it again does nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.close()


class NativeVec(VecEnv):
    """The `native` backend: an environment that steps its slots itself."""

    native = True

    def __init__(self, env: BatchedEnv, n_slots: int) -> None:
        super().__init__(env.info, Arrays.allocate(env.info, n_slots), *np.zeros((2, n_slots), np.int64))
        self._env: BatchedEnv | None = env
        self._process = os.getpid()
        self._checks = SlotChecks(env.info, self.arrays, self.seeds, self.steps)

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        assert self._env is not None, "closed"
        self._checks.begin(slots, seeds)
        self._env.reset(slots, seeds, self.arrays)
        only_here(self._process)
        self._checks.check()

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        assert self._env is not None, "closed"
        self._env.step(actions, active, self.arrays)
        only_here(self._process)
        self.steps += active
        self._checks.check()
        self._checks.compare_rewards(active, self._env)

    def close(self) -> None:
        """Close the batched environment; calling it again does nothing."""
        env, self._env = self._env, None
        if env is not None:
            close_all([env.close], self.info.name)


def usable_cores() -> list[int]:
    """Return the numbers of the processor cores that this process may use; empty where the system does not tell."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return []


def usable_cpus() -> int:
    """Return how many processor cores this process may use."""
    return len(usable_cores()) or os.cpu_count() or 1
