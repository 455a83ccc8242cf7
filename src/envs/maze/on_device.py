"""The maze games on a torch device: the same tables, looked up there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..base import EnvInfo
from ..on_device import DeviceStep
from .maps import ACTIONS


class MazeOnDevice:
    """B mazes; see :class:`~oamarl.envs.on_device.DeviceEnv`.

    Args:
        info: sizes.
        tables: what a step looks up; see :meth:`oamarl.envs.maze.maze.Maze.tables`.
        n_slots: B.
        device: where they live.
    """

    def __init__(self, info: EnvInfo, tables: Mapping[str, np.ndarray], n_slots: int, device: torch.device) -> None:
        self.info, self.device = info, device
        self._tables = {name: torch.as_tensor(x).to(device) for name, x in tables.items()}
        self._begin = self._tables["begin"].expand(n_slots, -1)
        self._map = self._tables["map"].expand(n_slots, -1)
        self._all_alive = torch.ones(n_slots, self.info.n_agents, dtype=torch.bool, device=device)
        self._place = self._begin
        self._time = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self._alive = self._all_alive

    def reset(self, where: Tensor, seeds: Tensor) -> Mapping[str, Tensor]:
        """Put the agents of the slots ``where`` [B] on S; ``seeds`` change nothing."""
        self._restart(where)
        return self._show() | {"alive": self._alive}

    def step(self, actions: Tensor, seeds: Tensor) -> DeviceStep:
        """Move all agents, and put those of ended episodes on S again."""
        index = self._place * len(ACTIONS) + actions
        self._place = self._tables["next"][index]
        arrived = self._tables["arrived"][self._place]
        self._time = self._time + 1
        self._alive = ~arrived
        terminated = arrived.all(1)
        truncated = (self._time >= self.info.episode_limit) & ~terminated
        after = {
            "reward": self._tables["reward"][index], "terminated": terminated, "truncated": truncated,
            "agent_terminated": arrived, "metrics": arrived.float().mean(1, keepdim=True),
        }  # fmt: skip
        final = self._show()
        self._restart(terminated | truncated)
        return DeviceStep(after, final, self._show() | {"alive": self._alive})

    def _restart(self, where: Tensor) -> None:
        column = where.unsqueeze(1)
        self._place = torch.where(column, self._begin, self._place)
        self._alive = torch.where(column, self._all_alive, self._alive)
        self._time = torch.where(where, 0, self._time)

    def _show(self) -> dict[str, Tensor]:
        """Return what the agents see where they stand."""
        seen = self._tables["whereabouts"][self._place].flatten(1)
        return {
            "obs": self._tables["obs"][self._place], "state": torch.cat([self._map, seen], 1),
            "avail": self._tables["avail"][self._place],
        }  # fmt: skip

    def close(self) -> None:
        """Nothing to release."""
