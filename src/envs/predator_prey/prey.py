"""The scripted prey: where it starts, and how it flees."""

from __future__ import annotations

import math

import numpy as np

_DIAGONAL = math.sqrt(0.5)
#: directions between which the prey chooses: standing still, and eight of the compass
DIRECTIONS = np.array(
    [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] + [(x * _DIAGONAL, y * _DIAGONAL) for x in (1, -1) for y in (1, -1)]
)
#: places from which the start is chosen
_PLACES = 2
#: uniform numbers that the prey may use at one step
DRAWS = 2 * _PLACES


def place(predators: np.ndarray, draws: np.ndarray, extent: float) -> np.ndarray:
    """Return where the prey starts, [k, 2]: of two places drawn from the map, the one farthest from all predators.

    Args:
        predators: [k, N, 2] positions.
        draws: [k, DRAWS] uniform numbers.
        extent: half the side of the map.
    """
    places = ((2 * draws - 1) * extent).reshape(-1, _PLACES, 2)
    return _safest(places, predators)


def flee(
    prey: np.ndarray, predators: np.ndarray, draws: np.ndarray, stride: float, skill: float, extent: float
) -> np.ndarray:
    """Return the prey's next position, [k, 2]: it stays on the map.

    With probability ``skill`` it goes where the nearest predator will be farthest away, of the places one stride away
    in :data:`DIRECTIONS`; otherwise in a random one of them.

    Args:
        prey: [k, 2] positions.
        predators: [k, N, 2] positions.
        draws: [k, DRAWS] uniform numbers; the first two are used.
        stride: length of a step.
        skill: from 0 to 1.
        extent: half the side of the map.
    """
    places = np.clip(prey[:, None] + stride * DIRECTIONS, -extent, extent)
    anywhere = (draws[:, 1] * len(DIRECTIONS)).astype(np.int64)
    at_random = np.take_along_axis(places, anywhere[:, None, None], axis=1)[:, 0]
    return np.where((draws[:, 0] < skill)[:, None], _safest(places, predators), at_random)


def _safest(places: np.ndarray, predators: np.ndarray) -> np.ndarray:
    """Return that of the ``places`` [k, P, 2] whose nearest predator is farthest away, [k, 2]; the first of equals."""
    gap = places[:, :, None] - predators[:, None]
    nearest = (gap[..., 0] ** 2 + gap[..., 1] ** 2).min(2)
    return np.take_along_axis(places, nearest.argmax(1)[:, None, None], axis=1)[:, 0]
