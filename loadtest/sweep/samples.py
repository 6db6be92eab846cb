"""Values of sources over time, on the time axis of the requests: gauges, replicas, CPU, GPU."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from loadtest.sweep.load import clock
from loadtest.sweep.record import Sample
from loadtest.target.source import Source

_READ_SECONDS = 10.0


class Sampler:
    """Reads every source each `every_seconds` in a thread. A failed read leaves a gap and is reported once."""

    def __init__(self, sources: Sequence[Source], every_seconds: float, on_failure: Callable[[str], None]) -> None:
        self.samples: list[Sample] = []
        self._sources = sources
        self._every_seconds = every_seconds
        self._on_failure = on_failure
        self._failed: set[str] = set()

    async def run(self, origin: float) -> None:
        """Until it is cancelled; times count from `origin`."""
        async with asyncio.TaskGroup() as tasks:
            for source in self._sources:
                tasks.create_task(self._follow(source, origin))

    async def _follow(self, source: Source, origin: float) -> None:
        due = clock()
        while True:
            await self._read(source, origin)
            due = max(due + self._every_seconds, clock())
            await asyncio.sleep(due - clock())

    async def _read(self, source: Source, origin: float) -> None:
        started = clock()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                values = await asyncio.to_thread(source.read)
        except (OSError, ValueError) as error:
            if source.name not in self._failed:
                self._failed.add(source.name)
                self._on_failure(f"{source.name}: {error or type(error).__name__}; its samples have gaps")
            return
        # The middle of the read: a slow answer has no exact time.
        elapsed = (started + clock()) / 2 - origin
        self.samples.extend(Sample(elapsed, series, value) for series, value in values.items())


def column(samples: Sequence[Sample], series: str) -> tuple[list[float], list[float]]:
    """Times and values of one series, in order."""
    pairs = sorted((sample.elapsed_seconds, sample.value) for sample in samples if sample.series == series)
    return [time for time, _ in pairs], [value for _, value in pairs]


def within(samples: Sequence[Sample], series: str, begin: float, end: float) -> list[float]:
    times, values = column(samples, series)
    return [value for time, value in zip(times, values, strict=True) if begin <= time <= end]


def growth(samples: Sequence[Sample], series: str, begin: float, end: float) -> float | None:
    """The growth of a counter from `begin` to `end`, interpolated linearly; None unless the samples span both.

    At either edge a tenth of the time may lack samples; the growth is extrapolated over it.
    """
    times, values = column(samples, series)
    slack = (end - begin) / 10
    if len(times) < 2 or end <= begin or times[0] > begin + slack or times[-1] < end - slack:
        return None
    at_begin, at_end = np.interp([begin, end], times, values)
    measured = min(end, times[-1]) - max(begin, times[0])
    return float(at_end - at_begin) * (end - begin) / measured
