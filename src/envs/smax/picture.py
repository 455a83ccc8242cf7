"""Pictures of a battle of SMAX, drawn with Pillow: units with their health, and who shoots at whom."""

from __future__ import annotations

from typing import Any

import numpy as np

from .maps import LETTERS

_SIDE, _EDGE = 640, 16
_GROUND, _GRID, _FRAME = (246, 245, 240), (228, 226, 218), (150, 146, 136)
_ALLY, _ENEMY, _WHITE, _LOST = (31, 90, 180), (190, 55, 45), (255, 255, 255), (120, 120, 120)
#: the first action that is an attack
_FIRST_ATTACK = 5


def rgb_picture(units: Any, n_allies: int, width: float, radii: np.ndarray, health: np.ndarray) -> np.ndarray:
    """Return a battle as uint8 [H, W, 3]: allies blue, enemies red, with letters as in map names.

    A bar above each unit is its health, a line leads from one that attacks to its target, and a cross is a dead one.

    Args:
        units: SMAX's state of one battle, as arrays.
        n_allies: the first ones of all units.
        width: of the square map.
        radii, health: of each unit type.
    """
    from PIL import Image, ImageDraw

    scale = (_SIDE - 2 * _EDGE) / width
    image = Image.new("RGB", (_SIDE, _SIDE), _GROUND)
    draw = ImageDraw.Draw(image)
    for line in range(0, int(width) + 1, 4):
        at = _EDGE + line * scale
        draw.line((at, _EDGE, at, _SIDE - _EDGE), fill=_GRID)
        draw.line((_EDGE, at, _SIDE - _EDGE, at), fill=_GRID)
    draw.rectangle((_EDGE, _EDGE, _SIDE - _EDGE, _SIDE - _EDGE), outline=_FRAME, width=2)
    # the map's y axis points up
    place = np.asarray(units.unit_positions) * scale
    x, y = _EDGE + place[:, 0], _SIDE - _EDGE - place[:, 1]
    alive, kinds = np.asarray(units.unit_alive), np.asarray(units.unit_types)
    for i in np.flatnonzero(~alive).tolist():
        draw.line((x[i] - 4, y[i] - 4, x[i] + 4, y[i] + 4), fill=_LOST, width=2)
        draw.line((x[i] - 4, y[i] + 4, x[i] + 4, y[i] - 4), fill=_LOST, width=2)
    for i, target in _attacks(np.asarray(units.prev_attack_actions), n_allies, alive):
        draw.line((x[i], y[i], x[target], y[target]), fill=_ALLY if i < n_allies else _ENEMY, width=1)
    for i in np.flatnonzero(alive).tolist():
        radius, left = float(radii[kinds[i]]) * scale, float(units.unit_health[i] / health[kinds[i]])
        colour = _ALLY if i < n_allies else _ENEMY
        draw.ellipse((x[i] - radius, y[i] - radius, x[i] + radius, y[i] + radius), fill=colour, outline=_WHITE)
        draw.text((x[i], y[i]), LETTERS[kinds[i]], fill=_WHITE, anchor="mm", font_size=11)
        top = y[i] - radius - 6
        draw.rectangle((x[i] - 9, top, x[i] + 9, top + 3), fill=_GRID, outline=_FRAME)
        draw.rectangle((x[i] - 9, top, x[i] - 9 + 18 * min(max(left, 0.0), 1.0), top + 3), fill=colour)
    return np.asarray(image)


def _attacks(actions: np.ndarray, n_allies: int, alive: np.ndarray) -> list[tuple[int, int]]:
    """Return who attacked whom in the last step and lives; enemies count their targets from the last ally."""
    found = []
    for i in np.flatnonzero(alive & (actions >= _FIRST_ATTACK)).tolist():
        number = int(actions[i]) - _FIRST_ATTACK
        found.append((i, n_allies + number if i < n_allies else n_allies - 1 - number))
    return found
