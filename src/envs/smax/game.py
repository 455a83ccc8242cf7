"""B battles of JaxMARL's SMAX against its scripted enemies, as compiled programs: start battles, place them, step them.

Each has one size, so one call starts 8 battles and steps 32 slots on a CPU; on a GPU one call steps all slots.

The rules are JaxMARL's own functions, but for the push (:mod:`smax_push`). What is done here is to call them once: the
enemies decide on what they saw after the last step, which JaxMARL's wrapper works out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .maps import UNITS, Map
from .push import push

#: battles that one call starts
AT_ONCE = 8
#: battles that one call steps on a CPU; a call for one takes two thirds of the time of this many
_TILE = 32
#: no time limit of JaxMARL's: steps are counted by the environment
_ENDLESS = 2**30


@dataclass(frozen=True)
class Options:
    """Options of JaxMARL's SMAX, by its own names."""

    see_enemy_actions: bool = True
    walls_cause_death: bool = True
    enemy_shoots: bool = True
    attack_mode: str = "closest"


class Battle(NamedTuple):
    """State of a slot: the random key, SMAX's state, the enemies' memory, and their observations [E, O]."""

    key: Any
    units: Any
    minds: Any
    seen: Any


class Shown(NamedTuple):
    """Observations, rewards and flags of slots after a step or a start, one row a slot: N allies, U units.

    | field | shape | meaning |
    |---|---|---|
    | obs | [k, N, O] float32 | |
    | state | [k, S] float32 | every entry from 0 to 1 |
    | avail | [k, N, A] bool | |
    | alive | [k, N] bool | |
    | reward | [k] float32 | SMAX's own: 1 for all damage, 1 for the victory |
    | over, won | [k] bool | a team is dead; it is the enemies', and an ally lives |
    """

    obs: Any
    state: Any
    avail: Any
    alive: Any
    reward: Any
    over: Any
    won: Any


