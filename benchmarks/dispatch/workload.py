"""Videos and their chunks as they arrive: the same for every placement that is compared."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

# Chunks per video, and how many videos in ten have so many.
_MIX = [1] * 6 + [6] * 3 + [60]


@dataclass(slots=True, eq=False)
class Chunk:
    """Times are seconds; `work` and `bulk` are its service and upload in units of the usual ones."""

    video: int
    ingress: int
    arrived: float
    work: float
    bulk: float = 1.0
    done: float | None = None

    @property
    def seconds(self) -> float:
        """Wait and service."""
        assert self.done is not None
        return self.done - self.arrived


@dataclass(frozen=True, slots=True)
class Videos:
    """How long videos are, `sizes(random)` chunks, and how fast each one's chunks follow each other."""

    name: str
    sizes: Callable[[random.Random], int]
    mean_size: float
    pace_seconds: float = 0.0


def _geometric(mean: float) -> Callable[[random.Random], int]:
    def draw(random: random.Random) -> int:
        size = 1
        while random.random() > 1 / mean:
            size += 1
        return size

    return draw


SINGLE = Videos("single chunks", lambda _: 1, 1)
GEOMETRIC = Videos("geometric, mean 3, at once", _geometric(3), 3)
# Paced by the time of sampling a chunk of 720p (see RESULTS.md).
MIXED = Videos("1/6/60, paced", lambda random: random.choice(_MIX), sum(_MIX) / len(_MIX), pace_seconds=0.17)
BURSTS = Videos("1/6/60, at once", lambda random: random.choice(_MIX), sum(_MIX) / len(_MIX))


@dataclass(slots=True)
class Poisson:
    """Videos that come independently of each other, `chunks_per_second` in all, each to a random ingress."""

    videos: Videos
    chunks_per_second: float
    ingresses: int = 1
    noise: float = 0.0  # service times are uniform within so much of the usual one
    upload_noise: float = 0.0  # deviation of the logarithm of upload times
    seed: int = 1
    _random: random.Random = field(init=False)

    def chunks(self, seconds: float) -> list[Chunk]:
        """All that arrive in so many seconds, in order of arrival."""
        self._random = random.Random(self.seed)
        chunks = [chunk for video in self._videos(seconds) for chunk in video]
        return sorted(chunks, key=lambda chunk: chunk.arrived)

    def _videos(self, seconds: float) -> Iterator[list[Chunk]]:
        at = 0.0
        for video in count():
            at += self._random.expovariate(self.chunks_per_second / self.videos.mean_size)
            if at >= seconds:
                return
            ingress = self._random.randrange(self.ingresses)
            size = self.videos.sizes(self._random)
            times = [at + index * self.videos.pace_seconds for index in range(size)]
            yield [Chunk(video, ingress, time, self._work(), self._bulk()) for time in times if time < seconds]

    def _work(self) -> float:
        return self._random.uniform(1 - self.noise, 1 + self.noise) if self.noise else 1.0

    def _bulk(self) -> float:
        return self._random.lognormvariate(0.0, self.upload_noise) if self.upload_noise else 1.0
