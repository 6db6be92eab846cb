"""Thumbnails of decoded frames come in, and for each chunk the cuts and transitions that are known with it come out."""

from services.ingress.sampling.cut_detector import CutDetector, FoundCut
from services.ingress.sampling.frame_difference import Thumbnail
from services.ingress.sampling.transition_detector import FoundTransition, TransitionDetector


class ShotDetector:
    """Frames are added in order of presentation."""

    def __init__(self, ticks_per_second: float) -> None:
        self._cuts = CutDetector(ticks_per_second)
        self._transitions = TransitionDetector(ticks_per_second)
        self._frames = 0

    def add(self, tick: int, thumbnail: Thumbnail, change: float, *, left_out: bool) -> None:
        """The next frame and its difference from the last one; `left_out`: whether others between are not decoded."""
        self._cuts.add(tick, thumbnail, change, left_out=left_out)
        self._transitions.add(tick, thumbnail)
        self._frames += 1

    def is_settled(self, until: int) -> bool:
        """Whether all cuts before that tick are known."""
        return self._cuts.settled is not None and self._cuts.settled >= until

    def pop(self, start: int, until: int, *, is_last: bool) -> tuple[list[FoundCut], list[FoundTransition], int]:
        """The cuts from the tick `start` to `until`, the transitions that are known in that time, and how many frames
        were added since the last call.

        What comes before `start` is dropped. After the last call no frame is added.
        """
        if is_last:
            self._cuts.finish()
            self._transitions.finish()
        frames, self._frames = self._frames, 0
        cuts = [cut for cut in self._cuts.pop(until) if cut.at >= start]
        return (
            cuts,
            [one for one in self._transitions.pop(None if is_last else until) if one.known_from >= start],
            frames,
        )