class Game:
    """B battles.

    Attributes:
        obs_size, state_size, n_actions: sizes.
        width: of the map, which is a square.
        radii: [6] of unit types.
        health: [6] full health of unit types.
        device: JAX's, on which battles run.
        tile, n_tiles: slots that one call steps, and calls that step all.
        begin_all: function of seeds [k]: battles of them.
    """

    def __init__(self, n_slots: int, battle: Map, options: Options, smax: Any, device: Any) -> None:
        """Prepare ``n_slots`` battles; programs are compiled, or read from disk, when first used.

        Args:
            n_slots: B.
            battle: who fights.
            options: JaxMARL's.
            smax, device: what :func:`~oamarl.envs.smax.jax_start.load` returns.
        """
        self.device = device
        self.n_slots, self.n_allies, self.n_enemies = n_slots, len(battle.allies), len(battle.enemies)
        with jax.default_device(self.device):
            self._rules = rules = _rules(smax, battle, options)
            self._enemies = _enemies(smax, rules, options)
            self._mind = smax.heuristic_enemy.get_heuristic_policy_initial_state()
            self._radii = rules.unit_type_radiuses
            self.radii, self.health = np.asarray(self._radii), np.asarray(rules.unit_type_health)
        self.width = int(rules.map_width)
        self.obs_size, self.n_actions = int(rules.obs_size), int(rules.num_ally_actions)
        self.state_size = (self.n_allies + self.n_enemies) * (4 + len(UNITS) + 2)
        # one program for any number of slots: rows of programs of different sizes differ in their last bits
        self.tile = _TILE if device.platform == "cpu" else n_slots
        self.n_tiles = -(-n_slots // self.tile)
        self._tiles: dict[int, Battle] = {}
        self.begin_all = jax.vmap(self._begin)
        self._start = jax.jit(self.begin_all)
        self._put = jax.jit(_put, donate_argnums=0)
        self._advance = jax.jit(partial(step_all, self.fight), donate_argnums=0)

    # -- one slot: functions for vmap -------------------------------------------------------------------------

    def _begin(self, seed: Any) -> tuple[Battle, Shown]:
        """Start the battle of ``seed`` (uint32), with the keys that JaxMARL's `HeuristicEnemySMAX.reset` would use."""
        key = jax.random.PRNGKey(seed)
        _, reset_key = jax.random.split(key)
        _, units = self._rules.reset(reset_key)
        minds = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.n_enemies, *jnp.shape(x))), self._mind)
        ours, theirs = self._look(units)
        battle = Battle(key, units, minds, theirs)
        return battle, self._show(units, ours, jnp.float32(0.0))

    def fight(self, battle: Battle, actions: Any) -> tuple[Battle, Shown]:
        """Step one battle with the allies' ``actions`` [N]; the keys are those of JaxMARL's `step_env`."""
        key, step_key = jax.random.split(battle.key)
        step_key, enemy_key = jax.random.split(step_key)
        answers, minds = self._enemies(jax.random.split(enemy_key, num=self.n_enemies), battle.minds, battle.seen)
        rules, joint = self._rules, jnp.concatenate([actions, answers])
        decoded = rules._decode_discrete_actions(joint)
        _, units, rewards, _, _ = rules.step_env_no_decode(step_key, battle.units, decoded)
        ours, theirs = self._look(units)
        return Battle(key, units, minds, theirs), self._show(units, ours, rewards["ally_0"])

    def _look(self, units: Any) -> tuple[Any, Any]:
        """Return the observations of allies [N, O] and enemies [E, O]."""
        seen = self._rules.get_obs_unit_list(units)
        each = jnp.stack([seen[name] for name in self._rules.agents])
        return each[: self.n_allies], each[self.n_allies :]

    def _show(self, units: Any, ours: Any, reward: Any) -> Shown:
        rules, n = self._rules, self.n_allies
        legal = rules.get_avail_actions(units)
        own = jax.vmap(rules._get_own_features, in_axes=(None, 0))(units, jnp.arange(n + self.n_enemies))
        # JaxMARL's own layout, but positions, cooldowns and types on a scale from 0 to 1
        kinds = units.unit_types / (len(UNITS) - 1)
        state = jnp.concatenate([own.ravel(), units.unit_teams, kinds]).astype(jnp.float32)
        ally, enemy = units.unit_alive[:n].any(), units.unit_alive[n:].any()
        return Shown(
            ours, state, jnp.stack([legal[name] for name in rules.agents[:n]]).astype(bool), units.unit_alive[:n],
            reward, ~(ally & enemy), ally & ~enemy,
        )  # fmt: skip

    # -- all slots --------------------------------------------------------------------------------------------

    def start(self, slots: np.ndarray, seeds: np.ndarray) -> Iterator[tuple[np.ndarray, Shown]]:
        """Start battles in ``slots`` [k] from ``seeds`` [k]; yields their :class:`Shown`, some slots at a time."""
        for tile in np.unique(slots // self.tile).tolist():
            mine = np.flatnonzero(slots // self.tile == tile)
            for some in (mine[i : i + AT_ONCE] for i in range(0, len(mine), AT_ONCE)):
                yield slots[some], self._some(tile, slots[some] - tile * self.tile, seeds[some])

    def _some(self, tile: int, slots: np.ndarray, seeds: np.ndarray) -> Shown:
        k = len(slots)
        # places beyond the last slot are dropped
        where, what = np.full(AT_ONCE, self.tile, np.int32), np.zeros(AT_ONCE, np.uint32)
        where[:k], what[:k] = slots, seeds
        with jax.default_device(self.device):
            battles, shown = self._start(what)
            old = self._tiles.get(tile)
            if old is None:
                old = jax.tree.map(lambda x: jnp.zeros((self.tile, *x.shape[1:]), x.dtype), battles)
            self._tiles[tile] = self._put(old, battles, where)
        return Shown(*(column[:k] for column in jax.device_get(shown)))

    def step(self, actions: np.ndarray, active: np.ndarray) -> Iterator[tuple[np.ndarray | slice, Shown]]:
        """Step the battles that are ``active`` [B] with ``actions`` [B, N]; yields their :class:`Shown`, tile by tile.

        On the CPU these are views of JAX's own memory, to be read at once.
        """
        asked = np.zeros((self.n_tiles * self.tile, self.n_allies), np.int32)
        asked[: self.n_slots] = actions
        among = np.zeros(len(asked), bool)
        among[: self.n_slots] = active
        begun = []
        with jax.default_device(self.device):
            for tile in range(self.n_tiles):
                rows = slice(tile * self.tile, (tile + 1) * self.tile)
                if among[rows].any():
                    self._tiles[tile], shown = self._advance(self._tiles[tile], asked[rows], among[rows])
                    begun.append((tile * self.tile, among[rows], shown))
        for first, mask, shown in begun:
            columns = jax.device_get(shown)
            if mask.all():
                yield slice(first, first + self.tile), Shown(*columns)
            else:
                taken = np.flatnonzero(mask)
                yield first + taken, Shown(*(column[taken] for column in columns))

    def units(self, slot: int) -> Any:
        """Return SMAX's state of one slot, as numpy arrays."""
        tile, row = divmod(slot, self.tile)
        return jax.device_get(jax.tree.map(lambda x: x[row], self._tiles[tile].units))

    def close(self) -> None:
        """Release the battles."""
        self._tiles.clear()


def _rules(smax: Any, battle: Map, options: Options) -> Any:
    """Return JaxMARL's SMAX for a map, with the lean push."""

    class Rules(smax.SMAX):
        def _push_units_away(self, state: Any, firmness: float = 1.0) -> Any:
            radii = self.unit_type_radiuses[state.unit_types]
            return state.replace(unit_positions=push(state.unit_positions, state.unit_alive, radii, firmness))

    types = jnp.array([*battle.allies, *battle.enemies], dtype=jnp.uint8)
    scenario = smax.Scenario(types, len(battle.allies), len(battle.enemies), battle.drawn, battle.drawn)
    return Rules(
        scenario=scenario, max_steps=_ENDLESS, see_enemy_actions=options.see_enemy_actions,
        walls_cause_death=options.walls_cause_death,
    )  # fmt: skip


def _enemies(smax: Any, rules: Any, options: Options) -> Any:
    """Return JaxMARL's scripted enemies: keys [E], memories, observations [E, O] -> actions [E], memories."""
    make = smax.heuristic_enemy.create_heuristic_policy
    return jax.vmap(make(rules, 1, shoot=options.enemy_shoots, attack_mode=options.attack_mode))


def _put(battles: Any, some: Any, where: Any) -> Any:
    return jax.tree.map(lambda all_, new: all_.at[where].set(new.astype(all_.dtype), mode="drop"), battles, some)


def step_all(fight: Any, battles: Battle, actions: Any, active: Any) -> tuple[Battle, Shown]:
    """Step every slot, and keep the result where a slot is active."""
    after, shown = jax.vmap(fight)(battles, actions)

    def keep(old: Any, new: Any) -> Any:
        return jnp.where(active.reshape(-1, *[1] * (old.ndim - 1)), new.astype(old.dtype), old)

    return jax.tree.map(keep, battles, after), shown
