"""A sweep: one level of load after another, everything recorded, nothing lost however it ends."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.sweep import load, samples
from loadtest.sweep.levels import Level
from loadtest.sweep.load import Length, clock
from loadtest.sweep.mix import Mix
from loadtest.sweep.progress import Progress
from loadtest.sweep.record import Request, Sample
from loadtest.sweep.samples import Sampler, Source
from loadtest.sweep.service import Service, Unreachable
from loadtest.sweep.summary import Sent

_FEWEST_SILENT = 5


@dataclass(frozen=True, slots=True)
class Plan:
    levels: Sequence[Level]
    length: Length
    # Between two levels, so that what the first one left behind is gone.
    pause_seconds: float = 2.0
    most_in_flight: int = 1000
    sample_seconds: float = 1.0
    # Without a single answer for so long, the service is gone.
    give_up_seconds: float = 10.0
    seed: int = 1


@dataclass(slots=True)
class Measured:
    """Grows while the sweep runs, so that it holds what there is whenever that ends."""

    requests: list[Request] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def sweep(
    plan: Plan, service: Service, mix: Mix, sources: Sequence[Source], progress: Progress, measured: Measured
) -> None:
    """Fill `measured`. Raises Unreachable if the service stops answering; whatever ends it, `measured` stays right."""
    sampler = Sampler([*sources, _InFlight(service)], plan.sample_seconds, measured.notes.append)
    measured.samples = sampler.samples
    service.origin = clock()
    sampling = asyncio.create_task(sampler.run(service.origin))
    try:
        for number, level in enumerate(plan.levels):
            if number:
                await asyncio.sleep(plan.pause_seconds)
            await _run(level, plan, service, mix, progress, measured)
        # The last sample may be as old as that.
        await asyncio.sleep(min(plan.sample_seconds, plan.pause_seconds))
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        if not sampling.cancelled() and (error := sampling.exception()) is not None:
            measured.notes.append(f"sampling ended early: {error!r}")


async def _run(level: Level, plan: Plan, service: Service, mix: Mix, progress: Progress, measured: Measured) -> None:
    progress.begin(level, plan.length)
    begun = clock()
    silence = _Silence(plan.give_up_seconds, service)
    unanswered = 0

    def keep(request: Request) -> None:
        measured.requests.append(request)
        progress.hear(request, service.in_flight)

    async def send(due: float) -> bool:
        nonlocal unanswered
        unanswered += 1
        request, has_answered = await service.call(level.name, mix.draw(), due)
        unanswered -= 1
        keep(request)
        silence.hear(has_answered)
        return request.is_ok

    def skip(due: float) -> None:
        keep(service.skipped(level.name, mix.draw(), due))

    ended: float | None = None
    try:
        ended = await _unwrapped(
            load.run(level, plan.length, send, skip, most_in_flight=plan.most_in_flight, seed=plan.seed)
        )
    finally:
        end = clock() if ended is None else ended
        measured.sent.append(Sent(level, begun - service.origin, end - service.origin))
        if unanswered:
            measured.notes.append(f"{level.name}: at the end {unanswered} were under way, which are not counted")


async def _unwrapped(work: Coroutine[Any, Any, float]) -> float:
    try:
        return await work
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


class _Silence:
    """Raises Unreachable once nobody has answered for `seconds`; a refusal is an answer."""

    def __init__(self, seconds: float, service: Service) -> None:
        self._seconds = seconds
        self._service = service
        self._since: float | None = None
        self._count = 0

    def hear(self, has_answered: bool) -> None:
        if has_answered:
            self._since, self._count = None, 0
            return
        self._since = self._since or clock()
        self._count += 1
        if self._count >= _FEWEST_SILENT and clock() - self._since >= self._seconds:
            where = ", ".join(self._service.addresses)
            raise Unreachable(f"{where} stopped answering: {self._count} calls failed in {self._seconds:.0f} s")


class _InFlight:
    """How many requests are under way, as the caller sees it."""

    name = "the requests in flight"

    def __init__(self, service: Service) -> None:
        self._service = service

    def read(self) -> dict[str, float]:
        return {samples.IN_FLIGHT: self._service.in_flight}
