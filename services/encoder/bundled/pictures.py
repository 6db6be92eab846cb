"""Augmentation of training pictures, and negatives: pictures without a scene."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_Random = np.random.Generator
Picture = NDArray[np.uint8]


def augment(picture: Picture, random: _Random) -> Picture:
    """`picture`, uint8 [size, size, 3], with random blur, noise and brightness."""
    pixels = picture.astype(np.float32)
    blur = random.uniform(0, 0.6)
    for axis in (0, 1):
        around = (np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)) / 2
        pixels += blur / 2 * (around - pixels)
    pixels *= random.uniform(0.9, 1.1)
    pixels += random.standard_normal(pixels.shape, np.float32) * random.uniform(0, 5) + random.uniform(-10, 10)
    return _to_uint8(pixels)


def blank(size: int, random: _Random) -> Picture:
    """One colour."""
    return _to_uint8(np.broadcast_to(random.uniform(0, 255, 3), (size, size, 3)))


def grey(size: int, random: _Random) -> Picture:
    return _to_uint8(np.full((size, size, 3), random.uniform(0, 255)))


def gradient(size: int, random: _Random) -> Picture:
    """From one colour at the left to another at the right, or from top to bottom."""
    along = np.linspace(0, 1, size)[:, np.newaxis, np.newaxis]
    first, last = random.uniform(0, 255, (2, 3))
    band = np.broadcast_to(first + along * (last - first), (size, size, 3))
    return _to_uint8(band if random.random() < 0.5 else band.transpose(1, 0, 2))


def noise(size: int, random: _Random) -> Picture:
    """Grains of one to twelve pixels, coloured or grey, over any brightness."""
    grain = int(random.integers(1, 13))
    cells = -(-size // grain)
    channels = 3 if random.random() < 0.6 else 1
    grains = random.uniform(0, 255, 3) + random.uniform(20, 130) * random.standard_normal((cells, cells, channels))
    return _to_uint8(grains.repeat(grain, axis=0).repeat(grain, axis=1)[:size, :size])


NEGATIVES: dict[str, Callable[[int, _Random], Picture]] = {
    "blank": blank,
    "grey": grey,
    "gradient": gradient,
    "noise": noise,
}


def _to_uint8(pixels: NDArray[np.floating]) -> Picture:
    return (pixels.clip(0, 255) + 0.5).astype(np.uint8)
