"""Pictures of a maze: as text, and as an RGB array drawn with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

_CELLS = {
    "#": (70, 74, 82),
    ".": (250, 250, 247),
    "S": (250, 250, 247),
    "G": (255, 224, 130),
    "R": (245, 183, 177),
    "K": (168, 172, 180),
    "B": (174, 208, 245),
}
_AGENTS = {"red": (205, 32, 32), "black": (15, 15, 15), "blue": (28, 90, 200)}
_LETTERS = {"red": "r", "black": "k", "blue": "b"}


def ascii_picture(
    grid: np.ndarray,
    colours: Sequence[str],
    positions: Sequence[int] | None = None,
    routes: Sequence[Sequence[int]] | None = None,
) -> str:
    """Return the map as text, one character a cell.

    Routes are drawn first, then positions, both as the agent's letter (r, k, b), ``*`` where colours meet. S and G
    stay visible under routes.

    Args:
        grid: [H, W] letters.
        colours: each agent's colour.
        positions: each agent's cell (row * W + column).
        routes: each agent's cells, in order.
    """
    marks: dict[int, set[str]] = {}
    for colour, route in zip(colours, routes or ()):  # noqa: B905 - routes of the first agents alone are welcome
        for cell in route:
            if grid.flat[cell] not in "SG":
                marks.setdefault(int(cell), set()).add(_LETTERS[colour])
    if positions is not None:
        standing: dict[int, set[str]] = {}
        for colour, cell in zip(colours, positions, strict=True):
            standing.setdefault(int(cell), set()).add(_LETTERS[colour])
        marks.update(standing)
    text = [str(letter) for letter in grid.ravel()]
    for cell, letters in marks.items():
        text[cell] = letters.pop() if len(letters) == 1 else "*"
    width = grid.shape[1]
    return "\n".join("".join(text[y : y + width]) for y in range(0, grid.size, width))


def rgb_picture(
    grid: np.ndarray,
    colours: Sequence[str],
    positions: Sequence[int] | None = None,
    routes: Sequence[Sequence[int]] | None = None,
    cell: int = 48,
) -> np.ndarray:
    """Return the map as uint8 [H * cell, W * cell, 3].

    The start is a ring, the goal a star. Every agent's route runs on a lane of its own, so that routes in the same
    corridor can be told apart; an agent's position is a disc. Arguments as :func:`ascii_picture`.
    """
    height, width = grid.shape
    image = np.array([[_CELLS[str(letter)] for letter in row] for row in grid], np.uint8)
    image = image.repeat(cell, 0).repeat(cell, 1)
    image[::cell] = image[:, ::cell] = (214, 214, 210)
    y, x = np.mgrid[0 : height * cell, 0 : width * cell].astype(np.float32) / cell  # in cells
    start, goal = ((int(v[0]) + 0.5, int(u[0]) + 0.5) for v, u in (np.nonzero(grid == k) for k in "SG"))
    away = np.hypot(y - start[0], x - start[1])
    image[(away > 0.3) & (away < 0.38)] = (60, 140, 80)
    image[_star(y - goal[0], x - goal[1])] = (214, 150, 0)
    lanes = _lanes(len(colours))
    for colour, lane, route in zip(colours, lanes, routes or ()):  # noqa: B905 - as above
        centres = [(c // width + 0.5 + lane, c % width + 0.5 + lane) for c in route]
        for a, b in pairwise(centres):
            image[_near_segment(y, x, a, b) < 0.035] = _AGENTS[colour]
    if positions is not None:
        for colour, lane, c in zip(colours, lanes, positions, strict=True):
            away = np.hypot(y - (c // width + 0.5 + lane), x - (c % width + 0.5 + lane))
            image[away < 0.17] = (255, 255, 255)
            image[away < 0.14] = _AGENTS[colour]
    return image


def _lanes(n: int) -> list[float]:
    """Return each agent's offset from the middle of a cell, in cells."""
    return [0.0] if n == 1 else np.linspace(-0.22, 0.22, n).tolist()


def _near_segment(y: np.ndarray, x: np.ndarray, a: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    """Return every pixel's distance from the segment a-b, in cells."""
    dy, dx = b[0] - a[0], b[1] - a[1]
    length = max(dy * dy + dx * dx, 1e-9)
    along = np.clip(((y - a[0]) * dy + (x - a[1]) * dx) / length, 0.0, 1.0)
    return np.hypot(y - a[0] - along * dy, x - a[1] - along * dx)


def _star(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return which pixels lie in a five-pointed star around the origin."""
    # within one tenth of a turn the star's edge is the straight line from a tip to a notch
    angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    tip, notch, turn = 0.4, 0.16, np.pi / 5
    edge = tip * notch * np.sin(turn) / (tip * np.sin(angle) + notch * np.sin(turn - angle))
    inside: np.ndarray = np.hypot(y, x) < edge
    return inside
