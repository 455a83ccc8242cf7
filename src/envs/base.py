"""The environment interface: fixed sizes, numpy arrays, and views that environments write into.

No torch is imported here or below: environment workers stay small and start fast.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from ..components.experience import EnvInfo


@dataclass
class Arrays:
    """The present observations, rewards and flags of B slots; an environment writes row b (``arrays.slot(b)``).

    | field | shape | meaning |
    |---|---|---|
    | obs | [B, N, O] float32 | observations, zero-padded |
    | state | [B, S] float32 | global state |
    | avail | [B, N, A] bool | legal actions (padding False) |
    | reward | [B, N] float32 | reward of the last step, per agent |
    | terminated | [B] bool | the episode ended by the environment's own rules |
    | truncated | [B] bool | the episode was cut by a limit |
    | agent_terminated | [B, N] bool | the agent itself ended at this step or earlier |
    | alive | [B, N] bool | the agent takes decisions (otherwise it has one legal action, and no policy term) |
    | metrics | [B, M] float32 | the values of ``EnvInfo.metrics`` so far in this episode |

    At a step that ends an episode, ``obs``, ``state`` and ``avail`` are the FINAL ones; nothing resets
    itself. ``terminated`` and ``truncated`` both set means terminated.
    """

    obs: np.ndarray
    state: np.ndarray
    avail: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    agent_terminated: np.ndarray
    alive: np.ndarray
    metrics: np.ndarray

    @staticmethod
    def layout(info: EnvInfo, n_slots: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and dtype of every field for ``n_slots`` slots."""
        b, n = n_slots, info.n_agents
        return {
            "obs": ((b, n, info.obs_size), "float32"),
            "state": ((b, info.state_size), "float32"),
            "avail": ((b, n, info.n_actions), "bool"),
            "reward": ((b, n), "float32"),
            "terminated": ((b,), "bool"),
            "truncated": ((b,), "bool"),
            "agent_terminated": ((b, n), "bool"),
            "alive": ((b, n), "bool"),
            "metrics": ((b, len(info.metrics)), "float32"),
        }

    @classmethod
    def allocate(cls, info: EnvInfo, n_slots: int) -> Arrays:
        """Return zeroed arrays for ``n_slots`` slots."""
        return cls(**{k: np.zeros(shape, dtype) for k, (shape, dtype) in cls.layout(info, n_slots).items()})

    def part(self, first: int, last: int) -> Arrays:
        """Return views of slots ``first`` to ``last - 1``."""
        return Arrays(**{f.name: getattr(self, f.name)[first:last] for f in fields(self)})

    def slot(self, b: int) -> Arrays:
        """Return writable views of one slot, WITHOUT the leading dimension (scalars stay 0-d arrays)."""
        return Arrays(**{f.name: getattr(self, f.name)[b, ...] for f in fields(self)})


class Env(Protocol):
    """One environment instance; stepped by the `serial` and `process` backends.

    One that can be drawn also has ``render() -> [H, W, 3] uint8``, a picture of this moment made without a window,
    and takes ``render_mode: str | None`` ("rgb_array") in its constructor if it must know that it will be drawn.
    """

    info: EnvInfo

    def reset(self, seed: int, out: Arrays) -> None:
        """Start an episode that depends on ``seed`` alone; write obs, state, avail, alive and clear the rest."""

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [N] int64 and write every field of ``out`` (one slot's views)."""

    def close(self) -> None:
        """Release what the environment holds."""


class BatchedEnv(Protocol):
    """An environment that steps B slots itself (the `native` backend); ``render(slot)`` draws one, where it can."""

    info: EnvInfo

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k] int64 from ``seeds`` [k] int64, writing those rows of ``out``."""

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [B, N] in the slots where ``active`` [B] bool; other rows stay as they are."""

    def close(self) -> None:
        """Release what the environment holds."""
