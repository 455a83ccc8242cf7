"""A game of level-based foraging in plain integers, for :mod:`.lbf`.

Cells are numbered row by row. Food is a dict of few cells instead of a field of many, and what is seen is joined from
bytes that were prepared once for each pair of cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from lbforaging.foraging.environment import Action

LOAD = -1  # in place of a cell that an action leads to
_UP_DOWN_LEFT_RIGHT = ((-1, 0), (1, 0), (0, -1), (0, 1))  # what actions 1 to 4 add to a position
_FLOAT = np.dtype(np.float32)


@lru_cache(maxsize=1024)
def _floats(*values: float) -> bytes:
    """Return numbers as they lie in an observation."""
    return np.array(values, _FLOAT).tobytes()


class Declared(NamedTuple):
    """An observation space in numbers: its size, and the bounds of food's level, places, and players' levels."""

    size: int
    food: float
    row: float
    col: float
    weakest: float
    strongest: float

    def holds(self, board: Board) -> bool:
        """Whether all places that a player on ``board`` can observe are declared (not so on some oblong fields)."""
        row, col = board.furthest
        return row <= self.row and col <= self.col


class Board:
    """Tables that depend on size and sight alone, shared by all games of them in this process.

    Attributes:
        places: the position of each cell, as the stock code has it.
        reach: cell -> action -> the cell that it leads to; the cell itself beyond the edge.
        around: cell -> its neighbours, from which food in it is loaded.
        crowded: cell -> the cells in which there may be no food when there is some in it.
        furthest: the largest row and column that anyone observes.
        whole: everyone sees everything, in the same coordinates.
    """

    def __init__(self, rows: int, cols: int, sight: int) -> None:
        self.rows, self.cols, self.sight = rows, cols, sight
        self.furthest = min(rows - 1, 2 * sight), min(cols - 1, 2 * sight)
        self.whole = sight >= max(rows, cols) - 1
        grid = [(r, c) for r in range(rows) for c in range(cols)]
        self.grid, cell = grid, {p: i for i, p in enumerate(grid)}
        self.places = [(np.int64(r), np.int64(c)) for r, c in grid]
        self.reach, self.around, self.crowded = [], [], []
        for i, (r, c) in enumerate(grid):
            next_to = [cell.get((r + y, c + x)) for y, x in _UP_DOWN_LEFT_RIGHT]
            self.reach.append(dict(enumerate([i, *(i if n is None else n for n in next_to), LOAD])))
            self.around.append([n for n in next_to if n is not None])
            square = [(r + y, c + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
            cross = [(r + 2 * y, c + 2 * x) for y, x in _UP_DOWN_LEFT_RIGHT]
            self.crowded.append([cell[p] for p in square + cross if p in cell])
        self._at = {p: _floats(*p) for p in grid}
        self._seen: list[list[bytes] | None] = [None] * len(grid)
        self._from: dict[tuple[int, int], list[bytes]] = {}  # who counts from the same corner sees the same

    def seen(self, cell: int) -> list[bytes]:
        """Return what a player in ``cell`` observes as the place of another one in each cell; b"" is out of sight."""
        return self._seen[cell] or self._look(cell)

    def _look(self, cell: int) -> list[bytes]:
        (r0, c0), far = self.corner(cell), 2 * self.sight
        found = self._from.get((r0, c0))
        if found is None:
            found = [
                self._at[r - r0, c - c0] if 0 <= r - r0 <= far and 0 <= c - c0 <= far else b"" for r, c in self.grid
            ]
            self._from[r0, c0] = found
        self._seen[cell] = found
        return found

    def corner(self, cell: int) -> tuple[int, int]:
        """Return the position from which a player in ``cell`` counts rows and columns."""
        r, c = self.grid[cell]
        return max(r - self.sight, 0), max(c - self.sight, 0)

    def foods(self, cell: int, food: dict[int, int]) -> list[float]:
        """Return place and level of the food that a player in ``cell`` sees, in the order of the rows."""
        (r, c), (r0, c0), s = self.grid[cell], self.corner(cell), self.sight
        found: list[float] = []
        for there in sorted(food):
            y, x = self.grid[there]
            # players are seen up to 2 * sight from the corner, food up to sight from the player: near an edge, less
            if r0 <= y <= r + s and c0 <= x <= c + s:
                found += (y - r0, x - c0, food[there])
        return found


@lru_cache(maxsize=64)
def board_of(rows: int, cols: int, sight: int) -> Board:
    """Return the board of a size and a sight, which all games of them share."""
    return Board(rows, cols, sight)


@lru_cache(maxsize=64)
def _frame(n_players: int, n_foods: int, with_level: bool) -> tuple[list[slice], list[bytes]]:
    """Return each player's part of all observations, and what stands for the players out of sight of one seeing k."""
    absent = _floats(-1, -1, 0) if with_level else _floats(-1, -1)
    size = 3 * n_foods + (3 if with_level else 2) * n_players
    rows = [slice(start, start + size) for start in range(0, size * n_players, size)]
    return rows, [absent * (n_players - k) for k in range(n_players + 1)]


