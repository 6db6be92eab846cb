"""The places of the scenes, drawn with a few gradients, edges and repeated figures.

Each drawing takes its layout and its tints from `random`, and is wide: `pan` moves the view to the side, in widths of
the picture.
"""

from collections.abc import Callable

import numpy as np

from services.encoder.bundled.canvas import Canvas, repeat

_Random = np.random.Generator


def _tint(random: _Random, red: float, green: float, blue: float) -> tuple[float, float, float]:
    """About that colour."""
    low, high = 0.88, 1.12
    shade = random.uniform(low, high)
    red, green, blue = (shade * value * random.uniform(0.95, 1.05) for value in (red, green, blue))
    return min(red, 1.0), min(green, 1.0), min(blue, 1.0)


def _sky(canvas: Canvas, random: _Random) -> None:
    canvas.fade(canvas.y / 0.6, _tint(random, 0.42, 0.66, 0.92), _tint(random, 0.74, 0.87, 0.97))


def _beach(canvas: Canvas, random: _Random, pan: float) -> None:
    _sky(canvas, random)
    x, y = canvas.x + pan, canvas.y
    horizon = random.uniform(0.28, 0.38)
    canvas.paint(canvas.inside(horizon - y + 0 * x), _tint(random, 0.10, 0.50, 0.70))
    shore = random.uniform(0.52, 0.64) + 0.03 * np.sin(x * random.uniform(5, 9) + random.uniform(0, 6))
    canvas.paint(canvas.inside(shore - 0.035 - y), (0.95, 0.98, 1.0))
    canvas.paint(canvas.inside(shore - y), _tint(random, 0.92, 0.80, 0.52))
    left = random.uniform(0.1, 0.9) - pan
    parasol = np.maximum(np.hypot(canvas.x - left, (y - 0.72) * 1.3) - 0.11, y - 0.72)
    pole = np.maximum(abs(canvas.x - left) - 0.006, abs(y - 0.79) - 0.09)
    canvas.paint(canvas.inside(pole), (0.45, 0.3, 0.2))
    canvas.paint(canvas.inside(parasol), _tint(random, 0.85, 0.35, 0.30))


def _forest(canvas: Canvas, random: _Random, pan: float) -> None:
    canvas.fade(canvas.y, _tint(random, 0.50, 0.68, 0.50), _tint(random, 0.16, 0.30, 0.12))
    for count, base, tone in ((7.0, 0.70, 0.75), (5.0, 0.84, 1.0)):
        along = canvas.x + pan * tone + random.uniform(0, 1)
        offset, top = repeat(along, count, random.uniform(0.05, 0.30, 9))
        trunk = np.maximum(abs(offset) - 0.09, abs(canvas.y - base) - 0.08)
        crown = np.maximum(abs(offset) - 0.46 * (canvas.y - top) / (base - top), canvas.y - base)
        canvas.paint(canvas.inside(trunk / count), _tint(random, 0.33 * tone, 0.21 * tone, 0.12 * tone))
        canvas.paint(canvas.inside(crown / count), _tint(random, 0.07 * tone, 0.38 * tone, 0.14 * tone))


def _city(canvas: Canvas, random: _Random, pan: float) -> None:
    _sky(canvas, random)
    count = random.uniform(4.5, 6.0)
    offset, top = repeat(canvas.x + pan, count, random.uniform(0.12, 0.55, 11))
    _, tone = repeat(canvas.x + pan, count, random.uniform(0.30, 0.55, 11))
    house = canvas.inside(np.maximum(abs(offset) - 0.46, (top - canvas.y) * count) / count)
    canvas.paint(house, np.stack(np.broadcast_arrays(tone, tone * 1.02, tone * 1.1), axis=-1))
    column = (offset * 4.0 + 0.5) % 1 - 0.5
    row = (canvas.y * 15) % 1 - 0.5
    window = canvas.inside(np.maximum(abs(column) - 0.26, abs(row) - 0.25) / 15) * house
    canvas.paint(window * (abs(offset) < 0.375), _tint(random, 0.95, 0.88, 0.55))
    canvas.paint(canvas.inside(0.9 - canvas.y + 0 * offset), _tint(random, 0.25, 0.25, 0.27))


def _mountains(canvas: Canvas, random: _Random, pan: float) -> None:
    _sky(canvas, random)
    for count, base, high, tone in ((2.2, 0.80, 0.58, 1.0), (3.1, 0.98, 0.42, 0.72)):
        along = canvas.x + pan * (1.6 - tone) + random.uniform(0, 1)
        offset, size = repeat(along, count, random.uniform(0.75, 1.0, 7))
        ridge = base - high * size * (1 - 2 * abs(offset))
        canvas.paint(canvas.inside((ridge - canvas.y) * 0.6), _tint(random, 0.42 * tone, 0.41 * tone, 0.47 * tone))
        cap = base - high * size * 0.68 + 0.025 * np.sin(along * 70)
        snow = np.maximum(ridge - canvas.y, canvas.y - cap)
        canvas.paint(canvas.inside(snow * 0.6), (0.96, 0.97, 1.0))
    canvas.paint(canvas.inside(0.92 - canvas.y + 0 * canvas.x), _tint(random, 0.30, 0.42, 0.28))


