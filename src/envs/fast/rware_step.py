"""RWARE's warehouse with steps of its own; importing this imports rware."""

from __future__ import annotations

from typing import Any

import numpy as np
from rware.warehouse import Warehouse

from .rware_tables import Tables

_ZERO = np.float64(0.0)


class QuickWarehouse(Warehouse):
    """The stock's warehouse, whose state all stays in its own attributes."""

    # under the stock's names: str(env), and the class's module, are the stock's
    __module__, __qualname__ = Warehouse.__module__, Warehouse.__qualname__
    _tables: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # the tables point into their own buffer: a copy makes itself new ones
        return _revive, (), {name: value for name, value in vars(self).items() if name != "_tables"}

    def _current(self) -> Tables | None:
        """Return the tables, read again where others wrote to the game; None if only the stock knows what follows."""
        if self._tables is None:
            self._tables = Tables(self)
        tables: Tables = self._tables
        return tables if tables.hold(self) or tables.read(self) else None

    def _recalc_grid(self) -> None:
        super()._recalc_grid()
        if self._tables is not None:
            self._tables.known = None  # the game was changed from outside

    def _make_obs(self, agent: Any) -> Any:
        tables = self._current() if self.fast_obs else None
        if tables is None or not tables.flat or agent not in self.agents:
            return super()._make_obs(agent)
        tables.hear()
        return np.frombuffer(bytearray().join(tables.seen[self.agents.index(agent)]), np.float32)

    def step(self: Any, actions: Any) -> tuple[Any, list[Any], bool, bool, dict[str, Any]]:
        """Take the agents' actions, as RWARE's own class does: observations, rewards, done, truncated, info."""
        tables = self._current()
        if tables is None or (codes := tables.decode(actions)) is None:
            return super().step(actions)
        rewards = tables.act(self, codes)
        quiet = self._cur_inactive_steps + 1
        for cell in tables.goals:
            shelf = tables.shelf_at[cell]
            if shelf and self.shelfs[shelf - 1] in self.request_queue:
                rewards = tables.deliver(self, cell, rewards)
                quiet = 0
        self._cur_inactive_steps = quiet
        self._cur_steps += 1
        most_quiet, most = self.max_inactivity_steps, self.max_steps
        done = bool((most_quiet and quiet >= most_quiet) or (most and self._cur_steps >= most))
        if tables.flat and self.fast_obs:
            observations = tables.observe()
        else:
            observations = tuple(map(super()._make_obs, self.agents))
        return observations, [_ZERO] * len(codes) if rewards is None else list(rewards), done, False, {}


QuickWarehouse.__name__ = Warehouse.__name__


def _revive() -> Any:
    return QuickWarehouse.__new__(QuickWarehouse)