class Game:
    """One environment's state in plain integers, true as long as `holds`.

    Attributes:
        players, field: the environment's own objects.
        positions, levels: the very objects that the players had when last looked at.
        cells: where the players are.
        food: cell -> level.
        beside: cell -> the cell of the food that is loaded from it.
    """

    __slots__ = (
        "_blank", "_image", "_level_bytes", "_n_foods", "_own", "_rows", "_space", "_views",
        "beside", "board", "cells", "field", "food", "levels", "players", "positions",
    )  # fmt: skip

    def __init__(self, env: Any, board: Board, food: dict[int, int]) -> None:
        self.board, self.field, self.players, self.food = board, env.field, list(env.players), food
        self.positions = [p.position for p in self.players]
        self.levels = [p.level for p in self.players]
        cols = board.cols
        self.cells = [int(r) * cols + int(c) for r, c in self.positions]
        self.beside = {near: cell for cell in food for near in board.around[cell]}
        self._image = self.field.tobytes()
        with_level = env._observe_agent_levels
        self._level_bytes = [_floats(x) if with_level else b"" for x in self.levels]
        self._n_foods, self._space = env.max_num_food, env.observation_space
        self._views: dict[int, bytes] = {}
        self._rows, self._blank = _frame(len(self.players), self._n_foods, with_level)
        self._own = [board.seen(c)[c] + b for c, b in zip(self.cells, self._level_bytes, strict=True)]

    def sound(self, declared: Declared) -> bool:
        """Whether all observations are as declared: the stock code stops where one is not."""
        if self._rows[0].stop != declared.size or (self.food and max(self.food.values()) > declared.food):
            return False
        if not declared.holds(self.board):
            return False
        return not self._level_bytes[0] or all(declared.weakest <= int(x) <= declared.strongest for x in self.levels)

    def usual(self) -> bool:
        """Whether this is a state that play leads to, on which the stock code's outcome does not hang on chance."""
        return (
            len(self.food) <= self._n_foods
            # a cell beside two foods: which is loaded hangs on the order of a set of objects
            and len(self.beside) == 4 * len(self.food)
            and all(level > 0 for level in self.food.values())
        )

    def holds(self, env: Any) -> bool:
        """Whether everything that this is a view of is as it was left."""
        players = self.players
        if env.players != players or env.field is not self.field or self.field.tobytes() != self._image:
            return False
        for player, position, level in zip(players, self.positions, self.levels, strict=True):
            if player.position is not position or player.level is not level:
                return False
        if (
            env.sight != self.board.sight
            or env.max_num_food != self._n_foods
            or env.observation_space is not self._space
        ):
            return False
        # there only if it was read, and its reader may have changed it
        return "_valid_actions" not in env.__dict__ or env._valid_actions == self.valid_actions()

    def valid_actions(self) -> dict[Any, list[Action]]:
        """Return what each player may do, as the stock code lists it."""
        found = {}
        for player, cell in zip(self.players, self.cells, strict=True):
            reach = self.board.reach[cell]
            found[player] = [
                action
                for action in Action
                if action is Action.NONE
                or (cell in self.beside if action is Action.LOAD else reach[action.value] not in (cell, *self.food))
            ]
        return found

    def move(self, goals: list[int]) -> None:
        """Move the players to the cells ``goals``, each wanted by one player alone."""
        cells = self.cells
        if len(set(goals)) < len(goals):
            goals = [goal if goals.count(goal) == 1 else cell for goal, cell in zip(goals, cells, strict=True)]
        for i, goal in enumerate(goals):
            if goal != cells[i]:
                cells[i] = goal
                self.players[i].position = self.positions[i] = self.board.places[goal]
                self._own[i] = self.board.seen(goal)[goal] + self._level_bytes[i]

    def eat(self, cell: int) -> None:
        """Take the food in ``cell`` away."""
        del self.food[cell]
        self.beside = {near: food for near, food in self.beside.items() if food != cell}
        self.field[self.board.grid[cell]] = 0
        self._image = self.field.tobytes()
        self._views.clear()

    def observe(self) -> tuple[np.ndarray, ...]:
        """Return what each player sees: food, the player itself, the others in sight; -1, -1, 0 for who is not."""
        parts = self._see_all() if self.board.whole else self._see_parts()
        row = np.frombuffer(bytearray(b"".join(parts)), _FLOAT).__getitem__
        return tuple([row(part) for part in self._rows])

    def _see_all(self) -> list[bytes]:
        food = self._views.get(0) or self._view(0)
        parts: list[bytes] = []
        everyone, start = b"".join(self._own), 0
        for own in self._own:
            end = start + len(own)
            parts += (food, own, everyone[:start], everyone[end:])
            start = end
        return parts

    def _see_parts(self) -> list[bytes]:
        parts: list[bytes] = []
        cells, level = self.cells, self._level_bytes
        for i, cell in enumerate(cells):
            seen, n = self.board.seen(cell), 1
            parts += (self._views.get(cell) or self._view(cell), self._own[i])
            for j, there in enumerate(cells):
                if j != i and seen[there]:
                    parts += (seen[there], level[j])
                    n += 1
            parts.append(self._blank[n])
        return parts

    def _view(self, cell: int) -> bytes:
        """Return the part of an observation that says where food is, for a player in ``cell``, and keep it."""
        found = self.board.foods(cell, self.food)
        found += [-1, -1, 0] * (self._n_foods - len(found) // 3)
        self._views[cell] = view = np.array(found, _FLOAT).tobytes()
        return view
