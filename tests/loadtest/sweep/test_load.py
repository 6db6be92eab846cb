import asyncio
from itertools import islice, pairwise

import pytest

from loadtest.sweep.levels import Level
from loadtest.sweep.load import Length, clock, fixed, poisson, run


class Service:
    """Takes `seconds` for each request; records when requests were due, and the highest concurrency."""

    def __init__(self, seconds: float = 0.0, succeeds: bool = True) -> None:
        self.seconds = seconds
        self.succeeds = succeeds
        self.due: list[float] = []
        self.late: list[float] = []
        self.skipped: list[float] = []
        self.at_once = self.most_at_once = 0
        self.is_called = asyncio.Event()

    async def send(self, due: float) -> bool:
        self.due.append(due)
        self.late.append(clock() - due)
        self.at_once += 1
        self.is_called.set()
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        return self.succeeds

    async def load(self, level: Level, length: Length, max_in_flight: int = 1000) -> float:
        return await run(level, length, self.send, self.skipped.append, max_in_flight=max_in_flight, seed=1)


async def test_a_closed_loop_has_one_request_in_flight_per_caller():
    service = Service(0.02)
    await service.load(Level("closed", 5), Length(0.5))
    assert service.most_at_once == 5
    assert len(service.due) > 20


async def test_a_closed_loop_sends_no_more_than_its_number_of_requests():
    service = Service()
    await service.load(Level("closed", 4), Length(60, requests=37))
    assert len(service.due) == 37


async def test_a_refused_caller_pauses_before_it_calls_again():
    service = Service(succeeds=False)
    await service.load(Level("closed", 1), Length(0.45))
    assert 2 <= len(service.due) <= 6


async def test_an_open_loop_sends_at_its_own_times_however_slow_the_answers():
    service = Service(1.0)
    await service.load(Level("open", 50, "fixed"), Length(0.5))
    assert len(service.due) == 25
    assert [b - a for a, b in pairwise(service.due)] == pytest.approx([0.02] * 24)
    assert service.most_at_once == 25


async def test_a_request_that_is_due_at_the_maximum_in_flight_is_sent_late():
    """Its latency counts from when it was due: no coordinated omission."""
    service = Service(0.1)
    await service.load(Level("open", 50, "fixed"), Length(0.5), max_in_flight=1)
    assert service.most_at_once == 1
    # Five are sent one after the other; the last of them was due long before.
    assert max(service.late) > 0.2
    assert len(service.due) + len(service.skipped) == 25
    assert sorted(service.due) == service.due
    assert sorted(service.skipped) == service.skipped


async def test_an_open_loop_ends_with_its_time_not_with_its_last_arrival():
    begun = clock()
    ended = await Service().load(Level("open", 4, "fixed"), Length(0.4))
    assert ended == pytest.approx(begun + 0.4, abs=0.05)


async def test_cancelling_cancels_the_requests_in_flight():
    service = Service(60)
    loading = asyncio.create_task(service.load(Level("closed", 3), Length(60)))
    await service.is_called.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading


def test_fixed_arrivals_are_evenly_spaced():
    assert list(islice(fixed(4), 4)) == [0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_callers():
    times = list(islice(poisson(20, seed=3), 20_000))
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 20, rel=0.03)
    # Exponential: the deviation is the mean.
    assert deviation == pytest.approx(mean, rel=0.03)
    assert times == list(islice(poisson(20, seed=3), 20_000))
