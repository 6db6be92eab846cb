import asyncio
from collections.abc import Mapping

import pytest

from loadtest.sweep.load import clock
from loadtest.sweep.record import Sample
from loadtest.sweep.samples import Sampler, growth, within


class Gauge:
    """Fails while `fails` is set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reads = 0
        self.fails = False

    def read(self) -> Mapping[str, float]:
        self.reads += 1
        if self.fails:
            raise OSError("gone")
        return {f"queue.{self.name}": self.reads}


async def sample(sampler: Sampler, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await sampler.run(clock())


async def test_every_source_is_read_repeatedly():
    one, two = Gauge("encoder"), Gauge("decoder")
    sampler = Sampler([one, two], 0.05, lambda _: None)
    await sample(sampler, 0.5)
    for gauge in (one, two):
        series = [one for one in sampler.samples if one.series == f"queue.{gauge.name}"]
        assert len(series) >= 3
        assert [one.value for one in series] == sorted(one.value for one in series)
        assert all(0 <= one.elapsed_seconds <= 0.6 for one in series)


async def test_a_failing_source_leaves_a_gap_and_is_reported_once():
    reported: list[str] = []
    good, bad = Gauge("encoder"), Gauge("decoder")
    bad.fails = True
    sampler = Sampler([good, bad], 0.02, reported.append)
    await sample(sampler, 0.3)
    assert bad.reads >= 3
    assert len(reported) == 1
    assert "decoder: gone" in reported[0]
    assert {one.series for one in sampler.samples} == {"queue.encoder"}


def counter(*points: tuple[float, float]) -> list[Sample]:
    return [Sample(time, "cpu_seconds.ingress", value) for time, value in points]


def test_growth_is_interpolated_between_samples():
    samples = counter((0, 0), (10, 5), (20, 25))
    assert growth(samples, "cpu_seconds.ingress", 5, 15) == pytest.approx(12.5)


def test_a_missing_edge_of_a_tenth_is_extrapolated():
    samples = counter((0.5, 1), (9.5, 10))
    assert growth(samples, "cpu_seconds.ingress", 0, 10) == pytest.approx(10)


@pytest.mark.parametrize("points", [[], [(1, 1)], [(3, 0), (10, 1)], [(0, 0), (8, 1)]])
def test_growth_without_samples_at_both_edges_is_unknown(points):
    assert growth(counter(*points), "cpu_seconds.ingress", 0, 10) is None


def test_within_includes_its_edges():
    samples = [Sample(float(second), "in_flight", second) for second in range(5)]
    assert within(samples, "in_flight", 1, 3) == [1, 2, 3]
