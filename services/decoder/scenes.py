"""Finds scene changes: frames that differ from the moving average of the frames before them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.decoder.vectors import dots, normalised

# The average restarts at most this often, so that one cut, or a burst of flashes, is one event.
REFRACTORY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SceneState:
    """What a detector remembers; float32 throughout, so that it survives the wire to the last bit."""

    # float32 [D], unit length.
    ema: NDArray[np.float32]
    last_event_seconds: float | None
    last_frame_seconds: float


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame's `score`; `previous_seconds` is the time of the frame before, None for the first of a video."""

    score: float
    is_event: bool
    previous_seconds: float | None


class SceneDetector:
    """Takes the frames of a video one by one. A new detector with the state of another goes on exactly where it stood.

    score = max(0, 1 - frame · ema) and ema ← norm(alpha · ema + (1 - alpha) · frame). A score at or over `threshold` is
    an event. With `restarts` it also restarts the average at its frame, unless the last event was under
    REFRACTORY_SECONDS ago: then it is no event and the average goes on.
    """

    def __init__(self, *, threshold: float, alpha: float, restarts: bool, state: SceneState | None = None) -> None:
        self._threshold = threshold
        self._alpha = alpha
        self._restarts = restarts
        self.state = state

    def process_frame(self, frame: NDArray[np.float32], time_seconds: float) -> FrameScore:
        """Score one unit frame, float32 [D]."""
        if self.state is None:
            self.state = SceneState(frame, None, time_seconds)
            return FrameScore(0.0, False, None)
        before = self.state
        score = max(0.0, 1.0 - float(dots(frame[np.newaxis], before.ema)[0]))
        is_event = score >= self._threshold and not (self._restarts and self._is_refractory(time_seconds))
        self.state = SceneState(
            ema=frame if is_event and self._restarts else self._average(before.ema, frame),
            last_event_seconds=time_seconds if is_event else before.last_event_seconds,
            last_frame_seconds=time_seconds,
        )
        return FrameScore(score, is_event, before.last_frame_seconds)

    def _is_refractory(self, time_seconds: float) -> bool:
        last = self.state.last_event_seconds if self.state else None
        return last is not None and time_seconds - last < REFRACTORY_SECONDS

    def _average(self, ema: NDArray[np.float32], frame: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed = normalised(self._alpha * ema.astype(np.float64) + (1 - self._alpha) * frame.astype(np.float64))
        # Opposite vectors can cancel out; then the frame is all that is known.
        return frame if mixed is None else mixed
