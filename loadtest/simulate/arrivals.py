"""What comes in: when, and how many chunks it has."""

import csv
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from loadtest.bad_option import BadOption

# Seconds, and chunks of the video.
Arrival = tuple[float, int]
# Videos a second, at a time in seconds.
Rate = Callable[[float], float]

DAY_SECONDS = 86_400.0
_NOISE_SECONDS = 300.0


class ChunkMix:
    """Videos by their number of chunks, each number as often as its weight says."""

    def __init__(self, weights: Mapping[int, float]) -> None:
        if not weights or any(chunks < 1 or weight <= 0 for chunks, weight in weights.items()):
            raise BadOption(f"--mix: {dict(weights)}, must be numbers of chunks from 1 on, with weights above 0")
        self._chunks = list(weights)
        self._cumulative = list(accumulate(weights.values()))

    @classmethod
    def parse(cls, text: str) -> "ChunkMix":
        """From "1" or "1:70,6:25,60:5"."""
        try:
            pairs = [part.partition(":") for part in text.split(",")]
            return cls({int(chunks): float(weight or 1) for chunks, _, weight in pairs})
        except BadOption:
            raise
        except ValueError as error:
            raise BadOption(f'--mix: "{text}", must be like 1:70,6:25,60:5 (chunks:weight)') from error

    @property
    def mean(self) -> float:
        weights = [high - low for low, high in zip([0.0, *self._cumulative], self._cumulative, strict=False)]
        return sum(chunks * weight for chunks, weight in zip(self._chunks, weights, strict=True)) / self._cumulative[-1]

    def draw(self, chance: random.Random) -> int:
        if len(self._chunks) == 1:
            return self._chunks[0]
        return chance.choices(self._chunks, cum_weights=self._cumulative)[0]


def poisson(rate: Rate, *, highest: float, seconds: float, mix: ChunkMix, chance: random.Random) -> Iterator[Arrival]:
    """Independent callers at a rate that may change, but is never above `highest`."""
    now = 0.0
    while (now := now + chance.expovariate(highest)) < seconds:
        if chance.random() * highest < rate(now):
            yield now, mix.draw(chance)


def regular(rate: float, *, seconds: float, mix: ChunkMix, chance: random.Random) -> Iterator[Arrival]:
    """One every 1/rate seconds."""
    for number in range(int(seconds * rate)):
        yield number / rate, mix.draw(chance)


def spike(base: float, factor: float, *, begins: float, lasts: float) -> Rate:
    """`factor` times the base for a while."""
    return lambda now: base * factor if begins <= now < begins + lasts else base


def day(peak: float, *, quiet: float, noise: float, seed: int) -> Rate:
    """A sinusoid from `quiet` x `peak` at four in the morning to `peak` at four in the afternoon, times noise.

    The noise is drawn anew every five minutes: lognormal, `noise` its deviation, at most double the rate.
    """
    chance = random.Random(seed)
    factors = [min(2.0, chance.lognormvariate(0, noise)) for _ in range(int(DAY_SECONDS / _NOISE_SECONDS))]

    def rate(now: float) -> float:
        swing = (1 - math.cos(2 * math.pi * (now - 4 * 3600) / DAY_SECONDS)) / 2
        return peak * (quiet + (1 - quiet) * swing) * factors[int(now / _NOISE_SECONDS) % len(factors)]

    return rate


def recorded(path: Path) -> list[Arrival]:
    """A CSV with the columns start_seconds (or start_time) and chunks (or num_chunks), as a sweep writes it.

    Times count from the first one. Raises BadOption.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        column = _column(rows, path, "start_seconds", "start_time")
        chunks = _column(rows, path, "chunks", "num_chunks")
        arrivals = sorted((float(row[column]), int(row[chunks])) for row in rows if row[column] and row[chunks])
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise error if isinstance(error, BadOption) else BadOption(f"{path}: {error}") from error
    if not arrivals:
        raise BadOption(f"{path}: no row has both a start time and chunks")
    if any(count < 1 or not math.isfinite(at) for at, count in arrivals):
        raise BadOption(f"{path}: every row needs a finite start time and at least one chunk")
    first = arrivals[0][0]
    return [(at - first, count) for at, count in arrivals]


def _column(rows: Sequence[Mapping[str, str]], path: Path, *names: str) -> str:
    for name in names:
        if rows and name in rows[0]:
            return name
    raise BadOption(f"{path}: no column {' or '.join(names)}")


@dataclass(frozen=True, slots=True)
class Level:
    """From `begins` on, so many callers, each with its next request as soon as it has its answer."""

    begins: float
    callers: int


def ramp(callers: Sequence[int], level_seconds: float) -> list[Level]:
    return [Level(number * level_seconds, count) for number, count in enumerate(callers)]
