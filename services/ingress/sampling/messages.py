"""Chunks and cuts as JSON messages between a worker and its parent; times are [numerator, denominator]."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

from services.ingress.sampling.plan import Cut, SampledChunk

Message = dict[str, Any]


def to_fraction(ratio: list[int]) -> Fraction:
    """Of two numbers and nothing else: a worker that media has taken over may send anything."""
    numerator, denominator = ratio
    return Fraction(int(numerator), int(denominator))


def from_chunk(chunk: SampledChunk) -> Message:
    return {
        "index": chunk.index,
        "start": chunk.start.as_integer_ratio(),
        "duration": chunk.duration.as_integer_ratio(),
        "frame_times": [time.as_integer_ratio() for time in chunk.frame_times],
        "frame_indices": chunk.frame_indices,
        "cuts": [cut and from_cut(cut) for cut in chunk.cuts],
        "all_decoded": chunk.all_decoded,
    }


def to_chunk(message: Message) -> SampledChunk:
    indices = tuple(map(int, message["frame_indices"]))
    if indices[0] != 0 or any(after - before not in {0, 1} for before, after in pairwise(indices)):
        raise ValueError("frame indices do not count the frames in order")
    return SampledChunk(
        index=int(message["index"]),
        start=to_fraction(message["start"]),
        duration=to_fraction(message["duration"]),
        frame_times=tuple(map(to_fraction, message["frame_times"])),
        frame_indices=indices,
        cuts=tuple(cut and to_cut(cut) for cut in message["cuts"]),
        all_decoded=bool(message["all_decoded"]),
    )


def from_cut(cut: Cut) -> Message:
    return {
        "before": cut.before.as_integer_ratio(),
        "at": cut.at.as_integer_ratio(),
        "exact": cut.exact,
        "confidence": cut.confidence,
    }


def to_cut(message: Message) -> Cut:
    return Cut(
        before=to_fraction(message["before"]),
        at=to_fraction(message["at"]),
        exact=bool(message["exact"]),
        confidence=float(message["confidence"]),
    )
