"""Arrivals of videos: their times and their numbers of chunks, generated or recorded."""

import csv
import math
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

from loadtest.errors import InvalidOption

# Seconds, and chunks of the video.
Arrival = tuple[float, int]
# Videos a second by time in seconds.
Rate = Callable[[float], float]

DAY_SECONDS = 86_400.0
_NOISE_SECONDS = 300.0


class ChunkMix:
    """Draws numbers of chunks in proportion to their weights."""

    def __init__(self, weights: Mapping[int, float]) -> None:
        self._chunks = list(weights)
        self._cumulative = list(accumulate(weights.values()))
        self.mean = sum(chunks * weight for chunks, weight in weights.items()) / self._cumulative[-1]

    def draw(self, rng: random.Random) -> int:
        if len(self._chunks) == 1:
            return self._chunks[0]
        return rng.choices(self._chunks, cum_weights=self._cumulative)[0]


def poisson(rate: Rate, *, highest: float, seconds: float, mix: ChunkMix, rng: random.Random) -> Iterator[Arrival]:
    """Independent callers at a variable rate of at most `highest`."""
    now = 0.0
    while (now := now + rng.expovariate(highest)) < seconds:
        if rng.random() * highest < rate(now):
            yield now, mix.draw(rng)


def spike(base: float, factor: float, *, begins: float, lasts: float) -> Rate:
    """`base`, multiplied by `factor` during the spike."""
    return lambda now: base * factor if begins <= now < begins + lasts else base


def day(peak: float, *, quiet: float, noise: float, seed: int) -> Rate:
    """A sinusoid from `quiet` x `peak` at 04:00 to `peak` at 16:00, times noise.

    The noise changes every five minutes: lognormal with the deviation `noise`, at most 2.
    """
    rng = random.Random(seed)
    factors = [min(2.0, rng.lognormvariate(0, noise)) for _ in range(int(DAY_SECONDS / _NOISE_SECONDS))]

    def rate(now: float) -> float:
        swing = (1 - math.cos(2 * math.pi * (now - 4 * 3600) / DAY_SECONDS)) / 2
        return peak * (quiet + (1 - quiet) * swing) * factors[int(now / _NOISE_SECONDS) % len(factors)]

    return rate


def recorded(path: Path) -> list[Arrival]:
    """Columns start_seconds and chunks of a sweep's requests.csv; times count from the first. Raises InvalidOption."""
    try:
        with path.open(newline="") as file:
            arrivals = sorted((float(row["start_seconds"]), int(row["chunks"])) for row in csv.DictReader(file))
    except KeyError as error:
        raise InvalidOption(f"--trace: {path}: no column {error}") from error
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InvalidOption(f"--trace: {path}: {error}") from error
    if not arrivals:
        raise InvalidOption(f"--trace: {path}: no rows")
    if any(count < 1 or not math.isfinite(at) for at, count in arrivals):
        raise InvalidOption(f"--trace: {path}: every row needs a finite start time and at least one chunk")
    first = arrivals[0][0]
    return [(at - first, count) for at, count in arrivals]
