"""B kitchens of JaxMARL's Overcooked as two compiled programs: start some of them, step some of them."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Shown(NamedTuple):
    """What B kitchens show.

    | field | shape | meaning |
    |---|---|---|
    | views | [B, 2, H, W, C] uint8 | each agent's own view of the whole kitchen |
    | delivered | [B] float32 | the delivery reward of the last step |
    | shaped | [B, 2] float32 | each agent's shaped reward of the last step |
    """

    views: Any
    delivered: Any
    shaped: Any


class Kitchens:
    """B kitchens; their numbers are whole, so that they are the same for any B.

    Attributes:
        shape: [H, W, C] of a view.
    """

    def __init__(self, n_slots: int, layout: str, horizon: int, package: Any, device: Any) -> None:
        """Prepare ``n_slots`` kitchens; programs are compiled, or read from disk, when first used.

        Args:
            n_slots: B.
            layout: a name of ``package.overcooked_layouts``.
            horizon: steps of an episode; the view's last channel says that its end is near.
            package, device: what :func:`~oamarl.envs.smax.jax_start.load` returns.
        """
        self._device = device
        with jax.default_device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it recommends its second version
            rules = package.Overcooked(layout=package.overcooked_layouts[layout], max_steps=horizon)
        self._rules = rules
        self.shape = (int(rules.height), int(rules.width), int(rules.obs_shape[2]))
        self._keys = np.zeros(n_slots, np.uint32)
        self._kitchens: Any = None
        self._start = jax.jit(self._start_all)
        self._advance = jax.jit(self._step_all, donate_argnums=0)

    def start(self, slots: np.ndarray, seeds: np.ndarray) -> Shown:
        """Start episodes in ``slots`` [k] from ``seeds`` [k]; returns what ALL kitchens show."""
        self._keys[slots] = seeds
        chosen = np.zeros(len(self._keys), bool)
        chosen[slots] = True
        with jax.default_device(self._device):
            if self._kitchens is None:
                some = jax.eval_shape(self._begin, self._keys)[1]
                self._kitchens = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), some)
            self._kitchens, views = self._start(self._kitchens, self._keys, chosen)
        none = np.zeros((len(chosen), 2), np.float32)
        return Shown(np.asarray(views), none[:, 0], none)

    def step(self, actions: np.ndarray, active: np.ndarray) -> Shown:
        """Step the kitchens that are ``active`` [B] with ``actions`` [B, 2]; returns what ALL kitchens show."""
        with jax.default_device(self._device):
            self._kitchens, shown = self._advance(self._kitchens, actions.astype(np.int32), active)
        return Shown(*(np.asarray(x) for x in shown))

    def _begin(self, seeds: Any) -> Any:
        return jax.vmap(lambda seed: self._rules.reset(jax.random.PRNGKey(seed)))(seeds)

    def _start_all(self, before: Any, seeds: Any, chosen: Any) -> tuple[Any, Any]:
        views, after = self._begin(seeds)
        return _where(chosen, after, before), _both(views)

    def _step_all(self, before: Any, actions: Any, active: Any) -> tuple[Any, Shown]:
        def one(kitchen: Any, joint: Any) -> Any:
            asked = {name: joint[i] for i, name in enumerate(self._rules.agents)}
            # nothing in a step is random
            return self._rules.step_env(jax.random.PRNGKey(0), kitchen, asked)

        views, after, rewards, _, infos = jax.vmap(one)(before, actions)
        shaped = jnp.stack([infos["shaped_reward"][name] for name in self._rules.agents], axis=1)
        shown = Shown(_both(views), rewards["agent_0"].astype(jnp.float32), shaped.astype(jnp.float32))
        return _where(active, after, before), shown

    def close(self) -> None:
        """Release the kitchens."""
        self._kitchens = None


def _both(views: Any) -> Any:
    return jnp.stack([views["agent_0"], views["agent_1"]], axis=1)


def _where(chosen: Any, new: Any, old: Any) -> Any:
    """Return ``new`` in the slots that are ``chosen`` [B], ``old`` in the others."""
    return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *[1] * (b.ndim - 1)), a, b), new, old)
