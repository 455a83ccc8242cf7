"""Actors: what chooses all agents' actions at a step, wherever the slots are. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..components.experience import EnvInfo, Field
from .kernels.numpy_policy import Form, Inference
from .selector_contract import Context, Noise, Selector

#: (obs [S, N, O], last actions [S, N] or [S, N, D], hidden [S, N, H]) -> outputs [S, N, P], the next hidden state
Network = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Actor(Protocol):
    """The policies at one moment, prepared for many steps.

    | attribute | meaning |
    |---|---|
    | noise | the kind of noise that it needs; None: it needs none |
    | width | numbers of noise that an agent needs at one step |
    | fields | what it gives beside actions and log_prob: names and shapes of ``extras`` |
    | extras | those of the last call, [S, *shape] |
    | arrays | numbers for workers to share; None: it acts in the main process alone |
    | recipe | picklable: ``recipe(arrays)`` is this actor in another process |
    """

    noise: Noise | None
    width: int
    fields: tuple[Field, ...]
    extras: Mapping[str, np.ndarray]
    arrays: Mapping[str, np.ndarray] | None
    recipe: Callable[[Mapping[str, np.ndarray]], Actor] | None

    def __call__(
        self,
        obs: np.ndarray,
        avail: np.ndarray,
        last_actions: np.ndarray,
        hidden: np.ndarray,
        noise: np.ndarray | None,
        context: Context,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose actions for all agents of S slots.

        Args:
            obs: [S, N, O] float32.
            avail: [S, N, A] bool.
            last_actions: [S, N] int64 (-1: none) or [S, N, D] float32 (NaN: none).
            hidden: [S, N, H] float32.
            noise: [S, N, width] float32; None where ``context.greedy``, or where the actor needs none.
            context: step count, test and greedy.

        Returns:
            actions [S, N] or [S, N, D], their log-probabilities [S, N], and the next hidden state.
        """


