"""Detects scene changes: frames that differ from the exponential moving average (EMA) of the frames before them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videoanalysis.embeddings import dots, normalised
from videoanalysis.scores import REFRACTORY_SECONDS


@dataclass(frozen=True, slots=True)
class SceneState:
    """The state of a detector; float32, so that it survives serialisation to the last bit."""

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
    """Processes the frames of a video in order. A new detector with the state of another continues exactly from there.

    score = max(0, 1 - frame · ema) and ema ← norm(alpha · ema + (1 - alpha) · frame). A score at or over `threshold` is
    an event. With `restarts` an event also restarts the EMA at its frame, and a frame less than REFRACTORY_SECONDS
    after the last event is no event.
    """

    def __init__(self, *, threshold: float, alpha: float, restarts: bool, state: SceneState | None = None) -> None:
        self._threshold = threshold
        self._alpha = alpha
        self._restarts = restarts
        self.state = state

    def process_frame(self, frame: NDArray[np.float32], time_seconds: float) -> FrameScore:
        """Scores the embedding of the next frame, float32 [D] of unit length, shown at `time_seconds` of the video."""
        if self.state is None:
            self.state = SceneState(frame, None, time_seconds)
            return FrameScore(0.0, False, None)
        previous = self.state
        score = max(0.0, 1.0 - float(dots(frame[np.newaxis], previous.ema)[0]))
        is_event = score >= self._threshold and not (self._restarts and self._is_refractory(time_seconds))
        self.state = SceneState(
            ema=frame if is_event and self._restarts else self._average(previous.ema, frame),
            last_event_seconds=time_seconds if is_event else previous.last_event_seconds,
            last_frame_seconds=time_seconds,
        )
        return FrameScore(score, is_event, previous.last_frame_seconds)

    def _is_refractory(self, time_seconds: float) -> bool:
        last = self.state.last_event_seconds if self.state else None
        return last is not None and time_seconds - last < REFRACTORY_SECONDS

    def _average(self, ema: NDArray[np.float32], frame: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed = normalised(self._alpha * ema.astype(np.float64) + (1 - self._alpha) * frame.astype(np.float64))
        # Opposite vectors can cancel out; the EMA then restarts at the frame.
        return frame if mixed is None else mixed
