"""SMAX on a device: one compiled call steps the battles of a tile and begins the next ones where battles ended.

Arrays of JAX are handed to torch and back by DLPack, without a copy. On a CPU a tile has 32 slots, as in
:mod:`.game`, and a call begins as many battles as ended; on a GPU one tile has all slots, and a call begins one in
every slot and takes those that are needed, for asking which they are would stop the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from ..base import EnvInfo
from ..on_device import DeviceStep, same_device
from .game import AT_ONCE, Battle, Game, step_all


class _Tile(NamedTuple):
    """A tile's battles, and the steps made in each [k] int32: their memory is used again by the next call."""

    battles: Battle
    time: Any


#: what the battles of a tile show: obs, state, avail, alive
_Seen: TypeAlias = tuple[Any, Any, Any, Any]


#: the shapes of a slot's parts in the two arrays of a call
_Shapes: TypeAlias = tuple[list[tuple[int, ...]], list[tuple[int, ...]]]


class _Given(NamedTuple):
    """What a call gives, side by side in two arrays, for each array that torch takes over costs it some time; torch
    has views of them.

    numbers [k, F]: obs and state right after the step, the same as shown next, the reward.
    flags [k, G]: avail and alive right after the step, the same as shown next, over, late, won.
    """

    numbers: Any
    flags: Any


class SmaxOnDevice:
    """B battles; see :class:`~oamarl.envs.on_device.DeviceEnv`.

    Args:
        info: sizes.
        game: of B slots.
        reward_scale: what SMAX's rewards are multiplied by; None: rewards are of the battle's end alone.
        given: the game's own argument ``device``.
        device: torch's device, where networks are too.

    Raises:
        UserError: the two are different.
    """

    def __init__(
        self, info: EnvInfo, game: Game, reward_scale: float | None, given: str, device: torch.device
    ) -> None:  # fmt: skip
        same_device(given, device)
        self.info, self.device, self._game, self._scale = info, device, game, reward_scale
        self._where = game.device
        n, o, s, a = info.n_agents, info.obs_size, info.state_size, info.n_actions
        self._shapes: _Shapes = [(n, o), (s,), (n, o), (s,), ()], [(n, a), (n,), (n, a), (n,), (), (), ()]
        self._tiles: list[_Tile] = []
        self._given: list[_Given] = []
        one_tile = game.device.platform != "cpu"
        begin = partial(_begin_everywhere if one_tile else _begin_some, game.begin_all)
        self._begin = jax.jit(partial(_restart, begin, self._shapes), donate_argnums=0)
        self._turn = jax.jit(partial(_turn, game.fight, begin, self.info.episode_limit), donate_argnums=0)

    def reset(self, where: Tensor, seeds: Tensor) -> Mapping[str, Tensor]:
        """Start battles of ``seeds`` [B] in the slots ``where`` [B]."""
        with jax.default_device(self._where):
            if not self._tiles:
                where = torch.ones_like(where)
                made = [self._empty() for _ in range(self._game.n_tiles)]
                self._tiles, self._given = map(list, zip(*made, strict=True))
            parts = zip(self._tiles, self._given, self._cut(where), self._cut(seeds.int()), strict=True)
            self._tiles, self._given = map(list, zip(*(self._begin(*part) for part in parts), strict=True))
            return self._taken()[1]

    def step(self, actions: Tensor, seeds: Tensor) -> DeviceStep:
        """Step all battles, and begin those of ``seeds`` [B] where one ended."""
        with jax.default_device(self._where):
            parts = zip(self._tiles, self._cut(actions.int()), self._cut(seeds.int()), strict=True)
            self._tiles, self._given = map(list, zip(*(self._turn(*part) for part in parts), strict=True))
        final, shown, reward, (over, late, won) = self._taken()
        scaled = won * 2.0 - over.float() if self._scale is None else reward * self._scale
        after = {
            "reward": scaled.unsqueeze(1).expand(-1, self.info.n_agents), "terminated": over, "truncated": late,
            "agent_terminated": ~final.pop("alive"), "metrics": won.unsqueeze(1).float(),
        }  # fmt: skip
        return DeviceStep(after, final, shown)

    def _taken(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, tuple[Tensor, ...]]:
        """Return what the last call gave: right after the step, as shown next, the reward, and over, late, won."""
        numbers, flags = (
            (torch.cat(part) if len(part) > 1 else part[0])[: self._game.n_slots]
            for part in zip(*(map(torch.from_dlpack, given) for given in self._given), strict=True)
        )
        (*floats, reward), (*bools, over, late, won) = (
            [x.unflatten(1, shape) if len(shape) > 1 else x if shape else x.squeeze(1)
             for x, shape in zip(whole.split([math.prod(s) for s in shapes], 1), shapes, strict=True)]
            for whole, shapes in zip((numbers, flags), self._shapes, strict=True)
        )  # fmt: skip
        final, shown = (
            {"obs": floats[k], "state": floats[k + 1], "avail": bools[k], "alive": bools[k + 1]} for k in (0, 2)
        )
        return final, shown, reward, (over, late, won)

    def _empty(self) -> tuple[_Tile, _Given]:
        """Return a tile of nothing."""
        k = self._game.tile
        battles, shown = jax.eval_shape(self._game.begin_all, jax.ShapeDtypeStruct((k,), jnp.uint32))
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (battles, shown))
        seen = tuple(empty[1][:4])
        return _Tile(empty[0], jnp.zeros(k, jnp.int32)), _side_by_side(seen, seen)

    def _cut(self, x: Tensor) -> list[Any]:
        """Return the rows [B, ...] of each tile as JAX's arrays, padded with zeros."""
        tile, n_tiles = self._game.tile, self._game.n_tiles
        if len(x) < tile * n_tiles:
            x = torch.cat([x, x.new_zeros(tile * n_tiles - len(x), *x.shape[1:])])
        return [jax.dlpack.from_dlpack(part.contiguous()) for part in x.split(tile)]

    def close(self) -> None:
        """Release the battles."""
        self._tiles.clear()
        self._game.close()


