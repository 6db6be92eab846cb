"""What goes on beside the requests, on the same time axis: gauges, replicas, CPU, GPU."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from loadtest.sweep.load import clock
from loadtest.sweep.record import Sample

# series, which are named "what.service" where they are of one
IN_FLIGHT = "in_flight"
QUEUE = "queue"
DESIRED = "desired"
READY = "ready"
# Counts up; what it grows by is what was used.
CPU_SECONDS = "cpu_seconds"
# 0 to 1, of all cores of this machine.
MACHINE_CPU = "machine_cpu"
GPU = "gpu_utilisation"

SERVICES = ("ingress", "encoder", "decoder")
_READ_SECONDS = 10.0


class Source(Protocol):
    """Something to be asked now and then."""

    @property
    def name(self) -> str: ...

    def read(self) -> Mapping[str, float]:
        """The values of its series, now. May block, and raise OSError or ValueError."""
        ...


class Sampler:
    """Asks every source once in `every_seconds`, each in a thread; one that fails leaves a gap, and is told once."""

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
            await self._ask(source, origin)
            due = max(due + self._every_seconds, clock())
            await asyncio.sleep(due - clock())

    async def _ask(self, source: Source, origin: float) -> None:
        asked = clock()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                values = await asyncio.to_thread(source.read)
        except (OSError, ValueError) as error:
            if source.name not in self._failed:
                self._failed.add(source.name)
                self._on_failure(f"{source.name}: {error or type(error).__name__}; its samples have gaps")
            return
        # A slow answer is of some instant in between.
        elapsed = (asked + clock()) / 2 - origin
        self.samples.extend(Sample(elapsed, series, value) for series, value in values.items())


def column(samples: Sequence[Sample], series: str) -> tuple[list[float], list[float]]:
    """Times and values of one series, in order."""
    pairs = sorted((sample.elapsed_seconds, sample.value) for sample in samples if sample.series == series)
    return [time for time, _ in pairs], [value for _, value in pairs]


def within(samples: Sequence[Sample], series: str, begin: float, end: float) -> list[float]:
    times, values = column(samples, series)
    return [value for time, value in zip(times, values, strict=True) if begin <= time <= end]


def growth(samples: Sequence[Sample], series: str, begin: float, end: float) -> float | None:
    """Of a series that counts up, from `begin` to `end`, between samples by a straight line; None unless it spans both.

    A sample may be missing at either edge by no more than a tenth of the time between.
    """
    times, values = column(samples, series)
    slack = (end - begin) / 10
    if len(times) < 2 or end <= begin or times[0] > begin + slack or times[-1] < end - slack:
        return None
    at_begin, at_end = np.interp([begin, end], times, values)
    measured = min(end, times[-1]) - max(begin, times[0])
    return float(at_end - at_begin) * (end - begin) / measured
