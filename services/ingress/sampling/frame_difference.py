"""How much the picture changes from frame to frame, measured on thumbnails."""

from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from services.ingress.sampling.pixels import Resizer

THUMBNAIL_SIZE = 32

# Of a mixture of two pictures: how much of the second is in it, and how far it may be from that, as a share of their
# difference.
_MIN_MIXED, _MAX_MIXED, _MAX_RESIDUAL = 1 / 3, 2 / 3, 0.3

Thumbnail = NDArray[np.int16]  # 0 to 255; differences and sums of a few fit too


def difference(one: Thumbnail, other: Thumbnail) -> float:
    """Mean absolute difference, as a share of the full range: 0 to 1."""
    return int(np.abs(one - other).sum(dtype=np.int32)) / (255 * one.size)


def is_mixture(before: Thumbnail, frame: Thumbnail, after: Thumbnail) -> bool:
    """Whether it shows the other two at once. Changing the frame rate of a video makes such a frame of a cut."""
    whole, part = ((picture - before).ravel().astype(np.float64) for picture in (after, frame))
    share = float(whole @ part) / max(1.0, float(whole @ whole))
    residual = float(np.abs(part - share * whole).sum())
    return _MIN_MIXED < share < _MAX_MIXED and residual < _MAX_RESIDUAL * float(np.abs(whole).sum())


@dataclass(frozen=True, slots=True)
class FrameChange:
    """From the frame with the pts `before` to the one with the pts `at`."""

    before: int
    at: int
    exact: bool  # the two are neighbours: no frame between them was left out
    size: float  # mean absolute difference of their thumbnails, as a share of the full range
    confidence: float  # 1 - second largest change / largest; near 0 in dissolves and steady motion


class FrameDifference:
    """Compares each frame with the one before it."""

    def __init__(self) -> None:
        self._resize = Resizer(THUMBNAIL_SIZE, Interpolation.FAST_BILINEAR)
        self._last: tuple[int, Thumbnail] | None = None
        self._largest: tuple[float, int, int, bool] | None = None
        self._second = 0.0

    def thumbnail(self, frame: VideoFrame) -> Thumbnail:
        return self._resize(frame).astype(np.int16)

    def add(self, thumbnail: Thumbnail, pts: int, *, left_out: bool) -> float:
        """The next frame, whose difference from the one before it is returned; 0 for the first.

        `left_out`: whether frames before it are not decoded.
        """
        change = 0.0
        if self._last is not None:
            last_pts, last = self._last
            change = difference(thumbnail, last)
            if self._largest is None or change > self._largest[0]:
                self._second = self._largest[0] if self._largest is not None else 0.0
                self._largest = change, last_pts, pts, not left_out
            else:
                self._second = max(self._second, change)
        self._last = pts, thumbnail
        return change

    def pop_largest(self) -> FrameChange | None:
        """The largest change since the last call; None if the picture has not changed at all."""
        largest, second = self._largest, self._second
        self._largest, self._second = None, 0.0
        if largest is None or largest[0] == 0:
            return None
        change, before, at, exact = largest
        return FrameChange(before, at, exact, change, 1 - second / change)
