"""Thumbnails of decoded frames come in, the cuts between shots come out.

At a cut the picture changes much, far more than between the frames around it, and the two pictures do not correlate.
Motion lasts for several frames, and pictures of one shot in two lights correlate. Where the frame rate of a video was
changed, one frame may be a mixture of both shots.

Whether there is a cut depends only on the frames up to CONTEXT_SECONDS, or four, before it, and on those up to a tenth
of a second and three frames after it: a detector that starts that much earlier finds the same.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from services.ingress.sampling.frame_difference import FrameChange, Thumbnail, difference, is_mixture

CONTEXT_SECONDS = 2.5

# Of a change, as shares of the full range: what makes a new shot, and what neighbouring changes count for at least.
_MIN_CHANGE = 18 / 255
_MIN_NEIGHBOUR_CHANGE = 2 / 255
# Between pictures of little contrast, as dark ones, less is enough: this share of the contrast of the two.
_MIN_FAINT_CHANGE, _MIN_CONTRAST_SHARE = 7 / 255, 0.4
_MIN_RATIO = 2.2  # to the mean of the neighbouring changes
# Of the change times the unlikeness of the two pictures: to that mean or to this share of the largest neighbour, which
# is larger where motion is uneven, as when each frame is shown twice.
_MIN_UNLIKENESS, _MIN_UNLIKE_RATIO, _LARGEST_SHARE = 0.1, 1.05, 0.75
_MIN_DEVIATION = 4  # of 255: the pattern of a picture that varies less is noise
_MIN_SHARE_WITHOUT_BARS = 1 / 3  # of the picture
_NEIGHBOURS = 3  # on each side
_MIN_GAP_RATIO, _MAX_GAP_RATIO = 0.7, 4.0  # a change grows with the time between its frames, within these
_MERGE_SECONDS = 0.1
_FLASH_FRAMES = 3
# What pictures of one shot before and after a flash, or before and after black, differ by at most: as a share of the
# change, and of the full range.
_SAME_SHOT_SHARE, _SAME_SHOT_CHANGE = 0.5, 20 / 255
_COARSE_SHIFTS = range(-3, 4)  # in pixels of a thumbnail at half size, from one frame to the next
_CAMERA_SHARE = 0.4  # of the change: what is left of it when the camera's motion is undone
_BLACK = 20  # of 255: no part of a black picture is brighter
_BLACK_SECONDS = 2  # black that lasts longer is a shot of its own


@dataclass(frozen=True, slots=True)
class FoundCut:
    """Times are ticks: of the last frame of one shot and of the first frame of the next."""

    before: int
    at: int
    exact: bool  # no frame between the two was left out
    strength: float  # mean absolute difference of the two, as a share of the full range


@dataclass(slots=True)
class _Frame:
    tick: int
    thumbnail: Thumbnail
    black: bool
    change: float  # from the frame before; 0 for the first
    gap: int  # ticks since the frame before
    left_out: bool  # frames between the two


class CutDetector:
    """Frames are added in order of presentation."""

    def __init__(self, ticks_per_second: float) -> None:
        self._second = ticks_per_second
        self._frames: deque[_Frame] = deque(maxlen=2 * _NEIGHBOURS + 2)
        self._ahead = 0  # how many of them, from the last one back, are not examined
        self._start = 0
        self._picture: _Frame | None = None  # the last examined frame that is not black
        self._candidates: list[FoundCut] = []
        self._undecided = 0  # how many of them, from the last one back
        self._cuts: list[FoundCut] = []

    @property
    def settled(self) -> int | None:
        """The tick before which every cut is known."""
        if len(self._frames) < self._ahead + 1:
            return None
        return self._frames[-1 - self._ahead].tick - int(_MERGE_SECONDS * self._second)

    def add(self, tick: int, thumbnail: Thumbnail, change: float, *, left_out: bool) -> None:
        """The next frame and its difference from the last one; `left_out`: whether others between are not decoded."""
        if not self._frames:
            self._start = tick
        gap = tick - self._frames[-1].tick if self._frames else 0
        self._frames.append(_Frame(tick, thumbnail, is_black(thumbnail), change, gap, left_out))
        self._ahead += 1
        if self._ahead > _NEIGHBOURS:
            self._examine_next()

    def finish(self) -> None:
        """There are no more frames."""
        while self._ahead:
            self._examine_next()
        self._decide(None)

    def pop(self, until: int | None) -> list[FoundCut]:
        """The cuts before the tick `until`, or all, that were not returned yet."""
        found = [cut for cut in self._cuts if until is None or cut.at < until]
        del self._cuts[: len(found)]
        return found

    def _examine_next(self) -> None:
        position = len(self._frames) - self._ahead
        frame = self._frames[position]
        if position > 0 and self._is_candidate(position):
            before = self._frames[position - 1].tick
            self._candidates.append(FoundCut(before, frame.tick, not frame.left_out, frame.change))
            self._undecided += 1
        if not frame.black:
            self._picture = frame
        self._ahead -= 1
        self._decide(frame.tick)

    def _is_candidate(self, position: int) -> bool:
        frame = self._frames[position]
        if frame.change < _MIN_FAINT_CHANGE:
            return False
        if not (
            self._is_sudden(position - 1, position)
            or self._is_sudden_mixture(position)
            or self._is_sudden_mixture(position - 1)
        ):
            return False
        return not (
            self._is_flash(position) or self._is_same_shot_after_black(position) or self._is_camera_motion(position)
        )

    def _is_sudden(self, first: int, last: int) -> bool:
        """Whether the picture changes much from one to the other, far more than around them, and into an unlike one.

        A picture that turns black does not count.
        """
        frame = self._frames[last]
        if frame.black:
            return False
        change = max(self._frames[place].change for place in range(first + 1, last + 1))
        others = [
            other.change * min(max(_MIN_GAP_RATIO, frame.gap / other.gap), _MAX_GAP_RATIO)
            for place, other in enumerate(self._frames)
            if (first - _NEIGHBOURS < place <= first or last < place <= last + _NEIGHBOURS)
            and other.gap > 0
            and not other.black
        ]
        usual = max(_MIN_NEIGHBOUR_CHANGE, sum(others) / max(1, len(others)))
        if change < _MIN_RATIO * usual:
            return False
        before, after = _without_bars(self._frames[first].thumbnail, frame.thumbnail)
        whole = difference(before, after)
        if whole < _MIN_CHANGE and whole < _MIN_CONTRAST_SHARE * (_contrast(before) + _contrast(after)):
            return False
        usual = max(usual, _LARGEST_SHARE * max(others, default=0.0))
        unlikeness = _unlikeness(before, after)
        return unlikeness >= _MIN_UNLIKENESS and change * unlikeness >= _MIN_UNLIKE_RATIO * usual

    def _is_sudden_mixture(self, position: int) -> bool:
        """Whether it is a mixture of the frames around it, and these are of two shots."""
        if not 0 < position < len(self._frames) - 1 or not self._is_sudden(position - 1, position + 1):
            return False
        return is_mixture(*(self._frames[position + step].thumbnail for step in (-1, 0, 1)))

    def _is_flash(self, position: int) -> bool:
        """Whether it is one edge of a flash: the shot from before it goes on after it."""
        frames = list(self._frames)
        frame, before = frames[position], frames[position - 1]
        after = frames[position + 1 : position + 1 + _FLASH_FRAMES]
        earlier = frames[max(position - 1 - _FLASH_FRAMES, 0) : position - 1]
        return any(
            _is_one_shot(one, other, frame.change)
            for one in (before, *earlier)
            for other in (frame, *after)
            if one is not before or other is not frame
        )

    def _is_same_shot_after_black(self, position: int) -> bool:
        """Whether black before it only interrupts a shot, or comes before the first one."""
        frame, before = self._frames[position], self._frames[position - 1]
        if not before.black:
            return False
        recent = frame.tick - _BLACK_SECONDS * self._second
        if self._picture is None:
            return self._start >= recent
        if self._picture.tick < recent:
            return False
        return _is_one_shot(self._picture, frame, frame.change)

    def _is_camera_motion(self, position: int) -> bool:
        """Whether a part of the picture before it, moved, is much like the same part of this one."""
        if self._frames[position - 1].black:
            return False
        frame, before = self._frames[position].thumbnail, self._frames[position - 1].thumbnail
        small, small_before = summed(frame), summed(before)
        shifts = [(x, y) for x in _COARSE_SHIFTS for y in _COARSE_SHIFTS]
        x, y = min(shifts, key=lambda shift: _share_left(small, small_before, *shift))
        nearby = [(2 * x + i, 2 * y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return any(_share_left(frame, before, *shift) < _CAMERA_SHARE for shift in nearby)

    def _decide(self, examined: int | None) -> None:
        """Of candidates near each other the strongest is a cut, once none can follow."""
        if not self._candidates:
            return
        reach = _MERGE_SECONDS * self._second
        while self._undecided:
            cut = self._candidates[-self._undecided]
            if examined is not None and examined < cut.at + reach:
                return
            near = (other for other in self._candidates if other is not cut and abs(other.at - cut.at) < reach)
            if not any((other.strength, -other.at) > (cut.strength, -cut.at) for other in near):
                self._cuts.append(cut)
            self._undecided -= 1
        keep_from = (examined or 0) - 2 * reach
        self._candidates = [cut for cut in self._candidates if cut.at >= keep_from]


def _without_bars(one: Thumbnail, other: Thumbnail) -> tuple[Thumbnail, Thumbnail]:
    """Both without what is black in both along the edges, unless that is most of them."""
    lit = np.maximum(one, other).max(axis=2) >= _BLACK
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if len(rows) == 0 or (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) < _MIN_SHARE_WITHOUT_BARS * lit.size:
        return one, other
    content = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return one[content], other[content]


def _contrast(thumbnail: Thumbnail) -> float:
    """Mean absolute difference from the mean colour, as a share of the full range."""
    return float(np.abs(thumbnail - thumbnail.mean(axis=(0, 1))).mean()) / 255


def _unlikeness(one: Thumbnail, other: Thumbnail) -> float:
    """1 - correlation: 0 if one picture is the other in another light, 1 if the two have nothing in common."""
    x, y = one.ravel() - float(one.mean()), other.ravel() - float(other.mean())
    deviations = float(np.sqrt(float(x @ x) * float(y @ y)))
    return 1 - float(x @ y) / max(deviations, _MIN_DEVIATION**2 * x.size)


def _is_one_shot(before: _Frame, after: _Frame, change: float) -> bool:
    return difference(before.thumbnail, after.thumbnail) < min(_SAME_SHOT_SHARE * change, _SAME_SHOT_CHANGE)


def _share_left(frame: Thumbnail, before: Thumbnail, x: int, y: int) -> float:
    """Of the difference between the two, what is left when `before` is moved by so many pixels."""
    shown = _moved(frame, x, y)
    unmoved = difference(shown, _moved(before, x, y))
    return difference(shown, _moved(before, -x, -y)) / unmoved if unmoved else 1.0


def _moved(thumbnail: Thumbnail, x: int, y: int) -> Thumbnail:
    """The part of it that stays in sight when it is moved to the right and down by so many pixels."""
    height, width, _ = thumbnail.shape
    return thumbnail[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]


def is_clear(change: FrameChange) -> bool:
    """Whether the largest change among a few neighbouring frames is that of a cut."""
    return change.size >= _MIN_FAINT_CHANGE and change.confidence >= 1 - 1 / _MIN_RATIO


def summed(thumbnail: Thumbnail) -> Thumbnail:
    """At half the width and height: the sum of each four pixels."""
    rows = thumbnail[::2] + thumbnail[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def is_black(thumbnail: Thumbnail) -> bool:
    return int(thumbnail.max()) < _BLACK
