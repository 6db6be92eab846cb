"""Thumbnail-sized pictures of shots that move, and what a detector makes of them."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.int16]
Shot = Callable[[int], Picture]

RATE, SIZE = 25, 32


def shot(seed: int) -> Shot:
    """Coloured patches over which a small bright one moves to and fro; the picture of each frame."""
    random = np.random.default_rng(seed)
    patches = random.integers(30, 220, (4, 4, 3))
    ground = np.repeat(np.repeat(patches, SIZE // 4, axis=0), SIZE // 4, axis=1).astype(np.int16)

    def picture(index: int) -> Picture:
        pixels = ground.copy()
        left = 14 + round(12 * np.sin(index / 12))
        pixels[12:16, left : left + 4] = 235
        return pixels

    return picture


def black(index: int) -> Picture:
    return np.zeros((SIZE, SIZE, 3), np.int16)


def flash(of: Shot) -> Shot:
    return lambda index: np.minimum(of(index) + 150, 255).astype(np.int16)


def dark(of: Shot, share: float) -> Shot:
    return lambda index: np.floor(share * of(index)).astype(np.int16)


def mixture(before: Shot, after: Shot, share: float) -> Shot:
    """A frame of both shots at once, with so much of the second."""
    return lambda index: np.floor((1 - share) * before(index) + share * after(index)).astype(np.int16)


def with_bars(of: Shot, rows: int) -> Shot:
    """With black above and below, each so many pixels high."""

    def picture(index: int) -> Picture:
        pixels = of(index)
        pixels[:rows] = pixels[SIZE - rows :] = 0
        return pixels

    return picture


def clouds(seed: int) -> Shot:
    """Soft colours about a grey, as of a hazy sky, which move slowly."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 1, (8, 24, 3))
    world = 120 + 12 * np.repeat(np.repeat(coarse, SIZE // 8, axis=0), SIZE // 8, axis=1)
    return lambda index: world[:, index // 10 : index // 10 + SIZE].astype(np.int16)


def jerks(pictures: int, seed: int) -> list[Picture]:
    """A camera that moves over patches below a sky in steps: each picture is shown one to three times."""
    random = np.random.default_rng(seed)
    ground = np.repeat(np.repeat(random.integers(60, 200, (8, 40, 3)), 4, axis=0), 4, axis=1)
    sky = np.linspace(-50, 50, SIZE)[:, None, None]
    views = [
        np.clip(ground[:, (7 * step) % 100 :][:, :SIZE] + sky, 0, 255).astype(np.int16) for step in range(pictures)
    ]
    return [view for step, view in enumerate(views) for _ in range(1 + step % 3)]


def play(*parts: tuple[Shot, int]) -> list[Picture]:
    """Each shot for so many frames, one after the other."""
    return [shown(index) for shown, count in parts for index in range(count)]


def blend(before: Shot, after: Shot, lead: int, length: int) -> list[Picture]:
    """`lead` frames of one shot, `length` in which the other takes its place, and `lead` of that one."""
    shares = np.clip((np.arange(2 * lead + length) - lead + 1) / (length + 1), 0, 1)
    return [np.floor((1 - share) * before(i) + share * after(i)).astype(np.int16) for i, share in enumerate(shares)]


def pan(pictures: int, speed: int, seed: int) -> list[Picture]:
    """A camera that moves over patches, by `speed` pixels from frame to frame."""
    random = np.random.default_rng(seed)
    world = np.repeat(np.repeat(random.integers(0, 256, (8, 80, 3)), 8, axis=0), 8, axis=1).astype(np.int16)
    return [world[:SIZE, (i * speed) % 600 : (i * speed) % 600 + SIZE] for i in range(pictures)]


def shake(pictures: int, size: float, seed: int) -> Iterable[Picture]:
    """A camera held by hand."""
    random = np.random.default_rng(seed)
    world = np.repeat(np.repeat(random.integers(0, 256, (20, 20, 3)), 8, axis=0), 8, axis=1).astype(np.int16)
    place, speed = np.full(2, 60.0), np.zeros(2)
    for _ in range(pictures):
        speed = 0.7 * speed + random.normal(0, size, 2) - 0.05 * (place - 60)
        place = np.clip(place + speed, 0, 120)
        y, x = place.astype(int)
        yield world[y : y + SIZE, x : x + SIZE]
