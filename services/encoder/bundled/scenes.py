"""A scene: one shape that moves over a drawn place. The same scene and time give the same picture."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.encoder.bundled import places, shapes, weather
from services.encoder.bundled.canvas import Canvas
from services.encoder.bundled.places import PLACES, SHELTERED
from services.encoder.bundled.shapes import COLOURS, SHAPES, TEXTURES
from services.encoder.bundled.weather import WEATHERS

MOTIONS = ("drifting", "bouncing", "circling", "swaying")


@dataclass(frozen=True, slots=True)
class Scene:
    """The features of a scene; `seed` determines layout, tints and path.

    `weather` is None in SHELTERED places, and if `place` is None: then the shape is before a bare backdrop.
    """

    place: str | None
    shape: str
    colour: str
    texture: str
    weather: str | None
    motion: str
    seed: int


def random_scene(random: np.random.Generator, max_seed: int = 1 << 30) -> Scene:
    def one_of(values: tuple[str, ...]) -> str:
        return values[random.integers(len(values))]

    place = one_of(PLACES)
    return Scene(
        place=place,
        shape=one_of(SHAPES),
        colour=one_of(tuple(COLOURS)),
        texture=one_of(TEXTURES),
        weather=None if place in SHELTERED else one_of(WEATHERS),
        motion=one_of(MOTIONS),
        seed=int(random.integers(max_seed)),
    )


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the shape is: `x`, `y` of its centre and `radius` in widths of the picture, `angle` in radians."""

    x: float
    y: float
    radius: float
    angle: float


def pose(scene: Scene, time: float) -> Pose:
    """The shape's pose at `time`, in seconds."""
    random = np.random.default_rng((scene.seed, 1))
    radius = random.uniform(0.20, 0.29)
    reach = random.uniform(0.06, 0.12)
    room = 0.5 - radius - reach
    x, y = 0.5 + random.uniform(-room, room, 2)
    phase = 2 * math.pi * (time / random.uniform(3.0, 6.0) + random.uniform())
    angle = random.uniform(-0.22, 0.22)
    match scene.motion:
        case "drifting":
            x += reach * math.sin(phase)
        case "bouncing":
            y += reach * (1 - 2 * abs(math.sin(phase)))
        case "circling":
            x, y = x + reach * math.cos(phase), y + reach * math.sin(phase)
        case "swaying":
            x, angle = x + 0.5 * reach * math.sin(phase), angle + 0.2 * math.sin(phase)
        case _:
            raise ValueError(f"motion {scene.motion!r}, not one of {', '.join(MOTIONS)}")
    return Pose(float(x), float(y), float(radius), float(angle))


def render(scene: Scene, time: float, size: int) -> NDArray[np.uint8]:
    """The picture at `time`, in seconds: uint8 [size, size, 3]."""
    random = np.random.default_rng((scene.seed, 2))
    canvas = Canvas(size)
    pan = random.uniform(-0.02, 0.02) * time
    if scene.place is None:
        canvas.pixels[:] = random.uniform(0, 1, 3)
    else:
        places.draw(canvas, scene.place, random, pan)
    if scene.weather is not None:
        weather.draw(canvas, scene.weather, time, random)
    at = pose(scene, time)
    jitter = random.uniform(-0.04, 0.04, 3)
    red, green, blue = np.clip(np.add(COLOURS[scene.colour], jitter), 0, 1).tolist()
    shapes.draw(
        canvas,
        shape=scene.shape,
        colour=(red, green, blue),
        texture=scene.texture,
        centre=(at.x, at.y),
        radius=at.radius,
        angle=at.angle,
    )
    return canvas.to_uint8()
