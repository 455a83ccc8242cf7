"""Picture of a kitchen, drawn from the first cook's view with numpy alone."""

from __future__ import annotations

import numpy as np

FLOOR = (250, 250, 247)
#: channels of JaxMARL's view that fill a cell -> colour
_CELLS = {11: (176, 140, 104), 12: (240, 200, 90), 14: (225, 225, 235), 15: (150, 200, 140), 10: (90, 94, 102)}
#: channels that are drawn as a disc in the middle of a cell -> colour; a later one covers an earlier one
_THINGS = {22: (255, 255, 255), 23: (214, 150, 0), 16: (214, 150, 0), 20: (230, 110, 60), 21: (205, 32, 32)}
_COOKS = ((28, 90, 200), (60, 140, 80))
#: channels of a cook's orientation -> the direction [y, x]: north, south, east, west
_LOOKS = ((-1, 0), (1, 0), (0, 1), (0, -1))


def rgb_picture(view: np.ndarray, cell: int = 48) -> np.ndarray:
    """Return a kitchen as uint8 [H * cell, W * cell, 3].

    Counters are brown, onions yellow, plates pale, the delivery green and pots grey; in a pot a yellow disc is onions,
    an orange one a soup that cooks, a red one a soup that is done. A cook is a disc with a dark spot where it looks,
    and carries what is drawn in its middle.

    Args:
        view: [H, W, C] of the first cook.
        cell: pixels of a cell's side.
    """
    height, width = view.shape[:2]
    image = np.full((height, width, 3), FLOOR, np.uint8)
    for channel, colour in _CELLS.items():
        image[view[..., channel] > 0] = colour
    image = image.repeat(cell, 0).repeat(cell, 1)
    image[::cell] = image[:, ::cell] = (214, 214, 210)
    y, x = np.mgrid[0 : height * cell, 0 : width * cell] / cell  # in cells

    def disc(row: float, column: float, radius: float, colour: tuple[int, int, int]) -> None:
        image[np.hypot(y - row - 0.5, x - column - 0.5) < radius] = colour

    for i, colour in enumerate(_COOKS):
        for row, column in np.argwhere(view[..., i]):
            disc(row, column, 0.4, colour)
            for (dy, dx), seen in zip(_LOOKS, view[row, column, 2 + 4 * i : 6 + 4 * i], strict=True):
                if seen:
                    disc(row + 0.3 * dy, column + 0.3 * dx, 0.08, (15, 15, 15))
    for channel, colour in _THINGS.items():
        for row, column in np.argwhere(view[..., channel]):
            disc(row, column, 0.2, colour)
    return image
