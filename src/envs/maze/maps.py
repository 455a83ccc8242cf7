"""Maze maps: the shipped ones, reading a user's own, and the tables that a map becomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from ...utils.errors import UserError, nearest, one_of

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


def read_map(rows: Sequence[str]) -> np.ndarray:
    """Return a map as [H, W] single letters.

    Raises:
        UserError: no rows, ragged rows, an unknown letter, or not exactly one S and one G.
    """
    lines = [line.strip() for line in rows if line.strip()]
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
