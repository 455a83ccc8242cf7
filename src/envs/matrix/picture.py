"""Pictures of a matrix game: its payoff table (two agents) or the agents' actions (more), drawn with Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageDraw

_CELL, _EDGE = 72, 40
_PAPER, _INK, _LINE, _CHOSEN = (255, 255, 255), (25, 25, 25), (200, 200, 196), (214, 110, 0)


def rgb_picture(payoff: np.ndarray, played: np.ndarray) -> np.ndarray:
    """Return the game as uint8 [H, W, 3].

    Args:
        payoff: one axis an agent.
        played: [N] the last joint action, -1 before the first; it is framed.
    """
    from PIL import Image, ImageDraw

    table = payoff if payoff.ndim == 2 else np.arange(payoff.shape[0])[None].repeat(payoff.ndim, 0)
    rows, columns = table.shape
    image = Image.new("RGB", (_EDGE + columns * _CELL + 8, _EDGE + rows * _CELL + 8), _PAPER)
    draw = ImageDraw.Draw(image)
    if payoff.ndim == 2:
        chosen = {(int(played[0]), int(played[1]))}
        names = [f"a{r}" for r in range(rows)], [f"b{c}" for c in range(columns)]
    else:
        chosen = {(i, int(a)) for i, a in enumerate(played)}
        names = [str(i) for i in range(rows)], [f"action {c}" for c in range(columns)]
    scale = max(float(np.abs(payoff).max()), 1e-9)
    for (r, c), value in np.ndenumerate(table):
        left, top = _EDGE + c * _CELL, _EDGE + r * _CELL
        box = (left, top, left + _CELL, top + _CELL)
        if payoff.ndim == 2:
            draw.rectangle(box, fill=_shade(float(value) / scale), outline=_LINE)
            _centre(draw, box, f"{value:g}", 20)
        else:
            draw.rectangle(box, fill=_PAPER, outline=_LINE)
            if (r, c) in chosen:
                draw.ellipse((left + 22, top + 22, left + _CELL - 22, top + _CELL - 22), fill=_CHOSEN)
        if (r, c) in chosen:
            draw.rectangle((left + 2, top + 2, left + _CELL - 2, top + _CELL - 2), outline=_CHOSEN, width=5)
    for r, name in enumerate(names[0]):
        _centre(draw, (0, _EDGE + r * _CELL, _EDGE, _EDGE + (r + 1) * _CELL), name, 15)
    for c, name in enumerate(names[1]):
        _centre(draw, (_EDGE + c * _CELL, 0, _EDGE + (c + 1) * _CELL, _EDGE), name, 15)
    return np.asarray(image)


def product_picture(played: np.ndarray | None, edge: float = 2.0) -> np.ndarray:
    """Return the payoff a1 a2 over both actions, from -``edge`` to ``edge``, as uint8 [H, W, 3].

    Args:
        played: [2] the last joint action, a dot (at the edge where it is beyond it); None: none yet.
    """
    from PIL import Image, ImageDraw

    size = 4 * _CELL
    a = np.linspace(-edge, edge, size)
    share = a[None, :] * a[::-1, None] / edge**2  # a1 to the right, a2 upwards
    full = np.where(share[..., None] >= 0, (120, 175, 230), (235, 140, 125))
    shades = (255 + (full - 255) * np.abs(share)[..., None]).round().astype(np.uint8)
    image = Image.new("RGB", (_EDGE + size + 8, size + _EDGE + 8), _PAPER)
    image.paste(Image.fromarray(shades), (_EDGE, 8))
    draw = ImageDraw.Draw(image)
    middle = size // 2
    draw.line((_EDGE, 8 + middle, _EDGE + size, 8 + middle), fill=_LINE)
    draw.line((_EDGE + middle, 8, _EDGE + middle, 8 + size), fill=_LINE)
    _centre(draw, (_EDGE, 8 + size, _EDGE + size, size + _EDGE + 8), "a1", 15)
    _centre(draw, (0, 8, _EDGE, 8 + size), "a2", 15)
    if played is not None:
        x, y = np.clip(played, -edge, edge) / edge * middle
        left, top = _EDGE + middle + x, 8 + middle - y
        draw.ellipse((left - 8, top - 8, left + 8, top + 8), fill=_CHOSEN)
    return np.asarray(image)


def _shade(share: float) -> tuple[int, int, int]:
    """Return a pale blue for gains and a pale red for losses, ``share`` of the largest payoff from -1 to 1."""
    full = (120, 175, 230) if share >= 0 else (235, 140, 125)
    r, g, b = (round(255 + (x - 255) * min(abs(share), 1.0)) for x in full)
    return r, g, b


def _centre(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], text: str, size: int) -> None:
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    draw.text(middle, text, fill=_INK, anchor="mm", font_size=size)
