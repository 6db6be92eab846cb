"""Loads with a name, and the spans of them that are worth looking at one by one."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from loadtest.bad_option import BadOption
from loadtest.simulate import arrivals
from loadtest.simulate.arrivals import DAY_SECONDS, Arrival, ChunkMix
from loadtest.simulate.plan import ClosedLoad, OpenLoad, Span


class _Draws(TypedDict):
    seconds: float
    mix: ChunkMix
    chance: random.Random


class Traffic(StrEnum):
    CONSTANT = "constant"  # evenly spaced
    POISSON = "poisson"  # independent callers
    SPIKE = "spike"  # independent callers, and for a while many times as many
    DAY = "day"  # quiet at night, and noise on top
    RAMP = "ramp"  # callers who wait for their answers: more and more of them
    TRACE = "trace"  # as it was recorded


@dataclass(frozen=True, slots=True)
class Scenario:
    traffic: Traffic
    rate: float = 5.0  # videos a second: at its peak for a day, outside of it for a spike
    seconds: float = 3600.0
    mix: ChunkMix = field(default_factory=lambda: ChunkMix({1: 1}))
    factor: float = 10.0
    spike_begins: float = 600.0
    spike_seconds: float = 600.0
    quiet: float = 0.1
    noise: float = 0.2
    callers: Sequence[int] = (2, 4, 8, 16, 32, 64)
    trace: Path | None = None

    def load(self, seed: int) -> OpenLoad | ClosedLoad:
        """Raises BadOption."""
        match self.traffic:
            case Traffic.CONSTANT:
                return self._open(lambda: arrivals.regular(self.rate, **self._draws(seed)))
            case Traffic.POISSON:
                return self._open(lambda: arrivals.poisson(lambda _: self.rate, highest=self.rate, **self._draws(seed)))
            case Traffic.SPIKE:
                return self._spike(seed)
            case Traffic.DAY:
                rate = arrivals.day(self.rate, quiet=self.quiet, noise=self.noise, seed=seed)
                names = ["0 to 4 h", "4 to 8 h", "8 to 12 h", "12 to 16 h", "16 to 20 h", "20 to 24 h"]
                width = DAY_SECONDS / len(names)
                return OpenLoad(
                    lambda: arrivals.poisson(rate, highest=2 * self.rate, **self._draws(seed, DAY_SECONDS)),
                    DAY_SECONDS,
                    [Span(name, number * width, (number + 1) * width) for number, name in enumerate(names)],
                )
            case Traffic.RAMP:
                width = self.seconds / len(self.callers)
                levels = arrivals.ramp(self.callers, width)
                # The second half of each level, as the original's table has it.
                spans = [Span(str(one.callers), one.begins + width / 2, one.begins + width) for one in levels]
                return ClosedLoad(levels, self.seconds, self.mix, spans)
            case Traffic.TRACE:
                if self.trace is None:
                    raise BadOption("--trace: a recorded trace to replay must be named")
                recorded = arrivals.recorded(self.trace)
                return OpenLoad(lambda: iter(recorded), max(1.0, recorded[-1][0]))

    def _open(self, arrive: Callable[[], Iterator[Arrival]]) -> OpenLoad:
        return OpenLoad(arrive, self.seconds)

    def _spike(self, seed: int) -> OpenLoad:
        begins, ends = self.spike_begins, self.spike_begins + self.spike_seconds
        rate = arrivals.spike(self.rate, self.factor, begins=begins, lasts=self.spike_seconds)
        highest = self.rate * max(1.0, self.factor)
        return OpenLoad(
            lambda: arrivals.poisson(rate, highest=highest, **self._draws(seed)),
            self.seconds,
            [
                Span("before", 0, begins),
                Span("first 2 min", begins, begins + 120),
                Span("rest of it", begins + 120, ends),
                Span("after", ends, self.seconds),
            ],
        )

    def _draws(self, seed: int, seconds: float | None = None) -> _Draws:
        return {"seconds": seconds or self.seconds, "mix": self.mix, "chance": random.Random(f"load {seed}")}
