"""Loads by name, each with the spans that are reported separately."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from loadtest.errors import InvalidOption
from loadtest.simulate import arrivals
from loadtest.simulate.arrivals import DAY_SECONDS, Arrival, ChunkMix, Rate
from loadtest.simulate.plan import ClosedLoad, Level, OpenLoad, Span

# The night's rate and the noise of a day, as shares of the peak and of the rate.
_QUIET, _NOISE = 0.1, 0.2
_DAY_SPANS = 6


class Traffic(StrEnum):
    POISSON = "poisson"  # independent callers
    SPIKE = "spike"  # independent callers, for a while at a multiple of the rate
    DAY = "day"  # a low rate at night, with noise
    RAMP = "ramp"  # a growing number of callers, each waits for its answer
    TRACE = "trace"  # recorded requests


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rate` is in videos a second: the peak of a day, the base of a spike."""

    traffic: Traffic
    rate: float = 5.0
    seconds: float = 3600.0
    mix: ChunkMix = field(default_factory=lambda: ChunkMix({1: 1}))
    factor: float = 10.0
    spike_begins: float = 600.0
    spike_seconds: float = 600.0
    callers: Sequence[int] = (2, 4, 8, 16, 32, 64)
    trace: Path | None = None

    def load(self, seed: int) -> OpenLoad | ClosedLoad:
        """Raises InvalidOption."""
        match self.traffic:
            case Traffic.POISSON:
                return self._open(seed, lambda _: self.rate, self.rate, self.seconds)
            case Traffic.SPIKE:
                begins, ends = self.spike_begins, self.spike_begins + self.spike_seconds
                rate = arrivals.spike(self.rate, self.factor, begins=begins, lasts=self.spike_seconds)
                spans = [
                    Span("before", 0, begins),
                    Span("first 2 min", begins, begins + 120),
                    Span("rest of it", begins + 120, ends),
                    Span("after", ends, self.seconds),
                ]
                return self._open(seed, rate, self.rate * max(1.0, self.factor), self.seconds, spans)
            case Traffic.DAY:
                rate = arrivals.day(self.rate, quiet=_QUIET, noise=_NOISE, seed=seed)
                hours, width = 24 // _DAY_SPANS, DAY_SECONDS / _DAY_SPANS
                spans = [
                    Span(f"{hours * number} to {hours * (number + 1)} h", number * width, (number + 1) * width)
                    for number in range(_DAY_SPANS)
                ]
                return self._open(seed, rate, 2 * self.rate, DAY_SECONDS, spans)
            case Traffic.RAMP:
                width = self.seconds / len(self.callers)
                levels = [Level(number * width, count) for number, count in enumerate(self.callers)]
                # The second half of each level, as in the baseline's published table.
                spans = [Span(str(one.callers), one.begins + width / 2, one.begins + width) for one in levels]
                return ClosedLoad(levels, self.seconds, self.mix, spans)
            case Traffic.TRACE:
                if self.trace is None:
                    raise InvalidOption("--trace: name a recorded trace, such as the requests.csv of a sweep")
                recorded = arrivals.recorded(self.trace)
                return OpenLoad(lambda: iter(recorded), max(1.0, recorded[-1][0]))

    def _open(self, seed: int, rate: Rate, highest: float, seconds: float, spans: Sequence[Span] = ()) -> OpenLoad:
        draw = partial(arrivals.poisson, rate, highest=highest, seconds=seconds, mix=self.mix)

        def arrive() -> Iterator[Arrival]:
            return draw(rng=random.Random(f"load {seed}"))

        return OpenLoad(arrive, seconds, spans)