def _side_by_side(final: _Seen, shown: _Seen, reward: Any = None, flags: tuple[Any, ...] = ()) -> _Given:
    """Return arrays of k slots as one of numbers and one of flags."""
    k = len(shown[0])
    reward, flags = jnp.zeros(k) if reward is None else reward, flags or (jnp.zeros(k, bool),) * 3
    columns = (*final[:2], *shown[:2], reward), (*final[2:], *shown[2:], *flags)
    return _Given(*(jnp.concatenate([x.reshape(k, -1) for x in part], axis=1) for part in columns))


def _restart(begin: Any, shapes: _Shapes, tile: _Tile, given: _Given, where: Any, seeds: Any) -> tuple[_Tile, _Given]:
    """Begin the battles of ``seeds`` in the slots ``where`` of a tile."""

    def parts(whole: Any, sizes: Sequence[tuple[int, ...]]) -> list[Any]:
        ends = np.cumsum([math.prod(size) for size in sizes])[:-1]
        return [x.reshape(-1, *size) for x, size in zip(jnp.split(whole, ends, axis=1), sizes, strict=True)]

    floats, bools = (parts(*x) for x in zip(given, shapes, strict=True))
    tile, seen = begin(tile, (*floats[2:4], *bools[2:4]), where, seeds)
    return tile, _side_by_side(seen, seen)


def _turn(fight: Any, begin: Any, limit: int, tile: _Tile, actions: Any, seeds: Any) -> tuple[_Tile, _Given]:
    """Step a tile's battles, and begin those of ``seeds`` where one ended."""
    battles, shown = step_all(fight, tile.battles, actions, jnp.ones(len(seeds), bool))
    time = tile.time + 1
    late = (time >= limit) & ~shown.over
    following, seen = begin(_Tile(battles, time), shown[:4], shown.over | late, seeds)
    return following, _side_by_side(shown[:4], seen, shown.reward, (shown.over, late, shown.won))


def _begin_everywhere(begin: Any, tile: _Tile, seen: _Seen, where: Any, seeds: Any) -> tuple[_Tile, _Seen]:
    """Begin battles in the slots ``where`` [k], of ``seeds`` [k]; the others are worked out in vain."""

    def mixed(new: Any, old: Any) -> Any:
        return jnp.where(where.reshape(-1, *[1] * (old.ndim - 1)), new.astype(old.dtype), old)

    found: tuple[_Tile, _Seen] = jax.tree.map(mixed, _fresh(begin, tile, seeds), (tile, tuple(seen)))
    return found


def _begin_some(begin: Any, tile: _Tile, seen: _Seen, where: Any, seeds: Any) -> tuple[_Tile, _Seen]:
    """The same, a few slots after another until all of ``where`` have begun."""
    k, count = len(seeds), where.sum()
    order = jnp.concatenate([jnp.argsort(~where, stable=True), jnp.full(AT_ONCE, k)])

    def some(state: tuple[Any, Any]) -> tuple[Any, Any]:
        first, now = state
        rows = jax.lax.dynamic_slice(order, (first,), (AT_ONCE,))
        fresh = _fresh(begin, tile, seeds[jnp.minimum(rows, k - 1)])
        # rows beyond the last one that begins are dropped
        rows = jnp.where(first + jnp.arange(AT_ONCE) < count, rows, k)
        put = jax.tree.map(lambda old, new: old.at[rows].set(new.astype(old.dtype), mode="drop"), now, fresh)
        return first + AT_ONCE, put

    found: tuple[_Tile, _Seen]
    _, found = jax.lax.while_loop(lambda state: state[0] < count, some, (jnp.int32(0), (tile, tuple(seen))))
    return found


def _fresh(begin: Any, tile: _Tile, seeds: Any) -> tuple[_Tile, _Seen]:
    """Return battles of ``seeds`` [k] before their first step."""
    battles, shown = begin(seeds.astype(jnp.uint32))
    return _Tile(battles, jnp.zeros(len(seeds), tile.time.dtype)), shown[:4]