class NetworkActor:
    """A network's outputs, and a selector that chooses by them; see :class:`Actor`.

    Args:
        network: evaluates all agents of all slots.
        selector: chooses the actions.
        n_actions: A (or D).
    """

    def __init__(self, network: Network, selector: Selector, n_actions: int) -> None:
        self.network, self.selector, self.n_actions = network, selector, n_actions
        self.noise: Noise | None = selector.noise
        self.width, self.fields = selector.width(n_actions), selector.fields
        self.extras: Mapping[str, np.ndarray] = {}
        self.arrays: Mapping[str, np.ndarray] | None = None
        self.recipe: Any = None
        if isinstance(network, Inference):
            self.arrays, self.recipe = network.arrays, partial(_again, network.form, selector, n_actions)

    def __call__(
        self,
        obs: np.ndarray,
        avail: np.ndarray,
        last_actions: np.ndarray,
        hidden: np.ndarray,
        noise: np.ndarray | None,
        context: Context,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose actions by the network's outputs (:meth:`Actor.__call__`)."""
        outputs, following = self.network(obs, last_actions, hidden)
        actions, log_prob = self.selector.select(outputs, avail, noise, context)
        if self.fields:
            self.extras = self.selector.record(outputs, avail, actions)
        return actions, log_prob, following


def _again(form: Form, selector: Selector, n_actions: int, arrays: Mapping[str, np.ndarray]) -> NetworkActor:
    return NetworkActor(Inference(form, arrays), selector, n_actions)


def one_by_one(actor: Actor) -> Actor:
    """Return an actor that calls another one for one slot at a time: its numbers do not depend on the slots.

    Numpy's actors have this property by themselves; in a larger product of torch a row's last bits depend on the
    other rows.
    """
    return actor if actor.arrays is not None else _OneByOne(actor)


class _OneByOne:
    recipe: Any = None

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.noise: Noise | None = actor.noise
        self.width, self.fields = actor.width, actor.fields
        self.extras: Mapping[str, np.ndarray] = {}
        self.arrays: Mapping[str, np.ndarray] | None = None

    def __call__(
        self,
        obs: np.ndarray,
        avail: np.ndarray,
        last_actions: np.ndarray,
        hidden: np.ndarray,
        noise: np.ndarray | None,
        context: Context,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found, extras = [], []
        for b in range(len(obs)):
            one = slice(b, b + 1)
            given = (obs[one], avail[one], last_actions[one], hidden[one], None if noise is None else noise[one])
            found.append(self._actor(*given, context))
            extras.append(self._actor.extras)
        self.extras = {name: np.concatenate([x[name] for x in extras]) for name in extras[0]}
        actions, log_prob, following = (np.concatenate(x) for x in zip(*found, strict=True))
        return actions, log_prob, following


class UniformActor:
    """Uniformly drawn legal actions (of continuous ones: between their bounds, -1 and 1 where these are infinite).

    Args:
        info: the environment's sizes.
        quick: choose by noise drawn once from this seed and used again and again, so that choosing costs next to
            nothing; None: by each episode's own action noise.
    """

    #: noise of so many steps is drawn by a quick actor
    DRAWS = 64

    def __init__(self, info: EnvInfo, quick: int | None = None) -> None:
        self.fields: tuple[Field, ...] = ()
        self.extras: Mapping[str, np.ndarray] = {}
        self.width = info.n_actions
        self.arrays: Mapping[str, np.ndarray] | None = {}
        self.recipe: Any = partial(_uniform, info, quick)
        self._quick = quick
        self._drawn: np.ndarray | None = None
        self._calls = 0
        self._bounds = _low_and_size(info) if info.continuous else None
        self.noise: Noise | None = None if quick is not None else "uniform" if info.continuous else "gumbel"

    def _pre_drawn(self, shape: tuple[int, ...]) -> np.ndarray:
        if self._drawn is None or self._drawn.shape[1:] != shape:
            # above 0, which an illegal action gets
            drawn = np.random.default_rng(self._quick).random((self.DRAWS, *shape), np.float32)
            self._drawn = drawn + np.float32(1e-6)
        self._calls += 1
        return self._drawn[self._calls % self.DRAWS]

    def __call__(
        self,
        obs: np.ndarray,
        avail: np.ndarray,
        last_actions: np.ndarray,
        hidden: np.ndarray,
        noise: np.ndarray | None,
        context: Context,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw actions among the legal ones (:meth:`Actor.__call__`)."""
        if noise is None:
            noise = self._pre_drawn(avail.shape)
            if self._bounds is None:  # measurements read no log-probabilities
                return (noise * avail).argmax(-1), np.zeros((), np.float32), hidden
        if self._bounds is not None:
            low, size = self._bounds
            log_prob = -np.log(np.where(avail & (size > 0), size, 1.0)).sum(-1)
            return np.where(avail, low + size * noise, 0.0).astype(np.float32), log_prob.astype(np.float32), hidden
        actions = np.where(avail, noise, -np.inf).argmax(-1)
        legal = avail.sum(-1, dtype=np.float32)
        return actions, -np.log(np.where(legal > 0, legal, avail.shape[-1])).astype(np.float32), hidden


def _low_and_size(info: EnvInfo) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest uniform actions [N, D] and their ranges."""
    lowest, highest = info.action_range()
    return lowest, highest - lowest


def random_actions(info: EnvInfo, avail: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return uniform legal actions of one slot, [N] int64 or [N, D] float32, at ``avail`` [N, A]; 0 without any."""
    if info.continuous:
        low, size = _low_and_size(info)
        return np.where(avail, low + size * rng.random(low.shape, np.float32), 0).astype(np.float32)
    return np.array([rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in avail], np.int64)


def _uniform(info: EnvInfo, quick: int | None, arrays: Mapping[str, np.ndarray]) -> UniformActor:
    return UniformActor(info, quick)
