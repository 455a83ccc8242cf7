"""The Black and Red and the Black Blue Red maze games of the off-agent paper (section 6.1), batched in numpy.

Every agent walks from S to G. A coloured cell lets in some colours only, and the observation does not show an
agent's own colour: agents that share one policy without an agent id cannot all take their own short cut.
Maps are drawn and explained in docs/environments.md. Pictures are in ``maze_picture.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...utils.errors import UserError, nearest, one_of
from ..base import Arrays, EnvInfo
from .maps import (
    ACTIONS,
    KINDS,
    MAPS,
    NOP,
    location_table,
    next_cells,
    read_agents,
    read_map,
    shortest_route,
    view_table,
)

if TYPE_CHECKING:
    import torch

    from .on_device import MazeOnDevice


@dataclass(frozen=True)
class Optimum:
    """The best that agents can do, one entry an agent.

    ``returns`` are undiscounted; ``steps`` are the agents' arrival times, or None for an agent that does best by
    never arriving (a time limit below its route, or step rewards that pay for staying).
    """

    steps: tuple[int | None, ...]
    returns: tuple[float, ...]
    routes: tuple[tuple[int, ...], ...]  # cells, empty where ``steps`` is None

    @property
    def team_return(self) -> float:
        """The best sum of all agents' returns."""
        return float(sum(self.returns))