def _desert(canvas: Canvas, random: _Random, pan: float) -> None:
    canvas.fade(canvas.y / 0.5, _tint(random, 0.50, 0.70, 0.90), _tint(random, 0.97, 0.88, 0.70))
    for level, tone in ((0.42, 1.0), (0.58, 0.90), (0.76, 0.78)):
        along = (canvas.x + pan * level) * random.uniform(4, 7) + random.uniform(0, 6)
        dune = level + 0.06 * np.abs(np.sin(along / 2)) - 0.03
        canvas.paint(canvas.inside(dune - canvas.y), _tint(random, 0.91 * tone, 0.66 * tone, 0.34 * tone))
    offset, base = repeat(canvas.x + pan, 1.7, random.uniform(0.62, 0.74, 5))
    offset = offset / 1.7
    trunk = np.maximum(np.hypot(offset, np.maximum(base - 0.24 - canvas.y, 0)) - 0.028, canvas.y - base)
    arms = np.maximum(abs(canvas.y - base + 0.12) - 0.018, abs(offset) - 0.085)
    tips = np.maximum(abs(abs(offset) - 0.07) - 0.018, abs(canvas.y - base + 0.155) - 0.05)
    canvas.paint(canvas.inside(np.minimum(np.minimum(trunk, arms), tips)), _tint(random, 0.18, 0.45, 0.20))


def _ocean(canvas: Canvas, random: _Random, pan: float) -> None:
    _sky(canvas, random)
    horizon = random.uniform(0.16, 0.24)
    depth = canvas.y - horizon
    wave = np.sin(28 * np.sqrt(np.maximum(depth, 0)) + 1.3 * np.sin((canvas.x + pan) * random.uniform(9, 14)))
    deep, crest = _tint(random, 0.02, 0.20, 0.48), _tint(random, 0.10, 0.42, 0.70)
    sea = canvas.inside(-depth + 0 * canvas.x)
    canvas.paint(sea, deep)
    canvas.paint(sea * np.clip(wave * 2, 0, 1), crest)
    left = random.uniform(0.15, 0.85) - pan
    hull = np.maximum(abs(canvas.x - left) - 0.09 + (canvas.y - horizon), abs(canvas.y - horizon - 0.015) - 0.02)
    sail = np.maximum(abs(canvas.x - left) - 0.5 * (canvas.y - horizon + 0.15), canvas.y - horizon + 0.01)
    canvas.paint(canvas.inside(hull), (0.40, 0.24, 0.15))
    canvas.paint(canvas.inside(sail), (0.97, 0.95, 0.90))


def _meadow(canvas: Canvas, random: _Random, pan: float) -> None:
    _sky(canvas, random)
    for level, tone in ((0.34, 0.9), (0.48, 1.05)):
        hill = level + 0.05 * np.sin((canvas.x + pan * level) * random.uniform(4, 7) + random.uniform(0, 6))
        canvas.paint(canvas.inside(hill - canvas.y), _tint(random, 0.38 * tone, 0.70 * tone, 0.26 * tone))
    rows, count = 5, 8.0
    for row in range(rows):
        middle = 0.58 + 0.09 * row
        offset, shift = repeat(canvas.x + pan + random.uniform(0, 1), count, random.uniform(-0.25, 0.25, 13))
        flower = np.hypot((offset - shift) / count, canvas.y - middle - 0.06 * shift) - 0.018
        tint = [(1.0, 0.95, 0.4), (1.0, 1.0, 1.0), (0.95, 0.55, 0.75)][row % 3]
        canvas.paint(canvas.inside(flower), tint)


def _road(canvas: Canvas, random: _Random, pan: float) -> None:
    _sky(canvas, random)
    horizon = random.uniform(0.32, 0.40)
    below = canvas.y - horizon
    centre = random.uniform(0.42, 0.58)
    away = abs(canvas.x - centre - 0.25 * (centre - 0.5) * below)
    canvas.paint(canvas.inside(-below + 0 * canvas.x), _tint(random, 0.44, 0.56, 0.28))
    ground = np.maximum(below, 1e-3)
    canvas.paint(canvas.inside(np.maximum(-below, away - 0.03 - 0.72 * below)), (0.93, 0.93, 0.90))
    canvas.paint(canvas.inside(np.maximum(-below, away - 0.025 - 0.66 * below)), _tint(random, 0.32, 0.32, 0.34))
    dash = (0.5 / ground + 12 * pan) % 1 < 0.55
    canvas.paint(canvas.inside(np.maximum(-below, away - 0.07 * below)) * dash, (0.98, 0.90, 0.45))


