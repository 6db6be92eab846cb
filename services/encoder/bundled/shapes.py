"""Draws the moving object of a scene: a filled shape with an outline."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.encoder.bundled.canvas import Canvas, Colour, Plane

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.87, 0.08, 0.10),
    "orange": (1.00, 0.52, 0.04),
    "yellow": (1.00, 0.91, 0.16),
    "green": (0.10, 0.66, 0.20),
    "blue": (0.10, 0.28, 0.92),
    "purple": (0.50, 0.13, 0.70),
    "pink": (1.00, 0.52, 0.76),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.06),
}
TEXTURES = ("plain", "striped", "spotted", "checkered", "netted", "shaded")

_OUTLINE = 0.09
_BANDS = 5.5


def _star(u: Plane, v: Plane) -> Plane:
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)
    reach = np.hypot(u, v)
    # The edge from the tip, at distance 1, to the notch half a sector further.
    notch = (0.42 * math.cos(sector / 2), 0.42 * math.sin(sector / 2))
    beyond = (reach * np.cos(angle) - 1) * notch[1] + reach * np.sin(angle) * (1 - notch[0])
    distance: Plane = beyond / math.hypot(1 - notch[0], notch[1])
    return distance


def _cross(u: Plane, v: Plane) -> Plane:
    wide = np.maximum(np.abs(u) - 0.9, np.abs(v) - 0.3)
    high = np.maximum(np.abs(u) - 0.3, np.abs(v) - 0.9)
    distance: Plane = np.minimum(wide, high)
    return distance


def _heart(u: Plane, v: Plane) -> Plane:
    lobes = np.hypot(np.abs(u) - 0.4, v + 0.32) - 0.5
    tip = np.maximum((np.abs(u) + v - 0.85) * 0.7, np.maximum(np.abs(u) - 0.75 + v * 0.05, -v - 0.32))
    distance: Plane = np.minimum(lobes, tip)
    return distance


def _arrow(u: Plane, v: Plane) -> Plane:
    shaft = np.maximum(np.abs(v) - 0.2, np.maximum(-u - 0.92, u - 0.2))
    head = np.maximum(0.02 - u, (u * 0.8 + np.abs(v) - 0.76) * 0.75)
    distance: Plane = np.minimum(shaft, head)
    return distance


# About how far outside of the shape a place is, negative inside. A shape reaches about 1 from its centre; `u` runs to
# the right and `v` down.
_DISTANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.78,
    "triangle": lambda u, v: np.maximum(v - 0.6, np.abs(u) * 0.87 - v * 0.5 - 0.5),
    "diamond": lambda u, v: (np.abs(u) + np.abs(v) * 0.8 - 0.85) * 0.78,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.68) - 0.22,
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.92, 0.74 - np.hypot(u - 0.48, v)),
    "arrow": _arrow,
}
SHAPES = tuple(_DISTANCES)


def draw(
    canvas: Canvas,
    *,
    shape: str,
    colour: tuple[float, float, float],
    texture: str,
    centre: tuple[float, float],
    radius: float,
    angle: float,
) -> None:
    """Draw `shape` around `centre`; `radius` in widths of the picture, `angle` in radians."""
    x, y = (canvas.x - centre[0]) / radius, (canvas.y - centre[1]) / radius
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    distance = _DISTANCES[shape](u, v)
    is_dark = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] < 0.45
    outline = (0.98, 0.98, 0.98) if is_dark else (0.08, 0.08, 0.08)
    canvas.paint(canvas.inside((distance - _OUTLINE) * radius), outline)
    canvas.paint(canvas.inside(distance * radius), _fill(texture, colour, u, v))


def _fill(texture: str, colour: tuple[float, float, float], u: Plane, v: Plane) -> Colour:
    if texture == "plain":
        return colour
    base = np.asarray(colour, np.float32)
    # Black has no darker tone.
    shade = base * 0.45 if base.max() > 0.2 else base + 0.45
    across, down = np.cos(u * (_BANDS * math.pi / 2)), np.cos(v * (_BANDS * math.pi / 2))
    match texture:
        case "striped":
            pattern = 0.5 + 4 * down
        case "checkered":
            pattern = 0.5 + 8 * across * down
        case "spotted":
            pattern = 0.5 + 5 * (across + down - 0.7)
        case "netted":
            pattern = 0.5 + 5 * (np.maximum(across, down) - 0.75)
        case "shaded":
            pattern = 0.5 + 0.75 * u
        case _:
            raise ValueError(f"texture {texture!r}, not one of {', '.join(TEXTURES)}")
    filled: NDArray[np.float32] = base + np.clip(pattern, 0, 1)[..., np.newaxis] * (shade - base)
    return filled
