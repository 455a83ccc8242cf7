"""The Black and Red and the Black Blue Red maze games of the OAPO paper (section 6.1), batched in numpy.

Every agent walks from S to G. A coloured cell lets in some colours only, and the observation does not show an
agent's own colour: agents that share one policy without an agent id cannot all take their own short cut.
Maps are drawn and explained in docs/environments.md. Pictures are in ``maze_picture.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..components.errors import UserError, nearest, one_of
from .base import Arrays, EnvInfo

COLOURS = ("red", "black", "blue")
ACTIONS = ("up", "down", "left", "right", "nop")
NOP = 4
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))

#: What a map may contain; S is an open cell to stand on. The order is the order of the view's one-hot.
KINDS = "#.GRKB"
LETTERS = "#.SGRKB"
#: Cells each colour may enter. Only black and red agents may enter the blue trap B.
ENTERS = {"red": ".SGRB", "black": ".SGKB", "blue": ".SG"}

#: name -> (rows, agents). Why they look like this: docs/environments.md.
MAPS: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "black_red": (
        (
            "#########",
            "##.....##",
            "##.###.##",
            "##.RRR.##",
            "##.###.##",
            "##S###G##",
            "##.###.##",
            "##.KKK.##",
            "#########",
        ),
        {"red": 2, "black": 2, "blue": 0},
    ),
    "black_blue_red": (
        (
            "#########",
            "#########",
            "##.RRR.##",
            "##.###.##",
            "##S###G##",
            "##.###.##",
            "##..BK.##",
            "###.##.##",
            "###....##",
        ),
        {"red": 1, "black": 1, "blue": 1},
    ),
}


def read_map(rows: str | Sequence[str]) -> np.ndarray:
    """Return a map as [H, W] single letters.

    Raises:
        UserError: no rows, ragged rows, an unknown letter, or not exactly one S and one G.
    """
    lines = rows.split("\n") if isinstance(rows, str) else list(rows)
    lines = [str(line).strip() for line in lines]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError("env_args.map is empty: give rows of the letters # . S G R K B.")
    for y, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise UserError(
                f"env_args.map is ragged: row {y + 1} has {len(line)} cells and row 1 has {len(lines[0])} "
                "(use '.' for an open cell)."
            )
        for x, letter in enumerate(line):
            if letter not in LETTERS:
                raise UserError(
                    f"env_args.map has the unknown letter {letter!r} in row {y + 1}, column {x + 1}: "
                    "use # (wall) . (open) S (start) G (goal) R (red) K (black) B (blue trap)."
                )
    for letter, what in (("S", "start"), ("G", "goal")):
        count = sum(line.count(letter) for line in lines)
        if count != 1:
            raise UserError(f"env_args.map has {count} {what} cells: exactly one '{letter}' is needed.")
    return np.array([list(line) for line in lines])


def read_agents(agents: Mapping[str, int]) -> tuple[str, ...]:
    """Return each agent's colour, in the order red, black, blue.

    Raises:
        UserError: an unknown colour, a count that is no whole number from 0 on, or no agent at all.
    """
    for colour, count in agents.items():
        if colour not in COLOURS:
            raise UserError(
                f"env_args.agents has the unknown colour '{colour}': use {one_of(COLOURS)}{nearest(colour, COLOURS)}"
            )
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise UserError(f"env_args.agents.{colour}={count!r} is not allowed: a whole number from 0 on is expected.")
    colours = tuple(c for c in COLOURS for _ in range(agents.get(c, 0)))
    if not colours:
        raise UserError("env_args.agents has no agent: give at least one, such as {red: 2, black: 2}.")
    return colours


def next_cells(grid: np.ndarray, colour: str) -> np.ndarray:
    """Return [P, 5] int64: the cell (row * W + column) where each action leads from each of the P = H * W cells.

    A blocked move stays; so does everything at the goal.
    """
    height, width = grid.shape
    table = np.empty((height * width, len(_MOVES)), np.int64)
    for cell in range(height * width):
        y, x = divmod(cell, width)
        for action, (dy, dx) in enumerate(_MOVES):
            v, u = y + dy, x + dx
            inside = 0 <= v < height and 0 <= u < width
            free = inside and grid[v, u] in ENTERS[colour] and grid[y, x] != "G"
            table[cell, action] = v * width + u if free else cell
    return table


def shortest_route(grid: np.ndarray, colour: str) -> list[int] | None:
    """Return the cells of a shortest route from S to G (both included) for a colour, or None where there is none."""
    start, goal = (int(np.flatnonzero(grid.ravel() == letter)[0]) for letter in "SG")
    table = next_cells(grid, colour)
    before: dict[int, int] = {start: start}
    queue = deque([start])
    while queue:
        cell = queue.popleft()
        for following in table[cell].tolist():
            if following not in before:
                before[following] = cell
                queue.append(following)
    if goal not in before:
        return None
    route = [goal]
    while route[-1] != start:
        route.append(before[route[-1]])
    return route[::-1]


def view_table(grid: np.ndarray) -> np.ndarray:
    """Return [P, 9 * 6 + H + W] float32: what an agent sees from each cell.

    The kinds of the 3x3 cells around it, row by row, one-hot in the order of ``KINDS`` (outside is wall), then its
    row and its column, one-hot.
    """
    height, width = grid.shape
    padded = np.pad(np.where(grid == "S", ".", grid), 1, constant_values="#")
    kinds = (padded[..., None] == np.array(list(KINDS))).astype(np.float32)
    around = [kinds[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    view = np.stack(around, axis=2).reshape(height * width, 9 * len(KINDS))
    return np.concatenate([view, location_table(grid)], axis=1)


def location_table(grid: np.ndarray) -> np.ndarray:
    """Return [P, H + W] float32: one-hot row and one-hot column of each cell."""
    height, width = grid.shape
    rows, columns = np.divmod(np.arange(height * width), width)
    return np.concatenate([np.eye(height, dtype=np.float32)[rows], np.eye(width, dtype=np.float32)[columns]], axis=1)


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
        map: str | list[str] | None = None,  # noqa: A002 - the name users write
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
            rows, own_agents = MAPS[map_name]
        else:
            rows, own_agents = map, {"red": 2, "black": 2}  # type: ignore[assignment]
        if time_limit is not None and time_limit < 1:
            raise UserError(f"env_args.time_limit={time_limit} is out of range: at least 1 is allowed.")
        self.grid = read_map(rows)
        self.colours = read_agents(own_agents if agents is None else agents)
        self.time_limit = 40 if time_limit is None else time_limit
        self.step_reward, self.goal_reward = float(step_reward), float(goal_reward)
        self._routes = {c: shortest_route(self.grid, c) for c in dict.fromkeys(self.colours)}
        for colour, route in self._routes.items():
            if route is None:
                raise UserError(f"The map '{map_name}' cannot be solved: no route from S to G is open to {colour} agents.")
        self._build_tables(n_slots, map_name)

    def _build_tables(self, n_slots: int, map_name: str) -> None:
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
            name=map_name,
            n_agents=n,
            obs_size=obs_size,
            state_size=p + n * self._whereabouts.shape[1],
            n_actions=a,
            episode_limit=self.time_limit,
            obs_sizes=(obs_size,) * n,
            action_sizes=(a,) * n,
            metrics=("arrived",),
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

    def close(self) -> None:
        """Nothing to release."""

    def render_ascii(self, positions: Sequence[int] | None = None, routes: Sequence[Sequence[int]] | None = None) -> str:
        """Return the map as text; see :func:`oamarl.envs.maze_picture.ascii_picture`."""
        from .maze_picture import ascii_picture

        return ascii_picture(self.grid, self.colours, positions, routes)

    def render_rgb(
        self,
        positions: Sequence[int] | None = None,
        routes: Sequence[Sequence[int]] | None = None,
        cell: int = 48,
    ) -> np.ndarray:
        """Return the map as uint8 [H * cell, W * cell, 3]; see :func:`oamarl.envs.maze_picture.rgb_picture`."""
        from .maze_picture import rgb_picture

        return rgb_picture(self.grid, self.colours, positions, routes, cell)
