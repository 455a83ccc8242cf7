"""B numbered slots behind one interface; the backend changes who does the work, never the numbers.

| backend | who steps |
|---|---|
| serial | this process, one environment instance a slot |
| process | spawned workers, each stepping several consecutive slots, over shared memory |
| native | the environment itself, all slots in one call |
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..components.errors import UserError, nearest, one_of
from .base import Arrays, BatchedEnv, EnvInfo
from .build import EnvError, Slots, check_env_args, factory, is_native, make_info

__all__ = ["BACKENDS", "EnvError", "VecEnv", "check_env_args", "make_info", "make_vec"]

BACKENDS = ("auto", "serial", "process", "native")


class VecEnv(ABC):
    """B environment slots.

    Attributes:
        info: sizes and names.
        n_slots: B.
        arrays: what the slots show; the same memory for ever, filled by :meth:`reset` and :meth:`step`.
        lost: [B] bool, slots whose episode went down with its worker at the last step: reset them.
    """

    def __init__(self, info: EnvInfo, n_slots: int, arrays: Arrays) -> None:
        self.info = info
        self.n_slots = n_slots
        self.arrays = arrays
        self.lost = np.zeros(n_slots, bool)

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Start an episode in each of ``slots`` [k] int64 from ``seeds`` [k] int64; other rows stay as they are."""
        slots, seeds = np.asarray(slots, np.int64), np.asarray(seeds, np.int64)
        if slots.shape != seeds.shape or slots.ndim != 1:
            raise ValueError(f"slots {slots.shape} and seeds {seeds.shape} must both be [k]")
        if slots.size == 0:
            return
        out = self.arrays
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0
        self._reset(slots, seeds)

    def step(self, actions: np.ndarray, active: np.ndarray) -> None:
        """Apply ``actions`` [B, N] int64 in the slots where ``active`` [B] bool; other rows stay as they are.

        Raises:
            ValueError: an active slot's episode has ended and was not started again.
            EnvError: an environment or its worker failed.
        """
        if actions.shape != (self.n_slots, self.info.n_agents) or active.shape != (self.n_slots,):
            raise ValueError(f"actions {actions.shape} and active {active.shape} must be [B, N] and [B]")
        over = active & (self.arrays.terminated | self.arrays.truncated)
        if over.any():
            raise ValueError(f"slots {np.flatnonzero(over).tolist()} have ended: reset them first")
        self._step(actions, active)

    @abstractmethod
    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None: ...

    @abstractmethod
    def _step(self, actions: np.ndarray, active: np.ndarray) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Release environments and workers; calling it again does nothing."""


class SerialVec(VecEnv):
    """Every slot in this process, one after another."""

    def __init__(self, env: str, env_args: Mapping[str, Any], info: EnvInfo, n_slots: int) -> None:
        super().__init__(info, n_slots, Arrays.allocate(info, n_slots))
        self._slots: Slots | None = Slots(env, env_args, self.arrays, 0, n_slots)

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        assert self._slots is not None, "closed"
        self._slots.reset(slots, seeds)

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        assert self._slots is not None, "closed"
        self._slots.step(actions, np.flatnonzero(active))

    def close(self) -> None:
        if self._slots is not None:
            self._slots.close()
            self._slots = None


class NativeVec(VecEnv):
    """An environment that steps its slots itself."""

    def __init__(self, env: BatchedEnv, n_slots: int) -> None:
        super().__init__(env.info, n_slots, Arrays.allocate(env.info, n_slots))
        self._env: BatchedEnv | None = env

    def _reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        assert self._env is not None, "closed"
        self._env.reset(slots, seeds, self.arrays)

    def _step(self, actions: np.ndarray, active: np.ndarray) -> None:
        assert self._env is not None, "closed"
        self._env.step(actions, active, self.arrays)

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None


def usable_cpus() -> int:
    """Return how many processor cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def make_vec(
    env: str, env_args: Mapping[str, Any], n_slots: int, *, backend: str = "auto", workers: int | None = None
) -> VecEnv:
    """Build ``n_slots`` slots of an environment; results are equal, bit for bit, for any backend and worker count.

    Args:
        env: name in the registry, or ``package.module:Class``.
        env_args: arguments of the environment.
        n_slots: B.
        backend: ``serial``, ``process``, ``native``, or ``auto``: native where the environment is, else process
            where more than one worker makes sense, else serial.
        workers: processes of the `process` backend; None: one a usable core; never more than slots.

    Raises:
        UserError: unknown environment, backend or argument, or something missing that the environment needs.
    """
    if backend not in BACKENDS:
        raise UserError(f"backend={backend!r} is not known: use {one_of(BACKENDS)}{nearest(backend, BACKENDS)}")
    if n_slots < 1 or (workers is not None and workers < 1):
        raise UserError(f"{n_slots} environments with {workers} workers cannot be: at least 1 of each is needed.")
    if backend == "native" and not is_native(env):
        raise UserError(f"backend=native is not offered by environment '{env}': use auto, serial or process.")
    if backend == "native" or (backend == "auto" and is_native(env)):
        return NativeVec(factory(env)(n_slots=n_slots, **check_env_args(env, env_args)), n_slots)
    info = make_info(env, env_args)
    count = min(n_slots, usable_cpus() if workers is None else workers)
    if backend == "process" or (backend == "auto" and count > 1):
        from .process import ProcessVec

        return ProcessVec(env, env_args, info, n_slots, count)
    return SerialVec(env, env_args, info, n_slots)
