"""What every action selector is: the contract, its base, and the noise that actions are drawn with.

Nothing here imports torch: selectors run in environment workers too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from ..components.experience import Field

_LEAST = np.float32(1e-30)  # an exponential draw may be 0
#: the noise that a selector needs: Gumbel, standard normal, or uniform in [0, 1)
Noise = Literal["gumbel", "normal", "uniform"]


def _gumbel(stream: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    drawn = stream.standard_exponential(shape, np.float32)
    noise: np.ndarray = -np.log(np.maximum(drawn, _LEAST))
    return noise


#: noise -> how it is drawn, for several steps in one go: (stream, shape) -> float32
DRAW: dict[Noise, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "gumbel": _gumbel,
    "normal": lambda stream, shape: stream.standard_normal(shape, np.float32),
    "uniform": lambda stream, shape: stream.random(shape, np.float32),
}


@dataclass(frozen=True)
class Context:
    """What an actor knows beside the observations: ``t_env`` environment steps made so far in the run (when the batch
    began), ``test``: not training, ``greedy``: the best actions instead of drawn ones."""

    t_env: int = 0
    test: bool = False
    greedy: bool = False


class Selector(Protocol):
    """How actions are chosen. It is pickled to workers; the noise of a step is a function of the episode and the step.

    | attribute | meaning |
    |---|---|
    | fields | what is recorded of each step beside actions and log_prob (``Field``, known by the actor) |
    | continuous | whether actions are vectors of numbers |
    | noise | the kind of noise that it needs |
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is recorded of each step beside actions and their log-probability."""
    @property
    def continuous(self) -> bool:
        """Whether actions are vectors of numbers."""
    @property
    def noise(self) -> Noise:
        """The kind of noise that it needs."""

    def width(self, n_actions: int) -> int:
        """Return how many numbers of noise an agent needs at one step."""

    def select(
        self, outputs: np.ndarray, avail: np.ndarray, noise: np.ndarray | None, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose actions.

        Args:
            outputs: [S, N, P] of the networks.
            avail: [S, N, A] bool, the legal actions (of continuous ones: the dimensions that an agent has).
            noise: [S, N, width]; None where ``context.greedy``.
            context: see :class:`Context`.

        Returns:
            actions [S, N] int64 or [S, N, D] float32, and the log-probability [S, N] float32 that they were chosen
            with: the behaviour's, which for epsilon-greedy actions is not the softmax's.
        """

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return ``fields`` of this step, [S, *shape]."""


class SelectorBase:
    """Base of selectors: discrete actions, nothing further is recorded, and a number of noise for each action."""

    fields: ClassVar[tuple[Field, ...]] = ()
    continuous: ClassVar[bool] = False
    #: of continuous actions: networks put out the actions alone, without deviations
    deterministic: ClassVar[bool] = False
    noise: ClassVar[Noise] = "gumbel"
    #: whether the choice depends on the context's ``t_env``; False only where a class itself says so
    reads_steps: ClassVar[bool] = True

    def width(self, n_actions: int) -> int:
        """One number for each action."""
        return n_actions

    def record(self, outputs: np.ndarray, avail: np.ndarray, actions: np.ndarray) -> Mapping[str, np.ndarray]:
        """Nothing."""
        return {}
