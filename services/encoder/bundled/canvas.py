"""A square picture with anti-aliased painting."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Floating, [size, size] or broadcastable to it.
Plane = NDArray[np.floating[Any]]
# Red, green, blue from 0 to 1; also float32 [size, size, 3], where it differs from pixel to pixel.
Colour = tuple[float, float, float] | NDArray[np.float32]


class Canvas:
    """`x` runs from 0 at the left to 1 at the right, float32 [1, size], and `y` from 0 at the top, [size, 1]."""

    def __init__(self, size: int) -> None:
        self.size = size
        centres = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.x: Plane = centres[np.newaxis, :]
        self.y: Plane = centres[:, np.newaxis]
        self.pixels = np.zeros((size, size, 3), np.float32)

    def paint(self, coverage: Plane, colour: Colour) -> None:
        """Lay `colour` over the picture: 1 in `coverage` hides what is below, 0 leaves it."""
        self.pixels += coverage[..., np.newaxis] * (np.asarray(colour, np.float32) - self.pixels)

    def fade(self, amount: Plane, top: Colour, bottom: Colour) -> None:
        """Fill with a blend: `top` where `amount` is 0, `bottom` where it is 1."""
        blend = np.broadcast_to(amount, (self.size, self.size))[..., np.newaxis].clip(0, 1)
        above, below = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
        self.pixels[:] = above + blend * (below - above)

    def inside(self, distance: Plane) -> Plane:
        """Coverage of the area where `distance`, in widths of the picture, is negative; the edge is one pixel soft."""
        covered: Plane = np.clip(0.5 - distance * self.size, 0, 1)
        return covered

    def to_uint8(self) -> NDArray[np.uint8]:
        """uint8 [size, size, 3]"""
        return (self.pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def repeat(along: Plane, count: float, values: NDArray[np.float64]) -> tuple[Plane, Plane]:
    """Cut `along` into pieces, `count` to the picture's width: where in its piece a place lies, from -0.5 to 0.5, and
    the one of `values` that belongs to its piece."""
    number = np.floor(along * count)
    offset = along * count - number - 0.5
    return offset.astype(np.float32), values[number.astype(np.int64) % len(values)].astype(np.float32)
