import asyncio

import pytest
from rich.console import Console

from loadtest.sweep.levels import Level
from loadtest.sweep.load import Length
from loadtest.sweep.mix import Mix, Video
from loadtest.sweep.progress import Progress
from loadtest.sweep.service import Service, Unreachable
from loadtest.sweep.sweep import Measured, Plan, sweep
from loadtest.target.access import Access
from tests.loadtest.fake_service import FakeService, serving

CLIP = Video("clip", "s3://b/clip.mp4", 1, 2, 20.0)
TWO = Level("closed", 2)
OPEN = Level("open", 50, "fixed")


def plan(*levels: Level, seconds: float = 0.4, requests: int | None = None, max_in_flight: int = 1000) -> Plan:
    return Plan(
        levels=levels,
        length=Length(seconds, requests),
        pause_seconds=0.05,
        max_in_flight=max_in_flight,
        sample_seconds=0.05,
        give_up_seconds=0.5,
    )


async def run(fake: FakeService, chosen: Plan, measured: Measured, seconds: float = 10) -> None:
    service = Service([fake.address], connections=2, method="unary", timeout_seconds=seconds, access=Access())
    async with service:
        with Progress(Console(quiet=True), len(chosen.levels)) as progress:
            await sweep(chosen, service, Mix([CLIP], 1), [], progress, measured)


async def test_every_call_of_the_service_is_recorded_with_its_level():
    measured = Measured()
    async with serving(FakeService(0.01)) as fake:
        await run(fake, plan(TWO, OPEN), measured)
    assert fake.calls == len(measured.requests)
    assert {request.status for request in measured.requests} == {"OK"}
    assert [sent.level for sent in measured.sent] == [TWO, OPEN]
    first, second = measured.sent
    assert 0 <= first.begin_seconds < first.end_seconds < second.begin_seconds < second.end_seconds
    for sent in measured.sent:
        of_level = [request for request in measured.requests if request.level == sent.level.name]
        assert all(sent.begin_seconds <= request.start_seconds <= sent.end_seconds for request in of_level)
    assert len([request for request in measured.requests if request.level == OPEN.name]) == 20


async def test_requests_in_flight_are_on_the_same_time_axis():
    measured = Measured()
    # Answers take longer than the second caller's delayed start, so that both requests overlap on a busy machine too.
    async with serving(FakeService(1.0)) as fake:
        await run(fake, plan(TWO, seconds=0.8), measured)
    values = [sample.value for sample in measured.samples if sample.series == "in_flight"]
    assert max(values) == 2
    assert len(values) >= 5


async def test_requests_due_beyond_the_maximum_in_flight_are_counted_as_not_sent():
    measured = Measured()
    async with serving(FakeService(5)) as fake:
        await run(fake, plan(OPEN, max_in_flight=3), measured, seconds=0.6)
    statuses = [request.status for request in measured.requests]
    assert statuses.count("NOT_SENT") == 17
    assert len(statuses) == 20


async def test_a_service_that_refuses_is_reachable_and_measured_to_the_end():
    measured = Measured()
    fake = FakeService()
    fake.is_full = True
    async with serving(fake):
        await run(fake, plan(TWO, seconds=1.2), measured)
    assert {request.reason for request in measured.requests} == {"OVERLOADED"}
    # A refused caller pauses for a tenth of a second.
    assert len(measured.requests) <= 26


async def test_a_service_that_dies_ends_the_sweep_and_the_measurements_are_kept():
    measured = Measured()
    async with serving(FakeService(0.01)) as fake:
        running = asyncio.create_task(run(fake, plan(TWO, OPEN, seconds=30), measured))
        await fake.until_called(20)
        await fake.server.stop(None)
        with pytest.raises(Unreachable, match=fake.address):
            await running
    statuses = [request.status for request in measured.requests]
    assert statuses.count("OK") >= 18
    assert "UNAVAILABLE" in statuses
    assert [sent.level for sent in measured.sent] == [TWO]


async def test_an_interrupted_sweep_keeps_its_answers():
    measured = Measured()
    async with serving(FakeService(0.02)) as fake:
        running = asyncio.create_task(run(fake, plan(TWO, seconds=30), measured))
        await fake.until_called(10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert 8 <= len(measured.requests) <= fake.calls
    assert len(measured.sent) == 1
    # The last call may not have reached the service yet.
    assert measured.notes in [
        [f"2 at a time: {count} requests were in flight at the end and are not counted"] for count in (1, 2)
    ]
