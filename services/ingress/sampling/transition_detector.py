"""Thumbnails of decoded frames come in, the gradual transitions between shots come out: fades and dissolves.

While one picture is blended into another, every picture between is a mixture of the two in a share that only grows. A
camera or an object that moves does not do that, and a cut does it in one step. A fade is a blend with black. What is
found depends only on the frames up to CONTEXT_SECONDS before it is found.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.ingress.sampling.cut_detector import halved, is_black
from services.ingress.sampling.frame_difference import Thumbnail
from services.ingress.sampling.plan import CONTEXT_SECONDS, DISSOLVE, FADE

_MARKS_PER_SECOND = 12  # pictures compared
_SPANS = (3, 5, 8, 12, 18, 26)  # in marks, between the pictures before and after
_MIN_CHANGE = 12 / 255  # of the full range, from one to the other
_MAX_RESIDUAL = 0.2  # as a share of the change: how far a picture may be from a mixture
_MAX_STEP = 0.5  # of the share, from mark to mark
_MAX_STEP_BACK = 0.1
_MIN_MIXTURES = 2
_SAME_PICTURE = 0.8  # correlation: one picture in another light
_MAX_MARK_SECONDS = 0.25  # apart
_DECIDED_SECONDS = 0.5  # until which no larger change may follow
_START, _END = 0.08, 0.92  # shares


@dataclass(frozen=True, slots=True)
class FoundTransition:
    """Times are ticks: of the last frame before it and of the first frame after it."""

    start: int
    end: int
    kind: str
    known_from: int
    strength: float  # mean absolute difference of the two, as a share of the full range


@dataclass(frozen=True, slots=True)
class _Mark:
    tick: int
    picture: NDArray[np.float32]  # flat, 0 to 1
    black: bool


class TransitionDetector:
    """Frames are added in order of presentation."""

    def __init__(self, ticks_per_second: float) -> None:
        self._second = ticks_per_second
        self._marks: deque[_Mark] = deque(maxlen=max(_SPANS) + 1)
        self._candidates: list[FoundTransition] = []
        self._undecided = 0  # how many of them, from the last one back
        self._found: list[FoundTransition] = []

    def add(self, tick: int, thumbnail: Thumbnail) -> None:
        if self._marks and (tick - self._marks[-1].tick) * _MARKS_PER_SECOND < self._second:
            return
        self._marks.append(_Mark(tick, halved(thumbnail).ravel() / np.float32(255), is_black(thumbnail)))
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
        marks = list(self._marks)
        spans = [span for span in _SPANS if span < len(marks)]
        if not spans:
            return None
        earlier = np.stack([marks[-1 - span].picture for span in spans])
        changes = np.abs(earlier - marks[-1].picture).mean(axis=1)
        best: FoundTransition | None = None
        for span, change in zip(spans, changes.tolist(), strict=True):
            if change >= _MIN_CHANGE and (best is None or change > best.strength):
                blend = self._blend(marks[-1 - span :], change)
                best = blend or best
        return best

    def _blend(self, marks: list[_Mark], change: float) -> FoundTransition | None:
        if any(after.tick - before.tick > _MAX_MARK_SECONDS * self._second for before, after in pairwise(marks)):
            return None
        pictures = np.stack([mark.picture for mark in marks])
        step = pictures[-1] - pictures[0]
        middle = pictures - pictures[0]
        shares = middle @ step / (step @ step)
        steps = np.diff(shares)
        if steps.max() > _MAX_STEP or steps.min() < -_MAX_STEP_BACK:
            return None
        if np.count_nonzero((shares > _START) & (shares < _END)) < _MIN_MIXTURES:
            return None
        if np.abs(middle - shares[:, None] * step).mean(axis=1).max() > _MAX_RESIDUAL * change:
            return None
        fade = marks[0].black or marks[-1].black
        if not fade and np.corrcoef(pictures[0], pictures[-1])[0, 1] > _SAME_PICTURE:
            return None
        start = int(np.flatnonzero(shares <= _START)[-1])
        end = int(np.flatnonzero(shares >= _END)[0])
        known_from = marks[-1].tick + int(_DECIDED_SECONDS * self._second)
        return FoundTransition(marks[start].tick, marks[end].tick, FADE if fade else DISSOLVE, known_from, change)

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