def _kitchen(canvas: Canvas, random: _Random, pan: float) -> None:
    canvas.fade(canvas.y, _tint(random, 0.86, 0.91, 0.90), _tint(random, 0.80, 0.86, 0.86))
    across = ((canvas.x + pan) * 9) % 1 - 0.5
    down = (canvas.y * 9) % 1 - 0.5
    grout = np.minimum(0.5 - abs(across), 0.5 - abs(down)) / 9 - 0.005
    canvas.paint(canvas.inside(grout), (0.58, 0.66, 0.68))
    counter = random.uniform(0.60, 0.68)
    canvas.paint(canvas.inside(counter - canvas.y + 0 * across), _tint(random, 0.28, 0.25, 0.24))
    canvas.paint(canvas.inside(counter + 0.06 - canvas.y + 0 * across), _tint(random, 0.70, 0.48, 0.30))
    door, _ = repeat(canvas.x + pan, 3.2, np.zeros(1))
    gap = np.maximum(0.47 - abs(door), (counter + 0.06 - canvas.y) * 3.2) / 3.2
    knob = np.hypot((abs(door) - 0.36) / 3.2, canvas.y - counter - 0.14) - 0.016
    canvas.paint(canvas.inside(gap), (0.36, 0.22, 0.13))
    canvas.paint(canvas.inside(knob), (0.92, 0.90, 0.85))
    shelf, _ = repeat(canvas.x + pan, 2.4, np.zeros(1))
    cupboard = np.maximum((abs(shelf) - 0.40) / 2.4, canvas.y - random.uniform(0.18, 0.24))
    canvas.paint(canvas.inside(cupboard), _tint(random, 0.74, 0.52, 0.33))


def _library(canvas: Canvas, random: _Random, pan: float) -> None:
    canvas.pixels[:] = _tint(random, 0.26, 0.15, 0.08)
    shelves = 4
    for shelf in range(shelves):
        top, bottom = (shelf + 0.08) / shelves, (shelf + 0.86) / shelves
        along, count = canvas.x + pan + random.uniform(0, 1), random.uniform(12, 15)
        offset, height = repeat(along, count, random.uniform(0.0, 0.07, 31))
        spines = np.stack([repeat(along, count, random.uniform(0.25, 0.75, 31))[1] for _ in range(3)], axis=-1)
        book = np.maximum((abs(offset) - 0.42) / count, np.maximum(top + height - canvas.y, canvas.y - bottom))
        canvas.paint(canvas.inside(book), spines * np.asarray((1.0, 0.75, 0.6), np.float32))
        board = np.maximum(bottom - canvas.y, canvas.y - bottom - 0.03) + 0 * canvas.x
        canvas.paint(canvas.inside(board), _tint(random, 0.52, 0.33, 0.18))


def _space(canvas: Canvas, random: _Random, pan: float) -> None:
    canvas.fade(canvas.y, _tint(random, 0.03, 0.02, 0.09), _tint(random, 0.08, 0.04, 0.18))
    for count, apart, size in ((8.0, 0.22, 0.009), (11.0, 0.17, 0.006)):
        offset, lower = repeat(canvas.x + pan + random.uniform(), count, random.uniform(0, apart, 17))
        star = np.hypot(offset / count, (canvas.y + lower) % apart - apart / 2) - size
        canvas.paint(canvas.inside(star), (1.0, 1.0, 0.92))
    left, top = random.uniform((0.1, 0.12), (0.9, 0.3))
    size = random.uniform(0.09, 0.13)
    u, v = canvas.x - left + pan, canvas.y - top
    canvas.paint(canvas.inside(np.hypot(u, v) - size), _tint(random, 0.72, 0.52, 0.36))
    belt = abs(np.hypot(u, 3.2 * v + u) - 1.7 * size) - 0.022
    canvas.paint(canvas.inside(belt), _tint(random, 0.85, 0.78, 0.62))


def _cave(canvas: Canvas, random: _Random, pan: float) -> None:
    mouth = np.hypot(canvas.x - random.uniform(0.4, 0.6) + pan, (canvas.y - 0.55) * 1.2)
    canvas.fade(mouth * 1.9, _tint(random, 0.62, 0.52, 0.40), _tint(random, 0.15, 0.11, 0.10))
    for count, tone in ((4.3, 1.0), (6.1, 0.7)):
        rock = _tint(random, 0.24 * tone, 0.18 * tone, 0.15 * tone)
        along = canvas.x + pan * tone + random.uniform(0, 1)
        offset, length = repeat(along, count, random.uniform(0.15, 0.42, 9))
        canvas.paint(canvas.inside((abs(offset) - 0.5 * (1 - canvas.y / length)) / count), rock)
        offset, length = repeat(along + 0.37, count, random.uniform(0.08, 0.25, 9))
        canvas.paint(canvas.inside((abs(offset) - 0.5 * (1 - (1 - canvas.y) / length)) / count), rock)


_DRAWINGS: dict[str, Callable[[Canvas, _Random, float], None]] = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "mountains": _mountains,
    "desert": _desert,
    "ocean": _ocean,
    "meadow": _meadow,
    "road": _road,
    "kitchen": _kitchen,
    "library": _library,
    "space": _space,
    "cave": _cave,
}
PLACES = tuple(_DRAWINGS)
# Where there is no weather.
SHELTERED = ("kitchen", "library", "space", "cave")


def draw(canvas: Canvas, place: str, random: _Random, pan: float) -> None:
    """Cover the canvas with a picture of `place`."""
    _DRAWINGS[place](canvas, random, pan)
