"""What is sampled of a chunk.

Times are Fractions in seconds on the video's own timeline, which starts at its first presented frame.
"""

from dataclasses import dataclass
from fractions import Fraction

MIN_CHUNK_SECONDS = Fraction(1, 2)
# Frames that are shown longer before a chunk have no influence on which cuts and transitions are found in it.
CONTEXT_SECONDS = 6
FADE, DISSOLVE = TRANSITION_KINDS = ("fade", "dissolve")  # a fade: from or to black


@dataclass(frozen=True, slots=True)
class Span:
    """The chunk `index`: where it starts and how long it is, in seconds."""

    index: int
    start: Fraction
    duration: Fraction

    def wanted_times(self, count: int) -> list[Fraction]:
        return [self.start + i * self.duration / count for i in range(count)]


@dataclass(frozen=True, slots=True)
class LargestChange:
    """Where the picture changes most between two sampled frames: from the frame at `before` to the one at `at`.

    Times are seconds on the video's own timeline.
    """

    before: Fraction
    at: Fraction
    exact: bool  # no frame lies between the two
    confidence: float  # 0 to 1: how far that change stands out from the others


@dataclass(frozen=True, slots=True)
class Cut:
    """A new shot begins with the frame at `time`; the last frame before it is at `previous`, in seconds."""

    time: Fraction
    previous: Fraction
    strength: float  # mean absolute difference of the two on thumbnails, as a share of the full range
    exact: bool  # no frame between the two was left out


@dataclass(frozen=True, slots=True)
class Transition:
    """One shot turns gradually into the next, from `start` to `end` in seconds."""

    start: Fraction
    end: Fraction
    kind: str  # one of TRANSITION_KINDS


@dataclass(frozen=True, slots=True)
class SampledChunk:
    """What was sampled of a span; times are seconds on the video's own timeline."""

    index: int
    start: Fraction
    duration: Fraction
    frame_times: tuple[Fraction, ...]  # of the frames for each wanted time: on display then, or near it
    frame_indices: tuple[int, ...]  # for each wanted time, which of the frames handed out stands for it
    # Between each frame and the one sampled before it; None where nothing is known.
    largest_changes: tuple[LargestChange | None, ...]
    cuts: tuple[Cut, ...] = ()
    transitions: tuple[Transition, ...] = ()
    all_decoded: bool = False  # from here on every frame is decoded: the packets cannot be relied on

    @property
    def frame_count(self) -> int:
        """Of the frames handed out."""
        return max(self.frame_indices) + 1


def span_at(index: int, chunk_duration: Fraction, end: Fraction, first_start: Fraction = Fraction(0)) -> Span | None:
    """The chunk `index` of a video or range that ends at `end`; None past its last one. Chunk 0 is at `first_start`.

    A last piece shorter than MIN_CHUNK_SECONDS belongs to the chunk before it, if there is one.
    """
    start = first_start + index * chunk_duration
    left = end - start
    if left <= 0 or (index > 0 and left < MIN_CHUNK_SECONDS):
        return None
    return Span(index, start, left if left < chunk_duration + MIN_CHUNK_SECONDS else chunk_duration)
