"""What moves through a scene: a filled shape with an outline."""

import math

import numpy as np

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
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "ring", "crescent", "arrow")
TEXTURES = ("plain", "striped", "spotted", "checkered", "netted", "shaded")

_OUTLINE = 0.09
_BANDS = 5.5


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
    distance = _distance(shape, u, v)
    is_dark = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] < 0.45
    outline = (0.98, 0.98, 0.98) if is_dark else (0.08, 0.08, 0.08)
    canvas.paint(canvas.inside((distance - _OUTLINE) * radius), outline)
    canvas.paint(canvas.inside(distance * radius), _fill(texture, colour, u, v))


def _distance(shape: str, u: Plane, v: Plane) -> Plane:
    """About how far outside of the shape each place is, negative inside; the shape reaches about 1 from its centre."""
    match shape:
        case "circle":
            return np.hypot(u, v) - 0.9
        case "square":
            return np.maximum(abs(u), abs(v)) - 0.78
        case "triangle":
            return np.maximum(v - 0.6, abs(u) * 0.87 - v * 0.5 - 0.5)
        case "diamond":
            return (abs(u) + abs(v) * 0.8 - 0.85) * 0.78
        case "star":
            sector = 2 * math.pi / 5
            angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)
            reach = np.hypot(u, v)
            # The edge from the tip at distance 1 to the notch at distance 0.42, half a sector further.
            notch = (0.42 * math.cos(sector / 2), 0.42 * math.sin(sector / 2))
            length = math.hypot(1 - notch[0], notch[1])
            return ((reach * np.cos(angle) - 1) * notch[1] + reach * np.sin(angle) * (1 - notch[0])) / length
        case "cross":
            return np.minimum(
                np.maximum(abs(u) - 0.9, abs(v) - 0.3),
                np.maximum(abs(u) - 0.3, abs(v) - 0.9),
            )
        case "heart":
            lobes = np.hypot(abs(u) - 0.4, v + 0.32) - 0.5
            tip = (abs(u) + v - 0.85) * 0.7
            return np.minimum(lobes, np.maximum(tip, np.maximum(abs(u) - 0.75 + v * 0.05, -v - 0.32)))
        case "ring":
            return abs(np.hypot(u, v) - 0.68) - 0.22
        case "crescent":
            return np.maximum(np.hypot(u, v) - 0.92, 0.74 - np.hypot(u - 0.48, v))
        case "arrow":
            shaft = np.maximum(abs(v) - 0.2, np.maximum(-u - 0.92, u - 0.2))
            head = np.maximum(0.02 - u, (u * 0.8 + abs(v) - 0.76) * 0.75)
            return np.minimum(shaft, head)
    raise ValueError(f"shape {shape!r}, not one of {', '.join(SHAPES)}")


def _fill(texture: str, colour: tuple[float, float, float], u: Plane, v: Plane) -> Colour:
    if texture == "plain":
        return colour
    base = np.asarray(colour, np.float32)
    shade = base * 0.45 if base.max() > 0.2 else base + 0.45
    return base + _pattern(texture, u, v)[..., np.newaxis] * (shade - base)


def _pattern(texture: str, u: Plane, v: Plane) -> Plane:
    """How much of the darker tone each place has, 0 to 1."""
    across, down = np.cos(u * (_BANDS * math.pi / 2)), np.cos(v * (_BANDS * math.pi / 2))
    match texture:
        case "striped":
            return np.clip(0.5 + 4 * down, 0, 1)
        case "checkered":
            return np.clip(0.5 + 8 * across * down, 0, 1)
        case "spotted":
            return np.clip(0.5 + 5 * (across + down - 0.7), 0, 1)
        case "netted":
            return np.clip(0.5 + 5 * (np.maximum(across, down) - 0.75), 0, 1)
        case "shaded":
            return np.clip(0.5 + 0.75 * u, 0, 1)
    raise ValueError(f"texture {texture!r}, not one of {', '.join(TEXTURES)}")
