"""Thumbnails of decoded frames come in, the gradual transitions between shots come out: fades and dissolves.

While one picture is blended into another, every picture between is a mixture of the two in a share that only grows. A
camera or an object that moves does not do that, and a cut does it in one step. A fade is a blend with black. What is
found depends only on the frames up to CONTEXT_SECONDS before it is found.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from services.ingress.sampling.cut_detector import is_black, summed
from services.ingress.sampling.frame_difference import THUMBNAIL_SIZE, Thumbnail
from services.ingress.sampling.sampled_chunk import CONTEXT_SECONDS, DISSOLVE, FADE

_MARKS_PER_SECOND = 12  # pictures compared
_SPANS = np.array((3, 5, 8, 12, 18, 26))  # in marks, between the pictures before and after
_MIN_CHANGE = 12 / 255  # of the full range, from one to the other
_MAX_RESIDUAL = 0.2  # as a share of the change: how far a picture may be from a mixture
_MAX_STEP = 0.5  # of the share, from mark to mark
_MAX_STEP_BACK = 0.1
_MIN_MIXTURES = 2
_SAME_PICTURE = 0.8  # correlation: one picture in another light
_MAX_MARK_SECONDS = 0.25  # apart
_DECIDED_SECONDS = 0.5  # until which no larger change may follow
_START, _END = 0.08, 0.92  # shares
_MARKS = int(_SPANS[-1]) + 1
_PICTURE_VALUES = 3 * (THUMBNAIL_SIZE // 4) ** 2
_PICTURE_SUM = 16 * 255 * _PICTURE_VALUES  # of the largest values


@dataclass(frozen=True, slots=True)
class _Mark:
    tick: int
    black: bool


@dataclass(frozen=True, slots=True)
class FoundTransition:
    """Times are ticks: of the last frame before it and of the first frame after it."""

    start: int
    end: int
    kind: str
    known_from: int
    strength: float  # mean absolute difference of the two, as a share of the full range


class TransitionDetector:
    """Frames are added in order of presentation."""

    def __init__(self, ticks_per_second: float) -> None:
        self._second = ticks_per_second
        self._marks: deque[_Mark] = deque(maxlen=_MARKS)
        self._contiguous = 0  # how many, up to the last, have no gap between them
        # A ring: the pictures of the marks, and the products of each two. All are whole numbers, so sums are exact.
        self._pictures = np.zeros((_MARKS, _PICTURE_VALUES))
        self._products = [[0.0] * _MARKS for _ in range(_MARKS)]
        self._last = -1  # its place
        self._candidates: list[FoundTransition] = []
        self._undecided = 0  # how many of them, from the last one back
        self._found: list[FoundTransition] = []

    def add(self, tick: int, thumbnail: Thumbnail) -> None:
        gap = tick - self._marks[-1].tick if self._marks else 0
        if self._marks and gap * _MARKS_PER_SECOND < self._second:
            return
        self._contiguous = 1 if gap > _MAX_MARK_SECONDS * self._second else self._contiguous + 1
        self._marks.append(_Mark(tick, is_black(thumbnail)))
        self._last = (self._last + 1) % _MARKS
        self._pictures[self._last] = summed(summed(thumbnail)).ravel()
        products = (self._pictures @ self._pictures[self._last]).tolist()
        self._products[self._last] = products
        for row, product in zip(self._products, products, strict=True):
            row[self._last] = product
        candidate = self._strongest()
        if candidate is not None:
            self._candidates.append(candidate)
            self._undecided += 1
        self._decide(tick)

    def finish(self) -> None:
        """There are no more frames."""
        self._decide(None)

    def pop(self, until: int | None) -> list[FoundTransition]:
        """Those known before the tick `until`, or all, that were not returned yet."""
        found = [one for one in self._found if until is None or one.known_from < until]
        del self._found[: len(found)]
        return found

    def _strongest(self) -> FoundTransition | None:
        """The largest change up to the last mark that is a blend."""
        spans = _SPANS[self._contiguous > _SPANS]
        earlier = self._pictures[(self._last - spans) % _MARKS]
        changes = np.abs(earlier - self._pictures[self._last]).sum(axis=1) / _PICTURE_SUM
        for row in np.argsort(-changes, kind="stable").tolist():
            if changes[row] < _MIN_CHANGE:
                break
            if (blend := self._blend(int(spans[row]), float(changes[row]))) is not None:
                return blend
        return None

    def _blend(self, span: int, change: float) -> FoundTransition | None:
        """The transition over the last `span` marks, if all between are mixtures of the pictures at its ends."""
        places = [(self._last - age) % _MARKS for age in range(span, -1, -1)]
        if (shares := self._growing_shares(places)) is None:
            return None
        middle = min(range(span), key=lambda number: abs(shares[number] - 0.5))
        # The middle mostly tells, so it is looked at first.
        if any(
            self._residual(places, shares[number], number) > _MAX_RESIDUAL * change for number in (middle, *range(span))
        ):
            return None
        shown = list(self._marks)[-1 - span :]
        fade = shown[0].black or shown[-1].black
        first, last = self._pictures[places[0]], self._pictures[places[-1]]
        if not fade and np.corrcoef(first, last)[0, 1] > _SAME_PICTURE:
            return None
        start = max(number for number, share in enumerate(shares) if share <= _START)
        end = min(number for number, share in enumerate(shares) if share >= _END)
        known_from = shown[-1].tick + int(_DECIDED_SECONDS * self._second)
        return FoundTransition(shown[start].tick, shown[end].tick, FADE if fade else DISSOLVE, known_from, change)

    def _growing_shares(self, places: list[int]) -> list[float] | None:
        """How much of the last picture is in each: from 0 in the first to 1; None if it grows in no way of a blend."""
        first, last = places[0], places[-1]
        with_first, with_last = self._products[first], self._products[last]
        offset = with_first[first] - with_first[last]
        distance = with_last[last] - with_first[last] + offset
        shares: list[float] = []
        before = 0.0
        for place in places:
            share = (with_last[place] - with_first[place] + offset) / distance
            if not -_MAX_STEP_BACK <= share - before <= _MAX_STEP:
                return None
            shares.append(share)
            before = share
        return shares if sum(_START < share < _END for share in shares) >= _MIN_MIXTURES else None

    def _residual(self, places: list[int], share: float, number: int) -> float:
        """How far that picture is from a mixture of the first and the last in that share."""
        first, last = self._pictures[places[0]], self._pictures[places[-1]]
        return float(np.abs(self._pictures[places[number]] - first - share * (last - first)).sum()) / _PICTURE_SUM

    def _decide(self, now: int | None) -> None:
        """Of those that overlap the strongest is a transition."""
        while self._undecided:
            one = self._candidates[-self._undecided]
            if now is not None and now <= one.known_from:
                break
            near = [other for other in self._candidates if other.start < one.end and one.start < other.end]
            if max(near, key=lambda other: (other.strength, -other.end)) is one:
                self._found.append(one)
            self._undecided -= 1
        if now is not None:
            keep_from = now - CONTEXT_SECONDS * self._second
            self._candidates = [one for one in self._candidates if one.end >= keep_from]
