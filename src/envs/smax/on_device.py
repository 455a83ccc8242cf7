"""SMAX on a device: one compiled call steps the battles of a tile and begins the next ones where battles ended.

Arrays of JAX are handed to torch and back by DLPack, without a copy. On a CPU a tile has 32 slots, as in
:mod:`.game`, and a call begins as many battles as ended; on a GPU one tile has all slots, and a call begins one in
every slot and takes those that are needed, for asking which they are would stop the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import torch
from torch import Tensor

from ..base import EnvInfo
from ..on_device import DeviceStep, same_device
from .game import AT_ONCE, Battle, Game, step_all


class _Tile(NamedTuple):
    """A tile's battles, and the steps made in each [k] int32: their memory is used again by the next call."""

    battles: Battle
    time: Any


#: what the battles of a tile show: obs, state, avail, alive; torch has views of these arrays
_Seen: TypeAlias = tuple[Any, Any, Any, Any]


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
        self._tiles: list[_Tile] = []
        self._seen: list[_Seen] = []
        one_tile = game.device.platform != "cpu"
        begin = partial(_begin_everywhere if one_tile else _begin_some, game.begin_all)
        self._begin = jax.jit(begin, donate_argnums=0)
        self._turn = jax.jit(partial(_turn, game.fight, begin, self.info.episode_limit), donate_argnums=0)

    def reset(self, where: Tensor, seeds: Tensor) -> Mapping[str, Tensor]:
        """Start battles of ``seeds`` [B] in the slots ``where`` [B]."""
        with jax.default_device(self._where):
            if not self._tiles:
                where = torch.ones_like(where)
                made = [self._empty() for _ in range(self._game.n_tiles)]
                self._tiles, self._seen = map(list, zip(*made, strict=True))
            parts = zip(self._tiles, self._seen, self._cut(where), self._cut(seeds.int()), strict=True)
            self._tiles, self._seen = map(list, zip(*(self._begin(*part) for part in parts), strict=True))
            return self._shown()

    def step(self, actions: Tensor, seeds: Tensor) -> DeviceStep:
        """Step all battles, and begin those of ``seeds`` [B] where one ended."""
        with jax.default_device(self._where):
            parts = zip(self._tiles, self._cut(actions.int()), self._cut(seeds.int()), strict=True)
            made = [self._turn(*part) for part in parts]
            self._tiles, self._seen, results = map(list, zip(*made, strict=True))
            obs, state, avail, alive, reward, terminated, truncated, won = self._joined(results)
            scaled = won * 2.0 - terminated.float() if self._scale is None else reward * self._scale
            n = self.info.n_agents
            after = {
                "reward": scaled.unsqueeze(1).expand(-1, n), "terminated": terminated, "truncated": truncated,
                "agent_terminated": ~alive, "metrics": won.unsqueeze(1).float(),
            }  # fmt: skip
            return DeviceStep(after, {"obs": obs, "state": state, "avail": avail}, self._shown())

    def _empty(self) -> tuple[_Tile, _Seen]:
        """Return a tile of nothing."""
        k = self._game.tile
        battles, shown = jax.eval_shape(self._game.begin_all, jax.ShapeDtypeStruct((k,), jnp.uint32))
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (battles, shown[:4]))
        return _Tile(empty[0], jnp.zeros(k, jnp.int32)), tuple(empty[1])

    def _cut(self, x: Tensor) -> list[Any]:
        """Return the rows [B, ...] of each tile as JAX's arrays, padded with zeros."""
        tile, n_tiles = self._game.tile, self._game.n_tiles
        if len(x) < tile * n_tiles:
            x = torch.cat([x, x.new_zeros(tile * n_tiles - len(x), *x.shape[1:])])
        return [jax.dlpack.from_dlpack(part.contiguous()) for part in x.split(tile)]

    def _joined(self, tiles: list[tuple[Any, ...]]) -> list[Tensor]:
        """Return the arrays of all tiles as tensors [B, ...]."""
        columns = [[torch.from_dlpack(x) for x in column] for column in zip(*tiles, strict=True)]
        return [(torch.cat(c) if len(c) > 1 else c[0])[: self._game.n_slots] for c in columns]

    def _shown(self) -> dict[str, Tensor]:
        seen = self._joined(self._seen)
        return dict(zip(("obs", "state", "avail", "alive"), seen, strict=True))

    def close(self) -> None:
        """Release the battles."""
        self._tiles.clear()
        self._game.close()


def _turn(
    fight: Any, begin: Any, limit: int, tile: _Tile, actions: Any, seeds: Any
) -> tuple[_Tile, _Seen, tuple[Any, ...]]:
    """Step a tile's battles, and begin those of ``seeds`` where one ended.

    Returns:
        the tile, what it shows, and the fields of ``Shown`` right after the step, with truncation before the last one.
    """
    battles, shown = step_all(fight, tile.battles, actions, jnp.ones(len(seeds), bool))
    time = tile.time + 1
    late = (time >= limit) & ~shown.over
    following, seen = begin(_Tile(battles, time), shown[:4], shown.over | late, seeds)
    return following, seen, (*shown[:4], shown.reward, shown.over, late, shown.won)


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
