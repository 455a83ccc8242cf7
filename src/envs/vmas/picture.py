"""Pictures of a VMAS world, drawn with Pillow from its entities: no window, no display and no OpenGL is needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

_SIDE = 640
_GROUND, _EDGE, _TEXT = (250, 250, 247), (150, 146, 136), (60, 60, 60)
_AGENT_EDGE = (30, 30, 30)
#: pixels that lines of VMAS, which have no width, are wide; and drawings per pixel, for smooth edges
_LINE, _FINE = 3, 2


class _View:
    """Where points of the world are in the picture: VMAS's camera, which takes in every agent."""

    def __init__(self, scenario: Any, agents: Any, slot: int) -> None:
        wide, high = scenario.viewer_size
        aspect, zoom = wide / high, float(scenario.viewer_zoom)
        half = np.array([zoom, zoom / aspect] if aspect < 1 else [zoom * aspect, zoom])
        self.centre = np.array([float(x) for x in scenario.render_origin])
        far = np.abs(np.array([_pair(a.state.pos[slot]) for a in agents]) - self.centre).max(0)
        margin = 2 * max(a.shape.circumscribed_radius() for a in agents)
        half = half * max(zoom, *((far + margin) / half)) / zoom
        self.scale = _FINE * _SIDE / (2 * half.max())
        self.size = np.ceil(2 * half * self.scale).astype(int)

    def pixels(self, points: np.ndarray) -> list[tuple[float, float]]:
        """Return the pixels of ``points`` [k, 2]; the world's y axis points up."""
        at = self.size / 2 + (points - self.centre) * self.scale * np.array([1.0, -1.0])
        return [(float(x), float(y)) for x, y in at]


def rgb_picture(env: Any, slot: int) -> np.ndarray:
    """Return a world as uint8 [H, W, 3]: landmarks, then agents with a dark edge, in VMAS's colours; messages as text.

    Args:
        env: VMAS's environment.
        slot: which of its worlds.
    """
    from PIL import Image, ImageDraw

    world = env.world
    view = _View(env.scenario, world.agents, slot)
    image = Image.new("RGB", tuple(view.size.tolist()), _GROUND)
    draw = ImageDraw.Draw(image)
    _border(draw, view, world)
    # large ones first, so that none is hidden
    landmarks = sorted(world.landmarks, key=lambda e: -e.shape.circumscribed_radius())
    for entity in (*landmarks, *world.agents):
        if bool(entity.is_rendering[slot]):
            _entity(draw, view, entity, slot, _AGENT_EDGE if entity in world.agents else None)
    small = image.resize(tuple((view.size // _FINE).tolist()), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(small)
    for line, text in enumerate(_messages(world, slot)):
        pen.text((8, 8 + 16 * line), text, fill=_TEXT, font_size=12)
    return np.asarray(small)


def _border(draw: Any, view: _View, world: Any) -> None:
    """Draw the world's edges, where it has some."""
    x, y = (float(s) if s is not None else 100.0 for s in (world.x_semidim, world.y_semidim))
    for axis, semi in ((0, world.x_semidim), (1, world.y_semidim)):
        for side in (-1.0, 1.0) if semi is not None else ():
            ends = np.array([[side * x, -y], [side * x, y]] if axis == 0 else [[-x, side * y], [x, side * y]])
            draw.line(view.pixels(ends), fill=_EDGE, width=2 * _FINE)


def _entity(draw: Any, view: _View, entity: Any, slot: int, edge: Any) -> None:
    centre, angle = np.array(_pair(entity.state.pos[slot])), float(entity.state.rot[slot, 0])
    shape, colour = entity.shape, _colour(entity.color, slot)
    if hasattr(shape, "radius"):
        (x, y), radius = view.pixels(centre[None])[0], max(shape.radius * view.scale, 1.0)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=edge, width=_FINE)
        if edge is not None and entity.rotatable:  # where it looks
            tip = centre + shape.radius * np.array([np.cos(angle), np.sin(angle)])
            draw.line([(x, y), *view.pixels(tip[None])], fill=edge, width=_FINE)
        return
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if type(shape).__name__ == "Line":
        ends = np.array([[-shape.length / 2, 0.0], [shape.length / 2, 0.0]]) @ turn + centre
        draw.line(view.pixels(ends), fill=colour, width=_LINE * _FINE)
        return
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * np.array([shape.length, shape.width]) / 2
    filled = None if getattr(shape, "hollow", False) else colour
    draw.polygon(view.pixels(corners @ turn + centre), fill=filled, outline=edge or colour, width=_FINE)


def _colour(colour: Any, slot: int) -> tuple[int, ...]:
    """Return a colour of VMAS, three numbers from 0 to 1 or one such triple a world, as bytes."""
    given = colour[slot] if getattr(colour, "ndim", 1) > 1 else colour
    return tuple(int(255 * min(max(float(x), 0.0), 1.0)) for x in given)[:3]


def _pair(position: Any) -> tuple[float, float]:
    return float(position[0]), float(position[1])


def _messages(world: Any, slot: int) -> Iterable[str]:
    """Yield what each agent that can speak says."""
    for agent in world.agents:
        if world.dim_c and not agent.silent and agent.state.c is not None:
            said = [float(x) for x in agent.state.c[slot]]
            yield f"{agent.name}: " + " ".join(f"{x:.1f}" for x in said)