class Maze:
    """B mazes, stepped together; deterministic, so that seeds change nothing."""

    native = True

    def __init__(
        self,
        n_slots: int,
        map_name: str = "black_red",
        map: str | list[str] | None = None,
        agents: dict[str, int] | None = None,
        time_limit: int | None = None,
        step_reward: float = -0.05,
        goal_reward: float = 1.0,
    ) -> None:
        """Build ``n_slots`` mazes.

        Args:
            n_slots: B.
            map_name: ``black_red`` or ``black_blue_red``; with ``map`` a name of your own.
            map: your own map, as rows of the letters ``# . S G R K B``.
            agents: how many of each colour, such as ``{red: 2, black: 2}``; None: the named map's own.
            time_limit: steps until an episode is cut; None: 40.
            step_reward: each agent's reward per step until it arrives.
            goal_reward: its reward at the step that arrives, in place of ``step_reward``.

        Raises:
            UserError: an unknown map, a map that cannot be read or solved, or no agents.
        """
        if map is None:
            if map_name not in MAPS:
                raise UserError(
                    f"env_args.map_name='{map_name}' is not a known map: use {one_of(MAPS)}, or bring your own in "
                    f"env_args.map{nearest(map_name, MAPS)}"
                )
            name, (rows, own_agents) = map_name, MAPS[map_name]
        else:
            name = map_name if map_name not in MAPS else "own_map"
            rows, own_agents = tuple(map.split("\n") if isinstance(map, str) else map), {"red": 2, "black": 2}
        if time_limit is not None and time_limit < 1:
            raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
        self.grid = read_map(rows)
        self.colours = read_agents(own_agents if agents is None else agents)
        self.time_limit = 40 if time_limit is None else time_limit
        self.step_reward, self.goal_reward = float(step_reward), float(goal_reward)
        self._routes = {c: shortest_route(self.grid, c) for c in dict.fromkeys(self.colours)}
        for colour, route in self._routes.items():
            if route is None:
                raise UserError(f"The map '{name}' cannot be solved: no route from S to G is open to {colour} agents.")
        self._build_tables(n_slots, name)

    def _build_tables(self, n_slots: int, name: str) -> None:
        grid, n, a = self.grid, len(self.colours), len(ACTIONS)
        height, width = grid.shape
        p = height * width
        self.start, self.goal = (int(np.flatnonzero(grid.ravel() == letter)[0]) for letter in "SG")
        # A step is a handful of look-ups: everything is a table over `place` = agent * P + cell
        cell = np.concatenate([next_cells(grid, c) for c in self.colours])  # [N * P, 5]
        agent_offset = np.arange(n, dtype=np.int64) * p
        self._next = (cell + np.repeat(agent_offset, p)[:, None]).ravel()
        reward = np.where(cell == self.goal, self.goal_reward, self.step_reward)
        reward[agent_offset + self.goal] = 0.0
        self._reward = reward.astype(np.float32).ravel()
        self._arrived = np.tile(np.arange(p) == self.goal, n)
        self._obs = np.tile(view_table(grid), (n, 1))
        avail = np.ones((p, a), bool)
        avail[self.goal] = np.arange(a) == NOP
        self._avail = np.tile(avail, (n, 1))
        whereabouts = np.concatenate([location_table(grid), (np.arange(p) == self.goal)[:, None]], axis=1)
        self._whereabouts = np.tile(whereabouts.astype(np.float32), (n, 1))
        # the map matrix: one number a cell, 0 (wall) to 1; the start is an open cell
        flat = np.where(grid == "S", ".", grid).ravel()
        self._map = (flat[:, None] == np.array(list(KINDS))).argmax(1).astype(np.float32) / (len(KINDS) - 1)
        self._begin = agent_offset + self.start
        self._place = np.tile(self._begin, (n_slots, 1))  # [B, N]
        self._time = np.zeros(n_slots, np.int64)
        obs_size = self._obs.shape[1]
        self.info = EnvInfo(
            name=name,
            n_agents=n,
            obs_size=obs_size,
            state_size=p + n * self._whereabouts.shape[1],
            n_actions=a,
            episode_limit=self.time_limit,
            obs_sizes=(obs_size,) * n,
            action_sizes=(a,) * n,
            metrics=("arrived",),
            agent_types=tuple(self.colours),
        )

    def optimum(self) -> Optimum:
        """Return every agent's best return, by breadth-first search per colour."""
        steps: list[int | None] = []
        returns, routes = [], []
        stay = self.time_limit * self.step_reward
        for colour in self.colours:
            route = self._routes[colour] or []
            length = len(route) - 1
            # with a positive step reward it is best to wait and arrive at the very end
            arrive = (length if self.step_reward <= 0 else self.time_limit) - 1
            best = arrive * self.step_reward + self.goal_reward
            can = length <= self.time_limit and best >= stay
            steps.append(arrive + 1 if can else None)
            returns.append(best if can else stay)
            routes.append(tuple(route) if can else ())
        return Optimum(tuple(steps), tuple(returns), tuple(routes))

    def positions(self) -> np.ndarray:
        """Return the cells [B, N] (row * W + column) where the agents stand."""
        return self._place % self.grid.size

    def _show(self, rows: np.ndarray | slice, place: np.ndarray, out: Arrays) -> None:
        """Write what the agents at ``place`` [k, N] see into ``rows`` of ``out``."""
        k = place.shape[0]
        out.state[rows, self.grid.size :] = self._whereabouts.take(place, axis=0).reshape(k, -1)
        if isinstance(rows, slice):
            # mode="clip" lets take write straight into `out`
            np.take(self._obs, place, axis=0, out=out.obs, mode="clip")
            np.take(self._avail, place, axis=0, out=out.avail, mode="clip")
        else:
            out.obs[rows] = self._obs.take(place, axis=0)
            out.avail[rows] = self._avail.take(place, axis=0)

    def reset(self, slots: np.ndarray, seeds: np.ndarray, out: Arrays) -> None:
        """Put the agents of ``slots`` [k] on S; ``seeds`` change nothing."""
        self._place[slots] = self._begin
        self._time[slots] = 0
        out.state[slots, : self.grid.size] = self._map
        self._show(slots, self._place[slots], out)
        out.alive[slots] = True
        for field in (out.reward, out.terminated, out.truncated, out.agent_terminated, out.metrics):
            field[slots] = 0

    def step(self, actions: np.ndarray, active: np.ndarray, out: Arrays) -> None:
        """Move the agents of the active slots; see the module's docstring and :class:`Arrays`."""
        # all slots in one slice is twice as fast as the same rows by number
        rows: np.ndarray | slice = slice(None) if active.all() else np.flatnonzero(active)
        if not isinstance(rows, slice) and rows.size == 0:
            return
        index = self._place[rows] * len(ACTIONS) + actions[rows]
        place = self._next.take(index)
        arrived = self._arrived.take(place)
        time = self._time[rows] + 1
        self._place[rows], self._time[rows] = place, time
        self._show(rows, place, out)
        out.reward[rows] = self._reward.take(index)
        out.agent_terminated[rows] = arrived
        out.alive[rows] = ~arrived
        done = arrived.all(1)
        out.terminated[rows] = done
        out.truncated[rows] = (time >= self.time_limit) & ~done
        out.metrics[rows, 0] = arrived.mean(1)

    def tables(self) -> dict[str, np.ndarray]:
        """Return what a step looks up, by place = agent * P + cell: next, reward, arrived, obs, avail, whereabouts; and
        begin [N] places and the map [P]."""
        return {
            "next": self._next, "reward": self._reward, "arrived": self._arrived, "obs": self._obs,
            "avail": self._avail, "whereabouts": self._whereabouts, "begin": self._begin, "map": self._map,
        }  # fmt: skip

    def on_device(self, device: torch.device) -> MazeOnDevice:
        """Return these mazes on a torch device (`backend: device`)."""
        from .on_device import MazeOnDevice

        return MazeOnDevice(self.info, self.tables(), len(self._time), device)

    def close(self) -> None:
        """Nothing to release."""

    def render(self, slot: int) -> np.ndarray:
        """Return a picture of one slot as it is now, uint8 [H, W, 3]."""
        return self.render_rgb(self.positions()[slot].tolist(), cell=40)

    def render_ascii(
        self, positions: Sequence[int] | None = None, routes: Sequence[Sequence[int]] | None = None
    ) -> str:
        """Return the map as text; see :func:`oamarl.envs.maze.picture.ascii_picture`."""
        from .picture import ascii_picture

        return ascii_picture(self.grid, self.colours, positions, routes)

    def render_rgb(
        self,
        positions: Sequence[int] | None = None,
        routes: Sequence[Sequence[int]] | None = None,
        cell: int = 48,
    ) -> np.ndarray:
        """Return the map as uint8 [H * cell, W * cell, 3]; see :func:`oamarl.envs.maze.picture.rgb_picture`."""
        from .picture import rgb_picture

        return rgb_picture(self.grid, self.colours, positions, routes, cell)
