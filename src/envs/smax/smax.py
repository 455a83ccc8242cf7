"""SMAX, JaxMARL's StarCraft without StarCraft II, in SMAC's shape: its map names, limits, masks and scale of rewards.

Battles run in compiled programs (:mod:`smax_game`), 32 slots a call on a CPU, which are imported when an environment is
built.
docs/smax.md says what differs from SMAC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..base import Arrays, EnvInfo
from .jax_start import load
from .maps import find_map

if TYPE_CHECKING:
    import torch

    from .game import Shown
    from .on_device import SmaxOnDevice

#: SMAX gives 1 for all damage and 1 for the victory; SMAC 20 for both together
_SCALE = 10.0
_MODES = ("closest", "random")


class Smax:
    """B battles, stepped together; every entry of the reward is the one team reward."""

    native = True

    def __init__(
        self,
        n_slots: int,
        map_name: str = "3m",
        time_limit: int | None = None,
        reward_sparse: bool = False,
        allies: dict[str, int] | None = None,
        enemies: dict[str, int] | None = None,
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        enemy_shoots: bool = True,
        attack_mode: str = "closest",
        device: str = "cpu",
    ) -> None:
        """Prepare ``n_slots`` battles.

        Args:
            n_slots: B.
            map_name: SMAC's name of a map, or with ``allies`` and ``enemies`` one of your own.
            time_limit: steps until an episode is cut; None: SMAC's limit of the map.
            reward_sparse: 1 for a victory, -1 for a defeat or a draw and nothing else, in place of 20 in all for a
                battle that is won.
            allies, enemies: units of a battle of your own, such as ``{marine: 7, marauder: 2}``.
            see_enemy_actions: observations show what enemies did last.
            walls_cause_death: a unit that touches the map's edge dies.
            enemy_shoots: the enemies fight back.
            attack_mode: whom an enemy attacks of those within its range, ``closest`` or ``random``.
            device: ``cpu`` or ``gpu``, where battles run.

        Raises:
            UserError: an unknown map or device, teams that make no battle, or JAX or JaxMARL missing.
        """
        if time_limit is not None and time_limit < 1:
            raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
        if attack_mode not in _MODES:
            raise UserError(
                f"env_args.attack_mode='{attack_mode}' is not known: use {one_of(_MODES)}{nearest(attack_mode, _MODES)}"
            )
        self.map = battle = find_map(map_name, allies, enemies)
        smax, where = load(device)
        from .game import Game, Options

        options = Options(see_enemy_actions, walls_cause_death, enemy_shoots, attack_mode)
        self._game = game = Game(n_slots, battle, options, smax, where)
        #: SMAX's rewards are multiplied by it; None: they are of the battle's end alone
        self._scale = None if reward_sparse else _SCALE
        self._device = device
        self._time = np.zeros(n_slots, np.int64)
        n = game.n_allies
        self.info = EnvInfo(
            name=battle.name,
            n_agents=n,
            obs_size=game.obs_size,
            state_size=game.state_size,
            n_actions=game.n_actions,
            episode_limit=battle.limit if time_limit is None else time_limit,
            obs_sizes=(game.obs_size,) * n,
            action_sizes=(game.n_actions,) * n,
            metrics=("battle_won",),
            team_reward=True,
            agent_types=battle.ally_types,
        )

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Start battles in ``slots`` [k] that depend on ``seeds`` [k] alone."""
        self._time[slots] = 0
        for rows, shown in self._game.start(slots, seeds):
            self._show(rows, shown, out)
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Step the battles of the active slots; see :class:`Arrays`."""
        for rows, shown in self._game.step(actions, active):
            self._time[rows] += 1
            self._show(rows, shown, out)
            over, won = shown.over, shown.won
            reward = won * 2.0 - over if self._scale is None else shown.reward * np.float32(self._scale)
            out.reward[rows] = reward[:, None]
            out.terminated[rows] = over
            out.truncated[rows] = (self._time[rows] >= self.info.episode_limit) & ~over
            out.agent_terminated[rows] = ~shown.alive
            out.metrics[rows, 0] = won

    @staticmethod
    def _show(rows: np.ndarray | slice, shown: Shown, out: Arrays) -> None:
        out.obs[rows], out.state[rows] = shown.obs, shown.state
        out.avail[rows], out.alive[rows] = shown.avail, shown.alive

    def on_device(self, device: torch.device) -> SmaxOnDevice:
        """Return these battles on a torch device (`backend: device`).

        Raises:
            UserError: the argument ``device`` names another one.
        """
        from .on_device import SmaxOnDevice

        return SmaxOnDevice(self.info, self._game, self._scale, self._device, device)

    def close(self) -> None:
        """Release the battles."""
        self._game.close()

    def render(self, slot: int) -> np.ndarray:
        """Return a picture of one slot's battle, uint8 [H, W, 3]; see :mod:`oamarl.envs.smax.picture`."""
        from .picture import rgb_picture

        game = self._game
        return rgb_picture(game.units(slot), game.n_allies, game.width, game.radii, game.health)
