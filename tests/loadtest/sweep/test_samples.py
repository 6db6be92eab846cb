import asyncio
from collections.abc import Mapping

import pytest

from loadtest.sweep.load import clock
from loadtest.sweep.record import Sample
from loadtest.sweep.samples import Sampler, growth, within


class Gauge:
    """Fails when it is told to."""

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


async def test_every_source_is_asked_again_and_again():
    one, two = Gauge("encoder"), Gauge("decoder")
    sampler = Sampler([one, two], 0.05, lambda _: None)
    await sample(sampler, 0.5)
    for gauge in (one, two):
        series = [one for one in sampler.samples if one.series == f"queue.{gauge.name}"]
        assert len(series) >= 3
        assert [one.value for one in series] == sorted(one.value for one in series)
        assert all(0 <= one.elapsed_seconds <= 0.6 for one in series)


async def test_a_source_that_fails_leaves_a_gap_and_is_told_once():
    said: list[str] = []
    good, bad = Gauge("encoder"), Gauge("decoder")
    bad.fails = True
    sampler = Sampler([good, bad], 0.02, said.append)
    await sample(sampler, 0.3)
    assert bad.reads >= 3
    assert len(said) == 1
    assert "decoder: gone" in said[0]
    assert {one.series for one in sampler.samples} == {"queue.encoder"}


def counter(*points: tuple[float, float]) -> list[Sample]:
    return [Sample(time, "cpu_seconds.ingress", value) for time, value in points]


def test_growth_lies_on_a_straight_line_between_samples():
    samples = counter((0, 0), (10, 5), (20, 25))
    assert growth(samples, "cpu_seconds.ingress", 5, 15) == pytest.approx(12.5)


def test_a_missing_edge_is_made_up_for_within_a_tenth():
    samples = counter((0.5, 1), (9.5, 10))
    assert growth(samples, "cpu_seconds.ingress", 0, 10) == pytest.approx(10)


@pytest.mark.parametrize("points", [[], [(1, 1)], [(3, 0), (10, 1)], [(0, 0), (8, 1)]])
def test_growth_that_was_not_watched_is_not_known(points):
    assert growth(counter(*points), "cpu_seconds.ingress", 0, 10) is None


def test_within_takes_its_edges_along():
    samples = [Sample(float(second), "in_flight", second) for second in range(5)]
    assert within(samples, "in_flight", 1, 3) == [1, 2, 3]
