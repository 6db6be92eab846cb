"""Which videos are asked for, and how often each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from loadtest.bad_option import BadOption

_SCHEMES = ("s3://", "sample://", "file://", "https://")
_MOST_CHUNKS = 360


@dataclass(frozen=True, slots=True)
class Wanted:
    """As a user asks for it: a URI that the service can read, a file of this machine, or so many rendered chunks."""

    weight: float
    uri: str = ""
    path: Path | None = None
    rendered_chunks: int = 0


@dataclass(frozen=True, slots=True)
class Video:
    """As the service knows it. `name` is for readers; `chunks` and `seconds` are what one analysis of it told."""

    name: str
    uri: str
    weight: float
    chunks: int
    seconds: float


class Mix:
    """Videos, each as often as its weight says."""

    def __init__(self, videos: Sequence[Video], seed: int) -> None:
        self.videos = list(videos)
        self._cumulative = list(accumulate(video.weight for video in videos))
        self._chance = random.Random(seed)

    def draw(self) -> Video:
        return self._chance.choices(self.videos, cum_weights=self._cumulative)[0]


def parse_videos(texts: Sequence[str]) -> list[Wanted]:
    """From "URI=weight" each; without a weight it is 1. Raises BadOption."""
    return [_parse_video(text) for text in texts]


def parse_rendered(text: str) -> list[Wanted]:
    """From "1:70,6:25,60:5", chunks:weight each. Raises BadOption."""
    try:
        pairs = [part.partition(":") for part in text.split(",") if part.strip()]
        wanted = [Wanted(float(weight or 1), rendered_chunks=int(chunks)) for chunks, _, weight in pairs]
    except ValueError:
        raise BadOption(f"--render: {text}, must be like 1:70,6:25,60:5 (chunks:weight)") from None
    if not all(1 <= one.rendered_chunks <= _MOST_CHUNKS and 0 < one.weight < float("inf") for one in wanted):
        raise BadOption(f"--render: {text}, must be of 1 to {_MOST_CHUNKS} chunks each, with weights above 0")
    return wanted


def _parse_video(text: str) -> Wanted:
    # A file that has an = in its name, or a URI with a query, may still have a weight behind it.
    uri, equals, number = text.rpartition("=")
    try:
        weight = float(number) if equals else 1.0
    except ValueError:
        uri, weight = text, 1.0
    uri = uri if equals and uri else text
    if not 0 < weight < float("inf"):
        raise BadOption(f"--video: {text}, the weight must be above 0")
    if uri.startswith(_SCHEMES):
        return Wanted(weight, uri=uri)
    if "://" in uri:
        raise BadOption(f"--video: {text}, must begin with one of {', '.join(_SCHEMES)} or be a file of this machine")
    path = Path(uri)
    if not path.is_file():
        raise BadOption(f"--video: there is no file {uri}")
    return Wanted(weight, path=path)
