"""A sweep: one level of load after another. Everything measured is kept, however the sweep ends."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.sweep import load
from loadtest.sweep.levels import Level
from loadtest.sweep.load import Length, clock
from loadtest.sweep.mix import Mix
from loadtest.sweep.progress import Progress
from loadtest.sweep.record import Request, Sample
from loadtest.sweep.samples import Sampler
from loadtest.sweep.service import Service, Unreachable
from loadtest.sweep.summary import Sent
from loadtest.target.source import IN_FLIGHT, Source

_MIN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Plan:
    levels: Sequence[Level]
    length: Length
    # Between two levels, so that the queues are empty again.
    pause_seconds: float = 2.0
    max_in_flight: int = 1000
    sample_seconds: float = 1.0
    # The sweep ends after this time without any answer.
    give_up_seconds: float = 10.0
    seed: int = 1


@dataclass(slots=True)
class Measured:
    """Filled while the sweep runs, so that it is complete whenever the sweep ends."""

    requests: list[Request] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def sweep(
    plan: Plan, service: Service, mix: Mix, sources: Sequence[Source], progress: Progress, measured: Measured
) -> None:
    """Fill `measured`, which stays consistent on every error. Raises Unreachable if the service stops answering."""
    sampler = Sampler([*sources, _InFlight(service)], plan.sample_seconds, measured.notes.append)
    measured.samples = sampler.samples
    service.origin = clock()
    sampling = asyncio.create_task(sampler.run(service.origin))
    try:
        for number, level in enumerate(plan.levels):
            if number:
                await asyncio.sleep(plan.pause_seconds)
            await _run(level, plan, service, mix, progress, measured)
        # For a sample after the end of the last level.
        await asyncio.sleep(min(plan.sample_seconds, plan.pause_seconds))
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        if not sampling.cancelled() and (error := sampling.exception()) is not None:
            measured.notes.append(f"sampling ended early: {error!r}")


async def _run(level: Level, plan: Plan, service: Service, mix: Mix, progress: Progress, measured: Measured) -> None:
    progress.begin(level, plan.length)
    begun = clock()
    watchdog = _Watchdog(plan.give_up_seconds, service)
    unanswered = 0

    def keep(request: Request) -> None:
        measured.requests.append(request)
        progress.add(request, service.in_flight)

    async def send(due: float) -> bool:
        nonlocal unanswered
        unanswered += 1
        request, has_answered = await service.call(level.name, mix.draw(), due)
        unanswered -= 1
        keep(request)
        watchdog.on_call(has_answered)
        return request.is_ok

    def skip(due: float) -> None:
        keep(service.skipped(level.name, mix.draw(), due))

    ended: float | None = None
    try:
        ended = await _unwrapped(
            load.run(level, plan.length, send, skip, max_in_flight=plan.max_in_flight, seed=plan.seed)
        )
    finally:
        end = clock() if ended is None else ended
        measured.sent.append(Sent(level, begun - service.origin, end - service.origin))
        if unanswered:
            measured.notes.append(f"{level.name}: {unanswered} requests were in flight at the end and are not counted")


async def _unwrapped(work: Coroutine[Any, Any, float]) -> float:
    try:
        return await work
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


class _Watchdog:
    """Raises Unreachable after `seconds` without an answer; a rejection is an answer."""

    def __init__(self, seconds: float, service: Service) -> None:
        self._seconds = seconds
        self._service = service
        self._since: float | None = None
        self._count = 0

    def on_call(self, has_answered: bool) -> None:
        if has_answered:
            self._since, self._count = None, 0
            return
        self._since = self._since or clock()
        self._count += 1
        if self._count >= _MIN_FAILURES and clock() - self._since >= self._seconds:
            where = ", ".join(self._service.addresses)
            raise Unreachable(f"{where} stopped answering: {self._count} calls failed in {self._seconds:.0f} s")


class _InFlight:
    """The number of requests in flight, as a source of samples."""

    name = "the requests in flight"

    def __init__(self, service: Service) -> None:
        self._service = service

    def read(self) -> dict[str, float]:
        return {IN_FLIGHT: self._service.in_flight}
