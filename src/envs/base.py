"""The environment interface: fixed sizes, numpy arrays, and views that environments write into.

No torch is imported here or below: environment workers stay small and start fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

from ..components.experience import EnvInfo, shown_layout


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
    | extra | name -> [B, ...] | the fields of ``EnvInfo.extra`` |

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
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Make them of arrays by name, those of ``EnvInfo.extra`` among them."""
        own = {f.name for f in fields(cls)} - {"extra"}
        given = {name: x for name, x in arrays.items() if name in own}
        return cls(**given, extra={name: x for name, x in arrays.items() if name not in own})

    def named(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, the extra ones among them."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"} | self.extra

    @classmethod
    def allocate(cls, info: EnvInfo, n_slots: int) -> Arrays:
        """Return zeroed arrays for ``n_slots`` slots."""
        return cls.of({k: np.zeros(shape, dtype) for k, (shape, dtype) in shown_layout(info, n_slots).items()})

    def part(self, first: int, last: int) -> Arrays:
        """Return views of slots ``first`` to ``last - 1``."""
        return self.of({name: x[first:last] for name, x in self.named().items()})

    def slot(self, b: int) -> Arrays:
        """Return writable views of one slot, WITHOUT the leading dimension (scalars stay 0-d arrays)."""
        return self.of({name: x[b, ...] for name, x in self.named().items()})


class Env(Protocol):
    """One environment instance; stepped by the `serial` and `process` backends.

    One that can be drawn also has ``render() -> [H, W, 3] uint8``, a picture of this moment made without a window,
    and takes ``render_mode: str | None`` ("rgb_array") in its constructor if it must know that it will be drawn.
    """

    info: EnvInfo

    def reset(self, seed: int, out: Arrays) -> None:
        """Start an episode that depends on ``seed`` alone; write obs, state, avail, alive and clear the rest."""

    def step(self, actions: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` and write every field of ``out`` (one slot's views).

        Args:
            actions: [N] int64 or, where ``info.action_low`` is given, [N, D] float32 within the bounds.
            out: where to write.
        """

    def close(self) -> None:
        """Release what the environment holds."""


class Together(Protocol):
    """Several environments of one process, stepped in one call.

    An environment class whose observations and rewards cost less for several slots at once has a static method
    ``together(envs) -> Together``; the numbers are those of :meth:`Env.step`.
    """

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> Iterator[int]:
        """Apply ``actions`` [S, N] (or [S, N, D]) where ``active`` [S] bool, and write those rows of ``out``.

        Yields each active environment's number before it is stepped, so that a failure is laid at its door.
        """


class BatchedEnv(Protocol):
    """An environment that steps B slots itself (the `native` backend); ``render(slot)`` draws one, where it can."""

    info: EnvInfo

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k] int64 from ``seeds`` [k] int64, writing those rows of ``out``."""

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Apply ``actions`` [B, N] (or [B, N, D]) where ``active`` [B] bool; other rows stay as they are."""

    def close(self) -> None:
        """Release what the environment holds."""
