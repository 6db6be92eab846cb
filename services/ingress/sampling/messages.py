"""Chunks and cuts as JSON messages between a worker and its parent; times are [numerator, denominator].

A worker that media has taken over may send anything: what is read from it raises one of MALFORMED, or is in range.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from services.ingress.sampling.sampled_chunk import TRANSITION_KINDS, Cut, LargestChange, SampledChunk, Transition

Message = dict[str, Any]

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MAX_SECONDS = 1e9
_MAX_COUNT = 1 << 48


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to opening a video."""

    claimed_duration_seconds: float | None
    memory_bytes: int


def to_opened(message: Message) -> Opened:
    claimed = message["claimed_duration_seconds"]
    return Opened(None if claimed is None else float(claimed), to_count(message["memory_bytes"]))


def to_count(value: Any) -> int:
    if not 0 <= int(value) <= _MAX_COUNT:
        raise ValueError("a count out of range")
    return int(value)


def to_fraction(ratio: list[int]) -> Fraction:
    numerator, denominator = ratio
    fraction = Fraction(int(numerator), int(denominator))
    if abs(fraction) > _MAX_SECONDS:
        raise ValueError("a time out of range")
    return fraction


def from_chunk(chunk: SampledChunk) -> Message:
    return {
        "index": chunk.index,
        "start": chunk.start.as_integer_ratio(),
        "duration": chunk.duration.as_integer_ratio(),
        "frame_times": [time.as_integer_ratio() for time in chunk.frame_times],
        "frame_indices": chunk.frame_indices,
        "largest_changes": [change and from_change(change) for change in chunk.largest_changes],
        "cuts": [
            [cut.time.as_integer_ratio(), cut.previous.as_integer_ratio(), cut.strength, cut.exact]
            for cut in chunk.cuts
        ],
        "transitions": [
            [one.start.as_integer_ratio(), one.end.as_integer_ratio(), one.kind] for one in chunk.transitions
        ],
        "all_decoded": chunk.all_decoded,
    }


def to_chunk(message: Message, index: int, frames: int) -> SampledChunk:
    """The chunk number `index`, sampled at `frames` times."""
    indices = tuple(map(int, message["frame_indices"]))
    if indices[0] != 0 or any(after - before not in {0, 1} for before, after in pairwise(indices)):
        raise ValueError("frame indices do not count the frames in order")
    if int(message["index"]) != index or {*map(len, (indices, message["frame_times"], message["largest_changes"]))} != {
        frames
    }:
        raise ValueError("another chunk, or another number of frames")
    return SampledChunk(
        index=int(message["index"]),
        start=to_fraction(message["start"]),
        duration=to_fraction(message["duration"]),
        frame_times=tuple(map(to_fraction, message["frame_times"])),
        frame_indices=indices,
        largest_changes=tuple(change and to_change(change) for change in message["largest_changes"]),
        cuts=tuple(_to_cut(*cut) for cut in message["cuts"]),
        transitions=tuple(_to_transition(*one) for one in message["transitions"]),
        all_decoded=bool(message["all_decoded"]),
    )


def from_change(change: LargestChange) -> Message:
    return {
        "before": change.before.as_integer_ratio(),
        "at": change.at.as_integer_ratio(),
        "exact": change.exact,
        "confidence": change.confidence,
    }


def to_change(message: Message) -> LargestChange:
    if not 0 <= float(message["confidence"]) <= 1:
        raise ValueError("a confidence out of range")
    return LargestChange(
        before=to_fraction(message["before"]),
        at=to_fraction(message["at"]),
        exact=bool(message["exact"]),
        confidence=float(message["confidence"]),
    )


def _to_cut(time: list[int], previous: list[int], strength: float, exact: bool) -> Cut:
    if not 0 <= float(strength) <= 1:
        raise ValueError("a strength out of range")
    return Cut(to_fraction(time), to_fraction(previous), float(strength), bool(exact))


def _to_transition(start: list[int], end: list[int], kind: str) -> Transition:
    if kind not in TRANSITION_KINDS:
        raise ValueError("an unknown kind of transition")
    return Transition(to_fraction(start), to_fraction(end), kind)
