"""Picture of a predator-prey game, drawn with numpy alone."""

from __future__ import annotations

import numpy as np

_PREDATORS = ((205, 32, 32), (28, 90, 200), (214, 150, 0), (120, 60, 160), (15, 15, 15))
_PREY = (60, 140, 80)


def rgb_picture(
    predators: np.ndarray, prey: np.ndarray, extent: float, radius: float, n_adjacent: int, pixels: int = 360
) -> np.ndarray:
    """Return a game as uint8 [pixels, pixels, 3].

    The prey is a disc within the ring of the capture radius, which is filled at a capture. The map is the pale square;
    predators within a quarter of its side outside it are still seen.

    Args:
        predators: [N, 2] positions.
        prey: [2] position.
        extent: half the side of the map.
        radius: capture radius.
        n_adjacent: predators of a capture.
        pixels: side of the picture.
    """
    seen = 1.25 * extent
    axis = (np.arange(pixels) + 0.5) / pixels * 2 * seen - seen
    x, y = axis[None, :], -axis[:, None]  # y upwards
    image = np.full((pixels, pixels, 3), (214, 214, 210), np.uint8)
    image[(np.abs(x) <= extent) & (np.abs(y) <= extent)] = (250, 250, 247)
    away = np.hypot(x - prey[0], y - prey[1])
    adjacent = ((predators - prey) ** 2).sum(1) <= radius**2
    if adjacent.sum() >= n_adjacent:
        image[away <= radius] = (255, 224, 130)
    image[np.abs(away - radius) < 0.008 * extent] = _PREY
    image[away < 0.05 * extent] = _PREY
    for i, (px, py) in enumerate(predators):
        image[np.hypot(x - px, y - py) < 0.06 * extent] = _PREDATORS[i % len(_PREDATORS)]
    return image
