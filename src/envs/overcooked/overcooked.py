"""Overcooked by JaxMARL: two cooks deliver onion soups in a small kitchen (Carroll et al. 2019), batched.

Kitchens run in compiled programs (:mod:`oamarl.envs.overcooked.kitchens`), which are imported when an environment is
built.
"""

from __future__ import annotations

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..base import Arrays, EnvInfo
from ..smax.jax_start import load

#: reward of a delivery
SOUP = 20.0
#: JaxMARL's actions: up, down, right, left, stay, interact
N_ACTIONS = 6


class Overcooked:
    """B kitchens, stepped together; every entry of the reward is the one team reward."""

    native = True

    def __init__(
        self,
        n_slots: int,
        layout: str = "cramped_room",
        time_limit: int = 400,
        shaped_reward: float = 1.0,
        device: str = "cpu",
    ) -> None:
        """Prepare ``n_slots`` kitchens.

        Args:
            n_slots: B.
            layout: ``cramped_room``, ``asymm_advantages``, ``coord_ring``, ``forced_coord`` or ``counter_circuit``.
            time_limit: steps of an episode, its horizon.
            shaped_reward: factor of JaxMARL's shaped rewards (3 for an onion in a pot, 3 for a plate that is needed, 5
                for a soup on a plate), summed over both cooks and added to 20 for a delivery; 0: deliveries alone.
            device: ``cpu`` or ``gpu``, where kitchens run.

        Raises:
            UserError: an unknown layout or device, a number out of range, or JAX or JaxMARL missing.
        """
        if time_limit < 1:
            raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
        if not 0 <= shaped_reward < np.inf:
            raise UserError(f"env_args.shaped_reward={shaped_reward} is out of range: a number from 0 on is allowed.")
        package, where = load(device, "overcooked")
        layouts = package.overcooked_layouts
        if layout not in layouts:
            raise UserError(
                f"env_args.layout='{layout}' is not a known kitchen: use {one_of(layouts)}{nearest(layout, layouts)}"
            )
        from .kitchens import Kitchens

        self._kitchens = Kitchens(n_slots, layout, time_limit, package, where)
        self._shaped = shaped_reward
        self._time = np.zeros(n_slots, np.int64)
        shape = self._kitchens.shape
        self._views = np.zeros((n_slots, 2, *shape), np.uint8)
        size = int(np.prod(shape))
        self.info = EnvInfo(
            name=layout,
            n_agents=2,
            obs_size=size,
            state_size=size,
            n_actions=N_ACTIONS,
            episode_limit=time_limit,
            obs_sizes=(size,) * 2,
            action_sizes=(N_ACTIONS,) * 2,
            metrics=("soups",),
            team_reward=True,
            obs_shape=shape,
        )

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start episodes in ``slots`` [k]; ``seeds`` [k] decide where the cooks look."""
        self._time[slots] = 0
        shown = self._kitchens.start(slots, seeds)
        self._show(slots, shown.views, out)
        out.avail[slots] = out.alive[slots] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Step the kitchens of the active slots; see :class:`Arrays`."""
        rows = np.flatnonzero(active)
        if rows.size == 0:
            return
        shown = self._kitchens.step(actions, active)
        self._time[rows] += 1
        self._show(rows, shown.views, out)
        delivered, shaped = shown.delivered[rows], shown.shaped[rows]
        out.reward[rows] = (delivered + self._shaped * (shaped[:, 0] + shaped[:, 1]))[:, None]
        out.truncated[rows] = self._time[rows] >= self.info.episode_limit
        out.metrics[rows, 0] += delivered / SOUP

    def _show(self, rows: np.ndarray, views: np.ndarray, out: Arrays) -> None:
        """Write observations and states (the first cook's view) of ``rows``."""
        self._views[rows] = views[rows]
        flat = views[rows].reshape(len(rows), 2, -1)
        out.obs[rows], out.state[rows] = flat, flat[:, 0]

    def close(self) -> None:
        """Release the kitchens."""
        self._kitchens.close()

    def render(self, slot: int) -> np.ndarray:
        """Return a picture of one kitchen, uint8 [H, W, 3]; see :mod:`oamarl.envs.overcooked.picture`."""
        from .picture import rgb_picture

        return rgb_picture(self._views[slot, 0])
