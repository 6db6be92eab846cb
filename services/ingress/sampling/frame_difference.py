"""How much the picture changes from frame to frame, measured on thumbnails."""

from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from services.ingress.sampling.pixels import Resizer

_THUMBNAIL_SIZE = 32


@dataclass(frozen=True, slots=True)
class FrameChange:
    """From the frame with the pts `before` to the one with the pts `at`."""

    before: int
    at: int
    exact: bool  # the two are neighbours: no frame between them was left out
    confidence: float  # 1 - second largest change / largest; near 0 in dissolves and steady motion


class FrameDifference:
    """Compares each frame with the one before it.

    Thumbnails are a hundredth of the work of sampling large pictures and up to a seventh of that of small ones.
    """

    def __init__(self) -> None:
        self._thumbnail = Resizer(_THUMBNAIL_SIZE, Interpolation.FAST_BILINEAR)
        self._last: tuple[int, NDArray[np.int16]] | None = None
        self._largest: tuple[float, int, int, bool] | None = None
        self._second = 0.0

    def add(self, frame: VideoFrame, pts: int, *, left_out: bool) -> None:
        """The next frame; `left_out`: whether frames between it and the last one are not decoded."""
        thumbnail = self._thumbnail(frame).astype(np.int16)
        if self._last is not None:
            last_pts, last = self._last
            difference = float(np.abs(thumbnail - last).mean())
            if self._largest is None or difference > self._largest[0]:
                self._second = self._largest[0] if self._largest is not None else 0.0
                self._largest = difference, last_pts, pts, not left_out
            else:
                self._second = max(self._second, difference)
        self._last = pts, thumbnail

    def pop_largest(self) -> FrameChange | None:
        """The largest change since the last call; None if the picture has not changed at all."""
        largest, second = self._largest, self._second
        self._largest, self._second = None, 0.0
        if largest is None or largest[0] == 0:
            return None
        difference, before, at, exact = largest
        return FrameChange(before, at, exact, 1 - second / difference)
