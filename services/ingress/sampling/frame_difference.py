"""Where the picture changes most, from a glance at each frame as it goes by."""

from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from services.ingress.sampling.pixels import Resizer

_GLANCE_SIZE = 32


@dataclass(frozen=True, slots=True)
class Step:
    """From the frame with the pts `before` to the one with the pts `at`."""

    before: int
    at: int
    exact: bool  # the two are neighbours: no frame between them was left out
    confidence: float  # 1 - second sharpest step / sharpest; near 0 in dissolves and steady motion


class FrameDifference:
    """Compares each frame with the one before it; `take` tells the sharpest step since it was last asked.

    Glances are a hundredth of the work of sampling large pictures and up to a seventh of that of small ones.
    """

    def __init__(self) -> None:
        self._glance = Resizer(_GLANCE_SIZE, Interpolation.FAST_BILINEAR)
        self._last: tuple[int, NDArray[np.int16]] | None = None
        self._sharpest: tuple[float, int, int, bool] | None = None
        self._second = 0.0

    def see(self, frame: VideoFrame, pts: int, *, left_out: bool) -> None:
        """The next frame; `left_out` says whether some between it and the last one are not shown to us."""
        glance = self._glance(frame).astype(np.int16)
        if self._last is not None:
            last_pts, last = self._last
            difference = float(np.abs(glance - last).mean())
            if self._sharpest is None or difference > self._sharpest[0]:
                self._second = self._sharpest[0] if self._sharpest is not None else 0.0
                self._sharpest = difference, last_pts, pts, not left_out
            else:
                self._second = max(self._second, difference)
        self._last = pts, glance

    def take(self) -> Step | None:
        """None if the picture has not changed at all."""
        sharpest, second = self._sharpest, self._second
        self._sharpest, self._second = None, 0.0
        if sharpest is None or sharpest[0] == 0:
            return None
        difference, before, at, exact = sharpest
        return Step(before, at, exact, 1 - second / difference)
