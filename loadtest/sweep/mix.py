"""The videos of a load test, and the share of requests for each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from loadtest.errors import InvalidOption

_SCHEMES = ("s3://", "sample://", "file://", "https://")
_MAX_RENDERED_CHUNKS = 360


@dataclass(frozen=True, slots=True)
class Wanted:
    """A video as the user names it: a URI that the service can read, a local file, or a number of chunks to render."""

    weight: float
    uri: str = ""
    path: Path | None = None
    rendered_chunks: int = 0


@dataclass(frozen=True, slots=True)
class Video:
    """A video that the service can read. `name` is for reports; `chunks` and `seconds` are the service's figures."""

    name: str
    uri: str
    weight: float
    chunks: int
    seconds: float


class Mix:
    """Draws videos in proportion to their weights."""

    def __init__(self, videos: Sequence[Video], seed: int) -> None:
        self.videos = list(videos)
        self._cumulative = list(accumulate(video.weight for video in videos))
        self._random_number = random.Random(seed)

    def draw(self) -> Video:
        return self._random_number.choices(self.videos, cum_weights=self._cumulative)[0]


def parse_videos(texts: Sequence[str]) -> list[Wanted]:
    """From "URI=weight" each; without a weight it is 1. Raises InvalidOption."""
    return [_parse_video(text) for text in texts]


def parse_rendered(text: str) -> list[Wanted]:
    """From "1:70,6:25,60:5", chunks:weight each; may be empty. Raises InvalidOption."""
    if not text.strip():
        return []
    weights = parse_weights("--render", text)
    if max(weights) > _MAX_RENDERED_CHUNKS:
        raise InvalidOption(f"--render: {text}, must be of 1 to {_MAX_RENDERED_CHUNKS} chunks each")
    return [Wanted(weight, rendered_chunks=chunks) for chunks, weight in weights.items()]


def parse_weights(option: str, text: str) -> dict[int, float]:
    """Weights by number of chunks, from "1:70,6:25,60:5"; a missing weight is 1. Raises InvalidOption."""
    try:
        pairs = [part.partition(":") for part in text.split(",")]
        weights = {int(chunks): float(weight or 1) for chunks, _, weight in pairs}
    except ValueError:
        weights = {}
    if not weights or not all(chunks >= 1 and 0 < weight < float("inf") for chunks, weight in weights.items()):
        raise InvalidOption(
            f'{option}: "{text}", must be like 1:70,6:25,60:5 (chunks:weight), from 1 chunk, with weights above 0'
        )
    return weights


def _parse_video(text: str) -> Wanted:
    # File names and the queries of URIs may contain an = of their own; the last one separates the weight.
    uri, equals, number = text.rpartition("=")
    try:
        weight = float(number) if equals else 1.0
    except ValueError:
        uri, weight = text, 1.0
    uri = uri if equals and uri else text
    if not 0 < weight < float("inf"):
        raise InvalidOption(f"--video: {text}, the weight must be above 0")
    if uri.startswith(_SCHEMES):
        return Wanted(weight, uri=uri)
    if "://" in uri:
        raise InvalidOption(f"--video: {text}, must begin with one of {', '.join(_SCHEMES)} or be a local file")
    path = Path(uri)
    if not path.is_file():
        raise InvalidOption(f"--video: there is no file {uri}")
    return Wanted(weight, path=path)
