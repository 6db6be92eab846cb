"""Turns the cuts and transitions of sampled chunks into those of the answer, and finds where scenes end at cuts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.ingress.sampling import DISSOLVE, FADE, Cut, SampledChunk, Transition
from videoanalysis.v1 import analysis_pb2
from videoanalysis.v1.decoder_pb2 import SceneChange

_KINDS = {
    FADE: analysis_pb2.Transition.KIND_FADE,
    DISSOLVE: analysis_pb2.Transition.KIND_DISSOLVE,
}


@dataclass(frozen=True, slots=True)
class SceneEnd:
    """A scene ends before the sampled frame `frame_index` of a chunk, at `seconds` of the video."""

    frame_index: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ShotsState:
    """What the next chunk depends on."""

    last_transition_end: float | None = None  # seconds
    cut_without_frame: float | None = None  # seconds; after it no frame has been sampled yet


class Shots:
    """Takes the chunks of a video in order; with the `state` of another it continues exactly from there."""

    def __init__(self, state: ShotsState | None = None) -> None:
        state = state or ShotsState()
        self._last_transition_end = state.last_transition_end
        self._cut_without_frame = state.cut_without_frame

    def state(self) -> ShotsState:
        return ShotsState(self._last_transition_end, self._cut_without_frame)

    def add(self, chunk: SampledChunk) -> tuple[list[analysis_pb2.Cut], list[analysis_pb2.Transition]]:
        """The cuts and transitions to report with the next chunk."""
        return [_cut(cut) for cut in chunk.cuts], list(self._separate(chunk.transitions))

    def scene_ends(self, frame_times: Iterable[float], cut_times: Iterable[float]) -> list[SceneEnd]:
        """Where scenes end in the next chunk if they end at cuts; of cuts with no sampled frame between, the first."""
        ends: list[SceneEnd] = []
        open_cuts = [] if self._cut_without_frame is None else [self._cut_without_frame]
        cuts = iter([*open_cuts, *cut_times])
        cut = next(cuts, None)
        for index, time in enumerate(frame_times):
            if cut is not None and cut <= time:
                ends.append(SceneEnd(index, cut))
                while cut is not None and cut <= time:
                    cut = next(cuts, None)
        self._cut_without_frame = cut
        return ends

    def _separate(self, transitions: Iterable[Transition]) -> Iterable[analysis_pb2.Transition]:
        """The transitions without those that overlap an earlier one."""
        for transition in transitions:
            if self._last_transition_end is None or transition.start >= self._last_transition_end:
                self._last_transition_end = float(transition.end)
                yield analysis_pb2.Transition(
                    start_seconds=float(transition.start),
                    end_seconds=float(transition.end),
                    kind=_KINDS[transition.kind],
                )


def ends_at_changes(changes: Iterable[SceneChange]) -> list[SceneEnd]:
    """Where scenes end in a chunk, if at scene changes."""
    return [SceneEnd(change.frame_index, change.cut_seconds) for change in changes]


def nearest_cut(change: SceneChange, seconds: float, cuts: Sequence[Cut]) -> Cut | None:
    """The cut nearest to `seconds` among those between the two sampled frames of `change`."""
    between = [cut for cut in cuts if change.previous_timestamp_seconds < cut.time <= change.timestamp_seconds]
    return min(between, key=lambda cut: abs(float(cut.time) - seconds), default=None)


def _cut(cut: Cut) -> analysis_pb2.Cut:
    return analysis_pb2.Cut(
        time_seconds=float(cut.time),
        previous_frame_seconds=float(cut.previous),
        strength=cut.strength,
        coarse=not cut.exact,
    )
